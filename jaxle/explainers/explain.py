"""`jaxle.explain`: every neuron of an activation array that a user brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Real

from jaxle.arrays import (
    Array,
    as_matrix,
    as_probabilities,
    check_equal_rows,
    check_same_order,
    checks_input,
    host_blocks,
    take_names,
)
from jaxle.compilation import use_compilation_cache
from jaxle.concepts.contrastive import UNIT
from jaxle.data.splits import Split, check_split, make_split
from jaxle.explainers import EXPLAINERS, find_explainer
from jaxle.explainers.formula_columns import find_pairs, with_pairs
from jaxle.explainers.linear import Greedy
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.explainers.protocol import ArrayRows, Problem
from jaxle.explainers.table import mean_length as length_of
from jaxle.explanations import Explanations, check_names
from jaxle.explanations.formula import ConceptRows
from jaxle.options import describe, option, read
from jaxle.options import seed as read_seed
from jaxle.solve.measure import measure
from jaxle.units import InUnits, find_units

MIN_TOP5 = 0.5
DEAD_THRESHOLD = 0.01


@checks_input
def explain(
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str] | None = None,
    *,
    split: Split | Mapping[str, Any] | None = None,
    seed: int = 0,
    search: str = "greedy",
    lam: float = Greedy.lam,
    l1_ratio: float = Greedy.l1_ratio,
    max_concepts: int = Greedy.max_concepts,
    n_candidates: int = Greedy.n_candidates,
    min_gain: float = Greedy.min_gain,
    above_noise: bool = Greedy.above_noise,
    mean_length: float | Explanations | None = None,
    teacher: bool = Preconditioned.teacher,
    exchanges: int = Preconditioned.exchanges,
    min_top5: float = MIN_TOP5,
    dead_threshold: float = DEAD_THRESHOLD,
    raw_features: bool = False,
    formulas: int = 1,
    **more: Any,
) -> Explanations:
    """Returns an explanation of every neuron of an activation array, in order.

    Args:
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes: NumPy, JAX or
        memory-mapped arrays of any real dtype, nested lists, pandas frames, scipy's sparse
        matrices, torch tensors. Offset and scale of a neuron do not matter: float64 and integers
        are centred in float64.
      concept_probs: (images, concepts), likewise: the probability (0–1) that a concept is in an
        image; 0/1 labels are fine.
      concepts: the columns' names, each once; None takes those of a frame.
      split: which images train, choose and score: a `jaxle.Split`, or a dict with train, val and
        test, of image numbers or of masks; None draws 70/10/20 by `seed`. Kept as
        `explanations.split`.
      seed: of that split.
      search: an explainer's name: "greedy" (the paper's Algorithm 1), "top_k" (its B.4),
        "preconditioned" (jaxle's own, which predicts better at the same length), "clip_dissect",
        whose `concept_probs` are cosines of images and texts, with raw_features=True, "invert",
        whose are labels of 0 and 1 (its formulas: docs/methods.md), "published", which reads a
        `file`, or "package.module:NAME" of your own. The options that follow belong to some of
        these; one that the chosen explainer does not have is refused unless it has its default.
      lam, l1_ratio: greedy, top_k: the elastic net's λ and η on standardised columns.
      max_concepts: most concepts in an explanation (the paper's v). More than can be used are not
        searched for: those that pass screening, the training images, 1 + 1/min_gain for greedy.
      n_candidates: greedy: concepts tried per step (r).
      min_gain: greedy, preconditioned: least gain in correlation for one more concept (ε).
      above_noise: greedy: refuse a concept that gains no more on val than the best of
        `n_candidates` unrelated ones would (method.md §5). The paper's search does not.
      mean_length: preconditioned: set min_gain so that explanations have at most so many concepts
        on average, over neurons neither dead nor constant; or other explanations, whose mean
        length over such neurons is the limit.
      teacher: preconditioned: select for a dense fit's prediction, or for the activation itself.
      exchanges: preconditioned: rounds in which each chosen concept may give way to a better one.
      min_top5: screening: least mean of a concept's five largest probabilities; 0 turns it off.
      dead_threshold: behind a rectifier, a neuron whose maximum over all images stays below it is
        flagged dead (`explainers.Problem.dead`).
      raw_features: `concept_probs` are features of another kind, such as similarities, counts or a
        layer's units, of any range; they are not screened.
      formulas: greedy, preconditioned: 2 adds A AND B and A AND NOT B of pairs of concepts as
        candidates (`explainers.formula_columns`); one counts as two words.
      more: further options of the explainer (`explainers.EXPLAINERS`), such as `file`.

    Returns:
      Explanations; test images are not read for them.

    Raises:
      ValueError: arrays of unequal length, values that are not finite or, without `raw_features`,
        no probabilities; a bad option; no concept that passes screening; or a result beyond
        float64.
    """
    common = read(
        Common,
        {
            "min_top5": min_top5,
            "dead_threshold": dead_threshold,
            "raw_features": raw_features,
            "formulas": formulas,
        },
    )
    if common.raw_features and common.min_top5 not in (0, MIN_TOP5):
        raise ValueError(
            f"min_top5={min_top5} is about probabilities: leave it out with raw_features=True."
        )
    explainer = find_explainer(search)
    _check_formulas(common, search)
    given = {
        "lam": lam,
        "l1_ratio": l1_ratio,
        "max_concepts": max_concepts,
        "n_candidates": n_candidates,
        "min_gain": min_gain,
        "above_noise": above_noise,
        "mean_length": length_of(mean_length)
        if isinstance(mean_length, Explanations)
        else mean_length,
        "teacher": teacher,
        "exchanges": exchanges,
    }
    options = _options(search, explainer.options, given, more)
    seed = read_seed(seed)
    concepts = take_names(concepts, concept_probs)
    check_same_order(activations, concept_probs, ("activations", "concept_probs"))
    activations = as_matrix(activations, "activations")
    concept_probs = as_probabilities(concept_probs, "concept_probs", raw=common.raw_features)
    check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
    concepts = check_concepts(concepts, concept_probs.shape[1])
    if "masks" in explainer.needs:
        raise ValueError(
            f"search={search!r} reads maps and pixel masks, and these are activations of whole "
            "images: use jaxle.explainers.network_dissection.dissect, or a run on a source with "
            "masks."
        )
    if "cosines" in explainer.needs:
        _check_cosines(search, concept_probs, common.raw_features)
    n_images = activations.shape[0]
    split = make_split(n_images, seed) if split is None else check_split(split, n_images)
    use_compilation_cache()
    seen = np.concatenate([split.train, split.val])
    matrix: ConceptRows = ArrayRows(concept_probs, concepts)
    if common.formulas > 1:
        matrix = with_pairs(matrix, find_pairs(matrix, split.train, min_top5=common.min_top5))
    units_x = find_units(concept_probs, seen) if common.formulas == 1 else None
    units_y = find_units(activations, seen)
    in_units = matrix if units_x is None else ArrayRows(InUnits(concept_probs, units_x), concepts)
    measured = measure(
        in_units.rows,
        len(matrix.concepts),
        activations if units_y is None else InUnits(activations, units_y),
        split.train,
        split.val,
        min_top5=0.0 if common.raw_features else common.min_top5,
        folds=explainer.folds,
        units=units_x,
    )
    problem = Problem(
        activations,
        tuple(matrix.concepts[j] for j in measured.kept),
        matrix,
        split,
        measured,
        common.dead_threshold,
        units=(None if units_x is None else units_x.columns(measured.kept), units_y),
        cosines=ArrayRows(concept_probs, concepts).rows if "cosines" in explainer.needs else None,
    )
    return explainer.explain(problem, options)


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of `explain` that belong to every explainer."""

    min_top5: float = option(
        MIN_TOP5, "screening: least mean of a concept's five largest probabilities", low=0, high=1
    )
    dead_threshold: float = option(
        DEAD_THRESHOLD, "a neuron whose maximum stays below is flagged dead"
    )
    raw_features: bool = option(False, "features of any range in place of probabilities")
    formulas: int = option(
        1, "most words of a candidate: 2 adds pairs, by AND and AND NOT", low=1, high=2
    )


def _check_formulas(common: Common, search: str) -> None:
    """Raises a ValueError where formulas are asked for and cannot be had."""
    if common.formulas > 1 and not find_explainer(search).formulas:
        able = ", ".join(name for name, row in EXPLAINERS.items() if row.formulas)
        raise ValueError(
            f"formulas={common.formulas} needs a search that counts words ({able}), got {search!r}."
        )
    if common.formulas > 1 and common.raw_features:
        raise ValueError(
            f"formulas={common.formulas} are of probabilities: leave out raw_features, or formulas."
        )


@checks_input
def check_concepts(concepts: Sequence[str], n_columns: int) -> list[str]:
    """Returns the names as a list: one a column, each once, none empty; else a ValueError.

    Line breaks in a name become spaces: a table could not hold them.
    """
    if isinstance(concepts, (str, bytes)) or not isinstance(concepts, Iterable):
        raise ValueError(f"concepts must be a list of names, got {type(concepts).__name__}.")
    concepts = list(concepts)
    other = next((i for i, name in enumerate(concepts) if not isinstance(name, str)), None)
    if other is not None:
        raise ValueError(f"concepts must be named by text, got {concepts[other]!r} at {other}.")
    concepts = [" ".join(concept.splitlines()).strip() for concept in concepts]
    if len(concepts) != n_columns:
        raise ValueError(
            f"concepts must name the {n_columns} columns of concept_probs, "
            f"got {len(concepts)} names."
        )
    if len(set(concepts)) != len(concepts):
        twice = next(c for i, c in enumerate(concepts) if c in concepts[:i])
        raise ValueError(f"concepts must be different names, got {twice!r} twice.")
    if "" in concepts:
        position = concepts.index("")
        raise ValueError(f"concepts must be non-empty names, got an empty one at {position}.")
    check_names(concepts)
    return concepts


def _check_cosines(search: str, cosines: Array, raw: bool) -> None:
    if not raw:
        raise ValueError(
            f"search={search!r} reads cosines of images and texts: give them in place of "
            "concept_probs, with raw_features=True."
        )
    for block, values in host_blocks(cosines):
        if np.abs(values).max() > 1 + UNIT:
            row, column = np.argwhere(np.abs(values) > 1 + UNIT)[0]
            raise ValueError(
                f"search={search!r} reads cosines, from −1 to 1, got "
                f"{float(values[row, column]):g} in image {block.start + row}, concept {column}."
            )


def _options(search: str, cls: type, given: dict[str, Any], more: dict[str, Any]) -> Any:
    """The explainer's options out of the keywords; one that it lacks must have its default."""
    fields, standard = describe(cls), {**describe(Preconditioned), **describe(Greedy)}
    for name, value in given.items():
        if name not in fields and value != standard[name].default:
            raise ValueError(
                f"{name}={value!r} is no option of search={search!r}; "
                f"its options: {', '.join(fields) or 'none'}."
            )
    return read(cls, {name: given[name] for name in given if name in fields} | more)
