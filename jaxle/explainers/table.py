"""From what a search found to rows of the table: words in order of weight, and the flag of every neuron that needs one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxle.explainers.search import Found
from jaxle.explanations import Explanation
from jaxle.solve.moments import Moments, scales


def rows(
    found: Found,
    concepts: Sequence[str],
    maxima: np.ndarray,
    dead_threshold: float,
    train: Moments,
    converged: np.ndarray | None = None,
) -> tuple[Explanation, ...]:
    """One explanation a neuron, its concepts by descending weight.

    Args:
      found: selected concepts and their fit.
      concepts: names of the columns that `found.selected` numbers.
      maxima: (neurons,) each neuron's largest activation over all probe images.
      dead_threshold: neurons whose maximum stays below are flagged dead.
      train: moments of the training images, by which a neuron is constant or not.
      converged: (neurons,) bool, False flags the fit before the search; None: there was none.
    """
    alive = live(maxima, dead_threshold, train)
    result = []
    for k, count in enumerate(found.count):
        chosen = sorted(zip(-found.weights[k, :count], range(count), strict=True))
        names = tuple(concepts[found.selected[k, i]] for _, i in chosen)
        flag = (
            "dead"
            if maxima[k] < dead_threshold
            else "constant"
            if not alive[k]
            else "unexplained"
            if count == 0
            else ""
            if converged is None or converged[k]
            else "unconverged"
        )
        weights, bias, rho = (
            tuple(-float(w) for w, _ in chosen),
            float(found.bias[k]),
            float(found.val_correlation[k]),
        )
        result.append(Explanation(k, names, weights, bias, rho, flag))
    return tuple(result)


def live(maxima: np.ndarray, dead_threshold: float, train: Moments) -> np.ndarray:
    """(neurons,) bool: neither dead nor constant on train."""
    return (np.asarray(maxima) >= dead_threshold) & (np.asarray(scales(train).inv_y) > 0)
