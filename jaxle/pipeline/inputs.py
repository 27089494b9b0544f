"""What a run begins with: images, their split, networks and encoders, opened cheapest first."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle.artifacts import fingerprint
from jaxle.data.generated import generate_folder, generated_count
from jaxle.data.loader import read_image
from jaxle.data.sources import Source, open_source
from jaxle.data.splits import load_split, make_split
from jaxle.evaluation.random_network import shuffled_network
from jaxle.models.generated import generate
from jaxle.models.model import Model
from jaxle.models.recorded import NAME
from jaxle.models.two_tower import TwoTower
from jaxle.models.units.unit_map import UnitMap
from jaxle.models.zoo import load_model
from jaxle.pipeline.cache import derived_key
from jaxle.pipeline.checks import AnyModel, check_target
from jaxle.pipeline.config import Config, Data, Encoder, Target
from jaxle.pipeline.left_out import possible
from jaxle.pipeline.needs import GENERATED, check_needs
from jaxle.pipeline.opened import TRAINED, Images, N, Opened, Partition
from jaxle.pipeline.recorded import recorded_model
from jaxle.pipeline.skipped import find_skipped, split_without, without
from jaxle.pipeline.units import attached, made_units, named, unit_facts

UNTRAINED, SHUFFLED = "untrained", "shuffled"  # kinds of network beside the trained one
STATISTICS = 512  # training images from which a shuffled network's batch statistics are measured
HASHES = "hashes.json"  # of image files
OWN = ("arguments", "call", "preprocess", "class_names")  # what your own network may need


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run begins with.

    Attributes:
      images, partition: the probe images and their split.
      networks: name → the target: "trained", "untrained-1" and so on, "shuffled".
      encoders: the two-tower networks that explain or simulate.
      units: tap → what is known of its units; none where taps have neurons.
    """

    images: Images
    partition: Partition
    networks: Mapping[str, Opened[AnyModel]]
    encoders: Mapping[Encoder, Opened[TwoTower]]
    units: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def trained(self) -> AnyModel:
        """The network that is explained."""
        return self.networks[TRAINED].network


def open_inputs(config: Config, folder: epath.Path, mesh: Mesh) -> Inputs:
    """Returns the inputs that a config names.

    Args:
      config: the settings.
      folder: where generated weights and images are made.
      mesh: the devices.

    Raises:
      ValueError: all that is missing (`pipeline.needs`), or else the first thing that is wrong.
      ConnectionError: weights that cannot be fetched.
    """
    seed, target = config.seed, config.target
    source = check_needs(config, folder / HASHES)
    if source is not None:
        config, _ = possible(config, source)
        target = config.target
    if source is not None and target.model == NAME:
        bare = _recorded(source)
    else:
        bare = _target(target, mesh, _weights(target, folder, seed))
    units = made_units(bare.network, target, seed)
    trained = with_units(bare, units)
    check_target(trained.network, target)
    images = open_images(config.data, seed, folder, trained.network.class_names, source)
    partition = _partition(config.data, images, seed)
    networks = {TRAINED: trained}
    untrained = _untrained(bare, config, mesh)
    networks |= {name: with_units(of, units) for name, of in untrained.items()}
    if config.evaluation.shuffled:
        networks[SHUFFLED] = _shuffled(trained, images, partition, seed)
    towers: dict[Encoder, Opened[TwoTower]] = {}
    for encoder in config.encoders:
        weights = _weights(encoder, folder, seed + 1 + len(towers))
        towers[encoder] = _tower(encoder, weights, mesh)
    return Inputs(images, partition, networks, towers, unit_facts(units))


def with_units(opened: Opened[N], units: Mapping[str, UnitMap]) -> Opened[N]:
    """Returns a network with units in place of its taps' neurons; the same where there are none."""
    if not units:
        return opened
    key = derived_key("units", 1, [opened], named(units))
    return dataclasses.replace(opened, key=key, network=attached(opened.network, units))


def open_images(
    data: Data,
    seed: int,
    folder: epath.Path,
    class_names: tuple[str, ...],
    source: Source | None = None,
) -> Images:
    """Returns the probe images of a config, known by their content.

    Args:
      data: which images.
      seed: of a subset, of scenes, of generated images.
      folder: generated ones are made there, and hashes of image files are remembered there.
      class_names: of generated images.
      source: the images, where they have been opened already.

    Raises:
      ValueError: no such images.
    """
    spec, n = data.source, generated_count(data.source)
    if n is not None:
        spec = f"folder:{generate_folder(folder / 'images', n, class_names, seed)}"
    memory = folder / HASHES
    if source is None:
        source = open_source(spec, data.split or None, data.limit or None, seed, memory)
    skipped = find_skipped(source, folder) if data.on_error == "skip" else None
    if skipped is not None:
        source = without(source, skipped)
    return Images(derived_key("images", 2, [], source.fingerprint_fields()), source, skipped)


def encoder_name(encoder: Encoder) -> str:
    """Returns an encoder's name in a run: its model, and what differs from the zoo's defaults."""
    dtype = encoder.dtype.removeprefix("float32")
    return " ".join([encoder.model, *filter(None, [encoder.weights, dtype])])


def _target(
    target: Target, mesh: Mesh, weights: str | None, **more: Any
) -> Opened[Model | TwoTower]:
    own = {name: getattr(target, name) for name in OWN if getattr(target, name)}
    return _opened(target.model, weights, dtype=target.dtype, mesh=mesh, **own, **more)


def _tower(encoder: Encoder, weights: str | None, mesh: Mesh) -> Opened[TwoTower]:
    opened = _opened(encoder.model, weights, dtype=encoder.dtype, mesh=mesh)
    if not isinstance(opened.network, TwoTower):
        raise ValueError(
            f"model {encoder.model!r} has no text tower; "
            "explainers and simulators are SigLIP, SigLIP 2, CLIP or PE-Core."
        )
    return Opened(opened.key, opened.network)


def _opened(model: str, weights: str | None, **more: Any) -> Opened[Model | TwoTower]:
    network = load_model(model, weights, **more)
    fields = {
        "architecture": network.architecture,
        "weights": network.weights_hash,
        "preprocess": repr(network.preprocess),
    }
    return Opened(derived_key("network", 1, [], fields), network)


def _recorded(source: Source) -> Opened[AnyModel]:
    network = recorded_model(source)
    return Opened(derived_key("recorded", 1, [], network.weights_hash), network)


def _shuffled(
    trained: Opened[AnyModel], images: Images, partition: Partition, seed: int
) -> Opened[Model | TwoTower]:
    """The network with shuffled parameters, its batch statistics measured on images of train."""
    assert isinstance(trained.network, (Model, TwoTower)), "left out of recorded activations"
    rows, preprocess = partition.split.train[:STATISTICS], trained.network.preprocess
    fitted = np.stack([preprocess.fit(read_image(images.source, int(i))) for i in rows])
    key = derived_key("shuffled", 1, [trained, images, partition], {"seed": seed})
    return Opened(key, shuffled_network(trained.network, fitted, seed), SHUFFLED)


def _untrained(trained: Opened, config: Config, mesh: Mesh) -> dict[str, Opened]:
    """Name → the target with parameters drawn anew, of seeds from `seed` + 1 on.

    Raises:
      ValueError: its layers are not those of the target, as where a checkpoint decides their sizes.
    """
    found, target, n = {}, config.target, config.evaluation.controls
    for number in range(1, n + 1):
        own = _target(target, mesh, None, random_init_seed=config.seed + number)
        found[f"{UNTRAINED}-{number}"] = dataclasses.replace(own, kind=UNTRAINED)
    for tap in target.taps if found else ():
        sizes = [
            network.taps[network.resolve(tap)]
            for network in (trained.network, next(iter(found.values())).network)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"evaluation.controls={n} draws the parameters of {target.model!r} anew, which "
                f"then has {sizes[1]} values at tap {tap!r}, and with its weights {sizes[0]}: "
                "expected the same; set target.arguments to those of the weights, or controls to 0."
            )
    return found


def _weights(entry: Target | Encoder, folder: epath.Path, seed: int) -> str | None:
    """What `load_model` is given: random weights made now where the config says "generated"."""
    if entry.weights != GENERATED:
        return entry.weights or None
    return str(generate(entry.model, str(folder / entry.model), seed))


def _partition(data: Data, images: Images, seed: int) -> Partition:
    n = len(images.source)
    if data.split_files:  # of the whole source
        left_out = 0 if images.skipped is None else len(images.skipped.index)
        split = split_without(load_split(data.split_files, n + left_out), images.skipped)
    else:
        split = make_split(n, seed, data.split_fractions)
    rows = split._asdict().items()
    parts = {name: hashlib.sha256(index.tobytes()).hexdigest() for name, index in rows}
    return Partition(fingerprint(parts), split)
