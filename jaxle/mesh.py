"""The device mesh: images or neurons over axis `data`, parameters over axis `model`; one device and many run the same code.

`jax.jit` with NamedSharding is what pjit became; axis types are named explicitly because JAX's default changed between versions.
Source: https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """Lay the devices out as (`data`, `model`); use it once, in the launcher or a test.

    Args:
      data: devices along axis `data`; None takes all that `model` leaves.
      model: devices along axis `model`.

    Raises:
      ValueError: the devices at hand cannot be laid out so.
    """
    n = len(jax.devices())
    if model < 1 or (data is not None and data < 1):
        raise ValueError(f"mesh sizes must be at least 1, got data={data}, model={model}.")
    data = n // model if data is None else data
    if data < 1 or data * model > n:
        raise ValueError(
            f"mesh data={data} × model={model} needs {max(1, data) * model} devices, got {n}."
        )
    devices = jax.devices()[: data * model]
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices
    )


def split_rows(mesh: Mesh) -> NamedSharding:
    """Sharding that splits an array's first axis over `data` (images of a tile, rows of a batch)."""
    return NamedSharding(mesh, PartitionSpec("data"))


def split_columns(mesh: Mesh) -> NamedSharding:
    """Sharding that splits a matrix's second axis over `data` (neurons of a block)."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding that keeps a whole copy on every device (parameters, Gram matrices)."""
    return NamedSharding(mesh, PartitionSpec())


def round_up(n: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `n`: what a padded axis is long."""
    return -(-n // multiple) * multiple
