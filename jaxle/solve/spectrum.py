"""The spectrum of the concepts' correlations: all of it, or of many concepts its leading part.

    G = U Λ Uᵀ                       up to `FULL` concepts, in float64
    G ≈ U_r Λ_r U_rᵀ + G_t           beyond: the `RANK` leading directions, by subspace iteration

Of the rest G_t only its distribution of eigenvalues is kept, from a few random vectors v: the nodes
and weights of Gauss's quadrature for vᵀ f(G_t) v, which Lanczos's recurrence gives. So that a
function of many concepts' Gram matrix, a ridge or its trace, costs products with r directions.
Sources: Halko, Martinsson & Tropp 2011 (https://doi.org/10.1137/090771806); Ubaru, Chen & Saad 2017
(https://doi.org/10.1137/16M1104974).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from jaxle.arrays import Array
from jaxle.solve.moments import HIGHEST, Moments, correlations

RANK = 1024  # leading directions
FULL = 2 * RANK  # up to so many concepts all directions cost about as little
PASSES = 2  # products with G that turn random directions into leading ones
PROBES, NODES = 32, 8  # random vectors, and nodes of the quadrature of each
DEPENDENT = 1e-10  # of the largest squared length: a direction within float32's round-off of others
NOTHING = 1e-6  # of a concept's variance: a mean eigenvalue that is round-off
# Of an eigendecomposition, half of which reads the whole matrix for each column: more threads wait
# for memory, and for one another by spinning, three to ten times the work on two busy cores.
MOST_THREADS = 4


class Spectrum(NamedTuple):
    """What fits need of the concepts' correlations: one serves all neurons and layers."""

    values: Float[np.ndarray, " rank"]  # Λ float64, none negative
    vectors: Float[Array, "concepts rank"]  # U float32
    tail: Float[np.ndarray, " nodes"]  # float64, eigenvalues of what U leaves out; may be empty
    counts: Float[np.ndarray, " nodes"]  # float64, how many directions have each of these

    def freedom(self, strengths: Float[np.ndarray, " grid"]) -> Float[np.ndarray, " grid"]:
        """Returns a ridge's degrees of freedom Σ_i λ_i/(λ_i + δ) for every strength δ, float64."""
        lead = (self.values[:, None] / (self.values[:, None] + strengths[None, :])).sum(axis=0)
        return lead + self.counts @ (self.tail[:, None] / (self.tail[:, None] + strengths[None, :]))

    @property
    def rest(self) -> np.float32:
        """The mean eigenvalue of what U leaves out, 0 where that is nothing."""
        return np.float32(self.counts @ self.tail / max(self.counts.sum(), 1.0))


def spectrum(moments: Moments) -> Spectrum:
    """Returns the spectrum of the standardised Gram matrix."""
    gram = correlations(moments)
    with threadpool_limits(min(MOST_THREADS, max(1, (os.cpu_count() or 1) // 2)), "blas"):
        if len(gram) > FULL:
            return _leading(gram)
        values, vectors = np.linalg.eigh(np.asarray(gram, np.float64))
    nothing = np.zeros(0)
    return Spectrum(np.maximum(values, 0.0), vectors.astype(np.float32), nothing, nothing)


def _leading(gram: jax.Array) -> Spectrum:
    n, random = len(gram), np.random.Generator(np.random.Philox(0))
    basis = random.standard_normal((n, RANK), np.float32)
    for _ in range(PASSES):
        basis = _orthonormal(np.asarray(_times(gram, basis)))
    small = basis.T.astype(np.float64) @ np.asarray(_times(gram, basis))
    values, turn = np.linalg.eigh((small + small.T) / 2)
    values, vectors = np.maximum(values, 0.0), basis @ turn.astype(np.float32)
    left, n_left = np.trace(np.asarray(gram), dtype=np.float64) - values.sum(), n - len(values)
    if left <= NOTHING * n_left:
        return Spectrum(values, vectors, np.zeros(0), np.zeros(0))
    nodes, weights = _quadrature(gram, vectors, random)
    counts = weights * (n_left / weights.sum())
    return Spectrum(values, vectors, nodes * (left / (counts @ nodes)), counts)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the columns span, within float32's round-off; float32."""
    exact = columns.astype(np.float64)
    size, turn = np.linalg.eigh(exact.T @ exact)
    kept = size > DEPENDENT * size[-1]
    return columns @ (turn[:, kept] / np.sqrt(size[kept])).astype(np.float32)


def _quadrature(gram: jax.Array, vectors: np.ndarray, random: np.random.Generator):
    """Nodes and weights, (probes × nodes,) each, of sums over the spectrum of G_t."""

    def outside(x):
        return x - vectors @ (vectors.T @ x)

    start = outside(random.choice(np.array([-1, 1], np.float32), (len(vectors), PROBES)))
    size = np.linalg.norm(start, axis=0)
    before, now, off = np.zeros_like(start), start / size, np.zeros(PROBES, np.float32)
    band = np.zeros((PROBES, NODES, NODES))
    for i in range(NODES):
        new = outside(np.asarray(_times(gram, now))) - off * before
        band[:, i, i] = np.sum(new * now, axis=0)
        new -= band[:, i, i].astype(np.float32) * now
        off = np.linalg.norm(new, axis=0)
        if i + 1 < NODES:
            band[:, i, i + 1] = band[:, i + 1, i] = off
        before, now = now, new / np.maximum(off, np.finfo(np.float32).tiny)
    nodes, turn = np.linalg.eigh(band)
    weights = size[:, None].astype(np.float64) ** 2 * turn[:, 0] ** 2 / PROBES
    return np.maximum(nodes, 0.0).reshape(-1), weights.reshape(-1)


@jax.jit
def _times(gram, columns):
    return jnp.matmul(gram, columns, precision=HIGHEST)
