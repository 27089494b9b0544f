"""Do two simulators rank methods and neurons alike? Kendall's τ, which only looks at order (method.md §8, second simulator).

    τ_b = (concordant − discordant)/√((pairs − ties in a)(pairs − ties in b))

τ = 1: every pair in the same order, −1: in the opposite one, 0: unrelated, or nothing to order (one method, or all scores equal).
Source: Kendall 1945 (https://doi.org/10.1093/biomet/33.3.239); scipy.stats.kendalltau.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from jaxle.arrays import check_live, check_matrix


class Agreement(NamedTuple):
    """How alike two simulators rank."""

    methods: float  # τ between their rankings of methods by mean score over live neurons
    neurons: dict[str, float]  # method → τ between their rankings of the live neurons
    within: (
        np.ndarray
    )  # (neurons,) float64: τ between their rankings of the methods, neuron by neuron; 0 where dead
    mean_within: float  # over live neurons
    same_best: bool  # the method of largest mean is the same


def agreement(
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    live: np.ndarray | None = None,
) -> Agreement:
    """Compare two simulators' scores of the same methods and neurons; use it wherever a run has more than one simulator.

    Args:
      first, second: method → (neurons,) scores such as correlations, each by one simulator, the same methods in both.
      live: (neurons,) bool; None for all.

    Returns:
      Agreement, never NaN.

    Raises:
      ValueError: other methods, unequal numbers of neurons, or values that are not finite.
    """
    if set(first) != set(second) or not first:
        raise ValueError(
            f"both simulators must score the same methods, got {sorted(first)} and {sorted(second)}."
        )
    names = list(first)
    sizes = {len(scores[name]) for scores in (first, second) for name in names}
    if len(sizes) > 1:
        raise ValueError(f"all scores must be of the same neurons, got {sorted(sizes)} of them.")
    live = check_live(live, (sizes.pop(),))
    a, b = (
        check_matrix(
            np.stack([np.asarray(x[name], np.float64) for name in names]),
            "scores",
            ("methods", "neurons"),
        )
        for x in (first, second)
    )
    means = [x[:, live].mean(1) if live.any() else np.zeros(len(names)) for x in (a, b)]
    within = np.where(live, _columns(a, b), 0.0)
    return Agreement(
        tau(*means),
        {name: tau(a[i, live], b[i, live]) for i, name in enumerate(names)},
        within,
        float(within[live].mean()) if live.any() else 0.0,
        bool(means[0].argmax() == means[1].argmax()),
    )


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's τ_b of two (items,) scores; 0 where either has nothing to order."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(kendalltau(a, b).statistic)


def _columns(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """τ_b of every column of a, b (items, columns): signs over the few pairs of items, all columns at once."""
    pairs = list(combinations(range(len(a)), 2))
    if not pairs:
        return np.zeros(a.shape[1])
    i, j = np.array(pairs).T
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    size = np.sqrt((x != 0).sum(0) * (y != 0).sum(0))
    return np.where(size > 0, (x * y).sum(0) / np.where(size > 0, size, 1.0), 0.0)
