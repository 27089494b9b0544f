"""Encoders: words as embeddings, and scale and shift that make cosines probabilities.

P_ij = σ(scale·(cos(E_I(x_i), E_T(c_j)) + shift)),   scale and shift calibrated on labels
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.concepts import calibration
from jaxle.concepts.contrastive import ContrastiveConcepts, embed_prompts, fill
from jaxle.concepts.sets import ConceptSet, Merged, merge_alike
from jaxle.mesh import local
from jaxle.models.two_tower import TwoTower
from jaxle.pipeline.cache import Cache, Made, Step, derived_key, numerics
from jaxle.pipeline.config import Concepts, Config, Encoder
from jaxle.pipeline.inputs import Inputs, encoder_name
from jaxle.pipeline.labels import label_matrix
from jaxle.pipeline.matrices import Calibrated, ConceptMatrix, Embeddings, Texts
from jaxle.pipeline.opened import Opened, Partition
from jaxle.pipeline.probe import Embedded, Labelled
from jaxle.report.progress import say

TEXTS = 64  # texts a step of a text tower: one shape for any number of words
SHOWN = 10  # merged names in the log


def calibrate_all(
    cache: Cache,
    inputs: Inputs,
    labelled: Labelled,
    embedded: Mapping[Encoder, Embedded],
    config: Config,
) -> dict[Encoder, Calibrated]:
    """Returns every encoder of a run, calibrated."""
    labels = None
    if labelled.labels is not None or labelled.annotations is not None:
        labels = label_matrix(labelled, config.concepts)
    return {
        encoder: calibrate(cache, own, labels, inputs.partition, config.concepts)
        for encoder, own in embedded.items()
    }


def calibrate(
    cache: Cache,
    embedded: Embedded,
    labels: ConceptMatrix | None,
    partition: Partition,
    concepts: Concepts,
) -> Calibrated:
    """Returns an encoder with scale and shift: fitted on labels, the paper's, or its training's.

    Args:
      cache: of the run.
      embedded: the encoder and its image embeddings.
      labels: of the images, None where they have none.
      partition: calibration reads train.
      concepts: what calibration is asked for, and the prompts.
    """
    tower, name = embedded.opened.network, encoder_name(embedded.encoder)
    if labels is not None and concepts.calibration == "auto":
        texts = embed_words(cache, embedded, labels.names, concepts.templates)
        inputs = [embedded, texts, labels, partition]
        stored = cache.step(CALIBRATION, f"{name}, calibration", inputs)
        facts, key = stored.facts, stored.key
    else:
        found = calibration.Calibration(
            tower.scale, tower.shift, "the scale and shift that it was trained with"
        )
        if concepts.calibration != "trained":
            own = (tower.scale, tower.shift) if concepts.calibration == "auto" else None
            found = calibration.known(tower.name, own)
        facts = _facts(found)
        key = derived_key("given_calibration", 1, [embedded], facts)
    return Calibrated(key, embedded, facts["scale"], facts["shift"], facts)


def _calibrate(embedded, texts, labels, partition, options: None, mesh: Any) -> Made:
    tower = embedded.opened.network
    arrays = (embedded.embeddings, texts.embeddings)
    scaled = (tower.scale, tower.shift, local(mesh))
    matrix = ContrastiveConcepts.make(texts.names, *arrays, *scaled)
    found = calibration.calibrate(matrix.cosines, labels.matrix.rows, partition.split.train)
    names = ("predicted", "observed", "count")
    curve = {name: np.nan_to_num(getattr(found.quality, name)) for name in names}
    return curve, _facts(found)


def _facts(found: calibration.Calibration) -> dict[str, Any]:
    facts: dict[str, Any] = {"scale": found.scale, "shift": found.shift, "source": found.source}
    if found.quality is not None:
        facts |= {name: float(getattr(found.quality, name)) for name in ("nll", "brier", "ece")}
    return facts


def embed_words(
    cache: Cache,
    embedded: Embedded,
    names: Sequence[str],
    templates: Sequence[str],
    texts: Mapping[str, str] | None = None,
) -> Texts:
    """Returns the words' embeddings by an encoder, each in every prompt template.

    Args:
      cache: of the run.
      embedded: the encoder.
      names: the words.
      templates: prompts with a {} each; none for the bare word.
      texts: word → what is embedded in its place.
    """
    spoken = [(texts or {}).get(name, name) for name in names]
    options: dict[str, Any] = {"names": list(names), "texts": spoken}
    options |= {"templates": list(templates), **numerics()}
    tokens = np.asarray(embedded.opened.network.tokenize(spoken))
    options["tokens"] = hashlib.sha256(tokens.tobytes()).hexdigest()  # what the tokenizer reads
    name = encoder_name(embedded.encoder)
    filled = [text for template in templates or ("{}",) for text in fill(template, spoken)]
    if cut := embedded.opened.network.cut(filled):
        say(
            f"  {name}: {len(cut)} texts are longer than its context, such as {cut[0]!r}; "
            "their ends are not read"
        )
    what = f"{name} on {len(names)} words"
    stored = cache.step(TEXT, what, [embedded.opened], options)
    return Texts(stored.key, tuple(names), stored.arrays["texts"])


def _embed_words(opened: Opened[TwoTower], options: Mapping[str, Any], mesh: Any) -> Made:
    def embed(batch: list[str]) -> np.ndarray:
        filled = batch + batch[-1:] * (-len(batch) % TEXTS)
        return opened.network.embed_texts(filled, TEXTS)[: len(batch)]

    texts = embed_prompts(embed, options["texts"], tuple(options["templates"]))
    return {"texts": texts}, {"names": options["names"]}


def merge_words(calibrated: Calibrated, found: ConceptSet, templates: Sequence[str]) -> Merged:
    """Returns words, those that an encoder's tokenizer reads alike as one, and says which."""
    tokenize = calibrated.embedded.opened.network.tokenize
    rows = [tokenize(fill(template, found.concepts)) for template in templates or ("{}",)]
    merged = merge_alike(found, np.concatenate(rows, axis=1))
    if merged.texts:
        name, n = encoder_name(calibrated.embedded.encoder), len(merged.texts)
        say(
            f"  {name} reads some names alike, which are one concept each: "
            f"{', '.join(list(merged.texts)[:SHOWN])}{f' and {n - SHOWN} more' * (n > SHOWN)}"
        )
    return merged


def encoder_matrix(
    cache: Cache,
    calibrated: Calibrated,
    kind: str,
    names: Sequence[str],
    templates: Sequence[str],
    texts: Mapping[str, str] | None = None,
) -> ConceptMatrix:
    """Returns an encoder's probabilities of some words; arguments as of `embed_words`."""
    embedded = calibrated.embedded.embeddings
    words = embed_words(cache, calibrated.embedded, names, templates, texts)
    scaled = (calibrated.scale, calibrated.shift, local(cache.mesh))
    matrix = ContrastiveConcepts.make(words.names, embedded, words.embeddings, *scaled)
    key = derived_key("encoder_matrix", 1, [calibrated, words], kind)
    by = Embeddings(calibrated, words)
    return ConceptMatrix(key, kind, matrix, encoder=by, texts=texts or {})


def check_readable(network: TwoTower, words: Sequence[str]) -> None:
    """Raises a ValueError for words of which an encoder's vocabulary knows nothing."""
    if unreadable := network.unreadable(words):
        raise ValueError(
            f"the vocabulary of {network.name} knows nothing of the "
            f"word{'s' * (len(unreadable) > 1)} {', '.join(map(repr, unreadable[:5]))}: "
            "expected words with letters or digits in its language."
        )


CALIBRATION = Step("calibration", "probe", 1, _calibrate, alone=True)
TEXT = Step("texts", "", 1, _embed_words, alone=True)  # each stage has words of its own
