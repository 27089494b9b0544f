"""The pass over the images: each is decoded once, and every network reads it.

    images → activations of each tap (images, neurons) and predicted class of a target;
             embeddings (images, numbers) of an encoder

Batches have one padded shape and are split over the mesh's axis `data`; the next one is decoded
while this one computes. Each PART of the images is an artifact of its own until the pass is over,
so an interrupted pass goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts
from jaxle.arrays import check_matrix
from jaxle.data.duplicates import picture_hashes
from jaxle.data.loader import batches
from jaxle.data.sources import Source, names_of
from jaxle.mesh import round_up, split_rows
from jaxle.models.finite import check_finite, probe_finite
from jaxle.models.network import Network
from jaxle.report.progress import Bar

PART = 2048  # images between two saves
EMBEDDINGS = "embeddings"
PREDICTED = "predicted"
PICTURES = "pictures"  # (images,): what a target sees of each, hashed
FINITE = "finite"  # (images, modules): checked, and not kept


class Reading(NamedTuple):
    """What the pass reads of a network: taps with their pools; its output where there are none."""

    network: Network
    pools: Mapping[str, str] = {}


class Pass(NamedTuple):
    """How images are read: how many a step over all devices, and by how many processes."""

    batch_size: int
    workers: int


def read_images(
    readings: Mapping[str, Reading], source: Source, mesh: Mesh, folder: epath.Path, how: Pass
) -> dict[str, dict[str, np.ndarray]]:
    """Runs networks over all images of a source; parts that an interrupted call left are used.

    Args:
      readings: name → network, and what to read of it.
      source: the images.
      mesh: batches are split over its axis `data`.
      folder: for the parts of an unfinished pass; the caller removes it at the end.
      how: images a step, and decoding processes (0 decodes in threads).

    Returns:
      Name → arrays: each tap's activations (images, neurons) float32, `predicted` (images,) int32
      and `pictures` (images,) uint64 of a network with taps; `embeddings` (images, numbers)
      float32 of one without.

    Raises:
      ValueError: an image that cannot be decoded, or a value that is not finite in a network
        (network, image and module are named).
    """
    n, parts = len(source), []
    while len(parts) * PART < n and (part := artifacts.read(_part(folder, len(parts)))) is not None:
        parts.append(part)
    for arrays in _forward(readings, source, mesh, how, start=len(parts) * PART):
        parts.append(artifacts.write(_part(folder, len(parts)), arrays, {}))
    whole = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
    }
    return {
        name: {key: whole[_place(name, key)] for key in _keys(reading)}
        for name, reading in readings.items()
    }


def tap_name(tap: str) -> str:
    """Returns a tap as the name of a file or folder: `/` becomes `.`."""
    return tap.replace("/", ".")


def _part(folder: epath.Path, number: int) -> epath.Path:
    return folder / f"{number:06d}"


def _keys(reading: Reading) -> tuple[str, ...]:
    return (*reading.pools, PREDICTED, PICTURES) if reading.pools else (EMBEDDINGS,)


def _place(name: str, key: str) -> str:
    """Where an array of a network lies in a part: by the network's name, whatever the order."""
    return f"{tap_name(name)}.{tap_name(key)}"


def _reader(reading: Reading) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    @jax.jit
    def read(variables, images):
        values, output, finite = probe_finite(reading.network, images, reading.pools, variables)
        if not reading.pools:
            return {EMBEDDINGS: output, FINITE: finite}
        return {**values, PREDICTED: jnp.argmax(output, -1).astype(jnp.int32), FINITE: finite}

    return read


def _readers(readings: Mapping[str, Reading], size: int, mesh: Mesh) -> dict[str, Callable]:
    """Name → what reads it; networks that differ in their weights alone share a program.

    Programs are compiled side by side, of batches of `size` images.
    """
    shared: dict[tuple[str, ...], Reading] = {}
    programs = {}
    for name, reading in readings.items():
        network = reading.network
        programs[name] = (network.architecture, repr(network.preprocess), repr(dict(reading.pools)))
        shared.setdefault(programs[name], reading)

    def compiled(reading: Reading) -> Callable:
        side = reading.network.preprocess.size
        images = jax.ShapeDtypeStruct((size, side, side, 3), jnp.uint8, sharding=split_rows(mesh))
        return _reader(reading).lower(reading.network.variables, images).compile()

    with ThreadPoolExecutor() as threads:
        made = dict(zip(shared, threads.map(compiled, shared.values()), strict=True))
    return {name: made[program] for name, program in programs.items()}


def _forward(
    readings: Mapping[str, Reading], source: Source, mesh: Mesh, how: Pass, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """Arrays of each PART of the images from `start` on, in order."""
    n, gathered, first = len(source), [], start
    size = round_up(how.batch_size, mesh.shape["data"])
    what = ", ".join(dict.fromkeys(reading.network.name for reading in readings.values()))
    computed = _computed(readings, source, mesh, size, how.workers, start)
    with Bar(f"probing {what}", n, start) as bar:
        for count, values in computed:
            batch = {name: np.asarray(value[:count]) for name, value in values.items()}
            _check(readings, batch, source, size, first)
            gathered.append(batch)
            first += count
            bar.advance(by=count)
            held = sum(len(next(iter(batch.values()))) for batch in gathered)
            while held >= PART or (held and first == n):
                whole = {name: np.concatenate([b[name] for b in gathered]) for name in gathered[0]}
                yield {name: value[:PART] for name, value in whole.items()}
                gathered = [{name: value[PART:] for name, value in whole.items()}]
                held = max(0, held - PART)


def _computed(readings, source, mesh, size, workers, start):
    """(images, arrays on the devices) of every batch; one computes while the next is decoded."""
    readers = _readers(readings, size, mesh)
    fits = {name: reading.network.preprocess for name, reading in readings.items()}
    waiting = None
    for index, images in batches(source, fits, size, start, len(source), workers):
        values, placed, hashed = {}, {}, {}
        for name, reading in readings.items():
            shared = id(images[name])  # networks that fit their pictures alike share one array
            if shared not in placed:
                placed[shared] = _padded(images[name], size, mesh)
            got = readers[name](reading.network.variables, placed[shared])
            values |= {_place(name, key): value for key, value in got.items()}
            if reading.pools:
                if shared not in hashed:
                    hashed[shared] = picture_hashes(images[name])
                values[_place(name, PICTURES)] = hashed[shared]
        if waiting is not None:
            yield waiting
        waiting = len(index), values
    if waiting is not None:
        yield waiting


def _padded(images: np.ndarray, size: int, mesh: Mesh) -> jax.Array:
    batch = np.zeros((size, *images.shape[1:]), np.uint8)
    batch[: len(images)] = images
    return jax.device_put(batch, split_rows(mesh))


def _check(
    readings: Mapping[str, Reading],
    batch: dict[str, np.ndarray],
    source: Source,
    size: int,
    first: int,
) -> None:
    """Raises a ValueError for a value that is not finite; removes what says so from the batch.

    Args:
      readings: what the batch is of.
      batch: its arrays.
      source: of the images.
      size: images that were computed, padding included.
      first: the batch's first image.
    """
    for name, reading in readings.items():
        finite = batch.pop(_place(name, FINITE))
        if not finite.all():
            check_finite(reading.network, finite, size, first, names_of(source))
        for tap in reading.pools:
            check_matrix(batch[_place(name, tap)], f"activations of tap {tap!r}", first_row=first)
        if not reading.pools:
            what = f"embeddings of {reading.network.name}"
            check_matrix(batch[_place(name, EMBEDDINGS)], what, first_row=first)
