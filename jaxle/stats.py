"""Column statistics that every floor shares: standardise and Pearson's correlation, constant columns defined.

    ρ = Σ (a − ā)(b − b̄) / √(Σ (a − ā)² · Σ (b − b̄)²),   0 where a or b is constant

A column counts as constant when its standard deviation is below 1e-6 of its largest magnitude, which is where float32 can no longer tell
it from round-off; the test is free of scale.
"""

from __future__ import annotations

import jax.numpy as jnp

CONSTANT = 1e-6


def is_constant(std, magnitude):
    """True where a column's standard deviation is round-off beside its largest magnitude; arrays of one shape, any float dtype."""
    return std <= CONSTANT * magnitude


def standardise(x):
    """Shift and scale columns to mean 0 and standard deviation 1; a constant column becomes 0.

    Args:
      x: (rows, columns) float32.

    Returns:
      z (rows, columns), mean (columns,), std (columns,): std is 0 where the column is constant.
    """
    mean = jnp.mean(x, axis=0)
    centred = x - mean[None, :]
    mean = mean + jnp.mean(
        centred, axis=0
    )  # second pass: a float32 mean of many large values is off by its round-off
    centred = x - mean[None, :]
    std = jnp.sqrt(jnp.mean(centred**2, axis=0))
    std = jnp.where(is_constant(std, jnp.max(jnp.abs(x), axis=0)), 0.0, std)
    scale = jnp.where(std > 0, 1.0 / jnp.where(std > 0, std, 1.0), 0.0)
    return centred * scale[None, :], mean, std


def pearson(a, b):
    """Pearson's correlation of column k of `a` with column k of `b`.

    Args:
      a, b: (rows, columns) float32.

    Returns:
      (columns,) float32 in [−1, 1]; 0 where either column is constant.
    """
    za, _, _ = standardise(a)
    zb, _, _ = standardise(b)
    return jnp.clip(jnp.mean(za * zb, axis=0), -1.0, 1.0)
