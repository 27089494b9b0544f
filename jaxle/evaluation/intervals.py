"""Intervals over images: how each correlation, and a layer's mean, would move on other images.

    W ~ Multinomial(n, 1/n) (draws × images),   W·[a, a², s, s², a∘s]/n  →  ρ* (draws × neurons)
    ρ:           tanh(atanh ρ − below, + above)     Fisher's transform: its spread hardly varies
    means:       mean of ρ − below, + above
    differences: ρ_a − ρ_b − below, + above, the same W on both sides
    below, above: `evaluation.sparse.limits` of sd(atanh ρ*), sd(mean ρ*) or sd(ρ_a* − ρ_b*), and
                 of what images contribute, u = âŝ − ρ(â² + ŝ²)/2

The sd of the draws is not the whole answer. Of few images it is itself uncertain (Student's t, with
the degrees of freedom that the kurtosis of u leaves), their sum is skewed, and what a sparse neuron
and a rare concept would contribute on other images may be missing from these. `sparse` sees to it,
and says where so few images decide that the interval is cautious rather than exact
(`few_positives`).

What varies is the images. The neurons are the layer's own and stay (a mean's standard error over
neurons is another number, `sem_…` in the summary). All draws share W, so an interval of a mean
accounts for neurons that are scored on the same images. A side that is constant on these images
says nothing of others: its correlation, 0, has the interval −1 to 1. In a mean it counts as 0, the
score that it has. It needs no order statistics, hence few draws; percentile, BCa, basic and
studentised intervals covered less where some twenty of 200 images decide. Source: Efron &
Tibshirani 1993, An Introduction to the Bootstrap; Satterthwaite 1946
(https://doi.org/10.2307/3002019) for the degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32, Real, UInt8

from jaxle.arrays import BLOCK_BYTES, Array, checks_input
from jaxle.evaluation import influence, sparse
from jaxle.evaluation.pairs import as_pair, pad_neurons
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.options import number
from jaxle.options import seed as read_seed
from jaxle.units import in_units

LEAST_IMAGES = 4  # below, any two columns lie near a line
TIES = 2e-6  # correlations this close are equal: the round-off of float32
PERMUTATIONS = 4  # of the residuals, for a mean
ALIKE = 0.999  # two sides whose draws correlate so are one: their difference is exact


class Intervals(NamedTuple):
    """Correlations with their intervals, and the mean over live neurons with its own."""

    correlation: Float32[np.ndarray, " neurons"]  # 0 where a side is constant
    low: Float32[np.ndarray, " neurons"]
    high: Float32[np.ndarray, " neurons"]
    mean: float
    mean_low: float
    mean_high: float
    few_positives: Bool[
        np.ndarray, " neurons"
    ]  # so few images decide that the interval is cautious


class Paired(NamedTuple):
    """Method a against method b on the same neurons and images."""

    difference: Float32[np.ndarray, " neurons"]  # ρ_a − ρ_b
    low: Float32[np.ndarray, " neurons"]
    high: Float32[np.ndarray, " neurons"]
    mean: float
    mean_low: float
    mean_high: float
    share_a_better: float  # of live neurons; a tie counts half
    share_a_clear: float  # of live neurons: the whole interval above 0, and not few_positives
    share_b_clear: float  # of live neurons: the whole interval below 0, and not few_positives
    few_positives: Bool[np.ndarray, " neurons"]  # few images decide: nothing is clear


@checks_input
def bootstrap(
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Intervals:
    """Computes each neuron's correlation with a confidence interval, and their mean with its own.

    Give it test images.

    Args:
      simulated: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      activations: (images, neurons), the same images and neurons.
      draws: resamples of the images.
      seed: integer from 0 to 2⁶⁴ − 1; the same seed, draws and number of images give the same
        resamples.
      level: share of intervals that are to hold the true value.
      live: (neurons,) bool, which neurons the mean is over; None for all.

    Returns:
      Intervals; correlation 0 with the interval −1 to 1 where either side is constant, and the
      interval −1 to 1 where there are fewer than four images.

    Raises:
      ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    draws, seed, level = _check_options(draws, seed, level)
    simulated, activations, live = as_pair(simulated, activations, live)
    got = _limits((simulated,), activations, draws, seed, level, live)
    rho = got.rho[0]
    centre = np.arctanh(np.clip(rho, -influence.MOST, influence.MOST))
    low = np.minimum(np.tanh(centre - got.below), rho)
    high = np.maximum(np.tanh(centre + got.above), rho)
    low, high = np.minimum(low, got.sure[0]), np.maximum(high, got.sure[1])
    low, high = np.where(got.unknown[0], -1.0, low), np.where(got.unknown[0], 1.0, high)
    rho, low, high = (np.asarray(x, np.float32) for x in (rho, low, high))
    ends = max(-1.0, got.mean - got.mean_below), min(1.0, got.mean + got.mean_above)
    return Intervals(rho, low, high, got.mean, *ends, got.few)


@checks_input
def paired(
    simulated_a: Real[Array, "images neurons"],
    simulated_b: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Paired:
    """Compares two methods, or two simulators, on the same resamples of the images.

    Two separate intervals may overlap where this one shows a difference.

    Args:
      simulated_a, simulated_b: (images, neurons), both methods' simulations of the same neurons on
        the same images.
      activations: (images, neurons).
      draws, seed, level, live: as in `bootstrap`.

    Returns:
      Paired; a side that is constant contributes its ignorance, ±1, to the interval.

    Raises:
      ValueError: as in `bootstrap`.
    """
    draws, seed, level = _check_options(draws, seed, level)
    simulated_a, activations, live = as_pair(simulated_a, activations, live, "simulated_a")
    simulated_b, activations, live = as_pair(simulated_b, activations, live, "simulated_b")
    got = _limits((simulated_a, simulated_b), activations, draws, seed, level, live)
    difference, ignorance = got.rho[0] - got.rho[1], got.unknown.sum(0)
    tie = np.abs(difference) < TIES  # one simulation but for its scale, in float32
    difference = np.where(tie, 0.0, difference)
    low = np.maximum(difference - got.below - ignorance, -2.0)
    high = np.minimum(difference + got.above + ignorance, 2.0)
    low, high = np.where(ignorance > 1, -2.0, low), np.where(ignorance > 1, 2.0, high)
    low, high = (
        np.where(tie, np.minimum(low, -TIES), low),
        np.where(tie, np.maximum(high, TIES), high),
    )
    better, a_clear, b_clear = (
        float(values[live].mean()) if live.any() else 0.0
        for values in (
            0.5 * (np.sign(difference) + 1),
            ((low > 0) & ~got.few) * 1.0,
            ((high < 0) & ~got.few) * 1.0,
        )
    )
    difference, low, high = (np.asarray(x, np.float32) for x in (difference, low, high))
    ends = max(-2.0, got.mean - got.mean_below), min(2.0, got.mean + got.mean_above)
    return Paired(difference, low, high, got.mean, *ends, better, a_clear, b_clear, got.few)


def resamples(draws: int, n: int, seed: int) -> UInt8[np.ndarray, "draws images"]:
    """Returns how often each draw takes each image: rows of sum n.

    The same on every machine and with every NumPy.
    """
    raw = (
        np.random.Philox(key=np.array([seed, n], np.uint64))
        .random_raw(-(-draws * n // 2))
        .view(np.uint32)[: draws * n]
    )
    image = (raw.astype(np.uint64) * np.uint64(n)) >> np.uint64(32)
    image = image.astype(np.int64).reshape(draws, n)
    # a count above 255 takes 256 images or more, and then never happens (Poisson of mean 1)
    out = np.empty((draws, n), np.uint8)
    step = max(1, BLOCK_BYTES // (8 * n))
    for start in range(0, draws, step):
        part = image[start : start + step]
        place = part + n * np.arange(len(part), dtype=np.int64)[:, None]
        counts = np.bincount(place.ravel(), minlength=part.size)
        out[start : start + step] = counts.reshape(part.shape)
    return out


def _check_options(draws, seed, level) -> tuple[int, int, float]:
    level = number("level", level, float, above=0, below=1)
    return number("draws", draws, int, low=2), read_seed(seed), level


class _Limits(NamedTuple):
    """What `bootstrap` and `paired` share, of neurons and of their mean."""

    rho: np.ndarray  # (sides, neurons)
    below: np.ndarray  # (neurons,) in z, or of the difference
    above: np.ndarray
    few: np.ndarray
    unknown: np.ndarray  # (sides, neurons): a constant column, or too few images
    sure: np.ndarray  # (2, neurons): low at most, high at least so, where two sides agree exactly
    mean: float
    mean_below: float
    mean_above: float


def _limits(
    simulated: tuple, activations: Array, draws: int, seed: int, level: float, live: np.ndarray
) -> _Limits:
    width, sides = activations.shape[1], len(simulated)
    simulated = tuple(pad_neurons(in_units(side)) for side in simulated)
    activations = pad_neurons(in_units(activations))
    n, n_neurons = activations.shape
    live = np.pad(live, (0, n_neurons - width))
    size = min(n_neurons, max(1, 2 * BLOCK_BYTES // (4 * n * (2 + 3 * sides))))
    weights, order = resamples(draws, n, seed), jax.device_put(_permutations(n, seed))
    step = -(-draws // -(-4 * draws * n // BLOCK_BYTES))
    # padded with the data themselves, which are dropped below
    weights = np.concatenate([weights, np.ones((-draws % step, n), np.uint8)])
    rho, varies = np.zeros((sides, n_neurons)), np.zeros((sides, n_neurons), bool)
    below, above, few = np.zeros(n_neurons), np.zeros(n_neurons), np.zeros(n_neurons, bool)
    of_mean, left = _Mean(draws, n), live.copy()
    for start in range(0, n_neurons, size):
        start = min(start, n_neurons - size)  # the last reaches back: one shape, one program
        block = slice(start, start + size)
        share = np.asarray(left[block] / max(1, live.sum()), np.float32)
        left[block] = False
        found = influence.measure(
            tuple(jax.device_put(s[:, block]) for s in simulated),
            jax.device_put(activations[:, block]),
            share,
            order,
        )
        drawn = [
            influence.draw(weights[i : i + step], found.columns, found.rho, share)
            for i in range(0, len(weights), step)
        ]
        moved = np.concatenate([np.asarray(part[0], np.float64) for part in drawn], 1)[:, :draws]
        means = np.concatenate([np.asarray(part[1], np.float64) for part in drawn])[:draws]
        rho[:, block], varies[:, block] = np.asarray(found.rho), np.asarray(found.varies)
        below[block], above[block], few[block] = _ends(found, rho[:, block], moved, n, level)
        of_mean.add(means, found.mean)
    rho, below, above, few = rho[:, :width], below[:width], above[:width], few[:width]
    unknown = ~varies[:, :width] | (n < LEAST_IMAGES)
    value = rho[0] if sides == 1 else rho[0] - rho[1]
    mean = float(value[live[:width]].mean()) if live.any() else 0.0
    ends = of_mean.limits(n, level)
    if n < LEAST_IMAGES or not (live[:width] & ~unknown.all(0)).any():
        ends = (4.0, 4.0)  # of the mean nothing is known either
    elif sides > 1:
        ends = (ends[0] + TIES, ends[1] + TIES)
    below, above = np.nan_to_num(below), np.nan_to_num(above)  # of fewer than three images
    exact, sure = _exact(simulated[0], activations, rho[0], level)
    for side, own in zip(simulated[1:], rho[1:], strict=True):
        exact = exact | _exact(side, activations, own, level)[0]
    few = few | unknown.any(0) | exact
    return _Limits(rho, below, above, few, unknown, sure, mean, *ends)


def _exact(simulated, activations, rho: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Which 0/1 columns agree without exception, and how far ρ may be from ±1 all the same.

    That no image of n is an exception excludes u = −ln((1 − level)/2) of them at most, the rule of
    three: ρ is that of the table with u exceptions among the rarer value.
    """
    exact, sure = np.zeros(len(rho), bool), np.stack([np.ones(len(rho)), -np.ones(len(rho))])
    columns = np.flatnonzero(1 - rho**2 < sparse.EXACT)
    if columns.size:
        s, a = (np.asarray(x)[:, columns] for x in (simulated, activations))
        two = np.logical_and.reduce([((x == x.min(0)) | (x == x.max(0))).all(0) for x in (s, a)])
        n, positive = len(a), (a == a.max(0)).sum(0)
        rare, u = np.minimum(positive, n - positive), -np.log((1 - level) / 2)
        left = np.sqrt(np.maximum(rare - u, 0.0) / rare * (n - rare) / (n - rare + u))
        exact[columns] = two
        sure[0, columns] = np.where(two & (rho[columns] > 0), left, 1.0)
        sure[1, columns] = np.where(two & (rho[columns] < 0), -left, -1.0)
    return exact, sure


def _ends(found: influence.Block, rho, moved, n: int, level: float) -> sparse.Limits:
    """The limits of the last target; of a difference of which few images decide, cautious ones.

    Those are Zou's (2007, https://doi.org/10.1037/1082-989X.12.4.399): from both sides' own limits,
    which are made on the scale on which a correlation's spread hardly varies.
    """
    limits = [
        sparse.limits(part.std(0, ddof=1), *target, n=n, level=level)
        for part, target in zip(moved, found.targets, strict=True)
    ]
    if len(limits) == 1:
        return limits[0]
    centre = np.arctanh(np.clip(rho, -influence.MOST, influence.MOST))
    below, above, few = (np.stack(part) for part in zip(*limits[:2], strict=True))
    below = np.maximum(rho - np.tanh(centre - below), 0.0)
    above = np.maximum(np.tanh(centre + above) - rho, 0.0)
    wider = np.argmax(below + above, axis=0)[None, :]
    one, other = (part - part.mean(0) for part in moved[:2])
    size = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    common = (one * other).sum(0) / np.where(size > 0, size, 1.0)

    def together(x, y):
        return np.sqrt(np.maximum(x**2 + y**2 - 2 * common * x * y, 0.0))

    own = limits[2]
    few = own.few | np.take_along_axis(few, wider, 0)[0]
    apart = few & (common < ALIKE)
    return sparse.Limits(
        np.where(apart, np.maximum(own.below, together(below[0], above[1])), own.below),
        np.where(apart, np.maximum(own.above, together(above[0], below[1])), own.above),
        few,
    )


class _Mean:
    """Sums over blocks of neurons: the mean's draws, and what images contribute to it."""

    def __init__(self, draws: int, n: int):
        self.draws, self.seen = np.zeros(draws), np.zeros(n)
        self.permuted, self.closed = np.zeros((PERMUTATIONS, n)), np.zeros(3)

    def add(self, draws: np.ndarray, of_mean: influence.Mean) -> None:
        self.draws += draws
        self.seen += np.asarray(of_mean.seen, np.float64)
        self.permuted += np.asarray(of_mean.permuted, np.float64)
        self.closed += np.asarray(of_mean.closed, np.float64)

    def limits(self, n: int, level: float) -> tuple[float, float]:
        seen, permuted = (
            np.array([np.mean((x - x.mean()) ** power) for power in (2, 3, 4)])
            for x in (self.seen, self.permuted)
        )
        # a single neuron's own moments are known; permutations tell what neurons have in common
        square, cube, fourth = permuted + self.closed
        product = np.array([max(0.0, square), cube, max(0.0, fourth)])
        got = sparse.limits(
            np.array([self.draws.std(ddof=1)]),
            sparse.Law(*seen[:, None]),
            sparse.Law(*product[:, None]),
            np.zeros(1),
            n,
            level,
        )
        return float(got.below[0]), float(got.above[0])


def _permutations(n: int, seed: int) -> Int32[np.ndarray, "permutations images"]:
    """Orders of the images, the same on every machine and with every NumPy."""
    raw = np.random.Philox(key=np.array([seed, n], np.uint64), counter=1 << 64)
    keys = raw.random_raw(PERMUTATIONS * n).reshape(PERMUTATIONS, n)
    return np.argsort(keys, axis=1, kind="stable").astype(np.int32)


def _compute(evidence: Evidence) -> Computed:
    if evidence.draws == 0:
        return {}, {}
    got = bootstrap(
        evidence.simulated,
        evidence.activations,
        draws=evidence.draws,
        seed=evidence.seed,
        live=evidence.live,
    )
    facts = {"mean_correlation_low": got.mean_low, "mean_correlation_high": got.mean_high}
    columns = {"correlation_low": got.low, "correlation_high": got.high}
    return {**columns, "few_positives": got.few_positives}, facts


METRIC = Metric(
    tuple(
        Column(
            f"correlation_{end}",
            -1.0,
            1.0,
            "",
            f"{which} end of ρ's 95 % confidence interval over test images",
            averaged=False,
        )
        for end, which in (("low", "lower"), ("high", "upper"))
    )
    + (
        Column(
            "few_positives",
            0.0,
            1.0,
            "",
            "whether so few images decide ρ (some ten positives, or meetings of a sparse neuron "
            "and a rare concept) that its interval is cautious and claims nothing clear",
            averaged=False,
        ),
    ),
    _compute,
)
