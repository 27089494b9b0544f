"""Simulated and real activations of the same neurons on the same images: what a metric compares.

Layers of different widths share compiled programs: neurons are padded to one of few numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Real

from jaxle.arrays import (
    BLOCK_BYTES,
    Array,
    as_matrix,
    check_equal_rows,
    check_live,
    check_same_order,
    checks_input,
)
from jaxle.solve.tiles import bucket, pad_columns


class Pair(NamedTuple):
    """Simulated and real activations of the same neurons and images."""

    simulated: Real[Array, "images neurons"]
    activations: Real[Array, "images neurons"]
    live: Bool[np.ndarray, " neurons"]


@checks_input
def as_pair(
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    live: Bool[np.ndarray, " neurons"] | None = None,
    name: str = "simulated",
) -> Pair:
    """Returns both as `jaxle.arrays.as_matrix` does, and `live` as a mask, all True for None.

    Raises:
      ValueError: the two are not finite matrices of one shape, or `live` is no mask of their
        neurons.
    """
    check_same_order(simulated, activations, (name, "activations"))
    simulated = as_matrix(simulated, name)
    activations = as_matrix(activations, "activations")
    check_equal_rows(simulated, activations, (name, "activations"))
    n_neurons = activations.shape[1]
    if simulated.shape[1] != n_neurons:
        raise ValueError(
            f"{name} and activations must describe the same neurons, "
            f"got {simulated.shape[1]} and {n_neurons} columns."
        )
    return Pair(simulated, activations, check_live(live, (n_neurons,)))


def pad_neurons(x: Real[Array, "images neurons"]) -> Real[Array, "images padded"]:
    """Returns the matrix with columns of zeros at its end, `bucket(neurons)` in all."""
    return pad_columns(x, bucket(x.shape[1]))


def column_blocks(n_columns: int, column_bytes: int) -> Iterator[slice]:
    """Yields slices that cover the columns in blocks of about 64 MiB, all of one size.

    The last one reaches back, so that one compiled program serves all of them.
    """
    size = min(n_columns, max(1, BLOCK_BYTES // max(1, column_bytes)))
    for start in range(0, n_columns, size):
        start = min(start, n_columns - size)
        yield slice(start, start + size)


@checks_input
def check_same_neurons(
    val: Real[Array, "val_images neurons"], test: Real[Array, "images neurons"]
) -> None:
    """Raises a ValueError unless both describe the same number of neurons."""
    if val.shape[1] != test.shape[1]:
        raise ValueError(
            f"val and test must describe the same neurons, "
            f"got {val.shape[1]} and {test.shape[1]} columns."
        )
