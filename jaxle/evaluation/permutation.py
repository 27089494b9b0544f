"""Permuting test images: an exact p-value a neuron, without a refit and without pooling.

    p_k = (1 + #{ρ(s_k∘π, a_k) ≥ ρ(s_k, a_k)})/(1 + draws),   π uniform over the test images

An explanation is fitted without test images. If it has nothing to do with the neuron, simulated
and real activations of the test images are paired at random, so that each π gives ρ the same
distribution as the real pairing does: P(p_k ≤ x) ≤ x for every neuron by itself, whatever its
distribution of activations. All neurons share the permutations.

With ties, few permutations exist that matter. A neuron that fires on one of n images has p ≥ 1/n.
The smallest p that any simulation with these values could have is that of sorted pairs:

    share of permutations that keep sorted pairs = Π_g m_g!·Π_h m_h!/(n!·Π_gh m_gh!)

over runs of equal values of s, of a and of both.
Source: method.md §8; Phipson & Smyth 2010 (https://doi.org/10.2202/1544-6115.1585).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float64, Real
from scipy.special import gammaln

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.correlation import standardise
from jaxle.evaluation.pairs import as_pair
from jaxle.evaluation.scores import DRAWS
from jaxle.mesh import data_size, round_up
from jaxle.options import number
from jaxle.options import seed as read_seed
from jaxle.solve import tiles
from jaxle.solve.split import COLUMNS, ROWS, WHOLE, split_jit
from jaxle.units import in_units

TIES = 2e-6  # ρ that differ by less are equal: sums in another order
BLOCK = 1 << 22  # numbers of a block of permutations, and of permuted simulations
STREAM = (1 << 32) + (1 << 20)  # of random numbers, apart from those of `evaluation.nulls`


class PermutationTest(NamedTuple):
    """What `permutation_test` gives."""

    p_values: Float64[np.ndarray, " neurons"]
    # the least that these values of a neuron and its simulation can have, however they are paired
    smallest: Float64[np.ndarray, " neurons"]


@checks_input
def permutation_test(
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> PermutationTest:
    """Returns how often permuted test images correlate at least as well, neuron by neuron.

    Give it images on which nothing was fitted or chosen. It says whether there is any correlation
    at all; `evaluation.controls` says whether there is more than in a network that learned nothing.

    Args:
      simulated: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      activations: (images, neurons), the same images and neurons.
      draws: how many permutations.
      seed: integer from 0 to 2⁶⁴ − 1.
      mesh: neurons are split over its axis `data`.

    Returns:
      PermutationTest. Where either side is constant, both are 1.

    Raises:
      ValueError: shapes differ, a value is not finite, or a bad option.
    """
    draws, seed = number("draws", draws, int, low=0), read_seed(seed)
    pair = as_pair(simulated, activations)
    both = in_units(pair.simulated), in_units(pair.activations)
    n_images, n_neurons = pair.activations.shape
    p, smallest = np.ones(n_neurons), np.ones(n_neurons)
    width = min(_bucket(n_neurons), max(64, BLOCK // n_images // 64 * 64))
    width = round_up(width, data_size(mesh))
    for start in range(0, n_neurons, width):
        block = slice(start, min(start + width, n_neurons))
        s, a = (standardise(np.asarray(x[:, block]).astype(np.float64)) for x in both)
        above = _count(_padded(s, width), _padded(a, width), draws, seed, mesh)[: s.shape[1]]
        varies = s.any(axis=0) & a.any(axis=0)
        p[block] = np.where(varies, (1.0 + above) / (1.0 + draws), 1.0)
        least = (1.0 + draws * _share_of_sorted(s, a)) / (1.0 + draws)
        smallest[block] = np.where(varies, least, 1.0)
    return PermutationTest(p, smallest)


def _bucket(n_neurons: int) -> int:
    """Returns how many columns are permuted: 16, 32, or as all else is padded to.

    The time is that of the columns, and narrow layers are common.
    """
    narrow = [width for width in (16, 32) if n_neurons <= width]
    return narrow[0] if narrow else tiles.bucket(n_neurons)


def _padded(x: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x.astype(np.float32), ((0, 0), (0, width - x.shape[1])))


def _count(s: np.ndarray, a: np.ndarray, draws: int, seed: int, mesh: Mesh | None) -> np.ndarray:
    """(neurons,) number of draws that correlate at least as well as the images as they are."""
    n_images = len(s)
    size = max(1, min(draws, BLOCK // n_images))
    total = np.zeros(s.shape[1], np.int64)
    both, program = jax.device_put((s, a)), _program(mesh)
    for start in range(0, draws, size):
        orders = _orders(n_images, size, seed, start)
        total += np.asarray(program(*both, orders, np.int32(min(size, draws - start))))
    return total


# the layers of a run share them: at most 16 blocks, 256 MiB
@functools.lru_cache(maxsize=16)
def _orders(n_images: int, size: int, seed: int, start: int) -> jax.Array:
    """(size, images) int32, the permutations from number `start` on."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, STREAM + start], np.uint64)))
    orders = np.tile(np.arange(n_images, dtype=np.int32), (size, 1))
    return jax.device_put(rng.permuted(orders, axis=1, out=orders))


@functools.cache
def _program(mesh: Mesh | None):
    return split_jit(_above, mesh, (COLUMNS, COLUMNS, WHOLE, WHOLE), ROWS)


def _above(s, a, orders, count):
    """Number of the first `count` orders of the images at which ρ is at least the observed."""
    least = jnp.mean(s * a, axis=0) - TIES

    def draw(i, total):
        moved = jnp.take(s, orders[i], axis=0, mode="clip")
        return total + (jnp.mean(moved * a, axis=0) >= least)

    return jax.lax.fori_loop(0, count, draw, jnp.zeros(s.shape[1], jnp.int32))


def _share_of_sorted(s: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(neurons,) share of all permutations at which ρ is the largest that it can be."""
    of_s, of_a = (_new(np.sort(x, axis=0)) for x in (s, a))
    logs = _log_factorials(of_s) + _log_factorials(of_a) - _log_factorials(of_s | of_a)
    return np.exp(np.minimum(logs - gammaln(len(s) + 1.0), 0.0))


def _new(x: np.ndarray) -> np.ndarray:
    """Where a run of equal values of a sorted column begins."""
    return np.concatenate([np.ones((1, x.shape[1]), bool), x[1:] > x[:-1]])


def _log_factorials(new: np.ndarray) -> np.ndarray:
    """Σ log m! over the runs of each column, of lengths m."""
    place = np.arange(len(new))[:, None]
    began = np.maximum.accumulate(np.where(new, place, 0), axis=0)
    return np.log(place - began + 1.0).sum(axis=0)
