"""From what a search found to rows of the table: words by descending weight, and each flag."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from jaxle.explainers.protocol import Problem
from jaxle.explainers.search import Found
from jaxle.explanations import Explanation


def rows(
    found: Found, problem: Problem, converged: Bool[np.ndarray, " neurons"] | None = None
) -> tuple[Explanation, ...]:
    """Returns one explanation a neuron, its concepts by descending weight.

    Args:
      found: selected concepts and their fit.
      problem: what was explained.
      converged: (neurons,), False flags the fit before the search; None where there was none.
    """
    dead, varies = problem.dead, problem.measured.train.varies()
    result = []
    for k, count in enumerate(found.count):
        chosen = sorted(zip(-found.weights[k, :count], range(count), strict=True))
        names = tuple(problem.concepts[found.selected[k, i]] for _, i in chosen)
        weights, bias = tuple(-float(w) for w, _ in chosen), float(found.bias[k])
        if dead[k]:
            flag = "dead"
        elif not varies[k]:
            flag = "constant"
        elif count == 0:
            flag = "unexplained"
        else:
            flag = "" if converged is None or converged[k] else "unconverged"
        result.append(Explanation(k, names, weights, bias, float(found.val_correlation[k]), flag))
    return tuple(result)


def counted(problem: Problem) -> Bool[np.ndarray, " neurons"]:
    """Returns which neurons are neither dead nor constant on train: those a mean length counts."""
    return ~problem.dead & problem.measured.train.varies()
