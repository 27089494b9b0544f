"""Semi-non-negative matrix factorisation: X ≈ G Fᵀ with G ≥ 0 and F of any sign.

    F = Xᵀ G (GᵀG)⁻¹
    G ← G ∘ √( ((XF)⁺ + G (FᵀF)⁻) / ((XF)⁻ + G (FᵀF)⁺) ),   A⁺ = (|A| + A)/2, A⁻ = (|A| − A)/2

Neither step makes ‖X − G Fᵀ‖² larger. G begins as the indicator of a k-means clustering, plus 0.2.
Source: Ding, Li & Jordan 2010, Convex and Semi-Nonnegative Matrix Factorizations (IEEE PAMI 32).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Real

from jaxle.arrays import Array
from jaxle.solve.clustering import far_apart, k_means

_TINY = 1e-12
_STARTS = 20  # steps of k-means


class Factors(NamedTuple):
    """X ≈ G Fᵀ."""

    f: Float[Array, "columns k"]
    g: Float[Array, "rows k"]  # not negative
    error: Float[Array, " steps"]  # ‖X − G Fᵀ‖² / ‖X‖² after every step


@functools.partial(jax.jit, static_argnames=("k", "steps"))
def semi_nmf(
    x: Real[Array, "rows columns"], seed: Real[Array, ""] | int, *, k: int, steps: int
) -> Factors:
    """Returns the factors after so many steps.

    Args:
      x: (rows, columns) float32.
      seed: of the first centres of k-means.
      k: columns of the factors, at most the smaller of rows and columns.
      steps: how many updates of both.
    """
    x = jnp.asarray(x, jnp.float32)
    labels = k_means(x, x[far_apart(x, jax.random.key(seed), k)], steps=_STARTS)
    g = jax.nn.one_hot(labels, k) + 0.2
    size = jnp.maximum(jnp.sum(x**2), _TINY)

    def update(g, _):
        f = _directions(x, g)
        a, b = _product(x, f), _product(f.T, f)
        above = jnp.maximum(a, 0) + _product(g, jnp.maximum(-b, 0))
        below = jnp.maximum(-a, 0) + _product(g, jnp.maximum(b, 0))
        # not 0: a coefficient that is 0 stays 0 whatever the others do
        g = jnp.maximum(g * jnp.sqrt(above / jnp.maximum(below, _TINY)), _TINY)
        f = _directions(x, g)
        return g, jnp.sum((x - _product(g, f.T)) ** 2) / size

    g, error = jax.lax.scan(update, g, length=steps)
    return Factors(_directions(x, g), g, error)


def _directions(x, g):
    gram = _product(g.T, g)
    ridge = _TINY + 1e-7 * jnp.trace(gram) / len(gram)
    right = _product(g.T, x)
    return jax.scipy.linalg.solve(gram + ridge * jnp.eye(len(gram)), right, assume_a="pos").T


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")
