"""Where a network's variables live on a mesh: whole on every device, or split over axis `model`.

Attention heads and hidden units are split as in Megatron (Shoeybi et al. 2019, arXiv 1909.08053):
the first product of a pair by its outputs, the second by its inputs, so that XLA adds one reduction
a pair. What does not divide evenly stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r".*/(query|key|value)/kernel", PartitionSpec(None, "model", None)),
    (r".*/(query|key|value)/bias", PartitionSpec("model", None)),
    (r".*/out/kernel", PartitionSpec("model", None, None)),
    (r".*/MlpBlock_0/Dense_0/kernel", PartitionSpec(None, "model")),
    (r".*/MlpBlock_0/Dense_0/bias", PartitionSpec("model")),
    (r".*/MlpBlock_0/Dense_1/kernel", PartitionSpec("model", None)),
    (r".*/Embed_0/embedding", PartitionSpec(None, "model")),
    (r".*/(head|fc|classifier/\d)/kernel", PartitionSpec(None, "model")),
)


def shardings(variables: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Returns the NamedSharding of every variable, a tree like `variables`.

    The first rule counts whose pattern fits the variable's path and whose split divides it; a
    variable without one is replicated.
    """

    def choose(path: str, leaf) -> NamedSharding:
        for pattern, spec in RULES:
            if re.fullmatch(pattern, path) and len(spec) == leaf.ndim:
                if all(
                    name is None or size % mesh.shape[name] == 0
                    for name, size in zip(spec, leaf.shape, strict=True)
                ):
                    return NamedSharding(mesh, spec)
        return NamedSharding(mesh, PartitionSpec())

    flat = traverse_util.flatten_dict(variables, sep="/")
    return traverse_util.unflatten_dict(
        {path: choose(path, leaf) for path, leaf in flat.items()}, sep="/"
    )


def place(variables: Mapping[str, Any], mesh: Mesh | None) -> dict[str, Any]:
    """Returns the variables on the devices of a mesh, or on the default device where it is None.

    With one device along `model` every variable is replicated.
    """
    if mesh is None:
        # jnp.asarray compiles a program for each shape; device_put may keep the memory that it is
        # given, which is therefore of a copy
        return jax.device_put(jax.tree.map(_own, dict(variables)))
    return jax.device_put(dict(variables), shardings(variables, mesh))


def _own(x: Any) -> Any:
    return np.array(x) if isinstance(x, np.ndarray) else x
