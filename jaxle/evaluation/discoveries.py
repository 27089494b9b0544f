"""From scores and a null to a statement about a layer: "x of K neurons explained at q = 0.05".

    p_k = (1 + #{null ≥ observed_k}) / (1 + #null)
    q_(i) = min_{j ≥ i} p_(j)·m/j over the m live neurons, p ascending;   found: q ≤ level

Source: method.md §8; Phipson & Smyth 2010 (https://doi.org/10.2202/1544-6115.1585) for p, which is
never 0; Benjamini & Hochberg 1995 (https://doi.org/10.1111/j.2517-6161.1995.tb02031.x) for q.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Real

from jaxle.arrays import check_live, checks_input
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric


class Discoveries(NamedTuple):
    """The neurons that are found at a false discovery rate."""

    found: Bool[np.ndarray, " neurons"]
    # the smallest level at which each would be found, in [0, 1]; 1 where dead
    q_values: Float64[np.ndarray, " neurons"]
    n_found: int
    threshold: float  # largest p-value found; 0 where none is


@checks_input
def p_values(
    observed: Real[np.ndarray, " neurons"],
    null: Real[np.ndarray, "*scores"],
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Float64[np.ndarray, " neurons"]:
    """Returns how often chance does at least as well, for scores of which larger is better.

    With N null values no p-value lies below 1/(1 + N). To find x of m neurons at level q, N must
    reach about m/(q·x), which is 1/(q·x) permutations of all of them.

    Args:
      observed: (neurons,) real.
      null: scores under chance, any shape, pooled; none at all gives p = 1.
      live: (neurons,) bool; the others get p = 1. None for all.

    Returns:
      (neurons,) float64 in (0, 1].

    Raises:
      ValueError: a value that is not finite, or `live` of another shape.
    """
    observed, null = np.asarray(observed), np.sort(np.asarray(null).ravel())
    for name, values in (("observed", observed), ("null", null)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}.")
    above = len(null) - np.searchsorted(null, observed, side="left")
    return np.where(check_live(live, observed.shape), (1.0 + above) / (1.0 + len(null)), 1.0)


@checks_input
def benjamini_hochberg(
    p: Real[np.ndarray, " neurons"],
    q: float = 0.05,
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Discoveries:
    """Finds the neurons to call explained: on average at most a share `q` of them is not.

    Holds for p-values that are independent or positively dependent, as those of neurons with a
    pooled null are.

    Args:
      p: (neurons,) p-values.
      q: the false discovery rate allowed, between 0 and 1.
      live: (neurons,) bool; the others are not tested and not found. None for all.

    Raises:
      ValueError: a p-value outside [0, 1], q outside (0, 1), or `live` of another shape.
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            "p must hold one p-value from 0 to 1 a neuron, "
            f"got shape {p.shape} with values {p.ravel()[:5]}."
        )
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q!r}.")
    tested = np.flatnonzero(check_live(live, p.shape))
    order = tested[np.argsort(p[tested], kind="stable")]
    q_values = np.ones(len(p))
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    q_values[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    found = np.zeros(len(p), bool)
    found[order] = q_values[order] <= q
    return Discoveries(found, q_values, int(found.sum()), float(p[found].max(initial=0.0)))


def _compute(evidence: Evidence) -> Computed:
    if evidence.null is None:
        return {}, {}
    null = evidence.null[:, evidence.live]
    p = p_values(correlation(evidence.simulated, evidence.activations), null, evidence.live)
    found = benjamini_hochberg(p, evidence.q, evidence.live)
    facts = {"n_explained": found.n_found, "q": evidence.q}
    if evidence.null_val is not None:
        facts["permuted_val_correlation"] = _mean(evidence.null_val[:, evidence.live])
    facts["permuted_correlation"] = _mean(null)
    return {"p_value": p, "q_value": found.q_values}, facts


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


METRIC = Metric(
    (
        Column(
            "p_value",
            0.0,
            1.0,
            "lower",
            "(1 + number of null scores ≥ ρ)/(1 + null scores), the null being the same search on "
            "permuted activations, pooled over live neurons",
            averaged=False,
        ),
        Column(
            "q_value",
            0.0,
            1.0,
            "lower",
            "smallest false discovery rate at which this neuron counts as explained",
            averaged=False,
        ),
    ),
    _compute,
)
