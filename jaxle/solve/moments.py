"""Second moments of concepts and targets: all that the fits ever see of the images, from one streaming pass.

    G = XᵀX/n,   C = XᵀY/n,   v = diag(YᵀY)/n,   columns of X (images × concepts) and Y (images × neurons) centred

Accumulated over tiles of images, in float32 at HIGHEST precision, shifted by the mean of the first tile's first rows (an unshifted
float32 covariance of a near-constant column comes out negative). Images × concepts is never held: a tile is read from an array, a memory
map or a function. Only blocks of the upper triangle of G are multiplied out, since a full product costs twice a symmetric one. On a mesh
each device sums its own images over axis `data`, and one sum over devices ends the pass.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

HIGHEST = jax.lax.Precision.HIGHEST
BLOCKS = 8  # columns of blocks in the triangle: the diagonal ones waste one part in eight
ROWS, WHOLE = PartitionSpec("data"), PartitionSpec()
TILE_BYTES = 96 << 20
ROW_BYTES = 40  # per neuron and concept while a block is fitted: cross moments, weights, gradient, their transposes, one spare
SHIFT_ROWS = 1024  # of the first tile: any point near the mean serves as shift
CONSTANT = 1e-6  # a standard deviation this small beside the mean is round-off


class Moments(NamedTuple):
    """Second moments of one set of images, centred about that set's own means and divided by its size; float32 throughout."""

    n: int  # images
    mean_x: jax.Array  # (concepts,)
    mean_y: jax.Array  # (neurons,)
    gram: jax.Array  # (concepts, concepts)
    cross: jax.Array  # (concepts, neurons)
    var_y: jax.Array  # (neurons,)

    def neurons(self, index) -> Moments:
        """The same moments for some neurons only: a slice or an int array."""
        return self._replace(
            mean_y=self.mean_y[index], cross=self.cross[:, index], var_y=self.var_y[index]
        )


class Scales(NamedTuple):
    """Standard deviations of concepts and neurons and their inverses, which are 0 where a column is constant."""

    std_x: jax.Array  # (concepts,)
    inv_x: jax.Array  # (concepts,)
    std_y: jax.Array  # (neurons,)
    inv_y: jax.Array  # (neurons,)


def second_moments(
    features: np.ndarray | Callable[[np.ndarray], np.ndarray],
    targets: np.ndarray,
    index: np.ndarray | None = None,
    *,
    mesh: Mesh | None = None,
    tile_rows: int | None = None,
) -> Moments:
    """Accumulate the second moments of some images; use it once per split, before any fit.

    Args:
      features: (images, concepts), any real dtype, array or memory map; or a function from row numbers (rows,) to that tile
        (rows, concepts), called with the same number of rows each time.
      targets: (images, neurons), any real dtype, array or memory map.
      index: (rows,) int, the images to take; None takes all.
      mesh: split every tile's images over its axis `data`.
      tile_rows: images per tile; None sizes a tile for about 96 MiB.

    Returns:
      Moments in float32.

    Raises:
      ValueError: no rows, or arrays of unequal length.
    """
    if not callable(features) and features.shape[0] != targets.shape[0]:
        raise ValueError(
            f"features and targets must describe the same images, got {features.shape[0]} and {targets.shape[0]} rows."
        )
    n = targets.shape[0] if index is None else len(index)
    if n == 0:
        raise ValueError("second moments need at least one image, got an empty index.")
    n_devices = 1 if mesh is None else mesh.shape["data"]
    n_concepts = (
        features(_rows(index, 0, 1, n)).shape[1]
        if callable(features) and tile_rows is None
        else None
    )
    width = targets.shape[1] + (n_concepts or (0 if callable(features) else features.shape[1]))
    rows = tile_rows or _tile_rows(n, width, n_devices)
    rows = -(-rows // n_devices) * n_devices

    state, shift = None, None
    for start in range(0, n, rows):
        index_tile = _rows(index, start, rows, n)
        x, y = _read(features, index_tile), _read(targets, index_tile)
        jax.block_until_ready(
            state
        )  # at most two tiles at a time: calls run ahead of the device, and each would hold its own
        if mesh is not None:
            split = NamedSharding(mesh, ROWS)
            x, y = jax.device_put(x, split), jax.device_put(y, split)
        count = jnp.int32(min(rows, n - start))
        if state is None:
            shift = _tile_mean(x[:SHIFT_ROWS], y[:SHIFT_ROWS], count)
            state = _zeros(x.shape[1], y.shape[1], n_devices)
            if mesh is not None:
                state = jax.device_put(state, split)
        state = _accumulate(mesh)(state, shift, x, y, count)
    del x, y
    mean_x, mean_y, gram, cross, var_y = _centre(state, shift, jnp.float32(n))
    return Moments(n, mean_x, mean_y, gram, cross, var_y)


def merge(parts: list[Moments]) -> Moments:
    """Moments of the union of disjoint image sets (folds → train, train and val → both), by the law of total covariance."""
    total = parts[0]
    for part in parts[1:]:
        n = total.n + part.n
        a, b = total.n / n, part.n / n
        total = Moments(n, *_merge(total[1:], part[1:], jnp.float32(a), jnp.float32(b)))
    return total


@jax.jit
def scales(moments: Moments) -> Scales:
    """Standard deviations, and their inverses with 0 for a column that is constant to float32's round-off (a test free of scale)."""

    def invert(var, mean):
        std = jnp.sqrt(jnp.maximum(var, 0.0))
        alive = std > CONSTANT * jnp.abs(mean)
        return jnp.where(alive, std, 0.0), jnp.where(alive, 1.0 / jnp.where(alive, std, 1.0), 0.0)

    return Scales(
        *invert(jnp.diagonal(moments.gram), moments.mean_x), *invert(moments.var_y, moments.mean_y)
    )


def block_size(n_concepts: int, n_devices: int = 1) -> int:
    """Neurons to fit together: a power of two between 256 and 4,096 per device, whose arrays take at most a quarter of what is free."""
    stats = jax.local_devices()[0].memory_stats() or {}
    free = (
        stats["bytes_limit"] - stats["bytes_in_use"]
        if "bytes_limit" in stats
        else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    most = free // 4 // (ROW_BYTES * max(1, n_concepts))
    return n_devices * int(np.clip(1 << (most.bit_length() - 1 if most else 0), 256, 4096))


def blocks(moments: Moments, size: int) -> Iterator[tuple[int, Moments]]:
    """(first neuron, moments of `size` neurons) until all are covered; the last block reaches back, so that each has the same shape."""
    n_neurons = moments.cross.shape[1]
    moments = jax.tree.map(jnp.asarray, moments)
    for start in range(0, n_neurons, size):
        start = min(start, n_neurons - size)
        yield (
            start,
            moments if size == n_neurons else moments._replace(**_some(moments, start, size)),
        )


def correlate(
    features, targets, weights, bias=None, index=None, *, tile_rows: int | None = None
) -> jax.Array:
    """Pearson's correlation of the linear prediction X W + b with each target over some images, streamed; use it to score dense fits.

    Args:
      features, targets, index, tile_rows: as in `second_moments`.
      weights: (concepts, neurons) float32 on raw columns.
      bias: (neurons,); shifts the prediction, hence changes nothing but the arithmetic.

    Returns:
      (neurons,) float32; 0 where either side is constant.
    """
    n = targets.shape[0] if index is None else len(index)
    bias = jnp.zeros(weights.shape[1], jnp.float32) if bias is None else bias
    rows = tile_rows or _tile_rows(n, sum(weights.shape), 1)
    sums, shift = jnp.zeros((5, weights.shape[1]), jnp.float32), None
    for start in range(0, n, rows):
        index_tile = _rows(index, start, rows, n)
        x, y = _read(features, index_tile), _read(targets, index_tile)
        count = jnp.int32(min(rows, n - start))
        if shift is None:
            shift = _prediction_mean(x[:SHIFT_ROWS], y[:SHIFT_ROWS], weights, bias, count)
        sums = _add_prediction(sums, shift, x, y, weights, bias, count)
    return _correlation(sums / n)


@functools.partial(jax.jit, static_argnames="size")
def _some(moments: Moments, start, size: int):
    return {
        "mean_y": jax.lax.dynamic_slice_in_dim(moments.mean_y, start, size),
        "cross": jax.lax.dynamic_slice_in_dim(moments.cross, start, size, axis=1),
        "var_y": jax.lax.dynamic_slice_in_dim(moments.var_y, start, size),
    }


def split_jit(function, mesh: Mesh | None, in_specs, out_specs, donate=()):
    """jit, each device of the mesh's axis `data` running `function` on its own rows; without a mesh the specs are not used."""
    if mesh is not None:
        function = jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
    return jax.jit(function, donate_argnums=donate)


def _rows(index, start: int, rows: int, n: int):
    """Row numbers of a tile of fixed length; past the end the last one repeats (masked by the count)."""
    stop = min(start + rows, n)
    if index is None and stop - start == rows:
        return slice(start, stop)
    numbers = np.arange(start, stop) if index is None else np.asarray(index[start:stop])
    return (
        np.concatenate([numbers, np.full(rows - len(numbers), numbers[-1])])
        if len(numbers) < rows
        else numbers
    )


def _read(source, rows):
    if callable(source):
        return source(np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)
    if isinstance(source, np.ndarray) and not isinstance(rows, slice):
        return _aligned_take(source, rows)
    return source[rows]


def _aligned_take(source: np.ndarray, rows):
    """source[rows] in memory aligned to 64 bytes, which the CPU backend reads where it lies instead of copying it."""
    n_bytes = len(rows) * source.shape[1] * source.dtype.itemsize
    memory = np.empty(n_bytes + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    tile = memory[offset : offset + n_bytes].view(source.dtype).reshape(len(rows), source.shape[1])
    return np.take(source, rows, axis=0, out=tile, mode="clip")


def _tile_rows(n: int, width: int, n_devices: int) -> int:
    most = max(256, TILE_BYTES // (4 * max(1, width))) * n_devices
    tiles = -(-n // most)
    return -(-n // tiles)


def _bounds(n_columns: int) -> list[tuple[int, int]]:
    size = max(64, -(-n_columns // (64 * BLOCKS)) * 64)
    return [(start, min(start + size, n_columns)) for start in range(0, n_columns, size)]


def _zeros(n_concepts: int, n_neurons: int, n_devices: int):
    """Sums of x and y by column, the upper triangle of blocks of XᵀX, XᵀY by block, sums of y²; a leading axis for devices."""
    zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
    sizes = [stop - start for start, stop in _bounds(n_concepts)]
    return (
        zeros((n_devices, n_concepts)),
        zeros((n_devices, n_neurons)),
        tuple(tuple(zeros((n_devices, a, b)) for b in sizes[i:]) for i, a in enumerate(sizes)),
        tuple(zeros((n_devices, a, n_neurons)) for a in sizes),
        zeros((n_devices, n_neurons)),
    )


def _shifted(x, shift, first, count):
    alive = (first + jnp.arange(x.shape[0], dtype=jnp.int32) < count)[:, None]
    return jnp.where(alive, x.astype(jnp.float32) - shift[None, :], 0.0)


@jax.jit
def _tile_mean(x, y, count):
    def mean(z):
        return jnp.sum(
            _shifted(z, jnp.zeros(z.shape[1], jnp.float32), 0, count), axis=0
        ) / jnp.minimum(count, z.shape[0])

    return mean(x), mean(y)


def _add_tile(state, shift, x, y, count, first):
    """Add one device's part of a tile; its rows are numbers first, first + 1, … of the tile."""
    sum_x, sum_y, triangle, cross, norm_y = state
    y = _shifted(y, shift[1], first, count)
    parts = [
        _shifted(x[:, a:b], shift[0][a:b], first, count) for a, b in _bounds(x.shape[1])
    ]  # contiguous, so no product copies

    def add(total, a, b):
        return total + jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=HIGHEST)[None]

    return (
        sum_x + jnp.concatenate([jnp.sum(part, axis=0) for part in parts])[None, :],
        sum_y + jnp.sum(y, axis=0)[None, :],
        tuple(
            tuple(add(t, parts[i], parts[i + j]) for j, t in enumerate(row))
            for i, row in enumerate(triangle)
        ),
        tuple(add(t, part, y) for t, part in zip(cross, parts, strict=True)),
        norm_y + jnp.sum(y * y, axis=0)[None, :],
    )


@functools.cache
def _accumulate(mesh: Mesh | None):
    def local(state, shift, x, y, count):
        return _add_tile(
            state,
            shift,
            x,
            y,
            count,
            0 if mesh is None else jax.lax.axis_index("data") * x.shape[0],
        )

    return split_jit(local, mesh, (ROWS, WHOLE, ROWS, ROWS, WHOLE), ROWS, donate=0)


@jax.jit
def _centre(state, shift, n):
    sum_x, sum_y, triangle, cross, norm_y = jax.tree.map(
        lambda part: jnp.sum(part, axis=0) / n, state
    )
    gram, bounds = jnp.zeros((len(sum_x), len(sum_x)), jnp.float32), _bounds(len(sum_x))
    for i, row in enumerate(
        triangle
    ):  # block by block into one array, so that no second matrix of this size is made
        for (a, b), (c, d), block in zip([bounds[i]] * len(row), bounds[i:], row, strict=True):
            block = (jnp.triu(block) + jnp.triu(block, 1).T if a == c else block) - sum_x[
                a:b, None
            ] * sum_x[None, c:d]
            gram = gram.at[a:b, c:d].set(block)
            gram = gram if a == c else gram.at[c:d, a:b].set(block.T)
    cross = jnp.concatenate(cross) - sum_x[:, None] * sum_y[None, :]
    return shift[0] + sum_x, shift[1] + sum_y, gram, cross, jnp.maximum(norm_y - sum_y**2, 0.0)


@jax.jit
def _merge(one, other, a, b):
    dx, dy = one[0] - other[0], one[1] - other[1]
    gram = a * one[2] + b * other[2] + a * b * dx[:, None] * dx[None, :]
    cross = a * one[3] + b * other[3] + a * b * dx[:, None] * dy[None, :]
    return (
        a * one[0] + b * other[0],
        a * one[1] + b * other[1],
        gram,
        cross,
        a * one[4] + b * other[4] + a * b * dy**2,
    )


def _predict(x, y, weights, bias):
    return jnp.matmul(x.astype(jnp.float32), weights, precision=HIGHEST) + bias[None, :], y.astype(
        jnp.float32
    )


@jax.jit
def _prediction_mean(x, y, weights, bias, count):
    s, y = _predict(x, y, weights, bias)
    return _tile_mean(s, y, count)


@jax.jit
def _add_prediction(sums, shift, x, y, weights, bias, count):
    s, y = _predict(x, y, weights, bias)
    s, y = _shifted(s, shift[0], 0, count), _shifted(y, shift[1], 0, count)
    return sums + jnp.stack([jnp.sum(z, axis=0) for z in (s, y, s * s, y * y, s * y)])


@jax.jit
def _correlation(means):
    s, y, ss, yy, sy = means
    spread = (ss - s**2) * (yy - y**2)
    return jnp.where(
        spread > 0,
        jnp.clip((sy - s * y) / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), -1.0, 1.0),
        0.0,
    )
