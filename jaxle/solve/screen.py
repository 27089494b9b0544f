"""Screening: which concepts are worth fitting, in one streaming pass over the training images.

A concept stays when the mean of its five largest probabilities is at least `min_top5` (somewhere it is clearly there) and its standard
deviation is at least 1e-5 (it is not the same everywhere). Paper, appendix A; the paper's code screens over all images and then fails on a
column that is constant on train, so here the training images decide (tests/explainers/test_screen.py shows the difference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import BLOCK_BYTES, Array

MIN_STD = 1e-5
TOP = 5
GROUP = 16  # rows of which only the maximum is compared at first


class Screened(NamedTuple):
    """What one pass found: `top5` (concepts,) mean of the five largest, `std` (concepts,), `kept` (concepts,) bool."""

    top5: np.ndarray
    std: np.ndarray
    kept: np.ndarray


def screen(
    rows: Callable[[np.ndarray], Array], index: np.ndarray, n_concepts: int, min_top5: float
) -> Screened:
    """Decide which concepts to keep; use it before the fit, on training images only.

    Args:
      rows: row index → (rows, concepts) probabilities.
      index: (images,) the training images.
      n_concepts: how many columns `rows` gives.
      min_top5: least mean of the five largest probabilities; 0 turns this rule off.

    Returns:
      `Screened`; with fewer than five images the mean is over all of them.
    """
    top_k, state = min(TOP, len(index)), None
    n_rows = min(max(1, BLOCK_BYTES // (4 * n_concepts * GROUP)), -(-len(index) // GROUP)) * GROUP
    for start in range(0, len(index), n_rows):
        part = index[start : start + n_rows]
        padded = np.pad(
            part, (0, n_rows - len(part)), constant_values=index[0]
        )  # one shape, one program
        tile = jnp.asarray(rows(padded), jnp.float32)
        jax.block_until_ready(state)  # at most two tiles at a time
        if state is None:
            state = (
                jnp.full((top_k, n_concepts), -jnp.inf, jnp.float32),
                tile[0],
                jnp.zeros(n_concepts),
                jnp.zeros(n_concepts),
            )
        state = _update(*state, tile, jnp.int32(len(part)))
    largest, _, total, squares = (np.asarray(part, np.float64) for part in state)
    top5 = largest.mean(0)
    std = np.sqrt(np.maximum(squares / len(index) - (total / len(index)) ** 2, 0.0))
    return Screened(top5, std, (top5 >= min_top5 if min_top5 > 0 else True) & (std >= MIN_STD))


def _update(largest, shift, total, squares, tile, count):
    """One tile into the running five largest and the sums of x − shift and its square (shifted, so that near-constant columns survive).

    Rows past `count` are padding: copies of the image that is the shift, so they add nothing to the sums. Three programs rather than one:
    fused, the reductions are one loop, which XLA's CPU back end does not vectorise (benchmarks/concepts.py).
    """
    return (
        _merge_largest(largest, tile, count),
        shift,
        _add(total, tile, shift),
        _add_squares(squares, tile, shift),
    )


@jax.jit
def _merge_largest(largest, tile, count):
    """The five largest of each column are among the five groups of rows whose maxima are largest; a maximum is far cheaper than a sort."""
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
