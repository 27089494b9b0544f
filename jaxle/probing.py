"""The probe pass: every image decoded once for every network, everything that is read of them saved as it comes.

    images → activations of each tap (images, neurons) and predicted class of a target; embeddings (images, numbers) of an encoder

Batches have one padded shape and are split over the mesh's axis `data`; the next one is decoded while this one computes. Each PART of the
images is an artifact of its own until the pass is over, so an interrupted pass goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts
from jaxle.arrays import check_matrix
from jaxle.data.loader import batches
from jaxle.data.sources import Source
from jaxle.mesh import round_up, split_rows
from jaxle.models.model import Model
from jaxle.models.two_tower import TwoTower
from jaxle.report.progress import progress

PART = 2048  # images between two saves
EMBEDDINGS = "embeddings"


class Reading(NamedTuple):
    """What the pass reads of one network: `pools`, tap → pool, of a target; the output of an encoder, which has none."""

    model: Model | TwoTower
    pools: Mapping[str, str] = {}


def probe_images(
    readings: Mapping[str, Reading],
    source: Source,
    mesh: Mesh,
    folder: epath.Path,
    *,
    batch_size: int,
    workers: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Run networks over all images of a source; what an interrupted call with the same networks left in `folder` is used.

    Args:
      readings: name → network and what to read of it.
      source: the images.
      mesh: batches are split over its axis `data`.
      folder: for the parts of an unfinished pass; the caller removes it at the end.
      batch_size: images a step, over all devices.
      workers: decoding processes; 0 decodes in threads.

    Returns:
      Name → arrays: `activations.<tap name>` (images, neurons) float32 and `predicted` (images,) int32 of a network with taps,
      `embeddings` (images, numbers) float32 of one without.

    Raises:
      ValueError: an image that is none, or an activation that is not finite (network or tap, image and neuron are named).
    """
    n, parts = len(source), []
    while len(parts) * PART < n and (part := artifacts.read(_part(folder, len(parts)))) is not None:
        parts.append(part)
    for arrays in _forward(readings, source, mesh, batch_size, workers, start=len(parts) * PART):
        parts.append(artifacts.write(_part(folder, len(parts)), arrays, {}))
    whole = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays
    }
    return {
        name: {
            key.removeprefix(f"{number}."): array
            for key, array in whole.items()
            if key.startswith(f"{number}.")
        }
        for number, name in enumerate(readings)
    }


def tap_name(tap: str) -> str:
    """A tap as the name of a file or folder: `/` becomes `.`."""
    return tap.replace("/", ".")


def accuracy(
    predicted: np.ndarray,
    labels: np.ndarray,
    model_names: tuple[str, ...],
    data_names: tuple[str, ...],
) -> float | None:
    """Share of images whose predicted class bears the label's name; None where the two name different classes."""
    place = {name.lower(): i for i, name in enumerate(model_names)}
    if not all(name.lower() in place for name in data_names):
        return None
    wanted = np.array([place[name.lower()] for name in data_names])
    return float((predicted == wanted[labels]).mean())


def _part(folder: epath.Path, number: int) -> epath.Path:
    return folder / f"{number:06d}"


def _reader(reading: Reading) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    @jax.jit
    def read(variables, images):
        values, output = reading.model.probe(images, reading.pools, variables)
        if not reading.pools:
            return {EMBEDDINGS: output}
        activations = {f"activations.{tap_name(tap)}": value for tap, value in values.items()}
        return activations | {"predicted": jnp.argmax(output, -1).astype(jnp.int32)}

    return read


def _forward(
    readings: Mapping[str, Reading],
    source: Source,
    mesh: Mesh,
    batch_size: int,
    workers: int,
    start: int,
):
    """Arrays of each PART of the images from `start` on, in order, each named by its network's number."""
    n, size = len(source), round_up(batch_size, mesh.shape["data"])
    readers = {name: _reader(reading) for name, reading in readings.items()}
    fits = {name: reading.model.preprocess for name, reading in readings.items()}

    def padded(images: np.ndarray) -> jax.Array:
        batch = np.zeros((size, *images.shape[1:]), np.uint8)
        batch[: len(images)] = images
        return jax.device_put(batch, split_rows(mesh))

    def computed() -> Iterator[tuple[int, dict[str, jax.Array]]]:
        waiting = None  # one batch computes while the next one is decoded
        for index, images in batches(source, fits, size, start, n, workers):
            values, placed = {}, {}
            for number, (name, reading) in enumerate(readings.items()):
                shared = id(images[name])  # networks that fit their pictures alike share one array
                if shared not in placed:
                    placed[shared] = padded(images[name])
                values |= {
                    f"{number}.{key}": value
                    for key, value in readers[name](reading.model.variables, placed[shared]).items()
                }
            if waiting is not None:
                yield waiting
            waiting = len(index), values
        if waiting is not None:
            yield waiting

    gathered, first = [], start
    what = ", ".join(dict.fromkeys(reading.model.name for reading in readings.values()))
    for count, values in progress(computed(), f"probing {what}", -(-n // size), start // size):
        batch = {name: np.asarray(value[:count]) for name, value in values.items()}
        for number, reading in enumerate(readings.values()):
            if not reading.pools:
                check_matrix(
                    batch[f"{number}.{EMBEDDINGS}"],
                    f"embeddings of {reading.model.name}",
                    first_row=first,
                )
            for tap in reading.pools:
                check_matrix(
                    batch[f"{number}.activations.{tap_name(tap)}"],
                    f"activations of tap {tap!r}",
                    first_row=first,
                )
        gathered.append(batch)
        first += count
        held = sum(len(next(iter(batch.values()))) for batch in gathered)
        while held >= PART or (held and first == n):
            whole = {
                name: np.concatenate([batch[name] for batch in gathered]) for name in gathered[0]
            }
            yield {name: value[:PART] for name, value in whole.items()}
            gathered = [{name: value[PART:] for name, value in whole.items()}]
            held = max(0, held - PART)
