"""Shape words and the check that every array of a user passes once, where it enters.

Arrays may be NumPy, JAX or memory-mapped. They are read in blocks of rows, so that a memory map
larger than memory passes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, no_type_check, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool

Array = np.ndarray | jax.Array  # NumPy, a memory map or a JAX array
# Marks a function that checks what a user gives it: its annotations only document.
checks_input = no_type_check
BLOCK_BYTES = 64 << 20


@runtime_checkable
class Rows(Protocol):
    """A matrix that is read by rows: an array, or an object that makes rows when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        ...

    @property
    def dtype(self) -> Any:
        """A real dtype."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Rows by a slice or by an int array, as an array (rows, columns)."""
        ...


def row_blocks(n_rows: int, row_bytes: int) -> Iterator[slice]:
    """Yields slices that cover `n_rows` rows in order, in blocks of about 64 MiB."""
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, n_rows, step):
        yield slice(start, min(n_rows, start + step))


@checks_input
def check_matrix(
    x: Array, name: str, axes: tuple[str, str] = ("images", "neurons"), first_row: int = 0
) -> Array:
    """Returns `x` unchanged if it is a finite, real matrix.

    Args:
      x: (rows, columns), any real dtype (bfloat16 included), NumPy, JAX or memory-mapped.
      name: what the array is called in the message.
      axes: the words for its two axes.
      first_row: the number of the first row, where `x` is a block of a longer matrix.

    Raises:
      ValueError: not two-dimensional, empty along an axis, not numeric, or not finite (the first
        bad position is named).
    """
    expected = f"({axes[0]}, {axes[1]})"
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise ValueError(f"{name} must be an array of shape {expected}, got {type(x).__name__}.")
    if len(x.shape) != 2 or 0 in x.shape:
        raise ValueError(
            f"{name} must be a non-empty array of shape {expected}, got shape {tuple(x.shape)}."
        )
    kind = np.dtype(x.dtype).kind
    if kind not in "biuf" and np.dtype(x.dtype).name not in ("bfloat16",):
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}.")
    if kind in "biu":
        return x
    for block in row_blocks(x.shape[0], x.shape[1] * x.dtype.itemsize):
        values = np.asarray(x[block])
        finite = np.isfinite(values)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            where = f"{axes[0][:-1]} {first_row + block.start + row}, {axes[1][:-1]} {column}"
            raise ValueError(f"{name} must be finite, got {float(values[row, column])} at {where}.")
    return x


@checks_input
def check_live(live: np.ndarray | None, shape: tuple[int, ...]) -> Bool[np.ndarray, "*shape"]:
    """Returns the mask of live neurons as bool of that shape, all True for None.

    Raises:
      ValueError: another dtype or shape.
    """
    live = np.ones(shape, bool) if live is None else np.asarray(live)
    if live.shape != shape or live.dtype != bool:
        raise ValueError(
            f"live must be bool of shape {shape}, got {live.dtype} of shape {live.shape}."
        )
    return live


@checks_input
def check_equal_rows(a: Array, b: Array, names: tuple[str, str], word: str = "images") -> None:
    """Raises a ValueError that names both lengths unless `a` and `b` have equally many rows."""
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"{names[0]} and {names[1]} must describe the same {word}, "
            f"got {a.shape[0]} and {b.shape[0]} rows."
        )
