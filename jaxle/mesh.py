"""The device mesh: images or neurons over axis `data`, parameters over axis `model`.

One device and many run the same code. `jax.jit` with NamedSharding is what pjit became; axis types
are named explicitly because JAX's default changed between versions. Source:
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """Returns the devices laid out as (`data`, `model`).

    Args:
      data: devices along axis `data`; None takes all that `model` leaves.
      model: devices along axis `model`.

    Raises:
      ValueError: a size below 1, or more devices than there are.
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


def data_size(mesh: Mesh | None) -> int:
    """Returns the number of devices along axis `data`, 1 without a mesh."""
    return 1 if mesh is None else mesh.shape["data"]


def split_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array's first axis over `data`: images of a tile or batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def split_columns(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a matrix's second axis over `data`: the neurons of a block."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps a whole copy on every device: parameters, Gram matrices."""
    return NamedSharding(mesh, PartitionSpec())


def round_up(n: int, multiple: int) -> int:
    """Returns the smallest multiple of `multiple` that is at least `n`: a padded axis's length."""
    return -(-n // multiple) * multiple
