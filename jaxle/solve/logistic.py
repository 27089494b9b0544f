"""Logistic regression on one number, by Newton's method over streamed tiles.

    min_{a,c}  f(a, c) = 1/n Σ log(1 + exp(−s z)),   z = a x + c,   s = ±1 as y = 1, 0

Convex, so where Newton's step is small the optimum is reached. Every evaluation is one pass over
the tiles that gives f, its gradient and its Hessian; nothing else is held. The start is the linear
discriminant of the two groups, and a step that does not lower f is halved. Sums are float32 along a
row and float64 over rows.
Source: Platt 1999, probabilities from scores; Boyd & Vandenberghe, section 9.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import Array

Tiles = Callable[[], Iterable[tuple[Array, Array]]]
ROUND_OFF = 1e-6  # of f: what two passes in float32 may differ by
LEAST = 1e-9  # f below which the groups count as separated


class Fitted(NamedTuple):
    """Where the search ended: σ(slope·x + intercept)."""

    slope: float
    intercept: float
    loss: float  # f at the end, nats a pair
    evaluations: int  # passes over the tiles, the first one, for the start, included
    converged: bool  # False: the groups are separated (f tends to 0 at infinity) or passes ran out


def fit(
    tiles: Tiles,
    *,
    tol: float = 1e-8,
    max_evaluations: int = 60,
) -> Fitted:
    """Returns the slope and intercept of a logistic regression: Platt scaling of any score.

    Args:
      tiles: makes, for each pass, the same sequence of (x, y): float32 and 0/1, both (rows,
        columns).
      tol: stop when the gain that Newton's step promises is less than this share of f.
      max_evaluations: passes at most.

    Returns:
      Fitted. Where all x are alike, slope 0.

    Raises:
      ValueError: no pairs, or all y alike.
    """
    n, mean, var, start, share = _discriminant(tiles)
    null = np.array([0.0, np.log(share) - np.log1p(-share)])
    # x is centred and scaled, so that the step is well determined in float32
    unit = np.sqrt(var) if var > 0 else 1.0
    least, best, gain = np.inf, start, np.inf  # f, its point, and what Newton's step promised there
    evaluations, point = 1, start
    while evaluations < max_evaluations:
        value, gradient, hessian = _evaluate(tiles, n, mean, unit, point)
        evaluations += 1
        if point is start and not value <= _entropy(share) * (1 + ROUND_OFF):
            point = null  # the discriminant overshoots: begin from slope 0
            continue
        if value > least * (1 + ROUND_OFF):
            point = (point + best) / 2
            continue
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-12)[0]
        least, best, gain = value, point, float(gradient @ step) / 2
        if gain <= tol * value or value < LEAST:
            break
        point = point - step
    slope, intercept = best[0] / unit, best[1] - best[0] * mean / unit
    converged = bool(gain <= tol * least and least >= LEAST)
    return Fitted(float(slope), float(intercept), float(least), evaluations, converged)


def loss(tiles: Tiles, slope: float, intercept: float) -> float:
    """Returns f at given constants, in nats a pair, from one pass.

    Args:
      tiles: as in `fit`.
      slope, intercept: a and c.
    """
    total = np.zeros(7)
    for x, y in tiles():
        total += _sums(x, y, 0.0, 1.0, slope, intercept)
    return float(total[1] / total[0])


def _discriminant(tiles):
    """First pass: pairs, mean and variance of x, the start, and the share of y = 1.

    The start is the linear discriminant's (slope, intercept) on standardised x.
    """
    total, shift = np.zeros(6), None
    for x, y in tiles():
        shift = float(jnp.mean(x)) if shift is None else shift
        total += _rows_to_sum(_group_sums(x, y, np.float32(shift)))
    shift = 0.0 if shift is None else shift
    n, n_1, sum_x, sum_xx, sum_1, sum_11 = total
    if n == 0:
        raise ValueError("a logistic fit needs at least one pair, got none.")
    if not 0 < n_1 < n:
        raise ValueError(
            f"a logistic fit needs both labels, got {n_1:.0f} ones among {n:.0f} pairs."
        )
    mean, share = sum_x / n, n_1 / n
    var = max(sum_xx / n - mean**2, 0.0)
    mean_1, mean_0 = sum_1 / n_1, (sum_x - sum_1) / (n - n_1)
    within = (sum_xx - n_1 * mean_1**2 - (n - n_1) * mean_0**2) / n
    start = np.array([0.0, np.log(share) - np.log1p(-share)])
    if within > 1e-6 * var > 0:
        unit = np.sqrt(var)
        slope = (mean_1 - mean_0) / within * unit
        start = start + [slope, -slope * ((mean_1 + mean_0) / 2 - mean) / unit]
    return n, shift + mean, var, start, share


def _evaluate(tiles, n, mean, unit, point):
    total = np.zeros(7)
    for x, y in tiles():
        total += _sums(x, y, mean, unit, *point)
    _, value, g0, g1, h00, h01, h11 = total
    return value / n, np.array([g1, g0]) / n, np.array([[h11, h01], [h01, h00]]) / n


def _sums(x, y, mean, unit, slope, intercept):
    numbers = (np.float32(number) for number in (mean, unit, slope, intercept))
    return _rows_to_sum(_row_sums(x, y, *numbers))


def _rows_to_sum(rows):
    return np.asarray(rows, np.float64).sum(axis=1)


def _entropy(share):
    return -(share * np.log(share) + (1 - share) * np.log1p(-share))


@jax.jit
def _row_sums(x, y, mean, unit, slope, intercept):
    u = (x - mean) / unit
    z = slope * u + intercept
    p = jax.nn.sigmoid(z)
    r, w = p - y, p * (1 - p)
    loss = jnp.logaddexp(0.0, jnp.where(y > 0, -z, z))
    return jnp.stack(
        [jnp.sum(part, axis=1) for part in (jnp.ones_like(z), loss, r, r * u, w, w * u, w * u * u)]
    )


@jax.jit
def _group_sums(x, y, shift):
    u = x - shift
    return jnp.stack(
        [jnp.sum(part, axis=1) for part in (jnp.ones_like(u), y, u, u * u, y * u, y * u * u)]
    )
