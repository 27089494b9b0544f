"""Bootstrap intervals over images: how far each correlation, and a layer's mean, would move on other test images (method.md §8).

    W ~ Multinomial(n, 1/n) (draws × images),   W·[a, a², s, s², a∘s]/n  →  ρ* (draws × neurons), in matrix products
    ρ:           tanh(atanh ρ ± t·sd(atanh ρ*))     Fisher's transform: its spread hardly depends on ρ
    means:       mean ± t·sd(mean ρ*)
    differences: ρ_a − ρ_b ± t·sd(ρ_a* − ρ_b*), the same W on both sides
    t:           √(1 + 1/f) times the quantile of Student's t with f = 2n/(κ − 1) degrees of freedom, at least 2; κ = Σu⁴/n / (Σu²/n)²,
                 u = âŝ − ρ(â² + ŝ²)/2 what each image contributes to ρ: the fewer images decide, the less the sd is known, and the
                 more that of resamples falls short, as the variance of f + 1 numbers about their own mean does by f/(f + 1)

What varies is the images; the neurons are the layer's own and stay (a mean's standard error over neurons is another number, `sem_…` in the
summary). All draws share W, so an interval of a mean knows that neurons see the same images. Chosen among percentile, BCa, basic,
studentised and normal intervals by coverage: where some twenty of 200 images decide, those cover 90–93 %, this one 93 % and more
(benchmarks/evaluation.py); it needs no order statistics, hence few draws.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 12 and 13;
Satterthwaite 1946 (https://doi.org/10.2307/3002019) for the degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import stdtrit

from jaxle.arrays import BLOCK_BYTES, Array, check_equal_rows, check_live, check_matrix
from jaxle.stats import pearson, standardise

MOST = 1 - 1e-6  # a correlation beyond is as good as 1 in float32
LEFT = 1e-5  # share of a draw's mean square that its variance must keep, else the draw holds one value only


class Intervals(NamedTuple):
    """Correlations with their intervals, and the mean over live neurons with its own."""

    correlation: np.ndarray  # (neurons,) float32; 0 where a side is constant
    low: np.ndarray  # (neurons,) float32
    high: np.ndarray  # (neurons,) float32
    mean: float
    mean_low: float
    mean_high: float


class Paired(NamedTuple):
    """Method a against method b on the same neurons and images."""

    difference: np.ndarray  # (neurons,) float32: ρ_a − ρ_b
    low: np.ndarray  # (neurons,) float32
    high: np.ndarray  # (neurons,) float32
    mean: float
    mean_low: float
    mean_high: float
    share_a_better: float  # of live neurons; a tie counts half
    share_a_clear: float  # of live neurons: the whole interval above 0
    share_b_clear: float  # of live neurons: the whole interval below 0


def bootstrap(
    simulated: Array,
    activations: Array,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    live: np.ndarray | None = None,
) -> Intervals:
    """Correlation with a confidence interval, for every neuron and for their mean; use it on test images.

    Args:
      simulated: (images, neurons), any real dtype.
      activations: (images, neurons), the same images and neurons.
      draws: resamples of the images.
      seed: integer from 0 to 2⁶⁴ − 1; the same seed, draws and number of images give the same resamples.
      level: share of intervals that are to hold the true value.
      live: (neurons,) bool, which neurons the mean is over; None for all.

    Returns:
      Intervals; 0, 0, 0 where either side is constant (a single image included).

    Raises:
      ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    live = check_pair(simulated, activations, live)
    _check_options(draws, level)
    rho, half, mean, mean_half = _halves((simulated,), activations, draws, seed, level, live)
    centre = np.arctanh(np.clip(rho[0], -MOST, MOST))
    low, high = (np.tanh(centre + side * half) for side in (-1, 1))
    low, high = (
        np.where(half > 0, np.minimum(low, rho[0]), rho[0]),
        np.where(half > 0, np.maximum(high, rho[0]), rho[0]),
    )
    return Intervals(
        *_float32(rho[0], low, high), mean, max(-1.0, mean - mean_half), min(1.0, mean + mean_half)
    )


def paired(
    simulated_a: Array,
    simulated_b: Array,
    activations: Array,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    live: np.ndarray | None = None,
) -> Paired:
    """Which of two methods (or simulators) is better, on the same resamples for both; use it in place of two separate intervals.

    Args:
      simulated_a, simulated_b: (images, neurons), both methods' simulations of the same neurons on the same images.
      activations: (images, neurons).
      draws, seed, level, live: as in `bootstrap`.

    Returns:
      Paired; all 0 where neither side varies.

    Raises:
      ValueError: as in `bootstrap`.
    """
    live = check_pair(simulated_a, activations, live, "simulated_a")
    check_pair(simulated_b, activations, live, "simulated_b")
    _check_options(draws, level)
    rho, half, mean, mean_half = _halves(
        (simulated_a, simulated_b), activations, draws, seed, level, live
    )
    difference = rho[0] - rho[1]
    low, high = difference - half, difference + half
    shares = [
        float(values[live].mean()) if live.any() else 0.0
        for values in (0.5 * (np.sign(difference) + 1), (low > 0) * 1.0, (high < 0) * 1.0)
    ]
    return Paired(
        *_float32(difference, low, high), mean, mean - mean_half, mean + mean_half, *shares
    )


def resamples(draws: int, n: int, seed: int) -> np.ndarray:
    """How often each draw takes each image: (draws, images) uint8, rows of sum n; the same on every machine and with every NumPy."""
    raw = (
        np.random.Philox(key=np.array([seed, n], np.uint64))
        .random_raw(-(-draws * n // 2))
        .view(np.uint32)[: draws * n]
    )
    image = (
        ((raw.astype(np.uint64) * np.uint64(n)) >> np.uint64(32)).astype(np.int64).reshape(draws, n)
    )
    out = np.empty(
        (draws, n), np.uint8
    )  # a count above 255 takes 256 images or more, and then never happens (Poisson of mean 1)
    step = max(1, BLOCK_BYTES // (8 * n))
    for start in range(0, draws, step):
        part = image[start : start + step]
        place = part + n * np.arange(len(part), dtype=np.int64)[:, None]
        out[start : start + step] = np.bincount(place.ravel(), minlength=part.size).reshape(
            part.shape
        )
    return out


def check_pair(
    simulated: Array, activations: Array, live: np.ndarray | None = None, name: str = "simulated"
) -> np.ndarray:
    """Raise a ValueError unless both are finite matrices of one shape; return `live` as (neurons,) bool, all True for None."""
    check_matrix(simulated, name)
    check_matrix(activations, "activations")
    check_equal_rows(simulated, activations, (name, "activations"))
    n_neurons = activations.shape[1]
    if simulated.shape[1] != n_neurons:
        raise ValueError(
            f"{name} and activations must describe the same neurons, got {simulated.shape[1]} and {n_neurons} columns."
        )
    return check_live(live, (n_neurons,))


def _check_options(draws: int, level: float) -> None:
    if not isinstance(draws, (int, np.integer)) or draws < 2:
        raise ValueError(f"draws must be a whole number of at least 2, got {draws!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}.")


def _halves(
    simulated: tuple, activations: Array, draws: int, seed: int, level: float, live: np.ndarray
):
    """Observed ρ (sides, neurons), half an interval (neurons,) in z or of the difference, observed mean and half its interval."""
    n, n_neurons = activations.shape
    sides = len(simulated)
    size = min(n_neurons, max(1, 2 * BLOCK_BYTES // (4 * n * (2 + 3 * sides))))
    weights = resamples(draws, n, seed)
    step = -(-draws // -(-4 * draws * n // BLOCK_BYTES))
    weights = np.concatenate(
        [weights, np.ones((-draws % step, n), np.uint8)]
    )  # padding: the data themselves, dropped below
    rho, half, means, parts_of_mean, left = (
        np.zeros((sides, n_neurons)),
        np.zeros(n_neurons),
        np.zeros(draws),
        np.zeros(n),
        live.copy(),
    )
    for start in range(0, n_neurons, size):
        block = slice(
            min(start, n_neurons - size), min(start, n_neurons - size) + size
        )  # the last reaches back: one shape, one program
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
        rho[:, block], half[block] = (
            np.asarray(observed),
            moved.std(0, ddof=1) * _quantile(np.asarray(kurtosis, np.float64), n, level),
        )
        means, parts_of_mean = means + total, parts_of_mean + np.asarray(part, np.float64)
    value = rho[0] if sides == 1 else rho[0] - rho[1]
    square = np.mean(parts_of_mean**2)
    kurtosis = np.mean(parts_of_mean**4) / square**2 if square > 0 else 1.0
    return (
        rho,
        half,
        float(value[live].mean()) if live.any() else 0.0,
        float(means.std(ddof=1) * _quantile(kurtosis, n, level)),
    )


def _quantile(kurtosis, n: int, level: float):
    """√(1 + 1/f)·t at which an interval ends, for images whose contributions have this kurtosis (1 at least)."""
    freedom = np.maximum(2.0, 2 * n / np.maximum(kurtosis - 1, 1e-3))
    return np.sqrt(1 + 1 / freedom) * stdtrit(freedom, (1 + level) / 2)


@jax.jit
def _columns(simulated: tuple, activations, share):
    """What a block of neurons gives to its draws.

    Returns:
      columns of which every draw takes the mean (images, neurons·(2 + 3·sides)); ρ (sides, neurons) of the data themselves; kurtosis
      (neurons,) of the images' contributions u (two sides: of their difference); the share-weighted sum of u over neurons (images,).
    """
    a = standardise(activations.astype(jnp.float32))[0]
    s = [standardise(side.astype(jnp.float32))[0] for side in simulated]
    columns = [a, a * a, *(part for side in s for part in (side, side * side, a * side))]
    rho = jnp.stack([pearson(a, side) for side in s])
    u = [a * side - r[None, :] / 2 * (a * a + side * side) for side, r in zip(s, rho, strict=True)]
    u = u[0] if len(u) == 1 else u[0] - u[1]
    square = jnp.mean(u * u, axis=0)
    unit = u / jnp.sqrt(jnp.where(square > 0, square, 1.0))[None, :]
    return (
        jnp.concatenate(columns, axis=1),
        rho,
        jnp.mean(unit**4, axis=0),
        jnp.matmul(u, share, precision=jax.lax.Precision.HIGHEST),
    )


@jax.jit
def _draw(weights, columns, observed, share):
    """One block of draws: (draws, neurons) how far z (two sides: the difference) moved, and (draws,) the weighted sum of ρ over neurons."""
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


def _float32(*arrays):
    return tuple(np.asarray(x, np.float32) for x in arrays)
