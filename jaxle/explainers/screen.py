"""Screening: which concepts are worth fitting, in one streaming pass over the training images.

A concept stays when the mean of its five largest probabilities is at least `min_top5` (somewhere it is clearly there) and its standard
deviation is at least 1e-5 (it is not the same everywhere). Paper, appendix A; the paper's code screens over all images and then fails on a
column that is constant on train, so here the training images decide (tests/explainers/test_screen.py shows the difference).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import Array, row_blocks

MIN_STD = 1e-5
TOP = 5


class Screened(NamedTuple):
    """What one pass found: `top5` (concepts,) mean of the five largest, `std` (concepts,), `kept` (concepts,) bool."""

    top5: np.ndarray
    std: np.ndarray
    kept: np.ndarray


def screen(rows: Callable[[np.ndarray], Array], index: np.ndarray, n_concepts: int, min_top5: float) -> Screened:
    """Decide which concepts to keep; use it before the fit, on training images only.

    Args:
      rows: row index → (rows, concepts) probabilities.
      index: (images,) the training images.
      n_concepts: how many columns `rows` gives.
      min_top5: least mean of the five largest probabilities; 0 turns this rule off.

    Returns:
      `Screened`; with fewer than five images the mean is over all of them.
    """
    top_k = min(TOP, len(index))
    state = None
    for block in row_blocks(len(index), 4 * n_concepts):
        tile = jnp.asarray(rows(index[block]), jnp.float32)
        if state is None:
            state = (jnp.full((top_k, n_concepts), -jnp.inf, jnp.float32), tile[0], jnp.zeros(n_concepts), jnp.zeros(n_concepts))
        state = _update(*state, tile, top_k=top_k)
    largest, _, total, squares = (np.asarray(part, np.float64) for part in state)
    top5 = largest.mean(0)
    std = np.sqrt(np.maximum(squares / len(index) - (total / len(index)) ** 2, 0.0))
    return Screened(top5, std, (top5 >= min_top5 if min_top5 > 0 else True) & (std >= MIN_STD))


@partial(jax.jit, static_argnames="top_k")
def _update(largest, shift, total, squares, tile, *, top_k):
    """One tile into the running five largest and the sums of x − shift and its square (shifted, so that near-constant columns survive)."""
    both = jnp.concatenate([largest, tile], axis=0)
    centred = tile - shift[None, :]
    largest = jax.lax.top_k(both.T, top_k)[0].T
    return largest, shift, total + jnp.sum(centred, axis=0), squares + jnp.sum(centred**2, axis=0)
