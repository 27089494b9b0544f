"""Candidates in order: by descending weight, among equal weights (zeros above all) by descending signed gradient, then by index.

Most weights of a sparse fit are zero, so the second rule orders most of the list; it makes the search deterministic. METHOD: paper,
Algorithm 1 sorts by weight alone.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

SCALE = 2.0**100  # a power of two keeps every bit of a weight, and lifts it clear of any gradient


@functools.partial(jax.jit, static_argnames="pool")
def order(weights, gradient, pool: int):
    """The first `pool` concepts of every neuron's order; use it on the elastic net's solution, before a search.

    Args:
      weights: (concepts, neurons) float32, of the standardised fit.
      gradient: (concepts, neurons) float32, the signed gradient Xᵀr/n of that fit.
      pool: how many to keep: candidates per step times most concepts is always enough; at most all.

    Returns:
      (neurons, pool) int32, best first.
    """
    weights, gradient = weights.T, jnp.where(gradient.T == 0, 0.0, gradient.T)  # no negative zero: it would sort below zero
    key = jnp.where(weights != 0, weights * SCALE, gradient)
    _, index = jax.lax.top_k(key, min(pool, key.shape[1]))
    w, g = (jnp.take_along_axis(z, index, axis=1) for z in (weights, gradient))
    return jax.lax.sort((-w, -g, index), num_keys=3)[2]
