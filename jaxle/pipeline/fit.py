"""Fit: what every search reads of the images, once for a concept matrix and all layers.

    P × activations of all layers → kept concepts, second moments of train, val and folds

Screening, Gram matrices and their spectrum depend on the concepts alone and are made once; layers,
networks and permutations are more columns of the same moments. The elastic net and the searches
see these moments only (`explainers`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.concepts.labels import LabelConcepts
from jaxle.explainers import find_explainer
from jaxle.explainers.protocol import Overlaps
from jaxle.explanations import Explanations, FormulaRows
from jaxle.explanations.formula import parse, words
from jaxle.pipeline.cache import Cache, Made, Step, Stored, derived_key
from jaxle.pipeline.config import Config, Method
from jaxle.pipeline.formulas import with_formulas
from jaxle.pipeline.layers import Columns, Layer, Layers
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Partition
from jaxle.solve.measure import Measured, measure
from jaxle.solve.moments import Moments, merge
from jaxle.solve.ridge import Spectrum


@dataclass(frozen=True, eq=False)
class Fitted:
    """Moments of one concept matrix and all layers.

    Attributes:
      key: of the step.
      concepts: the matrix.
      names: the concepts that passed screening.
      measured: moments over those, of all layers side by side.
      spans: layer's key → its columns.
      brought: words that a method explains with in place of these.
      overlaps: layer's key → overlaps with pixel masks, where a method needs them.
    """

    key: str
    concepts: ConceptMatrix
    names: tuple[str, ...]
    measured: Measured
    spans: Mapping[str, slice]
    brought: tuple[str, ...] = ()
    overlaps: Mapping[str, Overlaps] = dataclasses.field(default_factory=dict)

    def of(self, layer: Layer) -> Measured:
        """Returns one layer's moments."""
        return self.measured.neurons(self.spans[layer.key])

    @property
    def words(self) -> tuple[str, ...]:
        """The concepts that explanations may speak of: `names`, or those in such formulas."""
        if self.brought or self.concepts.base is None:
            return self.brought or self.names
        used = {name for text in self.names for name in words(parse(text))}
        return tuple(name for name in self.concepts.base.names if name in used)

    def named(self, explanations: Explanations) -> Explanations:
        """Returns explanations by these concepts with the names that they have in `names`."""
        return explanations if self.concepts.base is None else explanations.as_formulas()

    @property
    def lengths(self) -> np.ndarray | None:
        """(names,) words of each, where some are formulas."""
        matrix = self.concepts.matrix
        return matrix.lengths[self.measured.kept] if isinstance(matrix, FormulaRows) else None

    @property
    def screened_out(self) -> dict[str, float]:
        """Of each set of words, the share that did not pass screening."""
        kept, passed = set(self.names), {}
        for name, origin in zip(self.concepts.names, self.concepts.origin, strict=False):
            passed.setdefault(origin, []).append(name in kept)
        return {origin: 1 - sum(those) / len(those) for origin, those in passed.items()}


@dataclass(frozen=True)
class Screening:
    """What the moments are made with."""

    min_top5: float
    folds: int


def fit(
    cache: Cache, concepts: ConceptMatrix, layers: Layers, partition: Partition, how: Screening
) -> Fitted:
    """Returns the moments of a concept matrix and all layers."""
    what = f"{len(concepts.names)} {concepts.kind} concepts"
    stored = cache.step(FIT, what, [concepts, layers, partition], how)
    measured = _unpack(stored, how.folds)
    names = tuple(concepts.names[j] for j in measured.kept)
    return Fitted(stored.key, concepts, names, measured, Columns(layers.every).spans)


def fit_all(
    cache: Cache,
    matrices: Mapping[str, ConceptMatrix],
    layers: Layers,
    partition: Partition,
    config: Config,
) -> dict[str, Fitted]:
    """Returns method → moments; methods on the same concepts, without other words, share them."""
    made: dict[str, Fitted] = {}
    matrices = with_formulas(cache, matrices, partition, config)
    for concepts in matrices.values():
        if concepts.key not in made:
            users = [config.methods[name] for name, m in matrices.items() if m.key == concepts.key]
            how = _screening(concepts, users, config)
            made[concepts.key] = fit(cache, concepts, layers, partition, how)
    return {
        name: _with_words(made[concepts.key], config.methods[name], config.target.taps)
        for name, concepts in matrices.items()
    }


def _with_words(fitted: Fitted, method: Method, taps: Sequence[str]) -> Fitted:
    """The moments with the words that a method brings, where it does."""
    bring = find_explainer(method.explainer).words
    if bring is None:
        return fitted
    brought = bring(method.options, taps)
    key = derived_key("brought", 1, [fitted], list(brought))
    return dataclasses.replace(fitted, key=key, brought=brought)


def _screening(concepts: ConceptMatrix, users: list[Method], config: Config) -> Screening:
    """Folds if a method needs them; made-up words are there to be fitted and not screened."""
    min_top5 = 0.0 if concepts.kind == "nonsense" else config.fit.min_top5
    return Screening(min_top5, max(find_explainer(method.explainer).folds for method in users))


def _fit(
    concepts: ConceptMatrix, layers: Layers, partition: Partition, options: Screening, mesh: Any
) -> Made:
    split, matrix = partition.split, concepts.matrix
    measured = measure(
        matrix.rows,
        len(concepts.names),
        Columns(layers.every),
        split.train,
        split.val,
        min_top5=options.min_top5,
        mesh=mesh,
        folds=options.folds,
        by_class=matrix.by_class if isinstance(matrix, LabelConcepts) else None,
    )
    arrays: dict[str, Any] = {"kept": measured.kept}
    for part, moments in _parts(measured).items():
        arrays |= {f"{part}.{name}": np.asarray(v) for name, v in moments._asdict().items()}
    if measured.spectrum is not None:
        arrays |= {f"spectrum.{name}": v for name, v in measured.spectrum._asdict().items()}
    return arrays, {"n_folds": len(measured.folds)}


def _parts(measured: Measured) -> dict[str, Moments]:
    folds = {f"fold{i}": fold for i, fold in enumerate(measured.folds)}
    return {"train": measured.train, "val": measured.val, **folds}


def _unpack(stored: Stored, folds: int) -> Measured:
    def moments(part: str) -> Moments:
        names = [name for name in Moments._fields if name != "n"]
        arrays = {name: np.asarray(stored.arrays[f"{part}.{name}"]) for name in names}
        return Moments(n=int(stored.arrays[f"{part}.n"]), **arrays)

    kept, train, val = np.asarray(stored.arrays["kept"]), moments("train"), moments("val")
    if not folds:
        return Measured(kept, train, val).on_device()
    parts = tuple(moments(f"fold{i}") for i in range(stored.facts["n_folds"]))
    spectrum = Spectrum(*(np.asarray(stored.arrays[f"spectrum.{n}"]) for n in Spectrum._fields))
    return Measured(kept, train, val, parts, merge([train, val]), spectrum).on_device()


FIT = Step("fit", "fit", 4, _fit)
