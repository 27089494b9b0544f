"""Sums over tiles of images, of which second moments are made: near a processor's full rate.

    tile: xᵀ (concepts, images), yᵀ (neurons, images), shifted by a point near the mean
    Σx, Σy, Σy²,   Σxyᵀ (concepts, neurons),   Σxxᵀ: blocks of the upper triangle

Three things decide how fast a CPU does this (docs/performance.md has the figures).
* A product that contracts the last axis of both sides is XLA's fast one: tiles come transposed.
* A full product costs twice a symmetric one: only a triangle of blocks is multiplied out, and of
  the blocks on the diagonal three quarters.
* An array over 32 MiB goes back to the kernel when it is freed, and the next one's pages are
  cleared anew, at some .3 ms a MiB. So a tile takes less, and where the products of a triangle
  would take more, several programs add to it, each to few rows of blocks.

On a mesh each device sums its own images. Sums have a leading axis for devices, but Σxyᵀ has their
rows one below the other.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxle.mesh import data_size, round_up, spans, whole_sum
from jaxle.solve.split import COLUMNS, ROWS, WHOLE, split_jit

LEAST = 256  # concepts of a block
PRODUCT_BYTES = 16 << 20  # of the products that one program adds to the triangle
_TILE = (ROWS, WHOLE, COLUMNS, COLUMNS, WHOLE)  # sums, shift, concepts, neurons, count

Shift = tuple[Float[jax.Array, " concepts"], Float[jax.Array, " neurons"]]


class Sums(NamedTuple):
    """Sums over images of shifted concepts x and neurons y."""

    x: Float[jax.Array, "devices concepts"]
    y: Float[jax.Array, "devices neurons"]
    squares: Float[jax.Array, "devices neurons"]  # of y
    cross: Float[jax.Array, "rows neurons"]  # xyᵀ; rows: devices × concepts
    triangle: tuple[tuple[Float[jax.Array, "devices _ _"], ...], ...]  # xxᵀ: rows of blocks


def n_blocks() -> int:
    """Returns how many columns of blocks the triangle has: the diagonal ones are waste in part.

    Small products leave most of a GPU idle, so that it has fewer.
    """
    return 12 if jax.default_backend() == "cpu" else 8


def bounds(n_concepts: int) -> list[tuple[int, int]]:
    """Returns first and last + 1 of each block's concepts."""
    size = max(LEAST, round_up(-(-n_concepts // n_blocks()), 64))
    return [(start, min(start + size, n_concepts)) for start in range(0, n_concepts, size)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def zeros(n_concepts: int, n_neurons: int, n_devices: int = 1) -> Sums:
    """Returns the sums over no image."""
    zero = functools.partial(jnp.zeros, dtype=jnp.float32)
    sizes = [stop - start for start, stop in bounds(n_concepts)]
    return Sums(
        zero((n_devices, n_concepts)),
        zero((n_devices, n_neurons)),
        zero((n_devices, n_neurons)),
        zero((n_devices * n_concepts, n_neurons)),
        tuple(tuple(zero((n_devices, a, b)) for b in sizes[i:]) for i, a in enumerate(sizes)),
    )


def transposed(tile: Any) -> Any:
    """Returns the tile (images, columns) as (columns, images); on a CPU nothing is computed.

    There JAX transposes what it copies anyway; elsewhere the device is faster than the host.
    """
    return np.asarray(tile).T if jax.default_backend() == "cpu" else jnp.asarray(tile).T


def add(mesh: Mesh | None, sums: Sums, shift: Shift, x: Any, y: Any, count: np.int32) -> Sums:
    """Returns the sums with one tile more; those given are used up.

    Args:
      mesh: whose axis `data` splits the images, None for one device.
      sums: from `zeros` or here.
      shift: what is taken from concepts and neurons.
      x, y: (concepts, images), (neurons, images), any real dtype.
      count: the tile's images; what follows them is left out.
    """
    first, *more = _groups(len(x))
    if not more:  # few concepts
        return _add_tile(mesh)(sums, shift, x, y, count)
    columns, parts = _add_columns(mesh)(sums[:-1], shift, x, y, count)
    rows = [
        _add_rows(mesh)(sums.triangle[start:stop], parts[start:]) for start, stop in (first, *more)
    ]
    return Sums(*columns, triangle=tuple(itertools.chain(*rows)))


def whole(mesh: Mesh | None, sums: Sums, shift: Shift, n: int) -> Any:
    """Returns means, Gram matrix, cross moments and variances of the n images; uses up `sums`.

    All devices' sums, those of other processes too.
    """
    if data_size(mesh) == 1:
        cross, others = sums.cross, sums._replace(cross=None)  # type: ignore[arg-type]
        return _centre_in_place(cross, others, shift, np.float32(n))
    if spans(mesh):  # by device, as the other sums
        cross = np.asarray(sums.cross).reshape(len(sums.y), -1, sums.cross.shape[1])
        sums = sums._replace(cross=cross)  # type: ignore[arg-type]
    return whole_sum(mesh, centre, sums, shift, np.float32(n))


def _groups(n_concepts: int) -> list[tuple[int, int]]:
    """First and last + 1 block row of each program: about `PRODUCT_BYTES` of products.

    Only on a CPU: an accelerator keeps the memory that it has, and compiles one program sooner.
    """
    sizes = [stop - start for start, stop in bounds(n_concepts)]
    if jax.default_backend() != "cpu":
        return [(0, len(sizes))]
    groups, start, total = [], 0, 0
    for i, size in enumerate(sizes):
        more = 4 * size * sum(sizes[i:])
        if total and total + more > PRODUCT_BYTES:
            groups.append((start, i))
            start, total = i, 0
        total += more
    return [*groups, (start, len(sizes))]


def _product(a, b):
    axes = ((1,), (1,)), ((), ())
    return jax.lax.dot_general(a, b, axes, precision=jax.lax.Precision.HIGHEST)


def _square(part):
    """The upper triangle of part · partᵀ, with anything below."""
    half = round_up(len(part), 128) // 2
    if jax.default_backend() != "cpu" or half >= len(part):
        return _product(part, part)
    top, bottom = part[:half], part[half:]
    below = jnp.zeros((len(bottom), half), part.dtype)
    return jnp.block(
        [[_product(top, top), _product(top, bottom)], [below, _product(bottom, bottom)]]
    )


def _columns(mesh, sums, shift, x, y, count):
    """Sums of columns and xyᵀ; also the blocks of x, shifted, each an array."""
    sum_x, sum_y, squares, cross = sums
    first = 0 if mesh is None else jax.lax.axis_index("data") * x.shape[1]
    alive = (first + jnp.arange(x.shape[1], dtype=jnp.int32) < count)[None, :]

    def shifted(z, by):
        return jnp.where(alive, z.astype(jnp.float32) - by[:, None], 0.0)

    def add(cross, start, size):
        """Where it is, some of its rows: no second matrix of its size is made."""

        def some(z):
            return jax.lax.dynamic_slice_in_dim(z, start, size)

        more = _product(shifted(some(x), some(shift[0])), y)
        return jax.lax.dynamic_update_slice_in_dim(cross, some(cross) + more, start, 0)

    y = shifted(y, shift[1])
    parts = [shifted(x[a:b], shift[0][a:b]) for a, b in bounds(len(x))]
    # a GPU would fuse each product with its own shifts, and then compile and time every one of them
    # on its own: half a minute for what is a handful of shapes
    parts, y = jax.lax.optimization_barrier((parts, y))
    size = len(parts[0])
    n_whole, rest = divmod(len(x), size)
    cross = jax.lax.fori_loop(0, n_whole, lambda i, c: add(c, i * size, size), cross)
    cross = add(cross, n_whole * size, rest) if rest else cross
    sum_x += jnp.concatenate([jnp.sum(part, axis=1) for part in parts])[None]
    sum_y, squares = sum_y + jnp.sum(y, axis=1)[None], squares + jnp.sum(y * y, axis=1)[None]
    return (sum_x, sum_y, squares, cross), parts


def _rows(rows, parts):
    """Rows of blocks of xxᵀ; `parts` are the blocks of x, from that of the first row on."""
    return tuple(
        tuple(
            total + (_product(parts[i], parts[i + j]) if j else _square(parts[i]))[None]
            for j, total in enumerate(row)
        )
        for i, row in enumerate(rows)
    )


@functools.cache
def _add_columns(mesh: Mesh | None):
    def add_columns(*arguments):
        return _columns(mesh, *arguments)

    return split_jit(add_columns, mesh, _TILE, (ROWS, COLUMNS), donate=0)


@functools.cache
def _add_rows(mesh: Mesh | None):
    return split_jit(_rows, mesh, (ROWS, COLUMNS), ROWS, donate=0)


@functools.cache
def _add_tile(mesh: Mesh | None):
    def add_tile(sums, *tile):
        columns, parts = _columns(mesh, sums[:-1], *tile)
        return Sums(*columns, triangle=_rows(sums.triangle, parts))

    return split_jit(add_tile, mesh, _TILE, ROWS, donate=0)


@functools.partial(jax.jit, donate_argnums=0)
def _centre_in_place(cross, others, shift, n):
    return centre(others._replace(cross=cross), shift, n)


@jax.jit
def centre(sums: Sums, shift: Shift, n):
    """Returns means and centred moments: of concepts, neurons, both, and neurons' variances."""
    cross = sums.cross.reshape(-1, sums.x.shape[1], sums.cross.shape[-1])
    sum_x, sum_y, squares, cross, triangle = jax.tree.map(
        lambda part: jnp.sum(part, axis=0) / n, sums._replace(cross=cross)
    )
    gram, blocks = jnp.zeros((len(sum_x), len(sum_x)), jnp.float32), bounds(len(sum_x))
    # block by block into one array, so that no second matrix of this size is made
    for i, row in enumerate(triangle):
        for (a, b), (c, d), block in zip([blocks[i]] * len(row), blocks[i:], row, strict=True):
            if a == c:
                block = jnp.triu(block) + jnp.triu(block, 1).T
            block -= sum_x[a:b, None] * sum_x[None, c:d]
            gram = gram.at[a:b, c:d].set(block)
            gram = gram if a == c else gram.at[c:d, a:b].set(block.T)
    cross -= sum_x[:, None] * sum_y[None, :]
    return shift[0] + sum_x, shift[1] + sum_y, gram, cross, jnp.maximum(squares - sum_y**2, 0.0)
