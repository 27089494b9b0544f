"""The pass over the images: each is decoded once, and every network reads it.

    images → activations of each tap (images, neurons) and predicted class of a target;
             embeddings (images, numbers) of an encoder

    missing_parts → read_images: computes and writes parts → whole_arrays

Batches have one padded shape and are split over the mesh's axis `data`. While one is computed the
next are decoded and copied to the devices, and what the one before gave is copied from them. Each
part of the images (`pipeline.parts`) is an artifact of its own until the pass is over: an
interruption loses no more than the part in progress, and several processes compute each some parts.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts
from jaxle.arrays import check_matrix
from jaxle.data.sources import Source, names_of
from jaxle.mesh import round_up
from jaxle.models.finite import check_finite
from jaxle.pipeline.images_ahead import (
    Clock,
    Pass,
    Placed,
    Rates,
    Shape,
    Wanted,
    read_ahead,
    step_size,
)
from jaxle.pipeline.parts import part_folder, part_range, part_size, whole_array
from jaxle.pipeline.readers import EMBEDDINGS, FINITE, PREDICTED, Reading, readers
from jaxle.report.progress import Bar

PICTURES = "pictures"  # (images,): what a target sees of each, hashed
_IN_FLIGHT = 2  # batches that the devices compute while a part is written


class _Step(NamedTuple):
    """A batch on the devices: its images, and name → array (batch_size, …) of each network."""

    index: np.ndarray
    values: dict[str, Any]


def read_images(
    readings: Mapping[str, Reading],
    source: Source,
    mesh: Mesh,
    folder: epath.Path,
    how: Pass,
    parts: Sequence[int],
) -> Rates:
    """Runs networks over some parts of the images, and writes what each part gives.

    Args:
      readings: name → network, and what to read of it.
      source: the images.
      mesh: batches are split over its axis `data`.
      folder: for the parts; the caller removes it when `whole_arrays` has been kept.
      how: images a step, and how they are decoded.
      parts: those that this process computes: its share of the missing ones.

    Raises:
      UnreadableImage: an image that cannot be decoded.
      ValueError: a value that is not finite in a network (network, image and module are named).
      TimeoutError: images that take too long to decode.
      Whatever `how.saved` raises, after the part is written.
    """
    n, left = len(source), deque(parts)
    ranges = [part_range(number, n) for number in parts]
    size = round_up(step_size(how.batch_size, part_size(n)), mesh.shape["data"])
    fits = {name: reading.network.preprocess for name, reading in readings.items()}
    wanted = Wanted(fits, tuple(name for name, reading in readings.items() if reading.pools))
    what = ", ".join(dict.fromkeys(reading.network.name for reading in readings.values()))
    total = sum(stop - start for start, stop in ranges)
    programs, gathered = readers(readings, size, mesh) if parts else {}, []
    clock = Clock()
    ahead = read_ahead(source, wanted, ranges, Shape(size, mesh), how.decoding, clock)
    with Bar(f"probing {what}", n, n - total) as bar, contextlib.closing(ahead) as placed:
        for index, values in _computed(readings, programs, placed):
            batch = {name: np.asarray(value)[: len(index)] for name, value in values.items()}
            _check(readings, batch, source, size, int(index[0]))
            gathered.append(batch)
            bar.advance(by=len(index))
            if index[-1] + 1 == part_range(left[0], n)[1]:
                arrays = {name: np.concatenate([b[name] for b in gathered]) for name in batch}
                artifacts.write(part_folder(folder, left[0]), arrays, {})
                gathered = []
                how.saved(left.popleft())
    return clock.rates(total, how.decoding.at_once)


def whole_arrays(
    readings: Mapping[str, Reading], folder: epath.Path, n: int
) -> dict[str, dict[str, artifacts.Rows]]:
    """Returns what all parts together hold, to be written a part at a time.

    Args:
      readings: as of `read_images`.
      folder: of the parts, which must all be there.
      n: images.

    Returns:
      Name → arrays: each tap's activations (images, neurons) float32, `predicted` (images,) int32
      and `pictures` (images,) uint64 of a network with taps; `embeddings` (images, numbers)
      float32 of one without.
    """
    return {
        name: {key: whole_array(folder, n, _place(name, key)) for key in _keys(reading)}
        for name, reading in readings.items()
    }


def arrays_of(readings: Mapping[str, Reading]) -> list[str]:
    """Returns the names of the arrays that a part has."""
    return [_place(name, key) for name, reading in readings.items() for key in _keys(reading)]


def tap_name(tap: str) -> str:
    """Returns a tap as the name of a file or folder: `/` becomes `.`."""
    return tap.replace("/", ".")


def _keys(reading: Reading) -> tuple[str, ...]:
    return (*reading.pools, PREDICTED, PICTURES) if reading.pools else (EMBEDDINGS,)


def _place(name: str, key: str) -> str:
    """Where an array of a network lies in a part: by the network's name, whatever the order."""
    return f"{tap_name(name)}.{tap_name(key)}"


def _computed(
    readings: Mapping[str, Reading], programs: Mapping[str, Callable], placed: Iterator[Placed]
) -> Iterator[_Step]:
    """Every batch in order, `_IN_FLIGHT` of them behind what the devices were given last."""
    ahead: deque[_Step] = deque()
    while True:
        try:
            batch = next(placed, None)
        except (ValueError, OSError):
            yield from ahead  # what was computed before the error is not lost
            raise
        if batch is None:
            break
        values = {}
        for name, reading in readings.items():
            got = programs[name](reading.network.variables, batch.images[name])
            for key, value in got.items():
                value.copy_to_host_async()
                values[_place(name, key)] = value
            if reading.pools:
                values[_place(name, PICTURES)] = batch.hashes[name]
        ahead.append(_Step(batch.index, values))
        if len(ahead) > _IN_FLIGHT:
            yield ahead.popleft()
    yield from ahead


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
