"""Bootstrap intervals over images: how each correlation, and a layer's mean, would move on others.

    W ~ Multinomial(n, 1/n) (draws × images),   W·[a, a², s, s², a∘s]/n  →  ρ* (draws × neurons)
    ρ:           tanh(atanh ρ ± t·sd(atanh ρ*))     Fisher's transform: its spread hardly varies
    means:       mean ± t·sd(mean ρ*)
    differences: ρ_a − ρ_b ± t·sd(ρ_a* − ρ_b*), the same W on both sides
    t:           √(1 + 1/f) times the quantile of Student's t with f = 2n/(κ − 1) degrees of
                 freedom, at least 2; κ = Σu⁴/n / (Σu²/n)², u = âŝ − ρ(â² + ŝ²)/2

u is what each image contributes to ρ. The fewer images decide, the less is known of the sd. And
the sd of resamples is too small, as the variance of f + 1 numbers about their own mean is by
f/(f + 1).

What varies is the images. The neurons are the layer's own and stay (a mean's standard error over
neurons is another number, `sem_…` in the summary). All draws share W, so an interval of a mean
accounts for neurons that are scored on the same images. Chosen among percentile, BCa, basic,
studentised and normal intervals by coverage (benchmarks/evaluation.py): where some twenty of 200
images decide, those cover 90–93 %, this one 93 % and more. It needs no order statistics, hence few
draws. Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 12 and 13;
Satterthwaite 1946 (https://doi.org/10.2307/3002019) for the degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Real, UInt8
from scipy.special import stdtrit

from jaxle.arrays import BLOCK_BYTES, Array, checks_input
from jaxle.evaluation.pairs import as_pair, pad_neurons
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.options import number
from jaxle.options import seed as read_seed
from jaxle.stats import pearson, standardise
from jaxle.units import in_units

MOST = 1 - 1e-6  # a correlation beyond is as good as 1 in float32
LEFT = 1e-5  # share of a draw's mean square that its variance must keep, else it holds one value


class Intervals(NamedTuple):
    """Correlations with their intervals, and the mean over live neurons with its own."""

    correlation: Float32[np.ndarray, " neurons"]  # 0 where a side is constant
    low: Float32[np.ndarray, " neurons"]
    high: Float32[np.ndarray, " neurons"]
    mean: float
    mean_low: float
    mean_high: float


class Paired(NamedTuple):
    """Method a against method b on the same neurons and images."""

    difference: Float32[np.ndarray, " neurons"]  # ρ_a − ρ_b
    low: Float32[np.ndarray, " neurons"]
    high: Float32[np.ndarray, " neurons"]
    mean: float
    mean_low: float
    mean_high: float
    share_a_better: float  # of live neurons; a tie counts half
    share_a_clear: float  # of live neurons: the whole interval above 0
    share_b_clear: float  # of live neurons: the whole interval below 0


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
      Intervals; 0, 0, 0 where either side is constant (a single image included).

    Raises:
      ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    draws, seed, level = _check_options(draws, seed, level)
    simulated, activations, live = as_pair(simulated, activations, live)
    rho, half, mean, mean_half = _halves((simulated,), activations, draws, seed, level, live)
    rho, centre = rho[0], np.arctanh(np.clip(rho[0], -MOST, MOST))
    low, high = (np.tanh(centre + side * half) for side in (-1, 1))
    low = np.where(half > 0, np.minimum(low, rho), rho)
    high = np.where(half > 0, np.maximum(high, rho), rho)
    rho, low, high = (np.asarray(x, np.float32) for x in (rho, low, high))
    return Intervals(rho, low, high, mean, max(-1.0, mean - mean_half), min(1.0, mean + mean_half))


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
      Paired; all 0 where neither side varies.

    Raises:
      ValueError: as in `bootstrap`.
    """
    draws, seed, level = _check_options(draws, seed, level)
    simulated_a, activations, live = as_pair(simulated_a, activations, live, "simulated_a")
    simulated_b, activations, live = as_pair(simulated_b, activations, live, "simulated_b")
    rho, half, mean, mean_half = _halves(
        (simulated_a, simulated_b), activations, draws, seed, level, live
    )
    difference = rho[0] - rho[1]
    low, high = difference - half, difference + half
    better, a_clear, b_clear = (
        float(values[live].mean()) if live.any() else 0.0
        for values in (0.5 * (np.sign(difference) + 1), (low > 0) * 1.0, (high < 0) * 1.0)
    )
    difference, low, high = (np.asarray(x, np.float32) for x in (difference, low, high))
    ends = mean - mean_half, mean + mean_half
    return Paired(difference, low, high, mean, *ends, better, a_clear, b_clear)


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


def _halves(
    simulated: tuple, activations: Array, draws: int, seed: int, level: float, live: np.ndarray
):
    """ρ, and half the intervals.

    Returns:
      observed ρ (sides, neurons), half an interval (neurons,) in z or of the difference, the
      observed mean, and half its interval.
    """
    width, sides = activations.shape[1], len(simulated)
    simulated = tuple(pad_neurons(in_units(side)) for side in simulated)
    activations = pad_neurons(in_units(activations))
    n, n_neurons = activations.shape
    live = np.pad(live, (0, n_neurons - width))
    size = min(n_neurons, max(1, 2 * BLOCK_BYTES // (4 * n * (2 + 3 * sides))))
    weights = resamples(draws, n, seed)
    step = -(-draws // -(-4 * draws * n // BLOCK_BYTES))
    # padded with the data themselves, which are dropped below
    weights = np.concatenate([weights, np.ones((-draws % step, n), np.uint8)])
    rho, half = np.zeros((sides, n_neurons)), np.zeros(n_neurons)
    means, parts_of_mean, left = np.zeros(draws), np.zeros(n), live.copy()
    for start in range(0, n_neurons, size):
        start = min(start, n_neurons - size)  # the last reaches back: one shape, one program
        block = slice(start, start + size)
        share = jnp.asarray(left[block] / max(1, live.sum()), jnp.float32)
        left[block] = False
        columns, observed, kurtosis, part = _columns(
            tuple(jnp.asarray(s[:, block]) for s in simulated),
            jnp.asarray(activations[:, block]),
            share,
        )
        parts = [
            _draw(weights[i : i + step], columns, observed, share)
            for i in range(0, len(weights), step)
        ]
        moved, total = (
            np.concatenate([np.asarray(part[i], np.float64) for part in parts])[:draws]
            for i in (0, 1)
        )
        rho[:, block] = np.asarray(observed)
        quantile = _quantile(np.asarray(kurtosis, np.float64), n, level)
        half[block] = moved.std(0, ddof=1) * quantile
        means += total
        parts_of_mean += np.asarray(part, np.float64)
    rho, half, live = rho[:, :width], half[:width], live[:width]
    value = rho[0] if sides == 1 else rho[0] - rho[1]
    square = np.mean(parts_of_mean**2)
    kurtosis = np.mean(parts_of_mean**4) / square**2 if square > 0 else 1.0
    mean = float(value[live].mean()) if live.any() else 0.0
    return rho, half, mean, float(means.std(ddof=1) * _quantile(kurtosis, n, level))


def _quantile(kurtosis, n: int, level: float):
    """√(1 + 1/f)·t at which an interval ends, for images with contributions of this kurtosis."""
    freedom = np.maximum(2.0, 2 * n / np.maximum(kurtosis - 1, 1e-3))
    return np.sqrt(1 + 1 / freedom) * stdtrit(freedom, (1 + level) / 2)


@jax.jit
def _columns(simulated: tuple, activations, share):
    """What a block of neurons gives to its draws.

    Returns:
      columns of which every draw takes the mean (images, neurons·(2 + 3·sides)); ρ (sides, neurons)
      of the data themselves; kurtosis (neurons,) of the images' contributions u (two sides: of
      their difference); the share-weighted sum of u over neurons (images,).
    """
    a = standardise(activations.astype(jnp.float32))[0]
    s = [standardise(side.astype(jnp.float32))[0] for side in simulated]
    columns = [a, a * a, *(part for side in s for part in (side, side * side, a * side))]
    rho = jnp.stack([pearson(a, side) for side in s])
    u = [a * side - r[None, :] / 2 * (a * a + side * side) for side, r in zip(s, rho, strict=True)]
    u = u[0] if len(u) == 1 else u[0] - u[1]
    square = jnp.mean(u * u, axis=0)
    unit = u / jnp.sqrt(jnp.where(square > 0, square, 1.0))[None, :]
    part = jnp.matmul(u, share, precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate(columns, axis=1), rho, jnp.mean(unit**4, axis=0), part


@jax.jit
def _draw(weights, columns, observed, share):
    """One block of draws.

    Returns:
      (draws, neurons) how far z (two sides: the difference) moved, and (draws,) the weighted sum of
      ρ over neurons.
    """
    w = weights.astype(jnp.float32)
    moments = jnp.matmul(w, columns, precision=jax.lax.Precision.HIGHEST) / w.shape[1]
    sides = observed.shape[0]
    a, aa, *rest = jnp.split(moments, 2 + 3 * sides, axis=1)
    rho = jnp.stack([_correlation(a, aa, *rest[3 * i : 3 * i + 3]) for i in range(sides)])
    if sides == 1:
        moved, value = _fisher(rho[0]) - _fisher(observed[0])[None, :], rho[0]
    else:
        value = rho[0] - rho[1]
        moved = value
    return moved, jnp.matmul(value, share, precision=jax.lax.Precision.HIGHEST)


def _correlation(a, aa, s, ss, cross):
    var_a, var_s = aa - a * a, ss - s * s
    varies = (var_a > LEFT * aa) & (var_s > LEFT * ss)
    root = jnp.sqrt(jnp.where(varies, var_a * var_s, 1.0))
    return jnp.where(varies, jnp.clip((cross - a * s) / root, -1.0, 1.0), 0.0)


def _fisher(rho):
    return jnp.arctanh(jnp.clip(rho, -MOST, MOST))


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
    return {"correlation_low": got.low, "correlation_high": got.high}, facts


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
    ),
    _compute,
)
