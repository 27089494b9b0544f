"""Bicubic interpolation of a table of positions, as torch does it.

    (1, grid·grid, width)  →  (1, rows·columns, width)

Keys' kernel k(x), |x| < 2, with a = −.75; antialiased, a = −.5, widened where the grid shrinks.

Source: Keys 1981 (doi.org/10.1109/TASSP.1981.1163711); torch, aten/src/ATen/native/UpSample.h.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxle.arrays import Array


def resampled(
    table: Float[Array, "1 positions width"], grid: int, shape: tuple[int, int], antialias: bool
) -> Float[Array, "1 rows_columns width"]:
    """Returns a square table of positions brought to another grid, as torch's bicubic
    `interpolate(…, align_corners=False)` does.

    Args:
      table: one row a place of the grid, row by row.
      grid: its side.
      shape: rows and columns wanted; where they are the grid's, the table is returned.
      antialias: whether a smaller grid averages over more places.
    """
    if shape == (grid, grid):
        return table
    down, across = (jnp.asarray(matrix(grid, n, antialias), table.dtype) for n in shape)
    square = table.reshape(grid, grid, -1)
    return jnp.einsum("ya,xb,abw->yxw", down, across, square).reshape(1, -1, table.shape[-1])


@functools.cache
def matrix(old: int, new: int, antialias: bool) -> np.ndarray:
    """Returns the weights (new, old) of bicubic resampling along one axis, pixel centres at half.

    Borders are repeated; antialiased, weights are normalised within the borders.
    """
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    if antialias:
        distance = (np.arange(old) - centres[:, None]) / max(scale, 1.0)
        found = _keys(distance, -0.5)
        return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)
    found = np.zeros((new, old))
    for offset in range(-1, 3):
        at = np.floor(centres) + offset
        column = np.clip(at, 0, old - 1).astype(int)
        np.add.at(found, (np.arange(new), column), _keys(at - centres, -0.75))
    return found.astype(np.float32)


def _keys(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
