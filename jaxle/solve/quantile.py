"""Exact quantiles of many columns, read in pieces, in memory that does not grow with their number.

    float32 → 32 bits whose order as whole numbers is the order of the values
    three passes over the pieces fix 11, 11 and 10 of them: a histogram a column, (columns, 2048)

A pass counts, for each column, the values that agree with the bits fixed so far by their next bits;
the bin in which the wanted rank lies fixes these. Histograms of pieces add up, so that pieces may
come in any order and from any device.

This is radix selection; W. Press et al., Numerical Recipes (3rd ed., 2007), section 8.5, select by
partitions in the same way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt32

from jaxle.arrays import Array

CUTS = (32, 21, 10, 0)  # bits above a cut are fixed before the pass that ends at the next
PASSES, BINS = 3, 2048
MOST = 2**31 - 1  # of one bin, before the counts go to the host


class TopShare:
    """For each column the least of its values that at most a share of them exceeds.

    With n values it is the one of rank m + 1 from above, m = ⌊share·n⌋: `numpy.quantile` of
    1 − share by the method "inverted_cdf". All values are added in each of `PASSES`, which
    `close` ends.

    Args:
      n_columns: columns.
      share: 0 to 1.
    """

    def __init__(self, n_columns: int, share: float):
        self._share, self._pass = share, 0
        self._prefix = np.zeros(n_columns, np.uint32)
        self._above = np.zeros(n_columns, np.int64)
        self._n: int | None = None
        self._begin()

    def add(self, values: Float[Array, "rows columns"], real: Bool[np.ndarray, " rows"]) -> None:
        """Counts a piece; all pieces of one shape share a program.

        Args:
          values: float32 (rows, columns).
          real: (rows,) which rows count.
        """
        if self._held + len(values) > MOST:
            self._flush()
        top, low = CUTS[self._pass : self._pass + 2]
        cuts = (np.uint32(top), np.uint32(low))
        self._counts = _add(self._counts, values, real, self._prefix, *cuts)
        self._held += len(values)
        self._seen += int(np.sum(real))

    def close(self) -> None:
        """Ends a pass.

        Raises:
          ValueError: no row, or another number of them than in the first pass.
        """
        self._flush()
        if self._n is None:
            self._n = self._seen
            self._above += int(self._share * self._seen + 1e-9)
        if not self._seen or self._seen != self._n:
            raise ValueError(
                f"a pass gave {self._seen} rows, the first one {self._n}: expected as many, "
                "at least one."
            )
        top, low = CUTS[self._pass : self._pass + 2]
        counts = self._total[:, : 1 << (top - low)]
        from_top = np.cumsum(counts[:, ::-1], axis=1)
        place = np.argmax(from_top > self._above[:, None], axis=1)
        before = np.take_along_axis(from_top, np.maximum(place - 1, 0)[:, None], axis=1)[:, 0]
        self._above -= np.where(place > 0, before, 0)
        chosen = (counts.shape[1] - 1 - place).astype(np.uint32)
        self._prefix = (self._prefix << np.uint32(top - low)) | chosen
        self._pass += 1
        self._begin()

    @property
    def thresholds(self) -> Float32[np.ndarray, " columns"]:
        """Float32 (columns,), once all passes are closed."""
        assert self._pass == PASSES, "three passes"
        return _values(self._prefix)

    def _begin(self) -> None:
        self._total = np.zeros((len(self._prefix), BINS), np.int64)
        self._counts = jnp.zeros((len(self._prefix), BINS), jnp.int32)
        self._held = self._seen = 0

    def _flush(self) -> None:
        self._total += np.asarray(self._counts)
        self._counts, self._held = jnp.zeros_like(self._counts), 0


@jax.jit
def _add(
    counts: Int[jax.Array, "columns bins"],
    values: Float[jax.Array, "rows columns"],
    real: Bool[jax.Array, " rows"],
    prefix: UInt32[jax.Array, " columns"],
    top: UInt32[jax.Array, ""],
    low: UInt32[jax.Array, ""],
) -> Int[jax.Array, "columns bins"]:
    keys = _keys(values)
    agrees = (top >= 32) | ((keys >> jnp.minimum(top, 31)) == prefix[None])
    bins = (keys >> low) & ((jnp.uint32(1) << (top - low)) - 1)
    # what does not count lies past the end, where it is dropped
    bins = jnp.where(agrees & real[:, None], bins, jnp.uint32(BINS)).astype(jnp.int32)
    return counts.at[jnp.arange(values.shape[1])[None], bins].add(1, mode="drop")


def _keys(values: Float[jax.Array, "rows columns"]) -> UInt32[jax.Array, "rows columns"]:
    """Whole numbers in the order of the values; −0 counts as 0."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32) + 0.0, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _values(keys: UInt32[np.ndarray, " columns"]) -> Float32[np.ndarray, " columns"]:
    positive = keys >> np.uint32(31) == 1
    return (
        np.where(positive, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)
    )
