"""`jaxle.explain`: every neuron of an activation array that a user brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxtyping import Real

from jaxle.arrays import Array, check_equal_rows, check_matrix, checks_input
from jaxle.data.splits import Split, check_split, make_split
from jaxle.explainers import find_explainer
from jaxle.explainers.linear import Greedy
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.explainers.protocol import ArrayRows, Problem
from jaxle.explanations import Explanations, check_names
from jaxle.options import describe, option, read
from jaxle.solve.measure import measure

MIN_TOP5 = 0.5
DEAD_THRESHOLD = 0.01


@checks_input
def explain(
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str],
    *,
    split: Split | None = None,
    seed: int = 0,
    search: str = "greedy",
    lam: float = Greedy.lam,
    l1_ratio: float = Greedy.l1_ratio,
    max_concepts: int = Greedy.max_concepts,
    n_candidates: int = Greedy.n_candidates,
    min_gain: float = Greedy.min_gain,
    mean_length: float | None = None,
    teacher: bool = Preconditioned.teacher,
    exchanges: int = Preconditioned.exchanges,
    min_top5: float = MIN_TOP5,
    dead_threshold: float = DEAD_THRESHOLD,
    **more: Any,
) -> Explanations:
    """Returns an explanation of every neuron of an activation array, in order.

    Args:
      activations: (images, neurons), any real dtype, NumPy, JAX or memory-mapped.
      concept_probs: (images, concepts), the probability (0–1) that a concept is in an image; 0/1
        labels are fine.
      concepts: the columns' names, each once.
      split: which images train, choose and score; None draws 70/10/20 by `seed`. Kept as
        `explanations.split`.
      seed: of that split.
      search: an explainer's name: "greedy" (the paper's Algorithm 1), "top_k" (its B.4),
        "preconditioned" (jaxle's own, which predicts better at the same length), or
        "package.module:NAME" of your own. The options that follow belong to some of these; one
        that the chosen explainer does not have is refused unless it has its default.
      lam, l1_ratio: greedy, top_k: the elastic net's λ and η on standardised columns.
      max_concepts: most concepts in an explanation (the paper's v).
      n_candidates: greedy: concepts tried per step (r).
      min_gain: greedy, preconditioned: least gain in correlation for one more concept (ε).
      mean_length: preconditioned: set min_gain so that explanations have at most so many concepts
        on average; at least 1.
      teacher: preconditioned: select for a dense fit's prediction, or for the activation itself.
      exchanges: preconditioned: rounds in which each chosen concept may give way to a better one.
      min_top5: screening: least mean of a concept's five largest probabilities; 0 turns it off.
      dead_threshold: a neuron whose maximum over all images stays below it is flagged dead.
      more: options of an explainer of your own.

    Returns:
      Explanations; test images are not read for them.

    Raises:
      ValueError: arrays of unequal length, values that are not finite, a bad option, or no concept
        that passes screening.
    """
    check_matrix(activations, "activations")
    check_matrix(concept_probs, "concept_probs", ("images", "concepts"))
    check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
    concepts = check_concepts(concepts, concept_probs.shape[1])
    explainer = find_explainer(search)
    given = {
        "lam": lam,
        "l1_ratio": l1_ratio,
        "max_concepts": max_concepts,
        "n_candidates": n_candidates,
        "min_gain": min_gain,
        "mean_length": mean_length,
        "teacher": teacher,
        "exchanges": exchanges,
    }
    options = _options(search, explainer.options, given, more)
    common = read(Common, {"min_top5": min_top5, "dead_threshold": dead_threshold})
    n_images = activations.shape[0]
    split = make_split(n_images, seed) if split is None else check_split(split, n_images)
    matrix = ArrayRows(concept_probs, concepts)
    measured = measure(
        matrix.rows,
        len(concepts),
        activations,
        split.train,
        split.val,
        min_top5=common.min_top5,
        folds=explainer.folds,
    )
    names = tuple(concepts[j] for j in measured.kept)
    problem = Problem(activations, names, matrix, split, measured, common.dead_threshold)
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


def check_concepts(concepts: Sequence[str], n_columns: int) -> list[str]:
    """Returns the names as a list: one a column, each once, none empty; else a ValueError.

    Line breaks in a name become spaces: a table could not hold them.
    """
    concepts = [" ".join(str(concept).splitlines()).strip() for concept in concepts]
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
