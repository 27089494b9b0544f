"""The probe pass: every image decoded once, every tap of the network read, everything saved as it comes.

    images → activations of each tap (images, neurons), predicted class, labels, annotations

Batches have one padded shape and are split over the mesh's axis `data`; the next one is decoded while this one computes. Each PART of the
images is an artifact of its own until the pass is over, so an interrupted pass goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
from jaxle.report.progress import progress

PART = 2048  # images between two saves


def probe_images(
    model: Model, source: Source, pools: Mapping[str, str], mesh: Mesh, folder: epath.Path, *, batch_size: int, workers: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Run a network over all images of a source; what an interrupted call left in `folder` is used.

    Args:
      model: the network.
      source: the images.
      pools: tap → pool.
      mesh: batches are split over its axis `data`.
      folder: for the parts of an unfinished pass; removed at its end.
      batch_size: images a step, over all devices.
      workers: decoding processes; 0 decodes in threads.

    Returns:
      Arrays: `activations.<tap name>` (images, neurons) float32, `predicted` (images,) int32; where the data have them `labels` (images,)
      int32 and `annotations` (images, concepts) uint8. Facts: `class_names`, `annotated` (the annotations' names), `top1_accuracy`
      (None where the network's and the data's classes differ).

    Raises:
      ValueError: an image that is none, or an activation that is not finite (tap, image and neuron are named).
    """
    n, parts = len(source), []
    while len(parts) * PART < n and (part := artifacts.read(_part(folder, len(parts)))) is not None:
        parts.append(part)
    for arrays in _forward(model, source, pools, mesh, batch_size, workers, start=len(parts) * PART):
        parts.append(artifacts.write(_part(folder, len(parts)), arrays, {}))
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    facts: dict[str, Any] = {"class_names": list(source.class_names)}
    if source.labels is not None:
        arrays["labels"] = np.asarray(source.labels, np.int32)
        facts["top1_accuracy"] = _accuracy(arrays["predicted"], arrays["labels"], model.class_names, source.class_names)
    if source.annotations is not None:
        facts["annotated"], arrays["annotations"] = list(source.annotations[0]), np.asarray(source.annotations[1])
    return arrays, facts


def tap_name(tap: str) -> str:
    """A tap as the name of a file or folder: `/` becomes `.`."""
    return tap.replace("/", ".")


def _part(folder: epath.Path, number: int) -> epath.Path:
    return folder / f"{number:06d}"


def _forward(model: Model, source: Source, pools: Mapping[str, str], mesh: Mesh, batch_size: int, workers: int, start: int):
    """Arrays of each PART of the images from `start` on, in order."""
    n, size = len(source), round_up(batch_size, mesh.shape["data"])

    @jax.jit
    def forward(variables, images):
        values, logits = model.probe(images, pools, variables)
        return {f"activations.{tap_name(tap)}": value for tap, value in values.items()} | {
            "predicted": jnp.argmax(logits, -1).astype(jnp.int32)
        }

    def computed() -> Iterator[tuple[int, dict[str, jax.Array]]]:
        waiting = None  # one batch computes while the next one is decoded
        for index, images in batches(source, {"target": model.preprocess}, size, start, n, workers):
            padded = np.zeros((size, *images["target"].shape[1:]), np.uint8)
            padded[: len(index)] = images["target"]
            values = forward(model.variables, jax.device_put(padded, split_rows(mesh)))
            if waiting is not None:
                yield waiting
            waiting = len(index), values
        if waiting is not None:
            yield waiting

    gathered, first = [], start
    for count, values in progress(computed(), f"probing {model.name}", -(-n // size), start // size):
        batch = {name: np.asarray(value[:count]) for name, value in values.items()}
        for tap in pools:
            check_matrix(batch[f"activations.{tap_name(tap)}"], f"activations of tap {tap!r}", first_row=first)
        gathered.append(batch)
        first += count
        held = sum(len(batch["predicted"]) for batch in gathered)
        while held >= PART or (held and first == n):
            whole = {name: np.concatenate([batch[name] for batch in gathered]) for name in gathered[0]}
            yield {name: value[:PART] for name, value in whole.items()}
            gathered = [{name: value[PART:] for name, value in whole.items()}]
            held = max(0, held - PART)


def _accuracy(predicted: np.ndarray, labels: np.ndarray, model_names: tuple[str, ...], data_names: tuple[str, ...]) -> float | None:
    """Share of images whose predicted class bears the label's name; None where the two name different classes."""
    place = {name.lower(): i for i, name in enumerate(model_names)}
    if not all(name.lower() in place for name in data_names):
        return None
    wanted = np.array([place[name.lower()] for name in data_names])
    return float((predicted == wanted[labels]).mean())
