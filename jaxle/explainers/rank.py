"""Every neuron's candidates: the elastic net on all concepts, and the order that it gives them.

By descending weight, among equal weights (most of a sparse fit is zero) by descending signed
gradient, then by index: a total order, so that the search is deterministic (equal non-zero weights
have equal gradients at an optimum). Paper, Eq. 6 and Algorithm 1, which sorts by weight alone.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxle.mesh import data_size
from jaxle.solve import elastic_net
from jaxle.solve.moments import Moments, block_size, blocks

SCALE = 2.0**100  # a power of two keeps every bit of a weight, and lifts it clear of any gradient


class Candidates(NamedTuple):
    """Per neuron, the order of its candidates and how the elastic net ended; NumPy."""

    order: np.ndarray  # (neurons, pool) int32, best first
    gap: np.ndarray  # (neurons,) float32: duality gap, where the objective at zero is one half
    iterations: np.ndarray  # (neurons,) int32
    converged: np.ndarray  # (neurons,) bool
    support: np.ndarray  # (neurons,) int32: non-zero weights


def candidates(
    moments: Moments,
    lam: float,
    l1_ratio: float,
    *,
    tol: float = 1e-6,
    pool: int = 100,
    mesh: Mesh | None = None,
    block: int | None = None,
) -> Candidates:
    """Returns every neuron's candidates, fitted and ordered a block of neurons at a time.

    Args:
      moments: of the training images.
      lam, l1_ratio, tol, mesh: as in `solve.elastic_net.solve`.
      pool: candidates kept per neuron.
      block: neurons per block; None asks how much memory is free.
    """
    n_concepts, n_neurons = moments.cross.shape
    moments = moments.padded(data_size(mesh)).wide()
    n_padded = moments.cross.shape[1]
    size = min(n_padded, block or block_size(n_concepts, data_size(mesh)))
    pool = min(pool, n_concepts)
    whole = Candidates(
        np.zeros((n_padded, pool), np.int32),
        np.zeros(n_padded, np.float32),
        np.zeros(n_padded, np.int32),
        np.zeros(n_padded, bool),
        np.zeros(n_padded, np.int32),
    )
    for start, some in blocks(moments, size):
        # at once: the block's weights are not held while the next one is fitted
        found = _ordered(
            elastic_net.rows(some, lam, l1_ratio, tol=tol, mesh=mesh), pool, n_concepts
        )
        for target, values in zip(whole, found, strict=True):
            target[start : start + size] = np.asarray(values)[:size]
    return Candidates(*(target[:n_neurons] for target in whole))


def _ordered(fitted: elastic_net.Rows, pool: int, n_concepts: int) -> Candidates:
    both = fitted.weights, fitted.gradient
    places, support = map(np.asarray, _order_and_support(*both, np.int32(n_concepts), pool=pool))
    return Candidates(places, fitted.gap, fitted.iterations, fitted.converged, support)


@functools.partial(jax.jit, static_argnames="pool")
def _order_and_support(weights, gradient, n_concepts, pool: int):
    support = jnp.sum(weights != 0, axis=1, dtype=jnp.int32)
    return order(weights, gradient, pool, n_concepts), support


@functools.partial(jax.jit, static_argnames="pool")
def order(weights, gradient, pool: int, n_concepts: int | jax.Array):
    """The first `pool` concepts of every neuron's order.

    Args:
      weights: (neurons, padded) float32, of the standardised fit.
      gradient: (neurons, padded) float32, the signed gradient Xᵀr/n of that fit.
      pool: how many to keep, at most all: candidates per step times most concepts is always
        enough.
      n_concepts: how many there are; columns past them are not ordered.

    Returns:
      (neurons, pool) int32, best first.
    """
    gradient = jnp.where(gradient == 0, 0.0, gradient)  # a negative zero would sort below zero
    key = jnp.where(weights != 0, weights * SCALE, gradient)
    real = jnp.arange(key.shape[1], dtype=jnp.int32) < n_concepts
    _, index = jax.lax.top_k(jnp.where(real[None, :], key, -jnp.inf), pool)
    w, g = (jnp.take_along_axis(z, index, axis=1) for z in (weights, gradient))
    return jax.lax.sort((-w, -g, index), num_keys=3)[2]
