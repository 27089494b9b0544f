"""From p-values to a statement about a layer: "x of K neurons explained at q = 0.05".

    p_k of `evaluation.permutation`, or any other
    q_(i) = min_{j ≥ i} p_(j)·m/j over the m live neurons, p ascending;   found: q ≤ level

*Explained* says that a neuron and its explanation have something to do with each other, which holds
for random features, too. "Better explained than an untrained network's" is `evaluation.controls`.
Where not even the smallest p-values that these images and draws allow would be found, there is no
count (`n_explainable` is 0).
Source: method.md §8; Benjamini & Hochberg 1995
(https://doi.org/10.1111/j.2517-6161.1995.tb02031.x).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Real

from jaxle.arrays import check_live, checks_input
from jaxle.evaluation.permutation import permutation_test
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric


class Discoveries(NamedTuple):
    """The neurons that are found at a false discovery rate."""

    found: Bool[np.ndarray, " neurons"]
    # the smallest level at which each would be found, in [0, 1]; 1 where dead
    q_values: Float64[np.ndarray, " neurons"]
    n_found: int
    threshold: float  # largest p-value found; 0 where none is


@checks_input
def benjamini_hochberg(
    p: Real[np.ndarray, " neurons"],
    q: float = 0.05,
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Discoveries:
    """Finds the neurons to call explained: on average at most a share `q` of them is not.

    Holds for p-values that are independent or positively dependent, as those of neurons that are
    compared with the same control are.

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
    found[order] = q_values[order] <= q * (1 + 1e-12)  # p of exactly q·j/m is found
    return Discoveries(found, q_values, int(found.sum()), float(p[found].max(initial=0.0)))


def _compute(evidence: Evidence) -> Computed:
    if evidence.permutations == 0:
        return {}, {}
    test = permutation_test(
        evidence.simulated,
        evidence.activations,
        draws=evidence.permutations,
        mesh=evidence.mesh,
        seed=evidence.seed,
    )
    live, q = evidence.live, evidence.q
    found = benjamini_hochberg(np.where(live, test.p_values, 1.0), q, live)
    best = benjamini_hochberg(np.where(live, test.smallest, 1.0), q, live)
    facts = {
        "q": q,
        "n_explainable": best.n_found,
        "smallest_p": float(test.smallest[live].min(initial=1.0)),
    }
    if best.n_found:
        facts["n_explained"] = found.n_found
    return {"p_value": np.where(live, test.p_values, 1.0), "q_value": found.q_values}, facts


METRIC = Metric(
    (
        Column(
            "p_value",
            0.0,
            1.0,
            "lower",
            "(1 + number of permutations of the test images with ρ at least as large)/"
            "(1 + permutations): is there any correlation at all",
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
