"""Predicted and real changes of neurons over pairs of pictures: do they agree, and how surely?

    p = Σ_i w_i · ΔP_i,   r = Δq                         one of each a pair and neuron
    p, r count as changes:  |p| > ε_p·sd(s),  |r| > ε·sd(q)   sd over the pictures of both sides

    agreement    A / (A + B)                A: pairs that change as predicted, B: the other way
    following    (A − B) / M                M: pairs for which a change is predicted
    correlation  Σ p·r / √(Σ p² · Σ r²)     over all pairs

Which picture of a pair comes first is arbitrary, and exchanging them turns the signs of both p and
r. All three numbers stay the same then; this correlation is Pearson's over the pairs taken both
ways. Chance is ½ for agreement and 0 for the others, whatever a neuron's activations are like.

Agreement says nothing about predicted changes that the neuron ignores; following counts them as
neither for nor against. So a word whose changes leave the neuron alone gives a following near 0,
and an agreement that rests on few pairs.

Intervals (95 %), with pairs of different scenes as independent trials:

* agreement: exact binomial, Clopper & Pearson 1934 (https://doi.org/10.1093/biomet/26.4.404).
  It covers at least the stated share for any number of pairs.
* following: the difference of two matched proportions, Agresti & Min 2005
  (https://doi.org/10.1002/sim.1781): half a pair is added to A and to B, one to the others, and
  half a pair to either end for continuity. From ten pairs on it covers at least 92.5 %, on average
  96 to 97 % (all outcomes enumerated).
* correlation: Fisher's tanh(atanh ρ ± t·sd), sd² = Σu²/n² / (1 − ρ²)² and at least 1/(n − 3), with
  u = p̂r̂ − ρ(p̂² + r̂²)/2 what each pair adds to ρ, and Student's t with 2n/(κ − 1) degrees of
  freedom, at least 2, κ the kurtosis of u. Where changes have hardly finite fourth moments, and
  for fewer than ten predicted changes, it covers less: 84 to 93 %.
* means over a layer: resampled pairs, the same for all neurons.

A neuron with no predicted change, or none that is real, has the interval of ignorance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Real
from scipy.special import betaincinv, stdtrit

from jaxle.arrays import checks_input
from jaxle.evaluation.intervals import resamples
from jaxle.stats import is_constant
from jaxle.units import in_units

MOST = 1 - 1e-9  # a correlation beyond counts as this
LEVEL = 0.95
MEASURES = {"agreement": 0.5, "following": 0.0, "correlation": 0.0}  # name → its value at chance


class Estimate(NamedTuple):
    """Values, one a neuron, with the ends of their 95 % confidence intervals."""

    value: Float64[np.ndarray, "*of"]
    low: Float64[np.ndarray, "*of"]
    high: Float64[np.ndarray, "*of"]


class Mean(NamedTuple):
    """A layer's mean with the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Changes(NamedTuple):
    """What is predicted of some pairs, and what happens.

    Attributes:
      predicted, real: changes, in standard deviations of the simulated and the real activation over
        the pictures of both sides; 0 where that does not vary.
      outcome: 1 where a predicted change comes, −1 where the opposite does, 0 where nothing does or
        nothing is predicted.
      is_predicted: whether a change is predicted.
    """

    predicted: Float64[np.ndarray, "pairs neurons"]
    real: Float64[np.ndarray, "pairs neurons"]
    outcome: Int8[np.ndarray, "pairs neurons"]
    is_predicted: Bool[np.ndarray, "pairs neurons"]

    @property
    def n_predicted(self) -> Int64[np.ndarray, " neurons"]:
        """M: pairs for which a change is predicted."""
        return self.is_predicted.sum(axis=0)

    @property
    def n_decided(self) -> Int64[np.ndarray, " neurons"]:
        """A + B: those of them on which the neuron changes."""
        return np.abs(self.outcome).sum(axis=0, dtype=np.int64)


def standardised_change(
    a: Real[np.ndarray, "pairs neurons"], b: Real[np.ndarray, "pairs neurons"]
) -> Float64[np.ndarray, "pairs neurons"]:
    """Returns b − a in standard deviations over the pictures of both sides; 0 where constant.

    Offsets and scales of float64 do not matter.
    """
    both = np.asarray(in_units(np.concatenate([a, b])), np.float64)
    return scaled_change(both[len(a) :] - both[: len(a)], both)


def scaled_change(
    change: Real[np.ndarray, "pairs neurons"], values: Real[np.ndarray, "pictures neurons"]
) -> Float64[np.ndarray, "pairs neurons"]:
    """Returns a change in standard deviations of some values; 0 where they are constant."""
    std, mean = values.std(axis=0), values.mean(axis=0)
    varies = ~is_constant(std, mean)
    return np.where(varies, change / np.where(varies, std, 1.0), 0.0)


def compare_changes(
    predicted: Float64[np.ndarray, "pairs neurons"],
    real: Float64[np.ndarray, "pairs neurons"],
    negligible: float,
    least_predicted: float,
) -> Changes:
    """Returns standardised changes with what counts as one: more than so many sd."""
    is_predicted = np.abs(predicted) > least_predicted
    decided = is_predicted & (np.abs(real) > negligible)
    signs = np.where(decided, np.sign(predicted) * np.sign(real), 0).astype(np.int8)
    return Changes(predicted, real, signs, is_predicted)


def agreement(for_: Real[np.ndarray, "*of"], against: Real[np.ndarray, "*of"]) -> Estimate:
    """Returns the share of decided pairs that go as predicted, exact binomial interval.

    ½ with the interval 0 to 1 where there are none.
    """
    for_, against = np.asarray(for_, np.float64), np.asarray(against, np.float64)
    n = for_ + against
    tail = (1 - LEVEL) / 2
    low = np.where(for_ > 0, betaincinv(np.maximum(for_, 1), against + 1, tail), 0.0)
    high = np.where(against > 0, betaincinv(for_ + 1, np.maximum(against, 1), 1 - tail), 1.0)
    return Estimate(np.where(n > 0, for_ / np.maximum(n, 1), 0.5), low, high)


def following(
    for_: Real[np.ndarray, "*of"], against: Real[np.ndarray, "*of"], n: Real[np.ndarray, "*of"]
) -> Estimate:
    """Returns (for − against)/n with its interval; 0 with −1 to 1 where n is 0."""
    for_, against, n = (np.asarray(x, np.float64) for x in (for_, against, n))
    value = (for_ - against) / np.maximum(n, 1)
    centre = (for_ - against) / (n + 2)
    spread = np.sqrt(np.maximum(for_ + against + 1 - (n + 2) * centre**2, 0)) / (n + 2)
    half = stdtrit(np.inf, (1 + LEVEL) / 2) * spread + 0.5 / (n + 2)
    low = np.where(n > 0, np.clip(np.minimum(centre - half, value), -1, 1), -1.0)
    high = np.where(n > 0, np.clip(np.maximum(centre + half, value), -1, 1), 1.0)
    return Estimate(value, low, high)


def correlation(changes: Changes) -> Estimate:
    """Returns each neuron's correlation of predicted and real changes over all pairs.

    0 with −1 to 1 where either side never changes, and for fewer than four pairs.
    """
    (p, p_varies), (r, r_varies) = map(_unit, (changes.predicted, changes.real))
    n, known = len(p), p_varies & r_varies
    rho = np.where(known, np.clip(np.mean(p * r, axis=0), -1, 1), 0.0)
    u = p * r - rho * (p * p + r * r) / 2
    square = np.mean(u * u, axis=0)
    kurtosis = np.mean(u**4, axis=0) / np.where(square > 0, square, 1.0) ** 2
    freedom = np.maximum(2.0, 2 * n / np.maximum(kurtosis - 1, 1e-3))
    t = np.sqrt(1 + 1 / freedom) * stdtrit(freedom, (1 + LEVEL) / 2)
    inner = np.clip(rho, -MOST, MOST)
    half = t * np.sqrt(square / n) / (1 - inner**2)
    half = np.maximum(half, stdtrit(np.inf, (1 + LEVEL) / 2) / np.sqrt(max(n - 3, 1)))
    known &= n > 3
    low = np.where(known, np.minimum(np.tanh(np.arctanh(inner) - half), rho), -1.0)
    high = np.where(known, np.maximum(np.tanh(np.arctanh(inner) + half), rho), 1.0)
    return Estimate(rho, low, high)


def _unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns with mean square 1, and whether they are not 0 throughout."""
    root = np.sqrt(np.mean(x * x, axis=0))
    return x / np.where(root > 0, root, 1.0), root > 0


@checks_input
def resampled_means(
    changes: Changes,
    judged: Bool[np.ndarray, " neurons"],
    live: Bool[np.ndarray, " neurons"],
    draws: int,
    seed: int,
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Returns name of MEASURES → the layer's mean on every draw of the pairs, the first as it is.

    Agreement and following are means over judged neurons, correlation over live ones. The draws of
    as many pairs by one seed are the same, so that networks that saw the same pairs can be
    compared draw by draw.

    Args:
      changes: of one layer.
      judged, live: which neurons count.
      draws: how many, beside the pairs as they are.
      seed: integer from 0 to 2⁶⁴ − 1.
    """
    n = len(changes.real)
    weights = np.concatenate([np.ones((1, n)), resamples(draws, n, seed)]).astype(np.float64)
    outcome = changes.outcome[:, judged].astype(np.float64)
    net, decided = weights @ outcome, weights @ np.abs(outcome)
    asked = weights @ changes.is_predicted[:, judged].astype(np.float64)
    p, r = changes.predicted[:, live], changes.real[:, live]
    size = np.sqrt((weights @ (p * p)) * (weights @ (r * r)))
    found = {
        "agreement": _ratio(net + decided, 2 * decided, 0.5),
        "following": _ratio(net, asked, 0.0),
        "correlation": _ratio(weights @ (p * r), size, 0.0),
    }
    return {
        name: values.mean(axis=1) if values.shape[1] else np.full(draws + 1, MEASURES[name])
        for name, values in found.items()
    }


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), otherwise)


def mean_interval(
    name: str,
    draws: Float64[np.ndarray, " draws"],
    changes: Changes,
    judged: Bool[np.ndarray, " neurons"],
) -> Mean:
    """Returns a layer's mean with its interval, from `resampled_means`.

    Where all draws are alike, as where every change comes as predicted, the interval is that of the
    neuron with most pairs; where no neuron counts it is the whole range.
    """
    value, half = float(draws[0]), float(stdtrit(np.inf, (1 + LEVEL) / 2) * draws[1:].std(ddof=1))
    least = 0.0 if name == "agreement" else -1.0
    if name == "correlation":
        n = len(changes.real) if (changes.predicted * changes.real).any() else 0
    else:
        n = int(changes.n_decided[judged].max(initial=0))
    if n == 0:
        return Mean(value, least, 1.0)
    if half == 0 and name != "correlation":
        share = (value - least) / (1 - least)
        for_, against, every = (np.asarray(x) for x in (share * n, n - share * n, n))
        one = agreement(for_, against) if least == 0 else following(for_, against, every)
        return Mean(value, float(one.low), float(one.high))
    return Mean(value, max(least, value - half), min(1.0, value + half))
