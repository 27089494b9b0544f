"""Concepts by the data's own labels, and the words that an encoder is asked for.

label     classes, superclasses, annotations      P_ij ∈ {0, 1}
given     what another program says (`recorded`)  P_ij from 0 to 1
words     the union of `config.concepts.sets`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxle.concepts import sets, wordnet
from jaxle.concepts.labels import LabelConcepts
from jaxle.data.sources import recorded_of
from jaxle.explainers.protocol import ArrayRows
from jaxle.pipeline.cache import derived_key
from jaxle.pipeline.config import Concepts
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Images
from jaxle.pipeline.probe import Labelled
from jaxle.pipeline.reading import GIVEN


@dataclass(frozen=True)
class Hierarchy:
    """The classes in words, and their superclasses, name → members."""

    class_names: tuple[str, ...]
    superclasses: Mapping[str, Sequence[str]]


def hierarchy(class_names: Sequence[str], concepts: Concepts) -> Hierarchy:
    """Returns WordNet's hierarchy of classes, the data set's coarse labels, or the config's."""
    names = tuple(class_names)
    if concepts.hierarchy == "wordnet":
        described = wordnet.describe(names)
        return Hierarchy(described.class_names, described.superclasses)
    coarse = concepts.hierarchy == "coarse"
    return Hierarchy(names, wordnet.coarse(names) if coarse else concepts.superclasses)


def label_matrix(labelled: Labelled, concepts: Concepts) -> ConceptMatrix:
    """Returns the concepts of the labels: annotations where there are any, else the classes."""
    found = hierarchy(labelled.class_names, concepts)
    matrix = LabelConcepts.make(
        labelled.labels, found.class_names, found.superclasses, labelled.annotations
    )
    # the order of the columns is that of a mapping, which options do not keep
    options = {"hierarchy": found, "names": list(matrix.concepts)}
    return ConceptMatrix(derived_key("label_matrix", 2, [labelled], options), "label", matrix)


def given_matrix(images: Images) -> ConceptMatrix:
    """Returns the concept probabilities that lie beside the images."""
    recorded = recorded_of(images.source)
    assert recorded is not None and recorded.concept_probs is not None, "needs refuses such a run"
    names, values = recorded.concept_probs
    return ConceptMatrix(derived_key("given_matrix", 1, [images]), GIVEN, ArrayRows(values, names))


def words(labelled: Labelled, concepts: Concepts) -> sets.ConceptSet:
    """Returns the words that an encoder is asked for: the union of `concepts.sets`."""
    found = hierarchy(labelled.class_names, concepts)
    annotated = () if labelled.annotations is None else labelled.annotations[0]
    return sets.gather(concepts.sets, found.class_names, tuple(found.superclasses), annotated)
