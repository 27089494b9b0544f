"""What an explainer is: its options, what it needs, and a function from problem to explanations.

    Problem (activations, concepts, moments of one layer) × options → Explanations

A run and `jaxle.explain` both build a `Problem` and call `Explainer.explain`; neither knows which
method it is. An explainer of your own is one `Explainer` object, named "package.module:NAME".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int64, Real

from jaxle import options
from jaxle.arrays import Array, Rows
from jaxle.data.splits import Split
from jaxle.explanations import Explanations, FormulaRows, formula
from jaxle.explanations.formula import ConceptRows
from jaxle.solve import noise
from jaxle.solve.measure import Measured, extremes
from jaxle.units import Units

LEAST_RECTIFIED = -0.3  # GELU reaches −0.17, SiLU −0.28
# what an explainer may need beside activations, probabilities and their moments
NEEDS = {
    "cosines": "cosines of images and texts: an encoder's embeddings",
    "masks": "overlaps with pixel masks: a source that has them, a tap with positions, and its "
    "options `share` and `side`",
    "file": "a file, whose content its explanations depend on: its option `file`",
}
OPTIONS = {"file": ("file",), "masks": ("share", "side")}  # that belong to a need


@dataclass(frozen=True, eq=False)
class Problem:
    """One layer to explain. Rows of test images are there to be indexed and must not be read.

    Attributes:
      activations: (images, neurons) of all probe images; an array, or what is indexed like one.
      concepts: names of the concepts that passed screening: the columns of the moments.
      matrix: probabilities of all concepts, screened or not; `measured.kept` picks the columns.
      split: which images train, choose and score.
      measured: moments of train and val, and of folds where the explainer asks for them.
      dead_threshold: see `dead`.
      mesh: neurons may be split over its axis `data`.
      units: what the moments' concepts and neurons were measured in, where float32 would not hold
        them as they are; None where it does. `activations` and `matrix` are as they are, and so is
        every weight of `table.rows`.
      cosines: (row index, column index) → (rows, columns) float32 in −1..1, of all images and
        concepts, as `matrix.rows` gives probabilities; None unless the explainer needs "cosines".
      layer: what the run calls the layer, its tap; None from arrays.
      overlaps: of the neurons' maps and the concepts' pixels; None unless the explainer needs
        "masks".
    """

    activations: Any
    concepts: tuple[str, ...]
    matrix: ConceptRows
    split: Split
    measured: Measured
    dead_threshold: float = 0.01
    mesh: Mesh | None = None
    units: tuple[Units | None, Units | None] = (None, None)
    cosines: Callable[[np.ndarray, np.ndarray], Array] | None = None
    layer: str | None = None
    overlaps: Overlaps | None = None

    def most_concepts(self, asked: int, n_images: int | None = None) -> int:
        """Returns how many concepts an explanation can use, at most as many as are asked for.

        Least squares with an intercept on n images takes at most n − 1.

        Args:
          asked: the option of the user.
          n_images: that fit; None: those of train.
        """
        n_images = self.measured.train.n if n_images is None else n_images
        return max(1, min(asked, len(self.concepts), n_images - 1))

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """What explanations may speak of: `concepts`, or the names within, where they are formulas.

        They are where `matrix` is `FormulaRows`; `lengths` says of how many words each is.
        """
        if not isinstance(self.matrix, FormulaRows):
            return self.concepts
        formulas = (self.matrix.formulas[j] for j in self.measured.kept)
        return tuple(dict.fromkeys(name for one in formulas for name in formula.words(one)))

    @functools.cached_property
    def lengths(self) -> Int64[np.ndarray, " concepts"] | None:
        """Words of each concept, where some are formulas; None where each is one."""
        if not isinstance(self.matrix, FormulaRows):
            return None
        return self.matrix.lengths[np.asarray(self.measured.kept)]

    @functools.cached_property
    def dead(self) -> Bool[np.ndarray, " neurons"]:
        """Which neurons are dead: they do not fire on any probe image.

        Behind a rectifier that is the paper's rule, a largest activation below `dead_threshold`.
        Elsewhere (before a rectifier, after batch normalisation, residual stream, logits,
        directions) an activation of one sign may vary as well as any: there a neuron is dead
        where it takes one value only. A layer counts as rectified where none of its activations
        lies below −0.3, which is less than GELU and SiLU reach, and the largest is at least three
        times as far from 0 as the least.
        """
        low, high = extremes(self.activations)
        least, most = float(low.min()), float(high.max())
        rectified = least >= LEAST_RECTIFIED and most >= 3 * -least
        return high < self.dead_threshold if rectified else low == high

    @functools.cached_property
    def skewness(self) -> Float[np.ndarray, " neurons"]:
        """Each neuron's skewness over train ∪ val: how far chance can take it (`solve.noise`)."""
        both = np.concatenate([self.split.train, self.split.val])
        return noise.skewness(self.activations, both)


class Overlaps(NamedTuple):
    """How far the maps of a layer's neurons and the pixels of concepts overlap.

    Attributes:
      concepts: the names of the columns.
      iou: (neurons, concepts) intersection over union, 0 where the union is empty.
      thresholds: (neurons,) above which a pixel counts as active.
      n_images: over so many images.
      side: at so many pixels a side.
    """

    concepts: tuple[str, ...]
    iou: Float[np.ndarray, "neurons concepts"]
    thresholds: Float[np.ndarray, " neurons"]
    n_images: int
    side: int


@dataclass(frozen=True)
class Explainer:
    """A method: how it is configured, what it needs, and what it does.

    Attributes:
      options: a frozen dataclass whose fields are made by `jaxle.options.option`. A field called
        `mean_length` (a number or None) lets a run hold the method to another's mean length.
      explain: problem, options record → one explanation a neuron, in order.
      meaning: one line for the documentation.
      folds: how many folds of train ∪ val the moments are kept in; 0 for none.
      version: to be raised when the same options give other explanations than before.
      needs: names of `NEEDS`: what it depends on beside what every explainer gets.
      formulas: whether its concepts may be formulas, whose words it counts (`Problem.lengths`).
      from_moments: whether its explanations follow from `Problem.measured` alone, so that refits on
        resampled moments (`evaluation.selection_draws`) show how stable they are; other methods
        are left out there.
      check: options, layer → its neurons: raises a ValueError for what the method cannot explain,
        before any image is read.
      words: options, layers → the words that it explains with, where they need not be concepts that
        it is given; a simulator is asked for them, too.

    Raises:
      ValueError: an unknown need, or a need without the options that belong to it.
    """

    options: type
    explain: Callable[[Problem, Any], Explanations]
    meaning: str = ""
    folds: int = 0
    version: int = 1
    needs: tuple[str, ...] = ()
    words: Callable[[Any, Sequence[str]], tuple[str, ...]] | None = None
    check: Callable[[Any, Mapping[str, int]], None] | None = None
    formulas: bool = False
    from_moments: bool = False

    def __post_init__(self):
        for need in self.needs:
            if need not in NEEDS:
                raise ValueError(
                    f"unknown need {need!r} of an explainer: {options.suggest(need, NEEDS)}."
                )
        for need, wanted in OPTIONS.items():
            own = options.describe(self.options)
            if need in self.needs and (lacking := [name for name in wanted if name not in own]):
                what = "a file" if need == "file" else need
                raise ValueError(
                    f"an explainer that needs {what} must have an option {lacking[0]}, and the "
                    f"options of {self.options.__name__} are {', '.join(own) or 'none'}."
                )

    @property
    def limits_length(self) -> bool:
        """Whether a mean length can be asked of it."""
        return "mean_length" in options.describe(self.options)


class ArrayRows:
    """A concept matrix that a user holds as an array, as `ConceptRows`.

    Args:
      probs: (images, concepts), 0–1, or what is indexed by rows like it.
      concepts: the columns' names.
    """

    def __init__(self, probs: Rows, concepts: Sequence[str]):
        self._probs, self.concepts = probs, tuple(concepts)

    def rows(
        self, index: np.ndarray, columns: np.ndarray | slice | None = None
    ) -> Real[Array, "rows columns"]:
        """Some rows and columns, in the array's own dtype."""
        return self._probs[index][:, slice(None) if columns is None else columns]
