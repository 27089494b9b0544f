"""Do two simulators rank methods and neurons alike? Kendall's τ, which only looks at order.

    τ_b = (concordant − discordant)/√((pairs − ties in a)(pairs − ties in b))

τ is 1 where every pair is in the same order, −1 where it is in the opposite one, and 0 where the
orders are unrelated or there is nothing to order (one method, or all scores equal).
Source: method.md §8; Kendall 1945 (https://doi.org/10.1093/biomet/33.3.239).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Real

from jaxle.arrays import check_live, check_matrix, checks_input


class Agreement(NamedTuple):
    """How alike two simulators rank."""

    methods: float  # τ between their rankings of methods by mean score over live neurons
    neurons: dict[str, float]  # method → τ between their rankings of the live neurons
    # τ between their rankings of the methods, neuron by neuron; 0 where dead
    within: Float64[np.ndarray, " neurons"]
    mean_within: float  # over live neurons
    same_best: bool  # the method of largest mean is the same


@checks_input
def agreement(
    first: Mapping[str, Real[np.ndarray, " neurons"]],
    second: Mapping[str, Real[np.ndarray, " neurons"]],
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Agreement:
    """Compares two simulators' scores of the same methods and neurons.

    Args:
      first, second: method → (neurons,) scores such as correlations, each by one simulator, the
        same methods in both.
      live: (neurons,) bool; None for all.

    Returns:
      Agreement; no value is NaN.

    Raises:
      ValueError: other methods, unequal numbers of neurons, or values that are not finite.
    """
    if set(first) != set(second) or not first:
        raise ValueError(
            "both simulators must score the same methods, "
            f"got {sorted(first)} and {sorted(second)}."
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


def tau(a: Real[np.ndarray, " items"], b: Real[np.ndarray, " items"]) -> float:
    """Returns Kendall's τ_b of two scores; 0 where either has nothing to order."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    from scipy.stats import kendalltau  # half a second to load, and few runs need it

    statistic, _ = np.asarray(kendalltau(a, b), np.float64)
    return float(statistic)


def _columns(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """τ_b of every column of a, b (items, columns), from the signs of all pairs of items."""
    pairs = list(combinations(range(len(a)), 2))
    if not pairs:
        return np.zeros(a.shape[1])
    i, j = np.array(pairs).T
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    size = np.sqrt((x != 0).sum(0) * (y != 0).sum(0))
    return np.where(size > 0, (x * y).sum(0) / np.where(size > 0, size, 1.0), 0.0)
