"""The device mesh: images or neurons over axis `data`, parameters over axis `model`.

One device and many run the same code. `jax.jit` with NamedSharding is what pjit became; axis types
are named explicitly because JAX's default changed between versions.

In a run of several processes the mesh spans the devices of all. Networks, and what is independent
by neuron, compute on this process's own devices (`local`), on its own images or rows (`own_rows`),
and the results of all are put together (`all_rows`): no program waits for another process. Sums
over images alone go over the whole mesh (`whole_sum`). With one process these change nothing.
Source:
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxle import multihost

_AXES = ("data", "model")
_TYPES = (AxisType.Auto, AxisType.Auto)


def make_mesh(data: int | None = None, model: int = 1) -> Mesh:
    """Returns the devices laid out as (`data`, `model`).

    Args:
      data: devices along axis `data`; None takes all that `model` leaves.
      model: devices along axis `model`.

    Raises:
      ValueError: a size below 1, or more devices than there are.
    """
    n, n_hosts = len(jax.devices()), multihost.count()
    if model < 1 or (data is not None and data < 1):
        raise ValueError(f"mesh sizes must be at least 1, got data={data}, model={model}.")
    data = n // model if data is None else data
    if data < 1 or data * model > n:
        raise ValueError(
            f"mesh data={data} × model={model} needs {max(1, data) * model} devices, got {n}."
        )
    if data % n_hosts:
        raise ValueError(
            f"mesh data={data} × model={model} does not divide over {n_hosts} processes with "
            f"{n // n_hosts} devices each: expected data to be a multiple of {n_hosts}, and model "
            f"at most {n // n_hosts}."
        )
    if n_hosts == 1:
        devices = jax.devices()[: data * model]
        return jax.make_mesh((data, model), _AXES, axis_types=_TYPES, devices=devices)
    each = data * model // n_hosts
    own = [jax.local_devices(process_index=number)[:each] for number in range(n_hosts)]
    if min(len(devices) for devices in own) < each:
        raise ValueError(
            f"mesh data={data} × model={model} needs {each} devices in each of {n_hosts} "
            f"processes, got {min(len(devices) for devices in own)} in one."
        )
    return Mesh(np.array(own).reshape(data, model), _AXES, axis_types=_TYPES)


def local(mesh: Mesh) -> Mesh:
    """Returns the part of a mesh whose devices are this process's own."""
    if not spans(mesh):
        return mesh
    own = [row[0].process_index == jax.process_index() for row in mesh.devices]
    return Mesh(mesh.devices[own], _AXES, axis_types=_TYPES)  # also where it works alone


def network_mesh(mesh: Mesh) -> Mesh:
    """Returns the devices on which this process runs networks: its own part of a mesh.

    On CPUs of several processes it is one device, which has all cores. There XLA sends sums over
    devices through sockets, also between those of one process, and each waits in a thread of a pool
    that has no more threads than cores.
    """
    own = local(mesh)
    if own is mesh or jax.default_backend() != "cpu":
        return own
    return Mesh(own.devices[:1, :1], _AXES, axis_types=_TYPES)


def spans(mesh: Mesh | None) -> bool:
    """Returns whether a mesh has devices of several processes."""
    return mesh is not None and mesh.is_multi_process


def several(mesh: Mesh | None) -> Mesh | None:
    """Returns a mesh of more than one device; None for one device, which needs no mesh.

    A program is compiled anew for arrays that are placed on a mesh, be it of one device.
    """
    return None if mesh is None or mesh.size == 1 else mesh


def own_rows(mesh: Mesh | None, x: Any) -> Any:
    """Returns the rows of an array that this process computes; all, on a mesh of its own.

    Args:
      mesh: the devices of all.
      x: (rows, …), a multiple of the processes; the same in each.
    """
    return x[multihost.share(len(x))] if spans(mesh) else x


def all_rows(mesh: Mesh | None, x: Any) -> Any:
    """Returns the rows that the processes computed, put together: the reverse of `own_rows`."""
    return multihost.gather(x) if spans(mesh) else x


def of_first(mesh: Mesh | None, x: Any) -> Any:
    """Returns the first process's array: what decides must be the same in all, to the last bit."""
    return multihost.gather(np.asarray(x)[None])[0] if spans(mesh) else x


def whole_sum(mesh: Mesh | None, finish: Callable[..., Any], state: Any, *others: Any) -> Any:
    """Returns finish(state, *others), where the leading axis of `state` is that of all devices.

    Args:
      mesh: the devices of all.
      finish: a jitted function that sums over the leading axis of the arrays in `state`.
      state: arrays (devices of `local(mesh)` along `data`, …).
      others: arrays that are the same in each process.
    """
    if mesh is None or not spans(mesh):
        return finish(state, *others)
    split, whole, own = split_rows(mesh), replicated(mesh), replicated(local(mesh))
    n_devices = mesh.shape["data"]

    def across(x):
        shape = (n_devices, *x.shape[1:])
        return jax.make_array_from_process_local_data(split, np.asarray(x), shape)

    def here(x):
        parts = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, own, parts)

    given = jax.tree.map(across, state), *jax.tree.map(np.asarray, others)
    found = _whole_program(finish, whole)(*given)
    return jax.tree.map(here, jax.block_until_ready(found))  # nothing runs beside what waits


@functools.cache
def _whole_program(finish: Callable[..., Any], whole: NamedSharding) -> Any:
    return jax.jit(finish, out_shardings=whole)


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
