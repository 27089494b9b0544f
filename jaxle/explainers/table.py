"""From what a search found to rows of the table: words by descending weight, and each flag."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from jaxle.explainers.protocol import Problem
from jaxle.explainers.search import Found
from jaxle.explanations import Explanation, Explanations, FormulaRows
from jaxle.explanations.formula import Name
from jaxle.units import Units


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
    all_weights, all_bias = in_users_units(found, problem)
    result = []
    for k, count in enumerate(found.count):
        chosen = sorted(zip(-all_weights[k, :count], range(count), strict=True))
        names, kind = _named(problem, [int(found.selected[k, i]) for _, i in chosen])
        weights, bias = tuple(-float(w) for w, _ in chosen), float(all_bias[k])
        if dead[k]:
            flag = "dead"
        elif not varies[k]:
            flag = "constant"
        elif count == 0:
            flag = "unexplained"
        else:
            flag = "" if converged is None or converged[k] else "unconverged"
        rho = float(found.val_correlation[k])
        result.append(Explanation(k, names, weights, bias, rho, flag, kind))
    return tuple(result)


def _named(problem: Problem, chosen: list[int]) -> tuple[tuple[str, ...], str]:
    """Names of some concepts, and the kind of explanation that they make."""
    names = tuple(problem.concepts[j] for j in chosen)
    if not isinstance(problem.matrix, FormulaRows):
        return names, "linear"
    formulas = [problem.matrix.formulas[problem.measured.kept[j]] for j in chosen]
    plain = tuple(one.name for one in formulas if isinstance(one, Name))
    return (plain, "linear") if len(plain) == len(names) else (names, "formula")


def in_users_units(
    found: Found, problem: Problem
) -> tuple[Float[np.ndarray, "neurons most"], Float[np.ndarray, " neurons"]]:
    """Returns weights and bias on the columns that the user gave, whatever the moments' units.

    x' = (x − m_x) s_x,  y' = (y − m_y) s_y:   w = w' s_x/s_y,   b = m_y + b'/s_y − Σ m_x w
    """
    if problem.units == (None, None):
        return found.weights, found.bias
    x, y = problem.units
    x = Units.none(len(problem.concepts)) if x is None else x
    y = Units.none(len(found.bias)) if y is None else y
    with np.errstate(over="ignore", invalid="ignore"):  # a number beyond float64 is refused later
        weights = found.weights.astype(np.float64) * x.scale[found.selected] * y.size[:, None]
        weights = np.where(found.selected >= 0, weights, 0.0)
        moved = np.sum(x.centre[found.selected] * weights, axis=1)
        return weights, y.centre + found.bias.astype(np.float64) * y.size - moved


def counted(problem: Problem) -> Bool[np.ndarray, " neurons"]:
    """Returns which neurons are neither dead nor constant on train: those a mean length counts."""
    return ~problem.dead & problem.measured.train.varies()


def mean_length(explanations: Explanations) -> float | None:
    """Returns the mean length over neurons neither dead nor constant; None where there is none."""
    those = ~np.isin(explanations.flags, ("dead", "constant"))
    return float(explanations.lengths[those].mean()) if those.any() else None
