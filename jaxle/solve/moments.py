"""Second moments of concepts and targets: all that the fits see of the images, from one pass.

    G = XᵀX/n,   C = XᵀY/n,   v = diag(YᵀY)/n
    columns of X (images × concepts) and Y (images × neurons) centred

Accumulated over tiles of images (`solve.accumulate`), in float32 at HIGHEST precision, shifted by
the mean of the first tile's first rows (an unshifted float32 covariance of a near-constant column
comes out negative). Images × concepts is never held: a tile is read from an array, a memory map or
a function. On a mesh each device sums its own images over axis `data`, and one sum over devices
ends the pass. Concepts that an image's class decides are counted instead (`solve.counted`).

An addition rounds to the last place of the sum. So the sums start anew every `PART` tiles, and the
moments of the parts are merged (docs/scaling.md has the errors with and without).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Bool, Float, Int

from jaxle import multihost
from jaxle.arrays import Array, Rows
from jaxle.mesh import data_size, local, of_first, round_up, several, spans
from jaxle.solve import accumulate, tiles
from jaxle.solve.counted import ByClass, count
from jaxle.solve.split import COLUMNS, ROWS
from jaxle.stats import is_constant

HIGHEST = jax.lax.Precision.HIGHEST
# Per neuron and concept while a block is fitted: cross moments, weights, gradient, their
# transposes, one spare.
ROW_BYTES = 40
PART = 4096  # tiles in one accumulator
SHIFT_ROWS = 1024  # of the first tile: any point near the mean serves as shift


class Moments(NamedTuple):
    """Second moments of one set of images, centred about its own means and divided by its size."""

    n: int  # images
    mean_x: Float[Array, " concepts"]
    mean_y: Float[Array, " neurons"]
    gram: Float[Array, "concepts concepts"]
    cross: Float[Array, "concepts neurons"]
    var_y: Float[Array, " neurons"]

    def neurons(self, index: slice | np.ndarray) -> Moments:
        """Returns the same moments for some neurons only: a slice or an int array."""
        n_neurons = self.cross.shape[1]
        if isinstance(index, slice) and index.indices(n_neurons) == (0, n_neurons, 1):
            return self
        return self._columns(lambda part: tiles.cut_columns(part, index))

    def concepts(self, n: int) -> Moments:
        """Returns the same moments for the first `n` concepts only."""
        if n == len(self.mean_x):
            return self
        mean, gram, cross = (tiles.cut_rows(x, n) for x in (self.mean_x, self.gram, self.cross))
        return self._replace(mean_x=mean, gram=tiles.cut_columns(gram, slice(0, n)), cross=cross)

    def wide(self) -> Moments:
        """Returns the same moments with constant concepts at the end, `tiles.wide` in all."""
        n = tiles.wide(len(self.mean_x))
        if n == len(self.mean_x):
            return self
        mean, gram, cross = (tiles.pad_rows(x, n) for x in (self.mean_x, self.gram, self.cross))
        return self._replace(mean_x=mean, gram=tiles.pad_columns(gram, n), cross=cross)

    def padded(self, n_devices: int = 1) -> Moments:
        """Returns the same moments with constant neurons at the end, `tiles.bucket` in all.

        What a program makes of them for the real neurons is the same, and few counts of neurons
        mean few programs.

        Args:
          n_devices: the number of neurons becomes a multiple of it.
        """
        size = tiles.bucket(self.cross.shape[1], n_devices)
        return self._columns(lambda part: tiles.pad_columns(part, size)).on_device()

    def arrays(self) -> Moments:
        """Returns the same moments without their `n`: for programs, which need none.

        JAX would take it for an int32, and refuses a larger number.
        """
        return self._replace(n=0)

    def on_device(self) -> Moments:
        """Returns the same moments as JAX arrays; what is one already is not copied."""
        return Moments(self.n, *(jax.device_put(part) for part in self[1:]))

    def varies(self) -> Bool[np.ndarray, " neurons"]:
        """Returns which neurons are not constant; NumPy, nothing is compiled."""
        std = np.sqrt(np.maximum(np.asarray(self.var_y), 0.0))
        return ~is_constant(std, np.asarray(self.mean_y))

    def _columns(self, change: Callable[[Any], Any]) -> Moments:
        return self._replace(
            mean_y=change(self.mean_y), cross=change(self.cross), var_y=change(self.var_y)
        )


class Scales(NamedTuple):
    """Standard deviations and their inverses; both are 0 where a column is constant."""

    std_x: Float[Array, " concepts"]
    inv_x: Float[Array, " concepts"]
    std_y: Float[Array, " neurons"]
    inv_y: Float[Array, " neurons"]


Features = Rows | Callable[[np.ndarray], Array] | ByClass


def second_moments(
    features: Features,
    targets: Rows,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    mesh: Mesh | None = None,
    tile_rows: int | None = None,
) -> Moments:
    """Returns the second moments of some images, from one pass over them.

    Args:
      features: (images, concepts), any real dtype, array or memory map; or a function from row
        numbers (rows,) to that tile (rows, concepts), called with the same number of rows each
        time, whose results stay as they are; or concepts by class, whose moments are counted.
      targets: (images, neurons), any real dtype, array or memory map.
      index: (rows,) int, the images to take; None takes all.
      mesh: split every tile's images over its axis `data`.
      tile_rows: images per tile; None lets `tiles.tile_rows` choose.

    Returns:
      Moments in float32.

    Raises:
      ValueError: no rows, or arrays of unequal length.
    """
    moments = padded_moments(features, targets, index, mesh=mesh, tile_rows=tile_rows)
    return moments.neurons(slice(0, targets.shape[1]))


def padded_moments(
    features: Features,
    targets: Rows,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    mesh: Mesh | None = None,
    tile_rows: int | None = None,
) -> Moments:
    """Returns `second_moments` padded as `Moments.padded` does; arguments as there."""
    n_images = None
    if isinstance(features, ByClass):
        n_images = len(features.classes)
    elif not callable(features):
        n_images = features.shape[0]
    if n_images not in (None, targets.shape[0]):
        raise ValueError(
            "features and targets must describe the same images, "
            f"got {n_images} and {targets.shape[0]} rows."
        )
    n = targets.shape[0] if index is None else len(index)
    if n == 0:
        raise ValueError("second moments need at least one image, got an empty index.")
    if isinstance(features, ByClass):
        return Moments(n, *count(features, targets, index, mesh=mesh)).padded()
    n_devices, n_neurons = data_size(mesh), tiles.bucket(targets.shape[1])
    if tile_rows is None:
        first = tiles.tile_index(index, 0, 1, n)
        width = (features(_numbers(first)) if callable(features) else features).shape[1]
        tile_rows = tiles.tile_rows([n], width + n_neurons, n_devices)
    rows = round_up(tile_rows, n_devices)
    own = multihost.share(rows) if spans(mesh) else slice(0, rows)  # of each tile
    here = None if mesh is None else several(local(mesh))

    def tile(start: int):
        numbers = tiles.tile_index(index, start, rows, n)
        if own != slice(0, rows):
            numbers = _numbers(numbers)[own]
        return tiles.read_tile(features, numbers), tiles.read_tile(targets, numbers, n_neurons)

    total, sums, shift = None, None, None
    for begin in range(0, n, PART * rows):
        end = min(begin + PART * rows, n)
        for start in range(begin, end, rows):
            x, y = tile(start)
            # at most two tiles at a time: calls run ahead of the device
            jax.block_until_ready(sums)
            size = np.int32(np.clip(min(rows, n - start) - own.start, 0, own.stop - own.start))
            if shift is None:
                mean = _tile_mean(x[:SHIFT_ROWS], y[:SHIFT_ROWS], size)
                shift = tuple(of_first(mesh, part) for part in mean)
            if sums is None:
                sums = accumulate.zeros(x.shape[1], n_neurons, data_size(here))
                if here is not None:
                    sums = jax.device_put(sums, NamedSharding(here, ROWS))
            x, y = accumulate.transposed(x), accumulate.transposed(y)
            if here is not None:
                split = NamedSharding(here, COLUMNS)
                x, y = jax.device_put(x, split), jax.device_put(y, split)
            sums = accumulate.add(here, sums, shift, x, y, size)
        assert sums is not None and shift is not None, "at least one tile"
        part = accumulate.whole(mesh, sums, shift, end - begin)
        part, sums = Moments(end - begin, *part), None
        total = part if total is None else merge([total, part])
    assert total is not None, "at least one tile"
    return total


def merge(
    parts: Sequence[Moments], gram: Float[Array, "concepts concepts"] | None = None
) -> Moments:
    """Returns the moments of the union of disjoint image sets, by the law of total covariance.

    Args:
      parts: moments of the sets.
      gram: stands in for the union's Gram matrix, such as that of more images; None computes it.
    """
    n_neurons = parts[0].cross.shape[1]
    total, *rest = (part.padded() for part in parts)
    small = total.gram.nbytes + total.cross.nbytes <= tiles.HOST_BYTES
    if small:  # compiles nothing
        total, *rest = (Moments(part.n, *map(np.asarray, part[1:])) for part in (total, *rest))
    for part in rest:
        n = total.n + part.n
        a, b = np.float32(total.n / n), np.float32(part.n / n)
        if gram is None:
            total = Moments(n, *(_union if small else _merge)(total[1:], part[1:], a, b))
        else:
            union = _union_of_targets if small else _merge_targets
            mean_x, mean_y, cross, var_y = union(_targets(total), _targets(part), a, b)
            total = Moments(n, mean_x, mean_y, gram, cross, var_y)
    if gram is not None:
        total = total._replace(gram=gram)
    return total.neurons(slice(0, n_neurons)).on_device()


def _targets(moments: Moments):
    return moments.mean_x, moments.mean_y, moments.cross, moments.var_y


def scales(moments: Moments) -> Scales:
    """Returns the standard deviations of concepts and neurons, and their inverses."""
    return _scales(moments.arrays())


def correlations(moments: Moments) -> Float[jax.Array, "concepts concepts"]:
    """Returns the standardised Gram matrix: its diagonal is 1, or 0 where a concept is constant."""
    return _correlations(jax.device_put(moments.gram), scales(moments.padded()).inv_x)


@jax.jit
def _correlations(gram, inv_x):
    scaled = gram * inv_x[:, None] * inv_x[None, :]
    diagonal = jnp.where(inv_x > 0, 1.0, 0.0)[:, None]
    return jnp.where(jnp.eye(len(gram), dtype=bool), diagonal, scaled)


@jax.jit
def _scales(moments: Moments) -> Scales:
    def invert(var, mean):
        std = jnp.sqrt(jnp.maximum(var, 0.0))
        varies = ~is_constant(std, mean)
        return jnp.where(varies, std, 0.0), jnp.where(
            varies, 1.0 / jnp.where(varies, std, 1.0), 0.0
        )

    concepts = invert(jnp.diagonal(moments.gram), moments.mean_x)
    return Scales(*concepts, *invert(moments.var_y, moments.mean_y))


def block_size(n_concepts: int, n_devices: int = 1) -> int:
    """Returns how many neurons to fit together: 256, 512, … or 4,096 per device.

    Their arrays take at most a quarter of the memory that is free, in a run of several processes of
    that of the first.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    free = (
        stats["bytes_limit"] - stats["bytes_in_use"]
        if "bytes_limit" in stats
        else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    most = multihost.agree(free // 4 // (ROW_BYTES * max(1, n_concepts)))
    return n_devices * int(np.clip(1 << (most.bit_length() - 1 if most else 0), 256, tiles.MOST))


def blocks(moments: Moments, size: int) -> Iterator[tuple[int, Moments]]:
    """Yields (first neuron, moments of `size` neurons) until all neurons are covered.

    The last block reaches back, so that each has the same shape.
    """
    n_neurons = moments.cross.shape[1]
    moments = moments.on_device()
    for start in range(0, n_neurons, size):
        start = min(start, n_neurons - size)
        whole = size == n_neurons
        yield start, moments if whole else moments._replace(**_some(moments.arrays(), start, size))


def correlate(
    features: Features,
    targets: Rows,
    weights: Float[Array, "concepts neurons"],
    bias: Float[Array, " neurons"] | None = None,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    tile_rows: int | None = None,
) -> Float[jax.Array, " neurons"]:
    """Returns Pearson's correlation of the prediction X W + b with each target over some images.

    Images are streamed; memory is a tile.

    Args:
      features, targets, index, tile_rows: as in `second_moments`.
      weights: (concepts, neurons) float32 on raw columns.
      bias: (neurons,); shifts the prediction, hence changes nothing but the arithmetic.

    Returns:
      (neurons,) float32; 0 where either side is constant.
    """
    n = targets.shape[0] if index is None else len(index)
    n_concepts, n_neurons = weights.shape
    size = tiles.bucket(n_neurons)
    bias = np.zeros(n_neurons, np.float32) if bias is None else bias
    weights, bias = (tiles.pad_columns(part, size) for part in (weights, bias))
    rows = tile_rows or tiles.tile_rows([n], n_concepts + size)
    sums, shift = np.zeros((5, size), np.float32), None
    for start in range(0, n, rows):
        numbers = tiles.tile_index(index, start, rows, n)
        x, y = tiles.read_tile(features, numbers), tiles.read_tile(targets, numbers, size)
        count = np.int32(min(rows, n - start))
        if shift is None:
            shift = _prediction_mean(x[:SHIFT_ROWS], y[:SHIFT_ROWS], weights, bias, count)
        sums = _add_prediction(sums, shift, x, y, weights, bias, count)
    return tiles.cut_columns(_correlation(sums, np.float32(n)), slice(0, n_neurons))


@functools.partial(jax.jit, static_argnames="size")
def _some(moments: Moments, start, size: int):
    return {
        "mean_y": jax.lax.dynamic_slice_in_dim(moments.mean_y, start, size),
        "cross": jax.lax.dynamic_slice_in_dim(moments.cross, start, size, axis=1),
        "var_y": jax.lax.dynamic_slice_in_dim(moments.var_y, start, size),
    }


def _numbers(rows) -> np.ndarray:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


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


def _union_of_targets(one, other, a, b):
    """Mean of concepts and neurons, cross moments, variances."""
    dx, dy = one[0] - other[0], one[1] - other[1]
    cross = a * one[2] + b * other[2] + a * b * dx[:, None] * dy[None, :]
    var = a * one[3] + b * other[3] + a * b * dy**2
    return a * one[0] + b * other[0], a * one[1] + b * other[1], cross, var


def _union(one, other, a, b):
    (mean_x, mean_y, gram, *one), (other_x, other_y, other_gram, *other) = one, other
    dx = mean_x - other_x
    gram = a * gram + b * other_gram + a * b * dx[:, None] * dx[None, :]
    means = (mean_x, mean_y, *one), (other_x, other_y, *other)
    mean_x, mean_y, *targets = _union_of_targets(*means, a, b)
    return mean_x, mean_y, gram, *targets


_merge, _merge_targets = jax.jit(_union), jax.jit(_union_of_targets)


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
def _correlation(sums, n):
    s, y, ss, yy, sy = sums / n
    spread = (ss - s**2) * (yy - y**2)
    return jnp.where(
        spread > 0,
        jnp.clip((sy - s * y) / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), -1.0, 1.0),
        0.0,
    )
