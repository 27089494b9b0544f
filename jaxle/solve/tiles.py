"""Few sizes for many counts: neurons per program, images per tile.

A program is compiled for the shapes of its arguments, which takes seconds where running it takes
milliseconds. So the neurons of a fit are padded to one of few counts, and images are read in tiles
of one of few lengths. What is padded is masked: a padded neuron is constant, and a tile carries the
number of its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

from jaxle.arrays import Array, Rows
from jaxle.mesh import round_up

LEAST, STEP, MOST = 64, 256, 4096  # neurons: powers of two up to STEP, then multiples up to MOST
LEAST_ROWS = 64  # images per tile
TILE_COST = 256  # what starting one more tile costs, in images
# on a CPU two arrays of about 32 MiB at most: the C library gives larger ones back at each free
CPU_TILE_BYTES, TILE_BYTES = 48 << 20, 96 << 20
STATE_BYTES = 1 << 30  # of all neurons that one program searches for at a time
HOST_BYTES = 16 << 20  # larger arrays are padded and cut on the device
COLUMNS, MOST_COLUMNS = 64, 1024  # concepts: multiples, as far as programs take longer than images


def bucket(n_neurons: int, n_devices: int = 1) -> int:
    """Returns how many neurons arrays of `n_neurons` are padded to, so that they share programs.

    64, 128, 256, then multiples of 256: the idle neurons are at most 255, and at most half of all
    from 64 on. Above 4,096 it is the number itself, since so many are fitted in blocks of at most
    4,096, and the blocks share programs.

    Args:
      n_neurons: at least 1.
      n_devices: the result is a multiple of it.
    """
    if n_neurons > MOST:
        size = n_neurons
    elif n_neurons > STEP:
        size = round_up(n_neurons, STEP)
    else:
        size = max(LEAST, 1 << (n_neurons - 1).bit_length())
    return round_up(size, n_devices)


def fitting(most: int, neuron_bytes: int) -> int:
    """Returns how many neurons a program takes at a time: `most`, or a power of two if too large.

    Args:
      most: a power of two.
      neuron_bytes: what one of them needs.
    """
    fit = max(1, STATE_BYTES // max(1, neuron_bytes))
    return min(most, 1 << (fit.bit_length() - 1))


def pad_columns(x: Shaped[Array, "*rows neurons"], n_columns: int) -> Shaped[Array, "*rows padded"]:
    """Returns `x` with zero columns at its end, `n_columns` in all; compiles nothing if small."""
    more = n_columns - x.shape[-1]
    if not more:
        return x
    pad = [(0, 0)] * (x.ndim - 1) + [(0, more)]
    if isinstance(x, np.ndarray) or x.nbytes <= HOST_BYTES:
        return jax.device_put(np.pad(np.asarray(x), pad))
    return jnp.pad(x, pad)


def cut_columns(
    x: Shaped[Array, "*rows neurons"], index: slice | np.ndarray
) -> Shaped[jax.Array, "*rows some"]:
    """Returns some columns of `x`; compiles nothing if it is small."""
    if isinstance(x, np.ndarray) or x.nbytes <= HOST_BYTES:
        return jax.device_put(np.asarray(x)[..., index])
    return x[..., index]


def wide(n_concepts: int) -> int:
    """Returns how many concepts sets of nearly one size are padded to, to share their programs.

    A multiple of 64; beyond 1,024 it is the number itself.
    """
    return n_concepts if n_concepts > MOST_COLUMNS else round_up(n_concepts, COLUMNS)


def repeated(columns: Int[np.ndarray, " columns"]) -> Int[np.ndarray, " padded"]:
    """Returns column numbers with the last one repeated, `wide` in all."""
    more = wide(len(columns)) - len(columns)
    return np.concatenate([columns, np.repeat(columns[-1:], more)])


def host_columns(
    rows: Callable[..., Any], index: Int[np.ndarray, " rows"], columns: Int[np.ndarray, " columns"]
) -> Shaped[np.ndarray, "rows columns"]:
    """Returns some columns of a matrix that is made where it is read.

    Args:
      rows: (row index, column index) → (rows, columns).
      index: (rows,) which rows.
      columns: (columns,) which columns.
    """
    return np.asarray(rows(index, repeated(columns)))[:, : len(columns)]


def pad_rows(x: Shaped[Array, "rows *columns"], n: int) -> Shaped[Array, "padded *columns"]:
    """Returns `x` with rows of zeros at its end, `n` in all; compiles nothing if it is small."""
    more = n - x.shape[0]
    if not more:
        return x
    pad = [(0, more)] + [(0, 0)] * (x.ndim - 1)
    if isinstance(x, np.ndarray) or x.nbytes <= HOST_BYTES:
        return jax.device_put(np.pad(np.asarray(x), pad))
    return jnp.pad(x, pad)


def cut_rows(x: Shaped[Array, "rows *columns"], n: int) -> Shaped[jax.Array, "some *columns"]:
    """Returns the first `n` rows of `x`; compiles nothing if it is small."""
    if isinstance(x, np.ndarray) or x.nbytes <= HOST_BYTES:
        return jax.device_put(np.asarray(x)[:n])
    return x[:n]


def tile_rows(lengths: Iterable[int], width: int, n_devices: int = 1) -> int:
    """Returns how many images a tile holds, one length for image sets of several lengths.

    64 per device or twice, four times, … as many, up to about 96 MiB (on a CPU 48): the length with
    which all sets are covered at least cost, counted as images (those that pad the last tile
    included) and 256 for each tile.

    Args:
      lengths: images in each set.
      width: float32 numbers per image.
      n_devices: the devices that share a tile.
    """
    lengths = list(lengths)
    tile_bytes = CPU_TILE_BYTES if jax.default_backend() == "cpu" else TILE_BYTES
    most = max(256, tile_bytes // (4 * max(1, width)))
    sizes = [LEAST_ROWS]
    while 2 * sizes[-1] <= most:
        sizes.append(2 * sizes[-1])

    def cost(rows: int) -> int:
        return sum(-(-n // (rows * n_devices)) for n in lengths) * (rows + TILE_COST)

    return n_devices * min(sizes, key=cost)


def tile_index(
    index: Int[np.ndarray, " images"] | None, start: int, rows: int, n: int
) -> slice | Int[np.ndarray, " rows"]:
    """Returns the row numbers of a tile of fixed length; past the end the last one repeats.

    Args:
      index: (images,) the images to take; None takes rows 0 to n − 1.
      start: the tile's first place in the index.
      rows: images per tile.
      n: images in all.
    """
    stop = min(start + rows, n)
    if index is None and stop - start == rows:
        return slice(start, stop)
    numbers = np.arange(start, stop) if index is None else np.asarray(index[start:stop])
    repeats = np.full(rows - len(numbers), numbers[-1])
    return np.concatenate([numbers, repeats]) if len(repeats) else numbers


def read_tile(
    source: Rows | Callable[[np.ndarray], Any],
    rows: slice | Int[np.ndarray, " rows"],
    width: int | None = None,
) -> Any:
    """Returns rows of an array, or what a function from row numbers makes.

    Args:
      source: (images, columns), anything with shape, dtype and row indexing; or a function.
      rows: from `tile_index`.
      width: columns of the result, those past the array's own filled with zeros; None: no more.
    """
    if callable(source):
        return source(np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)
    n_columns = source.shape[1]
    width = n_columns if width is None else width
    if isinstance(source, np.ndarray):
        if isinstance(rows, slice) and width == n_columns:
            return source[rows]
        return _aligned_take(source, rows, width)
    tile = source[rows]
    if width == n_columns:
        return tile
    pad = ((0, 0), (0, width - n_columns))
    return jnp.pad(tile, pad) if isinstance(tile, jax.Array) else np.pad(tile, pad)


def _aligned_take(source: np.ndarray, rows, width: int) -> np.ndarray:
    """source[rows] in memory aligned to 64 bytes, which XLA's CPU backend does not copy again."""
    n_rows = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    n_bytes = n_rows * width * source.dtype.itemsize
    memory = np.empty(n_bytes + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    tile = memory[offset : offset + n_bytes].view(source.dtype).reshape(n_rows, width)
    n_columns = source.shape[1]
    if isinstance(rows, slice):
        tile[:, :n_columns] = source[rows]
    elif width == n_columns:
        return np.take(source, rows, axis=0, out=tile, mode="clip")
    else:
        tile[:, :n_columns] = np.take(source, rows, axis=0, mode="clip")
    tile[:, n_columns:] = 0
    return tile
