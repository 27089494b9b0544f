"""Screening: which concepts are worth fitting, in one streaming pass over the training images.

A concept stays when the mean of its five largest probabilities is at least `min_top5` (somewhere it
is clearly there) and its standard deviation is at least 1e-5 (it is not the same everywhere): the
rules of the paper, appendix A, in units of probability. Both are off where `min_top5` is 0.
Columns that are constant by `stats.is_constant`, which is free of scale, go always. The paper's
code screens over all images and then fails on a column that is constant on train, so here the
training images decide (tests/solve/test_screen.py shows the difference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.solve import tiles
from jaxle.stats import is_constant
from jaxle.units import Units

MIN_STD = 1e-5  # of a probability: the paper's rule
TOP = 5
GROUP = 16  # rows of which only the maximum is compared at first


class Screened(NamedTuple):
    """What one pass found of every concept, float64."""

    top5: Float[np.ndarray, " concepts"]  # mean of the five largest probabilities
    std: Float[np.ndarray, " concepts"]
    kept: Bool[np.ndarray, " concepts"]


def screen(
    rows: Callable[[np.ndarray], Array],
    index: Int[np.ndarray, " images"],
    n_concepts: int,
    min_top5: float,
    units: Units | None = None,
) -> Screened:
    """Returns which concepts to keep, judged on the training images only.

    Args:
      rows: row index → (rows, concepts) probabilities.
      index: (images,) the training images.
      n_concepts: how many columns `rows` gives.
      min_top5: least mean of the five largest probabilities; 0 turns the paper's rules off.
      units: those of the values that `rows` gives; None where these are probabilities themselves.

    Returns:
      `Screened`, in probabilities; with fewer than five images the mean is over all of them.
    """
    top_k, state = min(TOP, len(index)), None
    n_rows = tiles.tile_rows([len(index)], n_concepts)
    for start in range(0, len(index), n_rows):
        part = index[start : start + n_rows]
        # one shape, one program
        padded = np.pad(part, (0, n_rows - len(part)), constant_values=index[0])
        tile = jnp.asarray(rows(padded), jnp.float32)
        jax.block_until_ready(state)  # at most two tiles at a time
        if state is None:
            none = np.full((top_k, n_concepts), -np.inf, np.float32)
            zero = np.zeros(n_concepts, np.float32)
            state = (none, np.asarray(tile)[0], zero, zero)
        state = _update(*state, tile, np.int32(len(part)))
    assert state is not None, "at least one image"
    largest, shift, total, squares = (np.asarray(part, np.float64) for part in state)
    top5, mean = largest.mean(0), total / len(index)
    std = np.sqrt(np.maximum(squares / len(index) - mean**2, 0.0))
    kept = ~is_constant(std, shift + mean)
    if units is not None:
        top5, std = top5 * units.size + units.centre, std * units.size
    if min_top5 > 0:
        kept &= (top5 >= min_top5) & (std >= MIN_STD)
    return Screened(top5, std, kept)


def _update(largest, shift, total, squares, tile, count):
    """One tile into the running five largest and the sums of x − shift and its square.

    Shifted, so that near-constant columns survive. Rows past `count` are padding: copies of the
    image that is the shift, so they add nothing to the sums. Three programs rather than one: fused,
    the reductions are one loop, which XLA's CPU back end does not vectorise
    (benchmarks/concepts.py).
    """
    return (
        _merge_largest(largest, tile, count),
        shift,
        _add(total, tile, shift),
        _add_squares(squares, tile, shift),
    )


@jax.jit
def _merge_largest(largest, tile, count):
    """The five largest of each column, which are in the five groups of rows of largest maxima.

    A maximum is far cheaper than a sort.
    """
    top_k = largest.shape[0]
    out = jnp.where(jnp.arange(tile.shape[0], dtype=jnp.int32) < count, 0.0, -jnp.inf).reshape(
        -1, GROUP
    )
    groups = tile.reshape(-1, GROUP, tile.shape[1])
    maxima = jnp.max(groups + out[:, :, None], axis=1)
    best = jax.lax.top_k(maxima.T, min(top_k, len(groups)))[1].T
    candidates = jnp.take_along_axis(groups, best[:, None, :], axis=0) + jnp.swapaxes(
        out[best], 1, 2
    )
    return jax.lax.top_k(
        jnp.concatenate([largest, candidates.reshape(-1, tile.shape[1])]).T, top_k
    )[0].T


@jax.jit
def _add(total, tile, shift):
    return total + jnp.sum(tile - shift[None, :], axis=0)


@jax.jit
def _add_squares(squares, tile, shift):
    return squares + jnp.sum((tile - shift[None, :]) ** 2, axis=0)
