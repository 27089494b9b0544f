"""Pairs of pictures that differ in one thing, as the networks and simulators of a run see them.

pairs × networks, encoders → activations, embeddings      one pass over both sides
labels of the edits → probabilities                       exact, of all words that they know
embeddings → probabilities of the others                  with the run's own calibration
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxle.concepts.labels import LabelConcepts
from jaxle.data.pairs import BothSides, render_pairs
from jaxle.explainers.protocol import ConceptRows
from jaxle.pipeline.cache import Cache, derived_key
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.inputs import SHUFFLED, Inputs
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.matrices import Calibrated
from jaxle.pipeline.opened import Images
from jaxle.pipeline.probe import Labelled, Probed, probe
from jaxle.pipeline.reading import LABELS
from jaxle.pipeline.simulate import simulators
from jaxle.solve.tiles import host_columns


@dataclass(frozen=True, eq=False)
class PairImages:
    """Both sides of all pairs: first pictures, then second ones; the key is of their content."""

    key: str
    both: BothSides


@dataclass(frozen=True, eq=False)
class Paired:
    """What networks and encoders make of the pairs.

    Attributes:
      images: the pictures, and what is true of them.
      probed: network → its activations.
      calibrated: the encoders that simulate, on these pictures, with the run's calibration.
    """

    images: PairImages
    probed: Mapping[str, Probed]
    calibrated: Mapping[Encoder, Calibrated]

    def sides(self, layer: Layer) -> Layer:
        """Returns a layer of the run on the pictures of the pairs."""
        probed = self.probed[layer.network]
        key = derived_key("pair_layer", 1, [probed], layer.tap)
        return Layer(key, layer.network, layer.tap, 0, probed.activations[layer.tap])


@dataclass(frozen=True, eq=False)
class PairConcepts:
    """Probabilities of concepts in the pictures of the pairs: labels of the edits where there are.

    Attributes:
      key: of all that they depend on.
      labels: of the edits.
      others: a simulator's, of the words that have no label; None where all have one.
    """

    key: str
    labels: ConceptRows
    others: ConceptRows | None

    @property
    def known(self) -> frozenset[str]:
        """The concepts of which something is known."""
        others = () if self.others is None else self.others.concepts
        return frozenset((*self.labels.concepts, *others))

    def unlabelled(self, names: Sequence[str]) -> list[str]:
        """Returns those of the names that the labels lack."""
        return [name for name in names if name not in set(self.labels.concepts)]

    def rows(self, n: int, names: Sequence[str]) -> np.ndarray:
        """Returns (pictures, names) float32 for the first `n` pictures."""
        found = np.zeros((n, len(names)), np.float32)
        for matrix in filter(None, (self.others, self.labels)):  # labels last: they are the truth
            place = {name: j for j, name in enumerate(matrix.concepts)}
            at = [i for i, name in enumerate(names) if name in place]
            columns = np.array([place[names[i]] for i in at], np.int64)
            if at:
                found[:, at] = host_columns(matrix.rows, np.arange(n), columns)
        return found


def open_pairs(inputs: Inputs, n: int, config: Config) -> PairImages | None:
    """Returns `n` pairs of the probe images' source; None for none.

    Raises:
      ValueError: the data cannot be rendered in pairs.
    """
    if not n:
        return None
    both = render_pairs(inputs.images.source, n, config.seed, config.data.source)
    return PairImages(derived_key("pairs", 1, [], both.fingerprint_fields()), both)


def probe_pairs(
    cache: Cache,
    inputs: Inputs,
    pairs: PairImages | None,
    calibrated: Mapping[Encoder, Calibrated],
    config: Config,
) -> Paired | None:
    """Returns the pairs, read by trained and untrained networks and by simulators in one pass.

    Args:
      cache: of the run.
      inputs: whose networks and encoders read them.
      pairs: of `open_pairs`; None gives None.
      calibrated: the encoders, with the calibration on the probe images.
      config: taps and pool.
    """
    if pairs is None:
        return None
    networks = {name: of for name, of in inputs.networks.items() if of.kind != SHUFFLED}
    simulating = set(config.simulators.values())
    encoders = {encoder: of for encoder, of in inputs.encoders.items() if encoder in simulating}
    images = Images(pairs.key, pairs.both)
    own = dataclasses.replace(inputs, images=images, networks=networks, encoders=encoders)
    probed, embedded = probe(cache, own, config)
    moved = {}
    for encoder, read in embedded.items():
        run = calibrated[encoder]
        key = derived_key("calibrated_pairs", 1, [run, read])
        moved[encoder] = dataclasses.replace(run, key=key, embedded=read)
    return Paired(pairs, probed, moved)


def pair_concepts(
    cache: Cache, name: str, fitted: Fitted, paired: Paired, config: Config
) -> PairConcepts:
    """Returns what is known of concepts in the pictures of the pairs.

    Args:
      cache: of the run.
      name: of the simulator that is asked for words without a label.
      fitted: whose words they are.
      paired: the pairs.
      config: its simulators.

    Raises:
      ValueError: the labels lack a concept, and the simulator is the images' labels themselves.
    """
    pairs, entry = paired.images, config.simulators[name]
    labels = LabelConcepts.make(None, (), None, pairs.both.annotations)
    missing = [concept for concept in fitted.words if concept not in set(labels.concepts)]
    if not missing:
        return PairConcepts(derived_key("pair_concepts", 1, [pairs]), labels, None)
    if entry == LABELS:
        raise ValueError(
            f"the pairs have no label for {len(missing)} concepts of the images, such as "
            f"{missing[0]!r}: expected the names of the source's own labels."
        )
    only = dataclasses.replace(config, simulators={name: entry})
    labelled = Labelled(pairs.key, (), None, pairs.both.annotations)
    images = Images(pairs.key, pairs.both)
    able = simulators(cache, fitted, labelled, paired.calibrated, images, only).simulators
    if not able:
        raise ValueError(
            f"simulator {name!r} simulates the images and not the pairs: expected both, or none."
        )
    key = derived_key("pair_concepts_by", 1, [pairs, able[0]])
    return PairConcepts(key, labels, able[0].concepts.matrix)
