"""Dense ridge of every neuron on all concepts, from second moments: the ceiling of what a concept set can express.

    W_δ = (G + δ I)⁻¹ C   on standardised moments, δ per neuron from a logarithmic grid by validation correlation

    ρ(w) = wᵀc_val / √(wᵀ G_val w · v_val)

One Cholesky factor per strength serves all neurons. Source: Hoerl & Kennard 1970 (https://doi.org/10.2307/1267351).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxle.solve.moments import HIGHEST, Moments, scales

STRENGTHS = tuple(10.0**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5))  # in units of a standardised concept's variance


class Dense(NamedTuple):
    """A dense linear fit on raw columns."""

    weights: jax.Array  # (concepts, neurons) float32
    bias: jax.Array  # (neurons,) float32
    strength: jax.Array  # (neurons,) float32: δ chosen
    val_correlation: jax.Array  # (neurons,) float32


def solve(train: Moments, val: Moments, strengths: tuple[float, ...] = STRENGTHS) -> Dense:
    """Ridge with each neuron's own strength, the one of largest validation correlation; use it as the ceiling of sparse explanations.

    Args:
      train, val: moments of the images that fit and of those that choose.
      strengths: δ > 0 to choose from, in units of a standardised concept's variance.

    Returns:
      Dense; a constant concept or target has weights 0.

    Raises:
      ValueError: no strength, or one that is not positive.
    """
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be one or more positive numbers, got {strengths}.")
    gram, cross, size = _standardise(train)
    best = (jnp.zeros_like(cross), jnp.zeros_like(train.mean_y), jnp.full_like(train.mean_y, -jnp.inf))
    for strength in strengths:
        best = _improve(best, gram, cross, size, val, jnp.float32(strength))
    weights, strength, rho = best
    return Dense(weights, train.mean_y - jnp.matmul(train.mean_x, weights, precision=HIGHEST), strength, rho)


@jax.jit
def _standardise(train: Moments):
    size = scales(train)
    gram = train.gram * size.inv_x[:, None] * size.inv_x[None, :]
    return gram, train.cross * size.inv_x[:, None] * size.inv_y[None, :], size


@functools.partial(jax.jit, donate_argnums=0)
def _improve(best, gram, cross, size, val: Moments, strength):
    """Solve at one strength; keep it for the neurons whose validation correlation it raises."""
    factor = jnp.linalg.cholesky(gram + strength * jnp.eye(len(gram), dtype=jnp.float32), symmetrize_input=False)
    weights = jax.scipy.linalg.cho_solve((factor, True), cross) * size.inv_x[:, None] * size.std_y[None, :]
    spread = jnp.sum(weights * jnp.matmul(val.gram, weights, precision=HIGHEST), axis=0) * val.var_y
    cov = jnp.sum(weights * val.cross, axis=0)
    rho = jnp.where(spread > 0, cov / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)
    better = rho > best[2]
    return jnp.where(better[None, :], weights, best[0]), jnp.where(better, strength, best[1]), jnp.where(better, rho, best[2])
