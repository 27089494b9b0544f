"""LE, the paper's linear explainer, and its variant without a search.

    rank    elastic net of every neuron on all concepts; candidates by weight  (paper, Eq. 6)
    greedy  search over the candidates; least squares on the few chosen        (Algorithm 1)
    top_k   the concepts of largest weight, refitted                           (appendix B.4)

Source: Oikarinen & Weng 2024 (arXiv 2405.06855), section 4; method.md §§4–5.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxle.explainers import search, table
from jaxle.explainers.protocol import Problem
from jaxle.explainers.rank import Candidates, candidates
from jaxle.explanations import Explanations
from jaxle.options import option


@dataclass(frozen=True)
class TopK:
    """Options of `top_k`; the defaults are the paper's."""

    lam: float = option(0.05 / 0.99, "λ of the elastic net, on standardised columns", above=0)
    l1_ratio: float = option(0.99, "η: the share of the penalty that is L1", above=0, high=1)
    tol: float = option(
        1e-6, "tolerance on the duality gap, of the objective at zero", above=0, high=1
    )
    max_concepts: int = option(10, "most concepts in an explanation (v)", low=1)


@dataclass(frozen=True)
class Greedy:
    """Options of `greedy`; the defaults are the paper's."""

    lam: float = option(0.05 / 0.99, "λ of the elastic net, on standardised columns", above=0)
    l1_ratio: float = option(0.99, "η: the share of the penalty that is L1", above=0, high=1)
    tol: float = option(
        1e-6, "tolerance on the duality gap, of the objective at zero", above=0, high=1
    )
    max_concepts: int = option(10, "most concepts in an explanation (v)", low=1)
    n_candidates: int = option(10, "candidates tried per step (r)", low=1)
    min_gain: float = option(
        0.02, "least gain in correlation for one more concept (ε)", low=0, high=1
    )
    above_noise: bool = option(
        False, "refuse concepts that gain no more on val than the best of unrelated ones would"
    )


def greedy(problem: Problem, options: Greedy) -> Explanations:
    """Returns the explanations of the paper's Algorithm 1; test images are not read."""
    measured = problem.measured
    # each concept but the first raises a correlation, which is at most 1, by min_gain
    steps = problem.most_concepts(options.max_concepts)
    if options.min_gain > 0:
        steps = min(steps, 1 + int(1 / options.min_gain))
    tried = min(options.n_candidates, len(problem.concepts))
    ranked = _rank(problem, options, tried * steps)
    found = search.greedy(
        measured.train,
        measured.val,
        ranked.order,
        n_candidates=tried,
        max_concepts=steps,
        min_gain=options.min_gain,
        words=problem.lengths,
        skewness=problem.skewness if options.above_noise else None,
        mesh=problem.mesh,
    )
    return _table(problem, ranked, found)


def top_k(problem: Problem, options: TopK) -> Explanations:
    """Returns the explanations by the `max_concepts` largest weights (paper, appendix B.4)."""
    measured, most = problem.measured, problem.most_concepts(options.max_concepts)
    ranked = _rank(problem, options, most)
    found = search.top_k(
        measured.train,
        measured.val,
        ranked.order,
        max_concepts=most,
        mesh=problem.mesh,
    )
    return _table(problem, ranked, found)


def _rank(problem: Problem, options: Greedy | TopK, pool: int) -> Candidates:
    return candidates(
        problem.measured.train,
        options.lam,
        options.l1_ratio,
        tol=options.tol,
        pool=pool,
        mesh=problem.mesh,
    )


def _table(problem: Problem, ranked: Candidates, found: search.Found) -> Explanations:
    facts = {
        "n_concepts": len(problem.concepts),
        "worst_gap": float(ranked.gap.max()),
        "n_unconverged": int((~ranked.converged).sum()),
        "mean_support": float(ranked.support.mean()),
    }
    rows = table.rows(found, problem, ranked.converged)
    return Explanations(rows, split=problem.split, facts=facts)
