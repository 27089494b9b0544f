"""Shape words, and what becomes of every array of a user, once, where it enters.

    as_matrix           any array that people have → a finite, real matrix in a native dtype
    as_probabilities    the same, of values from 0 to 1

NumPy, JAX and memory-mapped arrays of a real dtype pass as they are. Nested lists, pandas frames,
scipy's sparse matrices, torch tensors, foreign byte orders and wide integers become such arrays, if
that loses nothing. All else is refused with one sentence. Arrays are read in blocks of rows, so
that a memory map larger than memory passes, too.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, no_type_check, runtime_checkable

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Int

Array = np.ndarray | jax.Array  # NumPy, a memory map or a JAX array
# Marks a function that checks what a user gives it: its annotations only document.
checks_input = no_type_check
BLOCK_BYTES = 64 << 20
READ_BYTES = 16 << 20  # of rows at a time: larger copies are memory that is new to the process
ROUND_OFF = 1e-6  # how far beyond [0, 1] a probability may be
_INT32 = np.iinfo(np.int32)


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
    """Yields slices that cover `n_rows` rows in order, in blocks of about 16 MiB."""
    step = max(1, READ_BYTES // max(1, row_bytes))
    for start in range(0, n_rows, step):
        yield slice(start, min(n_rows, start + step))


def host_blocks(
    x: Rows, rows: Int[np.ndarray, " rows"] | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (which rows, their values as NumPy) in blocks of about 16 MiB.

    Args:
      x: (rows, columns).
      rows: which rows, in this order; None for all.
    """
    if isinstance(x, jax.Array):
        x = np.asarray(x)  # a slice on the device would compile a program for each shape
    n_rows = x.shape[0] if rows is None else len(rows)
    for block in row_blocks(n_rows, x.shape[1] * np.dtype(x.dtype).itemsize):
        yield block, np.asarray(x[block if rows is None else rows[block]])


@checks_input
def as_matrix(x: Any, name: str, axes: tuple[str, str] = ("images", "neurons")) -> Array:
    """Returns a user's matrix as a finite, real array in a native dtype, or refuses it.

    What is such an array already, or an object that is read by rows, is returned as it is: a memory
    map stays one. Bools are viewed as uint8. These are converted, without loss or not at all:
    nested lists; pandas frames, scipy's sparse matrices and torch tensors, on any device; byte
    orders other than the machine's; integers of 64 bits, to 8 or 32 bits or to float64; longdouble,
    to float64; the narrow floats of ml_dtypes, to float32; masked arrays in which nothing is
    masked.

    Args:
      x: (rows, columns).
      name: what the array is called in a message.
      axes: the words for its two axes.

    Raises:
      ValueError: one sentence for anything else: another shape, an empty axis, no numbers, complex
        numbers, rows of unequal length, masked or missing values, values that are not finite or
        that no native dtype holds.
    """
    x = _to_array(x, name, axes)
    check_shape(x, name, axes)
    return check_matrix(_to_native(x, name, axes), name, axes)


@checks_input
def as_probabilities(
    x: Any, name: str, axes: tuple[str, str] = ("images", "concepts"), *, raw: bool = False
) -> Array:
    """Returns what `as_matrix` does, of values from 0 to 1; with `raw`, of any finite values.

    Values beyond by at most 1e-6 count as round-off.

    Raises:
      ValueError: as `as_matrix`, or a value outside [0, 1] (the first bad position is named).
    """
    x = as_matrix(x, name, axes)
    if raw:
        return x
    for block, values in host_blocks(x):
        outside = (values < -ROUND_OFF) | (values > 1 + ROUND_OFF)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            where = _place(axes, block.start + row, column)
            raise ValueError(
                f"{name} must be probabilities from 0 to 1, got {float(values[row, column]):g} "
                f"{where}; give raw_features=True for features of another kind."
            )
    return x


@checks_input
def check_shape(x: Any, name: str, axes: tuple[str, str]) -> None:
    """Raises a ValueError unless `x` is an array, or read like one, with two non-empty axes."""
    expected = f"({axes[0]}, {axes[1]})"
    if not (hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(x, "__getitem__")):
        hint = ": load it first" if isinstance(x, (str, os.PathLike)) else ""
        kind = type(x).__name__
        raise ValueError(f"{name} must be an array of shape {expected}, got {kind}{hint}.")
    if len(x.shape) != 2 or 0 in x.shape:
        raise ValueError(
            f"{name} must be a non-empty array of shape {expected}, got shape {tuple(x.shape)}."
        )


@checks_input
def check_matrix(
    x: Array, name: str, axes: tuple[str, str] = ("images", "neurons"), first_row: int = 0
) -> Array:
    """Returns `x` unchanged if it is a finite, real matrix: for arrays that jaxle itself made.

    Args:
      x: (rows, columns), any native real dtype (bfloat16 included), NumPy, JAX or memory-mapped.
      name: what the array is called in the message.
      axes: the words for its two axes.
      first_row: the number of the first row, where `x` is a block of a longer matrix.

    Raises:
      ValueError: not two-dimensional, empty along an axis, not numeric, or not finite (the first
        bad position is named).
    """
    check_shape(x, name, axes)
    dtype = _dtype(x, name)
    if dtype.kind not in "biuf" and dtype.name != "bfloat16":
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}.")
    if dtype.kind in "biu":
        return x
    for block, values in host_blocks(x):
        finite = np.isfinite(values)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            where = _place(axes, first_row + block.start + row, column)
            raise ValueError(f"{name} must be finite, got {float(values[row, column])} {where}.")
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


@checks_input
def check_same_order(a: Any, b: Any, names: tuple[str, str]) -> None:
    """Raises a ValueError if both are pandas objects whose rows have different labels.

    pandas itself would align them; arrays are taken row by row.
    """
    one, other = (getattr(x, "index", None) for x in (a, b))
    if not (hasattr(one, "equals") and hasattr(other, "equals")) or len(one) != len(other):
        return
    if not one.equals(other):
        i = next(i for i, (p, q) in enumerate(zip(one, other, strict=True)) if p != q)
        raise ValueError(
            f"{names[0]} and {names[1]} must describe the same images in the same order, got row "
            f"{_label(one[i])} beside row {_label(other[i])} at {i}: align the frames, "
            f"such as by {names[1]}.loc[{names[0]}.index]."
        )


def _label(value: Any) -> str:
    """A row's label as Python writes it, NumPy's numbers as numbers."""
    return repr(value.item() if isinstance(value, np.generic) else value)


@checks_input
def take_names(concepts: Any, probs: Any, name: str = "concept_probs") -> Any:
    """Returns the names of the columns of `probs`: those given, else those of a frame.

    Raises:
      ValueError: there are neither, or the frame has the names that are given in another order.
    """
    own = list(getattr(probs, "columns", ()))
    own = own if own and all(isinstance(column, str) for column in own) else None
    if concepts is None and own is None:
        raise ValueError(
            f"concepts must name the columns of {name}, got None: give their names, "
            "or a frame whose columns are named by text."
        )
    if concepts is None:
        return own
    if own is not None and not isinstance(concepts, str) and isinstance(concepts, Iterable):
        given = [str(concept) for concept in concepts]
        if given != own and sorted(given) == sorted(own):
            i = next(i for i, (a, b) in enumerate(zip(given, own, strict=True)) if a != b)
            raise ValueError(
                f"concepts and the columns of {name} must be in one order, "
                f"got {given[i]!r} and {own[i]!r} at {i}."
            )
    return concepts


def _place(axes, row, column) -> str:
    return f"at {axes[0][:-1]} {row}, {axes[1][:-1]} {column}"


def _dtype(x: Any, name: str) -> np.dtype:
    try:
        return np.dtype(x.dtype)
    except TypeError:  # such as a JAX key
        raise ValueError(f"{name} must hold real numbers, got dtype {x.dtype}.") from None


def _to_array(x: Any, name: str, axes: tuple[str, str]) -> Any:
    """Any container as NumPy or JAX array, in its own dtype; an object read by rows as it is."""
    if isinstance(x, Tracer):
        raise ValueError(f"{name} must hold values, got a JAX tracer: call outside of jax.jit.")
    if isinstance(x, jax.Array):
        if x.is_deleted():
            raise ValueError(f"{name} must hold values, got a JAX array that was deleted.")
        wide = _dtype(x, name).itemsize == 8
        host = all(device.platform == "cpu" for device in x.devices())  # nothing is copied there
        return np.asarray(x) if host or wide else x
    if isinstance(x, np.ma.MaskedArray):
        return _unmasked(x, name, axes)
    if type(x) in (np.ndarray, np.memmap):
        return x
    try:
        if hasattr(x, "tocsr"):
            return _from_sparse(x)
        if hasattr(x, "to_numpy") and hasattr(x, "columns"):
            return _from_frame(x, name)
        if hasattr(x, "detach") and hasattr(x, "cpu"):
            return _from_tensor(x)
        if isinstance(x, (np.ndarray, list, tuple)) or hasattr(x, "__array__"):
            return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        if str(error).startswith(f"{name} "):
            raise
        reason = " ".join(str(error).split())
        if "inhomogeneous" in reason:
            reason = "its rows differ in length"
        expected = f"({axes[0]}, {axes[1]})"
        raise ValueError(
            f"{name} must be an array of shape {expected}, "
            f"got {type(x).__name__} that makes none: {reason.rstrip('.')}."
        ) from None
    return x


def _unmasked(x: np.ma.MaskedArray, name: str, axes: tuple[str, str]) -> np.ndarray:
    if np.ma.is_masked(x):
        place = np.argwhere(np.ma.getmaskarray(x))[0]
        where = _place(axes, *place) if len(place) == 2 else f"at {place.tolist()}"
        raise ValueError(
            f"{name} must have no masked values, got the first {where}: "
            "drop its row or column, or fill it (x.filled)."
        )
    return np.asarray(x.data)


def _from_sparse(x: Any) -> np.ndarray:
    """scipy's sparse matrix as a dense one: labels of 0 and 1 as bool, so that it stays small."""
    x = x.tocsr(copy=True)
    x.sum_duplicates()
    if x.dtype.kind in "biuf" and np.isin(x.data, (0, 1)).all():
        return x.astype(bool).toarray()
    return x.toarray()


def _from_frame(x: Any, name: str) -> np.ndarray:
    """A frame's values; missing ones become NaN, which is refused later with its position."""
    for column, dtype in zip(x.columns, x.dtypes, strict=True):
        if getattr(dtype, "kind", "f") not in "biuf":
            raise ValueError(
                f"{name} must hold real numbers, got dtype {dtype} in column {column!r}."
            )
    values = x.to_numpy()
    return x.to_numpy(dtype=np.float64, na_value=np.nan) if values.dtype == object else values


def _from_tensor(x: Any) -> np.ndarray:
    """A torch tensor on any device; bfloat16 and narrower floats, which NumPy lacks, as float32."""
    x = x.detach().cpu()
    if getattr(x, "is_sparse", False):
        x = x.to_dense()
    if str(x.dtype).startswith(("torch.bfloat16", "torch.float8")):
        x = x.float()
    return np.asarray(x.numpy())


def _to_native(x: Any, name: str, axes: tuple[str, str]) -> Any:
    """The same numbers in a native dtype of at most 64 bits, of which integers take at most 32."""
    dtype = _dtype(x, name)
    if dtype.kind == "b":
        return x.view(np.uint8) if isinstance(x, np.ndarray) else x.astype(np.uint8)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return _narrow(np.asarray(x), name, axes)
    if dtype.kind == "f" and dtype.itemsize > 8:
        return _as_float64(np.asarray(x), name, axes)
    narrow = dtype.kind == "V" and dtype.names is None and dtype.name != "bfloat16"
    if narrow or (dtype.kind == "f" and dtype.itemsize == 1):
        # ml_dtypes' floats and integers of 8 bits and less
        return np.asarray(x).astype(np.float32) if np.can_cast(dtype, np.float32) else x
    if dtype.kind in "biuf" and not dtype.isnative:
        return np.asarray(x).astype(dtype.newbyteorder("="))
    if dtype.kind == "O":
        values = np.asarray(x).flat
        value = next((v for v in values if not isinstance(v, numbers.Real)), values[0])
        raise ValueError(
            f"{name} must hold real numbers, got dtype object, such as {str(value)[:40]!r} of "
            f"type {type(value).__name__}: give .astype(np.float32) if all are numbers."
        )
    return x


def _narrow(x: np.ndarray, name: str, axes: tuple[str, str]) -> np.ndarray:
    """Integers of 64 bits, which JAX would wrap modulo 2³², in the least dtype that holds them."""
    low, high = int(x.min()), int(x.max())
    if 0 <= low and high <= 255:
        return x.astype(np.uint8)
    if _INT32.min <= low and high <= _INT32.max:
        return x.astype(np.int32)
    return _as_float64(x, name, axes)


def _as_float64(x: np.ndarray, name: str, axes: tuple[str, str]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        values = x.astype(np.float64)
        if x.dtype.kind == "f":
            lost = (values.astype(x.dtype) != x) & np.isfinite(x)
        else:  # beyond 2⁵³; 2⁶³ and 2⁶⁴ themselves do not come back
            whole = values < (2.0**64 if x.dtype.kind == "u" else 2.0**63)
            back = np.where(whole, values, 0.0).astype(x.dtype)
            lost = ~whole | (back != x)
    if lost.any():
        row, column = np.argwhere(lost)[0]
        raise ValueError(
            f"{name} must hold numbers that float64 holds exactly, got {x[row, column]!s} of dtype "
            f"{x.dtype} {_place(axes, row, column)}: round it first, by .astype(np.float64)."
        )
    return values
