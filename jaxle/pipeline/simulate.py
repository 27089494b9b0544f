"""Simulate: what a simulator's probabilities make of explanations, on val and test images.

    simulated = Σ_i w_i · Pr_sim(c_i | x) + bias,   Pr_sim of labels, an encoder, or your own

An encoder embeds every word that passed screening, so that all layers, methods and controls on the
same concepts share one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.simulation import names, over_columns, simulable, simulate_rows
from jaxle.explainers.protocol import ConceptRows
from jaxle.explanations import Explanations
from jaxle.pipeline.cache import Cache, Made, Step, derived_key
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.encoders import check_readable, encoder_matrix
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.labels import given_matrix, label_matrix
from jaxle.pipeline.matrices import Calibrated, ConceptMatrix
from jaxle.pipeline.opened import Images, Partition
from jaxle.pipeline.probe import Labelled
from jaxle.pipeline.reading import GIVEN, LABELS
from jaxle.references import load_reference, source_fingerprint
from jaxle.report.progress import say


@dataclass(frozen=True, eq=False)
class Simulator:
    """A simulator of the explanations on one concept matrix."""

    key: str
    name: str
    concepts: ConceptMatrix

    def is_encoder_of(self, explained: ConceptMatrix) -> bool:
        """Whether it is the very encoder that explained: its errors then look like truth."""
        own, other = self.concepts.encoder, explained.encoder
        if own is None or other is None:
            return False
        return own.calibrated.embedded.opened.key == other.calibrated.embedded.opened.key


@dataclass(frozen=True, eq=False)
class Able:
    """The simulators that can simulate explanations on one concept matrix."""

    fitted: Fitted
    simulators: tuple[Simulator, ...]


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated activations of a layer's neurons, `val` and `test` (images, neurons) float32."""

    key: str
    explained: Explained
    simulator: Simulator
    val: np.ndarray
    test: np.ndarray


def able_all(
    cache: Cache,
    fitted: Mapping[str, Fitted],
    labelled: Labelled,
    calibrated: Mapping[Encoder, Calibrated],
    images: Images,
    config: Config,
) -> dict[str, Able]:
    """Returns the simulators of every concept matrix, by the key of its moments."""
    return {
        own.key: simulators(cache, own, labelled, calibrated, images, config)
        for own in fitted.values()
    }


def simulators(
    cache: Cache,
    fitted: Fitted,
    labelled: Labelled,
    calibrated: Mapping[Encoder, Calibrated],
    images: Images,
    config: Config,
) -> Able:
    """Returns the simulators that can simulate explanations on a concept matrix.

    Labels can simulate explanations by labels, and words that they all have columns for; an encoder
    can simulate any; one of your own says.

    Raises:
      ValueError: words that an encoder's vocabulary knows nothing of, or that no simulator has.
    """
    found, lacking = [], ""
    for name, entry in config.simulators.items():
        if isinstance(entry, Encoder):
            check_readable(calibrated[entry].embedded.opened.network, fitted.brought)
            asked = (fitted.words, config.concepts.templates, fitted.concepts.texts)
            matrix = encoder_matrix(cache, calibrated[entry], "simulator", *asked)
        elif entry == GIVEN:
            matrix = given_matrix(images)
            matrix = matrix if set(fitted.words) <= set(matrix.names) else None
        elif entry != LABELS:
            matrix = _outside(entry, images, fitted.words, fitted.concepts.texts)
        else:
            matrix = label_matrix(labelled, config.concepts)
            if fitted.brought:
                able = have_all(matrix.names, fitted.brought, name)
                lacking = next((w for w in fitted.brought if w not in matrix.names), "")
            else:
                able = matrix.key == fitted.concepts.words.key
            matrix = matrix if able else None
        if matrix is not None:
            found.append(Simulator(derived_key("simulator", 1, [matrix], name), name, matrix))
    if fitted.brought and not found:
        raise ValueError(
            "no simulator can simulate the words of a file, such as "
            f"{(lacking or fitted.brought[0])!r}: "
            "expected an encoder among config.simulators."
        )
    return Able(fitted, tuple(found))


def have_all(names: Sequence[str], words: Sequence[str], simulator: str) -> bool:
    """Returns whether labels have a column for each word of a file, and says which they lack.

    A word is the column of exactly its name. That others bear the name, too, is said: labels
    distinguish them by a bracket, as the superclass `gown (outerwear)` from the class `gown`.
    """
    known, alike = set(names), {}
    for name in names:
        alike.setdefault(name.partition(" (")[0], []).append(name)
    lacking = [word for word in words if word not in known]
    if lacking:
        others = " or ".join(map(repr, alike.get(lacking[0], [])))
        say(
            f"  simulator {simulator!r} has no column for {len(lacking)} of {len(words)} words of "
            f"a file, such as {lacking[0]!r}{f' (but {others})' * bool(others)}, and does not "
            "simulate it"
        )
        return False
    shared = [word for word in words if len(alike.get(word, [])) > 1]
    if shared:
        first = shared[0]
        others = " or ".join(repr(name) for name in alike[first] if name != first)
        say(
            f"  simulator {simulator!r}: {len(shared)} words of a file are the names of several "
            f"labels; {first!r} is {first!r}, and not {others}"
        )
    return True


@dataclass(frozen=True)
class Renamed:
    """The rows of another matrix under other names."""

    concepts: tuple[str, ...]
    rows: Callable[..., Any]


def _outside(
    reference: str, images: Images, names: Sequence[str], texts: Mapping[str, str]
) -> ConceptMatrix | None:
    """A simulator of your own: source, names → an object with `concepts` and `rows`, or None.

    Of a concept made of several names it is asked for the one in `texts`.
    """
    make = load_reference(reference, "simulator")
    asked = {texts.get(name, name): name for name in names}
    matrix: ConceptRows | None = make(images.source, tuple(asked))
    if matrix is None:
        return None
    known = set(matrix.concepts)
    missing = [name for name in asked if name not in known]
    if missing:
        raise ValueError(
            f"simulator {reference!r} lacks {len(missing)} concepts, such as {missing[0]!r}: "
            "expected all names that it was given, or None where it cannot simulate them."
        )
    fields = getattr(matrix, "fingerprint_fields", dict)()
    options = {"reference": reference, "names": list(names), "fields": fields}
    options["code"] = source_fingerprint(make)
    key = derived_key("outside_simulator", 1, [images], options)
    if texts:
        matrix = Renamed(tuple(asked.get(name, name) for name in matrix.concepts), matrix.rows)
    return ConceptMatrix(key, "outside", matrix)


def simulate(
    cache: Cache, explained: Explained, simulator: Simulator, partition: Partition
) -> Simulated:
    """Returns a layer's simulated activations by one simulator.

    Raises:
      ValueError: all explanations are formulas that the simulator cannot make.
    """
    what = f"{explained.layer}, {explained.method} by {simulator.name}"
    found = explained.explanations
    able = simulable(found, simulator.concepts.names)
    if lacking := [row for row, own in zip(found, able, strict=True) if row.kind != own.kind]:
        formula = f"{lacking[0].concepts[0]!r}"
        if len(lacking) == len(found):
            raise ValueError(
                f"method {explained.method!r} explains with formulas, such as {formula}, which "
                f"simulator {simulator.name!r} cannot make of its concepts: expected formulas by "
                "the rules of jaxle.explanations.formula, over concepts of the run."
            )
        say(
            f"  {what}: {len(lacking)} formulas, such as {formula}, cannot be made of its "
            "concepts; these neurons count as unexplained"
        )
    stored = cache.step(SIMULATE, what, [explained, simulator, partition])
    return Simulated(stored.key, explained, simulator, stored.arrays["val"], stored.arrays["test"])


def simulate_images(
    explanations: Explanations, concepts: ConceptRows, index: np.ndarray
) -> np.ndarray:
    """Returns simulated activations (images, neurons) float32 of some images.

    A formula that cannot be made of the concepts is simulated as nothing: its neuron counts as
    unexplained.
    """
    able = simulable(explanations, tuple(concepts.concepts))
    explanations, matrix = over_columns(able, concepts)
    concept_names = tuple(matrix.concepts)
    place = {name: j for j, name in enumerate(concept_names)}
    columns = np.array([place[name] for name in names(explanations) if name in place], np.int64)
    return simulate_rows(explanations, matrix.rows, index, columns, concept_names)


def _simulate(
    explained: Explained, simulator: Simulator, partition: Partition, options: None, mesh: Any
) -> Made:
    parts = {"val": partition.split.val, "test": partition.split.test}
    found = explained.explanations
    made = {
        name: simulate_images(found, simulator.concepts.matrix, index)
        for name, index in parts.items()
    }
    return made, {}


SIMULATE = Step("simulate", "simulate", 3, _simulate)
