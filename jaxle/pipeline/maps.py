"""Maps: a neuron's value at every position of the images that its page shows.

    network, images of `shown` → (neurons, images, height, width)

The network runs once more over these images alone; a tap without positions has no map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.models.positions import grid, on_grid
from jaxle.pipeline.cache import Cache, Made, Several, Step, Stored, numerics
from jaxle.pipeline.image_pass import tap_name
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.opened import TRAINED, Images, Opened, Partition
from jaxle.pipeline.shown import Shown

BATCH = 64  # images a step, fewer where a tap has very many columns
BYTES = 256 << 20  # of the largest tap's values a step
SIDE = 14  # most positions along a side


def maps(cache: Cache, inputs: Inputs, shown: Sequence[Shown]) -> Stored:
    """Returns tap (`tap_name`) → (neurons, images, height, width) uint8 of `Shown.rows`.

    255 is the neuron's largest value in them, 0 is zero or below.
    """
    records = [inputs.networks[TRAINED], inputs.images, inputs.partition, Several(shown)]
    return cache.step(MAPS, f"{len(shown)} layers", records, numerics())


def _maps(
    opened: Opened,
    images: Images,
    partition: Partition,
    shown: Sequence[Shown],
    options: Mapping[str, Any],
    mesh: Any,
) -> Made:
    network = opened.network
    found = {one.layer.tap: _grid(network.taps[network.resolve(one.layer.tap)]) for one in shown}
    grids = {tap: grid for tap, grid in found.items() if grid is not None}
    wanted = [one for one in shown if one.layer.tap in grids]
    if not wanted:
        return {}, {}
    pools = dict.fromkeys(grids, "none")

    @jax.jit
    def read(variables, pixels):
        values, _ = network.probe(pixels, pools, variables)
        return {tap: _on_grid(value, grids[tap]) for tap, value in values.items()}

    sizes = [4 * math.prod(network.taps[network.resolve(tap)]) for tap in grids]
    size = max(1, min(BATCH, BYTES // max(sizes)))
    every = np.unique(np.concatenate([one.rows.ravel() for one in wanted]))
    every = every[every >= 0]
    made = {
        one.layer.tap: np.zeros((*one.rows.shape, *grids[one.layer.tap]), np.float32)
        for one in wanted
    }
    order = {one.layer.tap: np.argsort(one.rows, axis=None, kind="stable") for one in wanted}
    for start in range(0, len(every), size):
        batch = every[start : start + size]
        pixels = _fitted(images, network.preprocess.fit, partition.split.test[batch])
        values = read(network.variables, np.resize(pixels, (size, *pixels.shape[1:])))
        for one in wanted:
            tap, flat = one.layer.tap, one.rows.ravel()
            ends = np.searchsorted(flat[order[tap]], [batch[0], batch[-1] + 1])
            cells = order[tap][ends[0] : ends[1]]
            neurons, slots = np.unravel_index(cells, one.rows.shape)
            place = np.searchsorted(batch, flat[cells])
            made[tap][neurons, slots] = np.asarray(values[tap])[place, :, :, neurons]
    return {tap_name(tap): _bytes(values) for tap, values in made.items()}, {}


def _grid(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of a tap's map as it is kept; None where it has no positions."""
    found = grid(shape)
    return None if found is None else (min(found[0], SIDE), min(found[1], SIDE))


def _on_grid(value: jax.Array, size: tuple[int, int]) -> jax.Array:
    value = on_grid(value)
    if value.shape[1:3] != size:
        value = jax.image.resize(value, (len(value), *size, value.shape[3]), "linear")
    return value.astype(jnp.float32)


def _fitted(images: Images, fit: Any, index: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor() as threads:
        return np.stack(list(threads.map(lambda i: fit(images.source[int(i)][0]), index)))


def _bytes(values: np.ndarray) -> np.ndarray:
    most = values.max(axis=(1, 2, 3), keepdims=True, initial=0)
    scaled = np.maximum(values, 0) / np.where(most > 0, most, 1)
    return np.round(255 * scaled).astype(np.uint8)


MAPS = Step("maps", "report", 2, _maps, alone=True)
