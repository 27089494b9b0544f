"""CLIP-Dissect: the one text that an encoder finds in the images that activate a neuron most.

    score of concept c for neuron k: how well cosines of c with the images fit k's activations
    description = the concept of largest score               (`solve.similarity`, four scores)

The method of Oikarinen & Weng, CLIP-Dissect, ICLR 2023 (arXiv 2204.10965), written anew
(docs/methods.md). Deliberate differences from the authors' code:

* The images are those of train and val: test images score, and are not read. The paper reads all.
* Of images of equal activation, and of concepts of equal score, the first counts, so that a run
  repeats itself.
* `rank_reorder` divides by the mean over all orders of the images, of which the code draws five; a
  concept whose mean cosine is not positive cannot be chosen, where the code takes the root of it.
* `cos_cubed` has no least norm, by which the number of images would decide.

Dead neurons take part in the sum over neurons, as in the paper; a neuron that does not vary gets no
description. Memory: a tile of concepts for the images that are among any neuron's top, and for all
neurons, about 256 MiB; images × concepts and neurons × concepts are not held (`solve.similarity`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Real

from jaxle.arrays import Array, as_matrix, check_equal_rows, checks_input
from jaxle.compilation import use_compilation_cache
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.explainers.protocol import Problem
from jaxle.explanations import Explanation, Explanations, check_names
from jaxle.options import option, read
from jaxle.solve.similarity import Best, Measure, best_concepts
from jaxle.units import InUnits, find_units

# similarity → most activating images, a, λ: the authors' defaults
STANDARD = {
    "soft_wpmi": Measure("soft_wpmi", 100, 10.0, 1.0),
    "wpmi": Measure("wpmi", 28, 2.0, 0.6),
    "rank_reorder": Measure("rank_reorder", 0, 1.0, 0.0),
    "cos_cubed": Measure("cos_cubed", 1, 1.0, 0.0),
}
SHARE = 0.05  # of the images, whose order rank_reorder looks at


@dataclass(frozen=True)
class ClipDissect:
    """Options of `clip_dissect`; None is what its authors use for the similarity."""

    similarity: str = option(
        "soft_wpmi", "how concepts are scored (solve.similarity)", choices=tuple(STANDARD)
    )
    top_images: int | None = option(
        None,
        "most activating images that count; None: 100, wpmi 28, rank_reorder 5 % of all",
        low=1,
    )
    sharpness: float | None = option(
        None, "a of the softmax over concepts; None: 10, wpmi 2", above=0, high=1e4
    )
    discount: float | None = option(
        None,
        "λ: how much of what all neurons share is taken off; None: 1, wpmi 0.6, one neuron 0",
        low=0,
    )


def explain(problem: Problem, options: ClipDissect) -> Explanations:
    """Returns one description a neuron, of the concepts that passed screening.

    The score column `similarity` is the description's score, 0 where there is none.
    """
    assert problem.cosines is not None, "the explainer needs cosines"
    units = problem.units[1]
    activations = problem.activations if units is None else InUnits(problem.activations, units)
    images = np.concatenate([problem.split.train, problem.split.val])
    measure = _measure(options, len(images), activations.shape[1])
    found = best_concepts(activations, problem.cosines, problem.measured.kept, images, measure)
    constant = ~problem.measured.train.varies()
    table = _table(found, problem.concepts, problem.dead, constant, measure)
    return dataclasses.replace(table, split=problem.split)


@checks_input
def describe(
    activations: Real[Array, "images neurons"],
    image_embeddings: Real[Array, "images numbers"],
    text_embeddings: Real[Array, "concepts numbers"],
    concepts: Sequence[str],
    *,
    images: Int[np.ndarray, " some"] | Bool[np.ndarray, " images"] | None = None,
    **options: Any,
) -> Explanations:
    """Returns CLIP-Dissect's description of every neuron from arrays of activations and embeddings.

    For many concepts prefer it to `jaxle.explain(…, search="clip_dissect")`, which takes cosines:
    here images × concepts is never held.

    Args:
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      image_embeddings: (images, numbers), of the same images by a two-tower encoder, rows of
        length 1.
      text_embeddings: (concepts, numbers), by the same encoder, rows of length 1.
      concepts: the texts, each once.
      images: numbers of the images that are read, or a mask; None for all, as in the paper. Leave
        out those on which the descriptions will be scored.
      options: fields of `ClipDissect`.

    Returns:
      Explanations of kind "description", with the score column `similarity`.

    Raises:
      ValueError: arrays of unequal length, embeddings that are not of length 1, a bad option or
        name.
    """
    chosen = read(ClipDissect, options)
    activations = as_matrix(activations, "activations")
    check_names(concepts)
    matrix = ContrastiveConcepts.make(concepts, image_embeddings, text_embeddings, 1.0, 0.0)
    image_embeddings = as_matrix(image_embeddings, "image_embeddings", ("images", "numbers"))
    check_equal_rows(activations, image_embeddings, ("activations", "image_embeddings"))
    index = _index(images, activations.shape[0])
    use_compilation_cache()
    units = find_units(activations, index)
    own = activations if units is None else InUnits(activations, units)
    measure = _measure(chosen, len(index), own.shape[1])
    columns = np.arange(len(concepts))
    found = best_concepts(own, matrix.cosines, columns, index, measure)
    none = np.zeros(len(found.varies), bool)
    return _table(found, matrix.concepts, none, none, measure)


def _index(images: np.ndarray | None, n: int) -> np.ndarray:
    index = np.arange(n) if images is None else np.asarray(images)
    index = np.flatnonzero(index) if index.dtype == bool and index.shape == (n,) else index
    right = index.ndim == 1 and index.dtype.kind in "iu" and len(index) > 0
    if not right or index.min() < 0 or index.max() >= n or len(np.unique(index)) < len(index):
        raise ValueError(
            f"images must be different numbers from 0 to {n - 1}, at least one, or a mask of {n} "
            f"bools, got {index.dtype} of shape {index.shape}."
        )
    return index.astype(np.int64)


def _measure(options: ClipDissect, n_images: int, n_neurons: int) -> Measure:
    standard = STANDARD[options.similarity]
    top = standard.top or max(1, int(SHARE * n_images))
    discount = standard.discount if options.discount is None else options.discount
    if n_neurons == 1:  # shares nothing with others; with λ = 1 every concept would score 0
        discount = 0.0
    return Measure(
        standard.name,
        min(options.top_images or top, n_images),
        standard.sharpness if options.sharpness is None else options.sharpness,
        discount,
    )


def _table(
    found: Best, concepts: Sequence[str], dead: np.ndarray, constant: np.ndarray, measure: Measure
) -> Explanations:
    rows = []
    for k, j in enumerate(found.concept.tolist()):
        if dead[k]:
            flag = "dead"
        elif constant[k] or not found.varies[k]:
            flag = "constant"
        else:
            flag = "" if j >= 0 else "unexplained"
        if j >= 0:
            rows.append(Explanation(k, (str(concepts[j]),), (1.0,), 0.0, None, flag, "description"))
        else:
            rows.append(Explanation(k, (), (), 0.0, None, flag))
    facts = {"n_concepts": len(concepts), "similarity": measure.name, "top_images": measure.top}
    return Explanations(tuple(rows), {"similarity": found.score.astype(np.float64)}, facts=facts)
