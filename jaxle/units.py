"""Units of columns: float64 data centred in their own precision, extreme scales brought to 1.

    value = (raw − centre) · scale,   scale a power of two;   raw = value · size + centre

The fits compute in float32. Cast as it is, a float64 column of mean 10⁸ and deviation 1 would
become constant, and the square of a float32 column of 10³⁰ would overflow. So such columns are
centred in float64 and scaled by a power of two, which loses nothing, before they are cast; results
are brought back to the user's units on the host, in float64. Columns that float32 holds well, such
as probabilities and nearly all activations, stay as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Real

from jaxle.arrays import Array, Rows, host_blocks

# Columns whose largest magnitude is in this range stay as they are: squares of squares fit float32.
LEAST, MOST = 2.0**-16, 2.0**16
# Of a column's largest magnitude: if its values span less, it is centred in float64 first.
SPAN = 1 / 8
# Of a column's largest magnitude: if float64 values span less, that is their round-off.
CONSTANT = 2.0**-46
_BEYOND = 2.0**30  # where a row outside those that made the units ends


class Units(NamedTuple):
    """What was done to each column; scale 1 and centre 0 where nothing was."""

    centre: Float64[np.ndarray, " columns"]
    scale: Float64[np.ndarray, " columns"]  # a power of two; 0 where the column is constant

    @property
    def size(self) -> Float64[np.ndarray, " columns"]:
        """1/scale: what one unit of the values is in the user's; 1 where the column is constant."""
        return 1 / np.where(self.scale > 0, self.scale, 1.0)

    @property
    def far(self) -> Bool[np.ndarray, " columns"]:
        """Which columns lie so far from 0 that float32 as they are would leave three digits."""
        return np.abs(self.centre) * self.scale > 2.0**14

    def columns(self, index: slice | np.ndarray) -> Units:
        """Returns the units of some columns."""
        return Units(self.centre[index], self.scale[index])

    @staticmethod
    def none(n_columns: int) -> Units:
        """Returns the units in which nothing changes."""
        return Units(np.zeros(n_columns), np.ones(n_columns))


class InUnits:
    """A matrix in its units, made by rows where it is read: float32, order 1 or less.

    Args:
      raw: (rows, columns), any real dtype, an array or an object read by rows.
      units: from `find_units`.
    """

    def __init__(self, raw: Rows, units: Units):
        self._raw, self._units = raw, units

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self._raw.shape

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self._raw.shape[0]

    def __getitem__(
        self, rows: slice | Int[np.ndarray, " rows"], /
    ) -> Real[np.ndarray, "rows columns"]:
        """Returns some rows."""
        values = np.asarray(self._raw[rows]).astype(np.float64)
        values = (values - self._units.centre) * self._units.scale
        return np.clip(values, -_BEYOND, _BEYOND).astype(np.float32)


def find_units(x: Rows, rows: Int[np.ndarray, " rows"] | None = None) -> Units | None:
    """Returns the units in which float32 holds the columns of `x`; None where they do as they are.

    Args:
      x: (rows, columns), any native real dtype of finite values.
      rows: the rows that count, as where test images must not; None for all.
    """
    dtype = np.dtype(x.dtype)
    if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize == 1):
        return None
    rows = None if rows is None else np.sort(rows)
    low, high = _range(x, rows)
    magnitude = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(over="ignore"):
        width = high - low
    fine = dtype.kind == "f" and dtype.itemsize <= 4 or dtype.name == "bfloat16"
    # float64 and integers are known to more digits than float32 has
    exact = np.zeros(len(low), bool) if fine else width < SPAN * magnitude
    scaled = (magnitude > 0) & ~((magnitude >= LEAST) & (magnitude <= MOST))
    if not (exact | scaled).any():
        return None
    centre = np.where(exact, _mean(x, rows, low, high), 0.0)
    constant = exact & (width <= CONSTANT * magnitude)
    span = np.where(exact, np.maximum(high - centre, centre - low), magnitude)
    _, exponent = np.frexp(span)
    scale = np.ldexp(1.0, -np.clip(exponent, -1020, 1020))  # both it and 1/scale are numbers
    scale = np.where(exact | scaled, scale, 1.0)
    return Units(np.where(constant, low, centre), np.where(constant, 0.0, scale))


def in_units(x: Array) -> Array:
    """Returns the matrix in its own units: for what does not change when columns are rescaled.

    Correlations do not.
    """
    units = find_units(x)
    return x if units is None else InUnits(x, units)[:]


def fits_float32(x: Any) -> Bool[np.ndarray, "*shape"]:
    """Returns which numbers float32 holds to its full precision: zero, or well within its range."""
    size = np.abs(np.asarray(x, np.float64))
    return (size == 0) | ((size > 1e-30) & (size < 1e30))


def _range(x: Rows, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value of each column, float64."""
    parts = [(block.min(axis=0), block.max(axis=0)) for _, block in host_blocks(x, rows)]
    lows, highs = (np.stack(part).astype(np.float64) for part in zip(*parts, strict=True))
    return lows.min(axis=0), highs.max(axis=0)


def _mean(x: Rows, rows: np.ndarray | None, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean of each column in float64, summed about the middle of its range."""
    middle, n = low / 2 + high / 2, x.shape[0] if rows is None else len(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [
            (block.astype(np.float64) - middle).sum(axis=0) for _, block in host_blocks(x, rows)
        ]
        return middle + np.sum(sums, axis=0) / n
