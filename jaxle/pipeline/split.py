"""`jaxle.split`: polysemantic neurons taken apart, and how well each part is explained.

neuron → concept vectors (`models.units.concept_vectors`) → projections of all images
→ explanations of the neuron and of each projection → ρ on test before and after
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, Real

from jaxle.arrays import Array, as_matrix, checks_input
from jaxle.data.splits import Split, check_split, make_split
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.simulation import simulate
from jaxle.explainers.explain import explain
from jaxle.explanations import Explanation
from jaxle.models.units.concept_vectors import ConceptVectors, concept_vectors
from jaxle.options import read
from jaxle.options import seed as read_seed


@dataclass(frozen=True)
class Part:
    """One direction of a neuron.

    Attributes:
      direction: (neurons of the layer,), of length 1.
      cosine: with the neuron: 1 = the neuron alone.
      n_images: of the neuron's most activating ones, those that lie along it.
      explanation: of the images' projections.
      correlation: ρ of that explanation on test.
    """

    direction: Float32[np.ndarray, " width"]
    cosine: float
    n_images: int
    explanation: Explanation
    correlation: float

    def __str__(self) -> str:
        return (
            f"ρ {self.correlation:.3f}, {self.n_images} images, cosine {self.cosine:.2f}: "
            f"{self.explanation}"
        )


@dataclass(frozen=True)
class SplitNeuron:
    """A neuron, explained whole and by its parts.

    Attributes:
      neuron: its number.
      explanation, correlation: of the neuron as it is, ρ on test.
      parts: the largest first; none where its images fall into no cluster.
    """

    neuron: int
    explanation: Explanation
    correlation: float
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        head = f"neuron {self.neuron}: ρ {self.correlation:.3f}: {self.explanation}"
        return "\n".join([head, *(f"  {part}" for part in self.parts)])


@checks_input
def split(
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str],
    neurons: int | Sequence[int] | Integer[Array, " some"],
    vectors: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[SplitNeuron]:
    """Returns some neurons of a layer taken apart into directions, each explained.

    Args:
      activations: (images, neurons), pooled, of the whole layer.
      concept_probs: (images, concepts), 0–1.
      concepts: the columns' names.
      neurons: which neurons to take apart; a number or several.
      vectors: options of `concept_vectors`: images (100), distance and spread (0: by the scale of
        the activations), min_images (5). The distance says how finely to split.
      options: of `jaxle.explain`: `split`, `seed`, `search` and so on.

    Returns:
      A record a neuron, in the order given. Directions come from train images alone; every ρ is of
      test images.

    Raises:
      ValueError: a neuron that the layer has not, or an unknown or bad option.
    """
    x = np.asarray(as_matrix(activations, "activations")[:], np.float32)
    asked = np.atleast_1d(np.asarray(neurons))
    inside = (
        asked.dtype.kind in "iu" and asked.size and 0 <= asked.min() <= asked.max() < x.shape[1]
    )
    if not inside:
        raise ValueError(
            f"neurons must be numbers from 0 to {x.shape[1] - 1}, got {asked[:5].tolist()}."
        )
    own = read(ConceptVectors, vectors or {}, "option vectors.")
    parts = _split(options, len(x))
    found = concept_vectors(x, parts.train, own, np.unique(asked))
    columns = np.concatenate([x[:, asked], x @ found.directions.T], axis=1)
    table = explain(columns, concept_probs, concepts, **{**options, "split": parts})
    names = tuple(concepts)
    simulated = simulate(table, concept_probs, names)
    rho = correlation(np.asarray(simulated)[parts.test], columns[parts.test])
    made = []
    for place, neuron in enumerate(asked.tolist()):
        those = np.flatnonzero(found.neurons == neuron)
        made.append(
            SplitNeuron(
                neuron,
                table[place],
                float(rho[place]),
                tuple(
                    Part(
                        found.directions[i],
                        float(found.directions[i, neuron]),
                        int(found.n_images[i]),
                        table[len(asked) + int(i)],
                        float(rho[len(asked) + i]),
                    )
                    for i in those
                ),
            )
        )
    return made


def _split(options: Mapping[str, Any], n: int) -> Split:
    given = options.get("split")
    if given is None:
        return make_split(n, read_seed(options.get("seed", 0)))
    return check_split(given, n)
