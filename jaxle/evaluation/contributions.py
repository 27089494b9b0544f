"""Which concepts of an explanation carry it, one by one (method.md §8).

    share_j         = Cov(w_j P_j, s)/Var(s)      of the simulated variance; sums to 1
    leave_one_out_j = ρ − ρ_{−j}                  correlation lost when w_j becomes 0, the other weights as they are
    frequency_j                                   how often the whole fit chooses j again on resampled train and val images

The first two are read off second moments of the simulator's probabilities on test images, so nothing of size images × concepts is held.
The third draws images with replacement from train and from val (Meinshausen & Bühlmann 2010, https://doi.org/10.1111/j.1467-9868.2010.00740.x,
do the like with halves).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxle.explainers.linear import Measured
from jaxle.explanations import Explanations
from jaxle.solve.moments import Moments

ROUND_OFF = 1e-10  # of the largest term: a variance below is zero, in float64 on float32 moments


class Contributions(NamedTuple):
    """Per neuron and concept, in the explanation's own order; 0 in the slots that an explanation does not use."""

    share: np.ndarray  # (neurons, most) float64; 0 where the simulation is constant
    leave_one_out: np.ndarray  # (neurons, most) float64
    correlation: np.ndarray  # (neurons,) float64: ρ from the same moments


class Selection(NamedTuple):
    """How stable the choice of concepts is."""

    frequency: (
        np.ndarray
    )  # (neurons, most) float64 in [0, 1], in the explanation's own order; 0 in unused slots
    overlap: np.ndarray  # (neurons,) float64: mean over draws of |chosen ∩ chosen again| / |chosen ∪ chosen again|; 1 where both are empty
    draws: int


def contributions(
    explanations: Explanations, concepts: tuple[str, ...] | list[str], moments: Moments
) -> Contributions:
    """What each concept adds to its explanation; use it on test images.

    Args:
      explanations: one row a neuron.
      concepts: names of the moments' concepts; those that the explanations use are enough.
      moments: of the simulator's probabilities of `concepts` and the activations of all neurons, over the test images
        (`solve.moments.second_moments`).

    Returns:
      Contributions, never NaN.

    Raises:
      ValueError: names, neurons and moments that do not fit, or a concept that is missing.
    """
    if (len(concepts), len(explanations)) != moments.cross.shape:
        raise ValueError(
            f"moments of {moments.cross.shape} do not fit {len(concepts)} concepts and {len(explanations)} neurons."
        )
    index, weights = _slots(explanations, concepts)
    neurons = np.arange(len(explanations))
    gram = np.asarray(moments.gram, np.float64)[index[:, :, None], index[:, None, :]]
    cross = np.asarray(moments.cross, np.float64)[index, neurons[:, None]] * weights
    gram = gram * weights[:, :, None] * weights[:, None, :]  # of the terms w_j P_j
    with_s, own = gram.sum(2), np.diagonal(gram, axis1=1, axis2=2)
    scale = np.abs(gram).sum((1, 2))
    var, cov, var_y = with_s.sum(1), cross.sum(1), np.asarray(moments.var_y, np.float64)
    varies = var > ROUND_OFF * scale
    share = np.where(varies[:, None], with_s / np.where(varies, var, 1.0)[:, None], 0.0)
    rho = _rho(cov, var, var_y, scale)
    without = _rho(
        cov[:, None] - cross, var[:, None] - 2 * with_s + own, var_y[:, None], scale[:, None]
    )
    used = np.arange(index.shape[1]) < explanations.lengths[:, None]
    return Contributions(share, np.where(used, rho[:, None] - without, 0.0), rho)


def selection_frequency(
    explanations: Explanations,
    resample: Callable[[int], Measured],
    refit: Callable[[Measured], Explanations],
    *,
    draws: int = 20,
) -> Selection:
    """Would the same concepts be chosen from other images? Each draw is a pass over the concept probabilities, a fit and a search.

    Args:
      explanations: from all images, one row a neuron.
      resample: number of the draw → what the explainer measures on resampled images, such as `resampling.resampled`
        with the run's arrays.
      refit: moments → explanations of the same neurons, such as `linear.rank` and `linear.select` with the run's options.
      draws: how many; a frequency is a multiple of 1/draws.

    Returns:
      Selection.

    Raises:
      ValueError: no draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}.")
    most = max(1, int(explanations.lengths.max(initial=0)))
    times, overlap = np.zeros((len(explanations), most)), np.zeros(len(explanations))
    for draw in range(draws):
        for k, (row, other) in enumerate(zip(explanations, refit(resample(draw)), strict=True)):
            again = set(other.concepts)
            times[k, : len(row.concepts)] += [concept in again for concept in row.concepts]
            union = again.union(row.concepts)
            overlap[k] += len(again.intersection(row.concepts)) / len(union) if union else 1.0
    return Selection(times / draws, overlap / draws, draws)


def _slots(explanations: Explanations, concepts) -> tuple[np.ndarray, np.ndarray]:
    """Place among `concepts` and weight of every explanation's concepts, (neurons, most); weight 0 in unused slots."""
    place = {concept: j for j, concept in enumerate(concepts)}
    missing = [c for c in explanations.concepts if c not in place]
    if missing:
        raise ValueError(
            f"the moments lack {len(missing)} concepts that the explanations use, such as {missing[:5]}."
        )
    most = max(1, int(explanations.lengths.max(initial=0)))
    index, weights = (
        np.zeros((len(explanations), most), np.int64),
        np.zeros((len(explanations), most)),
    )
    for k, row in enumerate(explanations):
        index[k, : len(row.concepts)] = [place[c] for c in row.concepts]
        weights[k, : len(row.concepts)] = row.weights
    return index, weights


def _rho(cov, var, var_y, scale):
    varies = (var > ROUND_OFF * scale) & (var_y > 0)
    return np.where(
        varies, np.clip(cov / np.sqrt(np.where(varies, var * var_y, 1.0)), -1.0, 1.0), 0.0
    )
