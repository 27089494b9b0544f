"""What the pass over the images runs of each network: one compiled program for all of its batches.

    network, taps → (variables, images) → pooled values, output, what is finite

Networks that differ in their weights alone share a program, and the pass over pairs of pictures
takes the programs of the pass over the images: those of Linen modules, which do not change in
between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxle.mesh import split_rows
from jaxle.models.finite import probe_finite
from jaxle.models.network import Network

EMBEDDINGS = "embeddings"
PREDICTED = "predicted"
FINITE = "finite"  # (images, modules): checked, and not kept


class Reading(NamedTuple):
    """What the pass reads of a network: taps with their pools; its output where there are none."""

    network: Network
    pools: Mapping[str, str] = {}


Program = Callable[[Any, jax.Array], dict[str, jax.Array]]
_last: dict[Hashable, Program] = {}  # the programs of the last pass


def reader(reading: Reading) -> Program:
    """Returns what the pass runs of a network: (variables, images) → array name → array."""

    @jax.jit
    def read(variables, images):
        values, output, finite = probe_finite(reading.network, images, reading.pools, variables)
        if not reading.pools:
            return {EMBEDDINGS: output, FINITE: finite}
        return {**values, PREDICTED: jnp.argmax(output, -1).astype(jnp.int32), FINITE: finite}

    return read


def readers(readings: Mapping[str, Reading], size: int, mesh: Mesh) -> dict[str, Program]:
    """Returns name → the program that reads a network, compiled side by side where it is new.

    Args:
      readings: name → network, and what to read of it.
      size: images of a batch.
      mesh: batches are split over its axis `data`.
    """
    keys = {name: _key(reading, size, mesh) for name, reading in readings.items()}
    new = {key: readings[name] for name, key in keys.items() if key not in _last}

    def compiled(reading: Reading) -> Program:
        side = reading.network.preprocess.size
        images = jax.ShapeDtypeStruct((size, side, side, 3), jnp.uint8, sharding=split_rows(mesh))
        return reader(reading).lower(reading.network.variables, images).compile()

    with ThreadPoolExecutor() as threads:
        made = dict(zip(new, threads.map(compiled, new.values()), strict=True))
    made |= {key: _last[key] for key in keys.values() if key in _last}
    _last.clear()
    _last.update({keys[n]: made[keys[n]] for n, r in readings.items() if _module(r.network)})
    return {name: made[key] for name, key in keys.items()}


def _key(reading: Reading, size: int, mesh: Mesh) -> Hashable:
    """What a program depends on: all but the values of the variables."""
    network = reading.network
    leaves, tree = jax.tree.flatten(network.variables)
    placed = tuple(
        (leaf.shape, str(leaf.dtype), getattr(leaf, "sharding", None)) for leaf in leaves
    )
    taps = tuple((tap, network.resolve(tap), pool) for tap, pool in reading.pools.items())
    about = network.architecture, _module(network), repr(network.preprocess), taps
    return (*about, tree, placed, size, mesh)


def _module(network: Network) -> nn.Module | None:
    """The Linen module of a network, equal to others by its fields, of which some are functions.

    None for a network of another kind and for a module with fields that no hash is of.
    """
    module = getattr(network, "module", None)
    if not isinstance(module, nn.Module):
        return None
    try:
        hash(module)
    except TypeError:
        return None
    return module
