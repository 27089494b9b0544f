"""LE, the linear explainer: from activations and concept probabilities to explanations, in three steps.

    measure   screen the concepts; second moments of train and val, one streaming pass over each
    rank      elastic net of every neuron on all concepts; candidates in order of weight          (paper, Eq. 6)
    select    greedy search over the candidates; least-squares weights of the chosen few           (paper, Algorithm 1)

Each step's result is a small record of arrays, so that a run can keep it and change what follows. `explain` is all three, or, for
`search="preconditioned"`, `measure` and then `explainers.preconditioned`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxle.arrays import Array, check_equal_rows, check_matrix
from jaxle.data.splits import Split, check_split, make_split
from jaxle.explainers import preconditioned, table
from jaxle.explainers import rank as ranking
from jaxle.solve.measure import Measured, maximum, measure
from jaxle.explainers.search import SEARCHES
from jaxle.explanations import Explanations
from jaxle.solve.exchange import ROUNDS

__all__ = [
    "Measured",
    "Ranked",
    "check_concepts",
    "check_options",
    "explain",
    "maximum",
    "measure",
    "rank",
    "select",
]

LAM, L1_RATIO, TOL = 0.05 / 0.99, 0.99, 1e-6
MAX_CONCEPTS, N_CANDIDATES, MIN_GAIN, MIN_TOP5 = 10, 10, 0.02, 0.5
DEAD_THRESHOLD = 0.01
PRECONDITIONED = "preconditioned"


class Ranked(NamedTuple):
    """Every neuron's candidates: `order` (neurons, pool) int32 into the kept columns, best first, and how the elastic net ended."""

    order: np.ndarray
    gap: np.ndarray  # (neurons,) duality gap over the objective at zero
    iterations: np.ndarray  # (neurons,) int32
    converged: np.ndarray  # (neurons,) bool
    support: np.ndarray  # (neurons,) int32, non-zero weights


def explain(
    activations: Array,
    concept_probs: Array,
    concepts: Sequence[str],
    *,
    split: Split | None = None,
    seed: int = 0,
    lam: float = LAM,
    l1_ratio: float = L1_RATIO,
    max_concepts: int = MAX_CONCEPTS,
    n_candidates: int = N_CANDIDATES,
    min_gain: float = MIN_GAIN,
    search: str = "greedy",
    mean_length: float | None = None,
    teacher: bool = True,
    exchanges: int = ROUNDS,
    min_top5: float = MIN_TOP5,
    dead_threshold: float = DEAD_THRESHOLD,
) -> Explanations:
    """Explain every neuron of an activation array that you bring.

    Args:
      activations: (images, neurons), any real dtype, NumPy, JAX or memory-mapped.
      concept_probs: (images, concepts), the probability (0–1) that a concept is in an image; 0/1 labels are fine.
      concepts: the columns' names, each once.
      split: which images train, choose and score; None draws 70/10/20 by `seed`. Kept as `explanations.split`.
      lam, l1_ratio: the elastic net's λ and η on standardised columns.
      max_concepts: most concepts in an explanation (the paper's v).
      n_candidates: concepts tried per step (r).
      min_gain: least gain in validation correlation for one more concept (ε).
      search: "greedy" (the paper's Algorithm 1), "top_k" (its B.4: the `max_concepts` largest weights), or "preconditioned" (jaxle's own
        `explainers.preconditioned`, which predicts better at the same length; lam, l1_ratio and n_candidates are not used).
      mean_length: preconditioned only: set min_gain so that explanations have at most so many concepts on average; at least 1.
      teacher: preconditioned only: select for a dense fit's prediction (True) or for the activation itself.
      exchanges: preconditioned only: rounds in which each chosen concept may give way to a better one; 0 for none.
      min_top5: screening: least mean of a concept's five largest probabilities; 0 turns the rule off.
      dead_threshold: a neuron whose maximum over all images stays below it is flagged dead.

    Returns:
      One explanation a neuron, in order; none of them sees a test image.

    Raises:
      ValueError: arrays of unequal length, values that are not finite, a bad option, or no concept that passes screening.
    """
    check_matrix(activations, "activations")
    check_matrix(concept_probs, "concept_probs", ("images", "concepts"))
    check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
    concepts = check_concepts(concepts, concept_probs.shape[1])
    check_options(
        lam,
        l1_ratio,
        TOL,
        max_concepts,
        n_candidates,
        min_gain,
        search,
        min_top5,
        mean_length,
        teacher,
        exchanges,
    )
    n_images = activations.shape[0]
    split = make_split(n_images, seed) if split is None else check_split(split, n_images)

    folds = preconditioned.N_FOLDS if search == PRECONDITIONED else 0
    measured = measure(
        lambda index, columns=slice(None): concept_probs[index][:, columns],
        len(concepts),
        activations,
        split,
        min_top5,
        folds=folds,
    )
    if search == PRECONDITIONED:
        return preconditioned.explain(
            measured,
            [concepts[j] for j in measured.kept],
            maximum(activations),
            split,
            max_concepts=max_concepts,
            min_gain=min_gain,
            mean_length=mean_length,
            teacher=teacher,
            exchanges=exchanges,
            dead_threshold=dead_threshold,
        )
    ranked = rank(measured, lam, l1_ratio, pool_size=n_candidates * max_concepts)
    return select(
        measured,
        ranked,
        [concepts[j] for j in measured.kept],
        maximum(activations),
        split,
        search=search,
        max_concepts=max_concepts,
        n_candidates=n_candidates,
        min_gain=min_gain,
        dead_threshold=dead_threshold,
    )


def rank(
    measured: Measured,
    lam: float,
    l1_ratio: float,
    *,
    tol: float = TOL,
    pool_size: int = N_CANDIDATES * MAX_CONCEPTS,
    mesh: Mesh | None = None,
) -> Ranked:
    """Fit the elastic net and put every neuron's candidates in order.

    Args:
      measured: from `measure`.
      lam, l1_ratio, tol: penalty, and tolerance on the duality gap relative to the objective at zero.
      pool_size: candidates kept per neuron, at most all concepts.
      mesh: neurons are split over its axis `data`.
    """
    return Ranked(
        *ranking.candidates(measured.train, lam, l1_ratio, tol=tol, pool=pool_size, mesh=mesh)
    )


def select(
    measured: Measured,
    ranked: Ranked,
    concepts: Sequence[str],
    maxima: np.ndarray,
    split: Split,
    *,
    search: str,
    max_concepts: int,
    n_candidates: int,
    min_gain: float,
    dead_threshold: float,
    mesh: Mesh | None = None,
) -> Explanations:
    """Search the candidates and put the table together.

    Args:
      measured, ranked: from the steps before.
      concepts: names of the kept columns.
      maxima: (neurons,) each neuron's largest activation over all probe images.
      split: kept with the explanations.
      search, max_concepts, n_candidates, min_gain, dead_threshold: see `explain`.
      mesh: neurons are split over its axis `data`.
    """
    found = SEARCHES[search](
        measured.train,
        measured.val,
        ranked.order,
        n_candidates=n_candidates,
        max_concepts=max_concepts,
        min_gain=min_gain,
        mesh=mesh,
    )
    facts = {
        "n_concepts": len(measured.kept),
        "worst_gap": float(ranked.gap.max()),
        "n_unconverged": int((~ranked.converged).sum()),
        "mean_support": float(ranked.support.mean()),
    }
    return Explanations(
        table.rows(found, concepts, maxima, dead_threshold, measured.train, ranked.converged),
        split=split,
        facts=facts,
    )


def check_concepts(concepts: Sequence[str], n_columns: int) -> list[str]:
    """The names as a list, or a ValueError: one name per column, each once, none empty."""
    concepts = [str(concept) for concept in concepts]
    if len(concepts) != n_columns:
        raise ValueError(
            f"concepts must name the {n_columns} columns of concept_probs, got {len(concepts)} names."
        )
    if len(set(concepts)) != len(concepts):
        twice = next(c for i, c in enumerate(concepts) if c in concepts[:i])
        raise ValueError(f"concepts must be different names, got {twice!r} twice.")
    if "" in concepts:
        raise ValueError(
            f"concepts must be non-empty names, got an empty one at position {concepts.index('')}."
        )
    return concepts


def check_options(
    lam: float,
    l1_ratio: float,
    tol: float,
    max_concepts: int,
    n_candidates: int,
    min_gain: float,
    search: str,
    min_top5: float,
    mean_length: float | None = None,
    teacher: bool = True,
    exchanges: int = ROUNDS,
) -> None:
    """Raise a ValueError for the first option that makes no sense, before anything is computed."""
    for name, value, low, high in (
        ("lam", lam, 0, np.inf),
        ("l1_ratio", l1_ratio, 0, 1),
        ("tol", tol, 0, 1),
        ("min_gain", min_gain, 0, 1),
        ("min_top5", min_top5, 0, 1),
    ):
        if not (isinstance(value, (int, float)) and low <= value <= high and value < np.inf) or (
            name in ("lam", "tol") and value == 0
        ):
            expected = (
                "a positive number"
                if high == np.inf
                else f"a number in {'(' if name == 'tol' else '['}0, 1]"
            )
            raise ValueError(f"{name} must be {expected}, got {value!r}.")
    for name, value, low in (
        ("max_concepts", max_concepts, 1),
        ("n_candidates", n_candidates, 1),
        ("exchanges", exchanges, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")
    searches = [*SEARCHES, PRECONDITIONED]
    if search not in searches:
        raise ValueError(f"unknown search {search!r}; valid: {', '.join(searches)}.")
    if mean_length is not None:
        if search != PRECONDITIONED:
            raise ValueError(f"mean_length needs search={PRECONDITIONED!r}, got search={search!r}.")
        if (
            isinstance(mean_length, bool)
            or not isinstance(mean_length, (int, float))
            or not 1 <= mean_length < np.inf
        ):
            raise ValueError(
                f"mean_length must be a number of at least 1, or None, got {mean_length!r}."
            )
    if not isinstance(teacher, bool):
        raise ValueError(f"teacher must be True or False, got {teacher!r}.")
