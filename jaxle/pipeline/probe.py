"""Probe: what is in the images by their labels, and what every network makes of them, in one pass.

images → Labelled;   images × network → Probed (activations) or Embedded (embeddings)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from jaxle import multihost, stopping
from jaxle.artifacts import fingerprint
from jaxle.data.loader import Decoding, UnreadableImage
from jaxle.data.sources import Source, changed_files
from jaxle.mesh import network_mesh
from jaxle.models.model import RECONSTRUCTION
from jaxle.models.recorded import RecordedModel
from jaxle.models.two_tower import TwoTower
from jaxle.pipeline import recorded
from jaxle.pipeline.cache import Cache, Made, Step, Stored, numerics, seen
from jaxle.pipeline.checks import AnyModel
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.image_pass import PICTURES, arrays_of, read_images, tap_name, whole_arrays
from jaxle.pipeline.images_ahead import Pass
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.opened import TRAINED, Images, Opened
from jaxle.pipeline.parts import missing_parts, part_folder
from jaxle.pipeline.readers import EMBEDDINGS, PREDICTED, Reading
from jaxle.pipeline.skipped import BeginAgain, leave_out


@dataclass(frozen=True, eq=False)
class Labelled:
    """The data's own labels: classes (images,) or None, and annotations (names, 0/1) or None."""

    key: str
    class_names: tuple[str, ...]
    labels: np.ndarray | None
    annotations: tuple[tuple[str, ...], np.ndarray] | None


@dataclass(frozen=True, eq=False)
class Probed:
    """A target's activations, tap → (images, neurons) float32, and predicted class (images,).

    `pictures` (images,) are equal where the target is given the same pixels. `reconstruction` has
    tap → how well units give its values back (`UnitForm.read`), where they are meant to. `step`
    names the step whose result holds the arrays.
    """

    key: str
    network: str
    activations: Mapping[str, np.ndarray]
    predicted: np.ndarray
    pictures: np.ndarray
    kind: str = TRAINED
    reconstruction: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    step: str = "probe"


@dataclass(frozen=True, eq=False)
class Embedded:
    """An encoder and its image embeddings (images, numbers) float32, rows of unit length."""

    key: str
    encoder: Encoder
    opened: Opened[TwoTower]
    embeddings: np.ndarray


def read_labels(cache: Cache, images: Images) -> Labelled:
    """Returns what the data say of their images."""
    stored = cache.step(LABELS, f"{len(images.source)} images", [images])
    arrays, facts = stored.arrays, stored.facts
    annotations = None
    if "annotations" in arrays:
        annotations = (tuple(facts["annotated"]), arrays["annotations"])
    return Labelled(stored.key, tuple(facts["class_names"]), arrays.get("labels"), annotations)


def _read_labels(images: Images, options: None, mesh: Any) -> Made:
    source = images.source
    arrays, facts = {}, {"class_names": list(source.class_names)}
    if source.labels is not None:
        arrays["labels"] = np.asarray(source.labels, np.int32)
    if source.annotations is not None:
        facts["annotated"] = list(source.annotations[0])
        arrays["annotations"] = np.asarray(source.annotations[1])
    return arrays, facts


def probe(
    cache: Cache, inputs: Inputs, config: Config
) -> tuple[dict[str, Probed], dict[Encoder, Embedded]]:
    """Returns what every network makes of the images; one pass reads all that the cache lacks.

    Args:
      cache: of the run.
      inputs: images, networks and encoders.
      config: taps and pool of the target; images a step.
    """
    readings: dict[str, Reading] = {}
    for opened in inputs.networks.values():
        pools = _pools(opened.network, config)
        key = _key(cache, inputs.images, opened, pools)
        if isinstance(opened.network, RecordedModel):
            _keep_activations(cache, inputs.images.source, key, pools)
        else:
            readings[key] = Reading(opened.network, pools)
    for encoder, opened in inputs.encoders.items():
        key = _key(cache, inputs.images, opened, {})
        found = recorded.embeddings_of(inputs.images.source, encoder, config)
        if found is None:
            readings[key] = Reading(opened.network)
        elif not cache.has(PROBE, key):
            cache.keep(PROBE, key, {EMBEDDINGS: found}, {})
    decoding = Decoding(config.data.workers, config.data.timeout)
    _read_missing(cache, inputs.images, readings, Pass(config.data.batch_size, decoding))
    probed, embedded = {}, {}
    for name, opened in inputs.networks.items():
        pools = _pools(opened.network, config)
        stored = _stored(cache, _key(cache, inputs.images, opened, pools))
        read = {tap: stored.arrays[tap_name(tap)] for tap in pools}
        activations = {tap: read.pop(tap) for tap in config.target.taps}
        measured = {tap.removesuffix(RECONSTRUCTION): value for tap, value in read.items()}
        predicted, pictures = stored.arrays[PREDICTED], stored.arrays[PICTURES]
        probed[name] = Probed(
            stored.key, name, activations, predicted, pictures, opened.kind, measured
        )
    for encoder, opened in inputs.encoders.items():
        stored = _stored(cache, _key(cache, inputs.images, opened, {}))
        embedded[encoder] = Embedded(stored.key, encoder, opened, stored.arrays[EMBEDDINGS])
    return probed, embedded


def _keep_activations(cache: Cache, source: Source, key: str, taps: Mapping[str, str]) -> None:
    """Keeps recorded activations where the pass would have kept what it computed."""
    if not cache.has(PROBE, key):
        found = recorded.activations_of(source, taps)
        arrays = {tap_name(tap): values for tap, values in found.items()}
        arrays |= {PREDICTED: recorded.predicted(source), PICTURES: recorded.pictures(source)}
        cache.keep(PROBE, key, arrays, {})


def _pools(network: AnyModel, config: Config) -> dict[str, str]:
    """Tap → pool, and the same of how well units reconstruct its values."""
    pools = dict.fromkeys(config.target.taps, config.target.pool)
    units = {tap: network.units.get(network.resolve(tap)) for tap in pools}
    asked = [tap for tap, form in units.items() if form is not None and form.reconstructs]
    return {**pools, **{tap + RECONSTRUCTION: pools[tap] for tap in asked}}


def _key(cache: Cache, images: Images, opened: Opened, pools: Mapping[str, str]) -> str:
    """The key of what one network reads of the images."""
    taps = {tap: [opened.network.resolve(tap), pool] for tap, pool in pools.items()}
    return cache.key(PROBE, [images, opened], {"taps": taps, **numerics()})


def _read_missing(cache: Cache, images: Images, readings: Mapping[str, Reading], how: Pass) -> None:
    """Runs the networks whose readings the cache lacks over the images, once for all of them."""
    began, what = time.monotonic(), f"{len(images.source)} images"
    missing = {key: r for key, r in readings.items() if not cache.has(PROBE, key)}
    if missing:
        cache.require(PROBE, what)
        # named by all readings: a run that ends while these are kept finds its parts again
        parts = cache.folder / f"probe-parts-{fingerprint({'keys': sorted(readings)})}"
        n = len(images.source)
        lacking = missing_parts(parts, n, arrays_of(missing)) if multihost.first() else []
        numbers = multihost.agree(lacking)
        own = numbers[multihost.share(len(numbers))]  # neighbours: files are read in their order
        how = how._replace(saved=lambda number: _saved(cache, number, what))
        unreadable = None
        try:
            rates = read_images(missing, images.source, network_mesh(cache.mesh), parts, how, own)
            if numbers:
                about = {"stage": PROBE.stage, "step": "pass", "what": what}
                cache.journal.measure(about, {"reused": False, **rates.facts()})
        except UnreadableImage as error:
            unreadable = error
        if leave_out(images.source, images.skipped, unreadable, how.decoding):
            if multihost.first():
                parts.rmtree(missing_ok=True)
            raise BeginAgain("images that cannot be decoded were found")
        _check_unchanged(images, parts)
        whole = {}
        if multihost.first():
            for number in set(numbers) - set(own):
                seen(part_folder(parts, number))
            whole = whole_arrays(missing, parts, n)
        for key in missing:
            arrays = {tap_name(name): a for name, a in whole.get(key, {}).items()}
            cache.keep(PROBE, key, arrays, {})
        if multihost.first():
            parts.rmtree(missing_ok=True)
    for key, reading in readings.items():
        about = f"{reading.network.name} on {what}"
        cache.journal.note(PROBE, about, key not in missing, time.monotonic() - began)


def _saved(cache: Cache, number: int, what: str) -> None:
    about = {"stage": PROBE.stage, "step": "part", "what": f"part {number} of {what}"}
    cache.journal.measure(about, {"reused": False})
    stopping.check(f"part {number} of the probe pass")


def _check_unchanged(images: Images, parts: epath.Path) -> None:
    """Raises a ValueError where images are no longer those whose content is in the key."""
    touched = changed_files(images.source)
    more = f" and {len(touched) - 1} more" if len(touched) > 1 else ""
    about = f"{touched[0]}{more}" if touched else ""
    found = list(filter(None, multihost.each(about)))  # hosts may have copies of their own
    if found:
        if multihost.first():
            parts.rmtree(missing_ok=True)
        raise ValueError(
            f"{found[0]} changed while the run read it, and nothing that was read is kept: run the "
            "same command again."
        )


def _stored(cache: Cache, key: str) -> Stored:
    stored = cache.find(PROBE, key)
    assert stored is not None, "the pass has kept it"
    return stored


def _never(*inputs: Any, options: Any, mesh: Any) -> Made:
    raise AssertionError("the pass over the images keeps what this step gives")


LABELS = Step("labels", "probe", 1, _read_labels, alone=True)
PROBE = Step("probe", "probe", 2, _never)
