"""Concept matrices of a run's methods: P (images × concepts) by labels or by an encoder.

label     classes, superclasses, annotations                  P_ij ∈ {0, 1}
given     what lies beside the images (`data.recorded`)       P_ij from 0 to 1
siglip    the words of `config.concepts.sets`, by an encoder  P_ij = σ(scale·(cos + shift))
nonsense  as many made-up words, by the same encoder          a null; never screened

Words that an encoder's tokenizer reads alike are one concept that bears their names ("C++ / C#").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxle.concepts.sets import Merged
from jaxle.evaluation.nulls import nonsense_names
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.encoders import encoder_matrix, merge_words
from jaxle.pipeline.labels import given_matrix, label_matrix, words
from jaxle.pipeline.matrices import Calibrated, ConceptMatrix
from jaxle.pipeline.opened import Images
from jaxle.pipeline.probe import Labelled
from jaxle.pipeline.reading import GIVEN

# kind → the words of such a matrix, from the config's words and seed
VOCABULARY = {
    "siglip": lambda concepts, seed: concepts,
    "nonsense": lambda concepts, seed: nonsense_names(len(concepts), seed, concepts),
}


def method_matrices(
    cache: Cache,
    images: Images,
    labelled: Labelled,
    calibrated: Mapping[Encoder, Calibrated],
    config: Config,
) -> dict[str, ConceptMatrix]:
    """Returns method → the matrix that it explains with; methods on the same concepts share it."""
    made: dict[tuple[str, Encoder | None], ConceptMatrix] = {}
    merged: dict[Encoder, Merged] = {}
    for method in config.methods.values():
        if (method.concepts, method.encoder) in made:
            continue
        if method.concepts == GIVEN:
            matrix = given_matrix(images)
        elif method.encoder is None:
            matrix = label_matrix(labelled, config.concepts)
        else:
            encoder, templates = calibrated[method.encoder], config.concepts.templates
            if method.encoder not in merged:
                asked = words(labelled, config.concepts)
                merged[method.encoder] = merge_words(encoder, asked, templates)
            found = merged[method.encoder]
            names = VOCABULARY[method.concepts](found.concepts, config.seed)
            kind, texts = method.concepts, found.texts if method.concepts == "siglip" else {}
            matrix = encoder_matrix(cache, encoder, kind, names, templates, texts)
            if kind == "siglip":
                matrix = dataclasses.replace(matrix, origin=found.origin)
        made[method.concepts, method.encoder] = matrix
    return {name: made[m.concepts, m.encoder] for name, m in config.methods.items()}
