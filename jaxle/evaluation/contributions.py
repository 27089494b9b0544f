"""Which concepts of an explanation carry it, one by one (method.md §8).

    share_j         = Cov(w_j P_j, s)/Var(s)      of the simulated variance; sums to 1
    leave_one_out_j = ρ − ρ_{−j}                  correlation lost when w_j is 0, the others as they
                                                  are
    frequency_j                                   how often the whole fit chooses j again on
                                                  resampled train and val images

The first two follow from second moments of the simulator's probabilities on test images, so that
nothing of size images × concepts is held. The third draws images with replacement from train and
from val (Meinshausen & Bühlmann 2010, https://doi.org/10.1111/j.1467-9868.2010.00740.x, do the like
with halves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Real

from jaxle.arrays import (
    Array,
    as_matrix,
    as_probabilities,
    check_equal_rows,
    check_same_order,
    checks_input,
    take_names,
)
from jaxle.evaluation.simulation import (
    Held,
    check_columns,
    check_index,
    check_kind,
    names,
    over_columns,
)
from jaxle.explanations import Explanations
from jaxle.options import number
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments, second_moments
from jaxle.units import InUnits, Units, find_units

ROUND_OFF = 1e-10  # of the largest term: a variance below is 0, in float64 on float32 moments


class Contributions(NamedTuple):
    """Per neuron and concept, in the explanation's own order; 0 in unused slots."""

    share: Float64[np.ndarray, "neurons most"]  # 0 where the simulation is constant
    leave_one_out: Float64[np.ndarray, "neurons most"]
    correlation: Float64[np.ndarray, " neurons"]  # ρ from the same moments


class Selection(NamedTuple):
    """How stable the choice of concepts is."""

    # in [0, 1], in the explanation's own order; 0 in unused slots
    frequency: Float64[np.ndarray, "neurons most"]
    # mean over draws of |chosen ∩ chosen again| / |chosen ∪ chosen again|; 1 where both are empty
    overlap: Float64[np.ndarray, " neurons"]
    draws: int


@checks_input
def contributions_of(
    explanations: Explanations,
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str] | None = None,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    raw_features: bool = False,
) -> Contributions:
    """Returns what each concept adds to its explanation, from arrays.

    Args:
      explanations: one row a neuron.
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      concept_probs: (images, concepts), likewise: the simulator's probabilities, 0–1.
      concepts: the columns' names; they may be more than the explanations use; None takes those of
        a frame.
      index: (rows,) which images to take, such as `split.test`; None for all.
      raw_features: as in `jaxle.explain`, of which the explanations are.

    Returns:
      Contributions; no value is NaN.

    Raises:
      ValueError: arrays that do not fit, values that are not finite, or a concept that is missing.
    """
    check_kind(explanations)
    check_same_order(activations, concept_probs, ("activations", "concept_probs"))
    concepts = take_names(concepts, concept_probs)
    activations = as_matrix(activations, "activations")
    raw = number("raw_features", raw_features, bool)
    concept_probs = as_probabilities(concept_probs, "concept_probs", raw=raw)
    check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
    check_columns(concepts, concept_probs.shape[1])
    index = check_index(index, activations.shape[0])
    held = Held(concept_probs, tuple(concepts))
    explanations, matrix = over_columns(explanations, held, raw=raw)
    concepts = list(matrix.concepts)
    used = names(explanations) or tuple(concepts[:1])  # moments need a concept
    place = {concept: j for j, concept in enumerate(concepts)}
    known = [name for name in used if name in place]
    columns = np.array([place[name] for name in known], np.int64)
    if len(known) < len(used):
        raise ValueError(_lacks("concepts", [name for name in used if name not in place]))
    units = find_units(concept_probs, rows=index) if matrix is held else None
    units_y = find_units(activations, rows=index)
    targets = activations if units_y is None else InUnits(activations, units_y)

    def features(rows: np.ndarray) -> Array:
        if units is not None:
            return InUnits(concept_probs, units)[rows][:, columns]
        return matrix.rows(rows, columns)

    moments = second_moments(features, targets, index)
    if units is not None:
        moments = _of_raw_columns(moments, units.columns(columns))
    return contributions(explanations, known, moments)


def _of_raw_columns(moments: Moments, units: Units) -> Moments:
    """The moments on the columns that the weights are of, float64."""
    size = units.size
    gram = np.asarray(moments.gram, np.float64) * size[:, None] * size[None, :]
    return moments._replace(gram=gram, cross=np.asarray(moments.cross, np.float64) * size[:, None])


@checks_input
def contributions(
    explanations: Explanations, concepts: Sequence[str], moments: Moments
) -> Contributions:
    """Returns what each concept adds to its explanation; give it moments of test images.

    Args:
      explanations: one row a neuron.
      concepts: names of the moments' concepts; those that the explanations use are enough.
      moments: of the simulator's probabilities of `concepts` and the activations of all neurons,
        over the test images (`solve.moments.second_moments`).

    Returns:
      Contributions; no value is NaN.

    Raises:
      ValueError: names, neurons and moments that do not fit, or a concept that is missing.
    """
    if (len(concepts), len(explanations)) != moments.cross.shape:
        raise ValueError(
            f"moments of {moments.cross.shape} do not fit {len(concepts)} concepts "
            f"and {len(explanations)} neurons."
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
    used = np.arange(index.shape[1]) < explanations.terms[:, None]
    return Contributions(share, np.where(used, rho[:, None] - without, 0.0), rho)


def selection_frequency(
    explanations: Explanations,
    resample: Callable[[int], Measured],
    refit: Callable[[Measured], Explanations],
    *,
    draws: int = 20,
    equivalents: Sequence[Sequence[Sequence[str]]] = (),
) -> Selection:
    """Computes how often a fit on other images of the same kind chooses the same concepts.

    Each draw is a pass over the concept probabilities, a fit and a search.

    Args:
      explanations: from all images, one row a neuron.
      resample: number of the draw → what the explainer measures on resampled images, such as
        `resampling.resampled` with the run's arrays.
      refit: what was measured → explanations of the same neurons, by the options of the real fit.
      draws: how many; a frequency is a multiple of 1/draws.
      equivalents: of each concept of each explanation, the names that could stand in its place
        (`solve.wording.equivalents`). A draw that chooses one of them has chosen the concept; none
        for the very same words only.

    Raises:
      ValueError: no draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}.")
    most = max(1, int(explanations.terms.max(initial=0)))
    times, overlap = np.zeros((len(explanations), most)), np.zeros(len(explanations))
    alike = equivalents or [[()] * len(row.concepts) for row in explanations]
    groups = [
        [{concept, *others} for concept, others in zip(row.concepts, own, strict=True)]
        for row, own in zip(explanations, alike, strict=True)
    ]
    for draw in range(draws):
        for k, (own, other) in enumerate(zip(groups, refit(resample(draw)), strict=True)):
            again = set(other.concepts)
            found = [bool(again & group) for group in own]
            times[k, : len(own)] += found
            new = again.difference(*own)
            either = len(own) + len(new)  # a word for a group that it stands for counts once
            overlap[k] += sum(found) / either if either else 1.0
    return Selection(times / draws, overlap / draws, draws)


def _slots(explanations: Explanations, concepts) -> tuple[np.ndarray, np.ndarray]:
    """Place among `concepts` and weight of every explanation's concepts, (neurons, most).

    The weight is 0 in unused slots.
    """
    place = {concept: j for j, concept in enumerate(concepts)}
    missing = [name for name in names(explanations) if name not in place]
    if missing:
        raise ValueError(_lacks("moments", missing))
    shape = len(explanations), max(1, int(explanations.terms.max(initial=0)))
    index, weights = np.zeros(shape, np.int64), np.zeros(shape)
    for k, row in enumerate(explanations):
        index[k, : len(row.concepts)] = [place[c] for c in row.concepts]
        weights[k, : len(row.concepts)] = row.weights
    return index, weights


def _lacks(what: str, missing: Sequence[str]) -> str:
    return (
        f"the {what} lack {len(missing)} concepts that the explanations use, "
        f"such as {list(missing[:5])}."
    )


def _rho(cov, var, var_y, scale):
    varies = (var > ROUND_OFF * scale) & (var_y > 0)
    return np.where(
        varies, np.clip(cov / np.sqrt(np.where(varies, var * var_y, 1.0)), -1.0, 1.0), 0.0
    )
