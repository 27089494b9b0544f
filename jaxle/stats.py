"""Column statistics that every floor shares: standardise, Pearson's correlation, constant columns.

ρ = Σ (a − ā)(b − b̄) / √(Σ (a − ā)² · Σ (b − b̄)²),   0 where a or b is constant
constant:   std ≤ 1e-6 · |mean|
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxle.arrays import Array

CONSTANT = 1e-6  # of a column's mean


def is_constant(std: Any, mean: Any) -> Any:
    """Returns whether columns are constant: their standard deviation is round-off beside the mean.

    The one definition of a constant column. It is relative to the magnitude of the mean: where a
    column hardly varies, all its values are about the mean, and float32 stores each with an error
    of up to 6e-8 of it; a standard deviation of 1e-6 of the mean is where a true variation and
    these errors cannot be distinguished. The test is free of scale. It needs mean and standard
    deviation only, so that it is the same from moments and from the column itself. A column of
    mean 0 is constant only where it is 0 throughout. Dead neurons (method.md §2) are another
    matter: a reported flag.

    Args:
      std, mean: of the columns, arrays of one shape or numbers, NumPy or JAX, any float dtype.

    Returns:
      bool of that shape.
    """
    return std <= CONSTANT * abs(mean)


def standardise(
    x: Float[Array, "rows columns"],
) -> tuple[
    Float[jax.Array, "rows columns"], Float[jax.Array, " columns"], Float[jax.Array, " columns"]
]:
    """Shifts and scales columns to mean 0 and standard deviation 1; a constant column becomes 0.

    Args:
      x: (rows, columns) float32.

    Returns:
      z (rows, columns), mean (columns,), std (columns,): std is 0 where the column is constant.
    """
    x = jnp.asarray(x)
    mean = jnp.mean(x, axis=0)
    centred = x - mean[None, :]
    # second pass: a float32 mean of many large values is off by its round-off
    mean = mean + jnp.mean(centred, axis=0)
    centred = x - mean[None, :]
    std = jnp.sqrt(jnp.mean(centred**2, axis=0))
    std = jnp.where(is_constant(std, mean), 0.0, std)
    scale = jnp.where(std > 0, 1.0 / jnp.where(std > 0, std, 1.0), 0.0)
    return centred * scale[None, :], mean, std


def pearson(
    a: Float[Array, "rows columns"], b: Float[Array, "rows columns"]
) -> Float[jax.Array, " columns"]:
    """Returns Pearson's correlation of column k of `a` with column k of `b`.

    Args:
      a, b: (rows, columns) float32.

    Returns:
      (columns,) float32 in [−1, 1]; 0 where either column is constant.
    """
    za, _, _ = standardise(a)
    zb, _, _ = standardise(b)
    return jnp.clip(jnp.mean(za * zb, axis=0), -1.0, 1.0)
