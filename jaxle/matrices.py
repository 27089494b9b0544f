"""What a run knows of its probe images: what each network said of them, and what is in them, by their labels or by an encoder.

    label     classes, superclasses, annotations                      P_ij ∈ {0, 1}
    siglip    the words of `config.concepts.sets`, by an encoder      P_ij = σ(scale·(cos + shift)), calibrated on the labels
    nonsense  as many words that mean nothing, by the same encoder    the null of random concepts; never screened

Tiles of a concept matrix are made where they are read; images × concepts is never held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.artifacts import fingerprint
from jaxle.concepts import calibration, sets, wordnet
from jaxle.concepts.contrastive import ContrastiveConcepts, embed_prompts
from jaxle.concepts.labels import LabelConcepts
from jaxle.concepts.sets import ConceptSet
from jaxle.evaluation.nulls import nonsense_names
from jaxle.probing import EMBEDDINGS, Reading, accuracy, probe_images
from jaxle.run import TRAINED, Made, Run, is_made, once, tower_id

FEW = 512  # words that a simulator embeds whether they occur or not
TEXTS = 64  # texts a step of a text tower: one shape for any number of words


def readings(x: Run) -> dict[str, Reading]:
    """Every network of the run, targets first, and what is read of it."""
    target = x.config["target"]
    pools = {tap: target["pool"] for tap in target["taps"]}
    return {name: Reading(model, pools) for name, model in x.targets.items()} | {
        name: Reading(tower) for name, tower in x.towers.items()
    }


def probed(x: Run, name: str) -> Made:
    """What the pass over the images read of one network; the first one asked for reads all that are missing, each image decoded once.

    Arrays: those of `probing.probe_images`; of a target also `labels` (images,) int32 and `annotations` (images, concepts) uint8, where the
    data have them. Facts of a target: `class_names`, `annotated` (the annotations' names), `top1_accuracy` (None where the network's and
    the data's classes differ).
    """
    networks = readings(x)

    def make(folder):
        if name not in x.passed:
            missing = [
                other
                for other in networks
                if other == name or not is_made(x, "probe", _fields(x, other))
            ]
            parts = folder / f"parts-{fingerprint({other: _fields(x, other) for other in missing})}"
            options = {option: x.config["data"][option] for option in ("batch_size", "workers")}
            x.passed.update(
                probe_images(
                    {other: networks[other] for other in missing},
                    x.source,
                    x.mesh,
                    parts,
                    **options,
                )
            )
        return _with_labels(x, name, x.passed.pop(name))

    what = f"{networks[name].model.name}{f' ({name})' if name in x.targets else ''} on {len(x.source)} images"
    return once(x, "probe", what, _fields(x, name), make)


def _fields(x: Run, name: str) -> dict[str, Any]:
    reading, target = readings(x)[name], x.config["target"]
    fields = {
        "source": x.source.fingerprint_fields(),
        "model": reading.model.name,
        "weights": reading.model.weights_hash,
        "preprocess": str(reading.model.preprocess),
    }
    if name in x.towers:
        return fields | {
            "dtype": name.rpartition(" ")[2] if name.endswith("bfloat16") else "float32"
        }
    taps = {tap: reading.model.resolve(tap) for tap in reading.pools}
    return (
        fields
        | {key: target[key] for key in ("dtype", "arguments", "call", "pool")}
        | {"taps": taps}
    )


def _with_labels(
    x: Run, name: str, arrays: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if name in x.towers:
        return arrays, {}
    facts: dict[str, Any] = {"class_names": list(x.source.class_names)}
    if x.source.labels is not None:
        arrays["labels"] = np.asarray(x.source.labels, np.int32)
        facts["top1_accuracy"] = accuracy(
            arrays["predicted"], arrays["labels"], x.targets[name].class_names, x.source.class_names
        )
    if x.source.annotations is not None:
        facts["annotated"], arrays["annotations"] = (
            list(x.source.annotations[0]),
            np.asarray(x.source.annotations[1]),
        )
    return arrays, facts


def check(x: Run) -> None:
    """Raise a ValueError for words or superclasses that cannot be, before the pass over the images."""
    for method in x.config["methods"]:
        if not any(can_simulate(x, method, simulator) for simulator in x.config["simulators"]):
            raise ValueError(
                f"no simulator can foresee the explanations of method {method!r}, whose words the labels lack: "
                f"expected a second encoder among config.simulators."
            )
    class_names, superclasses = hierarchy(x)
    named = [
        *class_names,
        *superclasses,
        *(x.source.annotations[0] if x.source.annotations is not None else ()),
    ]
    if any(entry["concepts"] != "label" for entry in x.config["methods"].values()):
        named += words(x).concepts
    for tower in x.towers.values():
        if unreadable := tower.unreadable(named):
            raise ValueError(
                f"the vocabulary of {tower.name} knows nothing of the word{'s' * (len(unreadable) > 1)} "
                f"{', '.join(map(repr, unreadable[:5]))}: expected words with letters or digits in its language."
            )


# --- by labels ---


def hierarchy(x: Run) -> tuple[tuple[str, ...], Mapping[str, Sequence[str]]]:
    """The classes in words, and their superclasses: WordNet's, the data set's own coarse labels, or the config's."""
    concepts, names = x.config["concepts"], tuple(x.source.class_names)
    if concepts["hierarchy"] == "wordnet":
        described = wordnet.describe(names)
        return described.class_names, described.superclasses
    return names, wordnet.coarse(names) if concepts["hierarchy"] == "coarse" else concepts[
        "superclasses"
    ]


def label_concepts(x: Run) -> LabelConcepts:
    """The Label concepts of the probed images: annotations where the data have them, else classes and superclasses."""
    arrays, facts = probed(x, TRAINED).artifact
    annotations = (facts["annotated"], arrays["annotations"]) if "annotated" in facts else None
    class_names, superclasses = hierarchy(x)
    return LabelConcepts.make(arrays.get("labels"), class_names, superclasses, annotations)


# --- by an encoder ---


def words(x: Run) -> ConceptSet:
    """The words that an encoder is asked for: the union of `config.concepts.sets`. Raises ValueError."""
    class_names, superclasses = hierarchy(x)
    annotated = x.source.annotations[0] if x.source.annotations is not None else ()
    return sets.gather(x.config["concepts"]["sets"], class_names, tuple(superclasses), annotated)


def nonsense(x: Run) -> list[str]:
    """As many words that mean nothing: what an explanation scores by the choice of the best alone."""
    real = words(x).concepts
    return nonsense_names(len(real), x.config["seed"], real)


def texts(x: Run, stage: str, tower: str, concepts: Sequence[str]) -> Made:
    """Array `texts` (concepts, numbers) float32: the words' embeddings by an encoder."""
    templates, model = tuple(x.config["concepts"]["templates"]), x.towers[tower]
    fields = {**_fields(x, tower), "concepts": list(concepts), "templates": list(templates)}
    del fields["source"], fields["preprocess"]

    def embed(batch: list[str]) -> np.ndarray:
        filled = batch + batch[-1:] * (-len(batch) % TEXTS)
        return model.embed_texts(filled, TEXTS)[: len(batch)]

    def make(_):
        return {"texts": embed_prompts(embed, concepts, templates)}, {}

    return once(x, f"{stage}-texts", f"{model.name} on {len(concepts)} words", fields, make)


def calibrated(x: Run, tower: str) -> Made:
    """Facts `scale`, `shift`, `source`, and where the data have labels how well the probabilities agree with them (nll, brier, ece)."""
    kind, model = x.config["concepts"]["calibration"], x.towers[tower]
    labelled = kind == "auto" and (x.source.labels is not None or x.source.annotations is not None)
    if not labelled:
        found = calibration.Calibration(
            model.scale, model.shift, "the scale and shift that it was trained with"
        )
        if kind != "trained":
            found = calibration.known(
                model.name, (model.scale, model.shift) if kind == "auto" else None
            )
        return once(
            x,
            "probe-calibration",
            f"{model.name}, calibration",
            _facts(found),
            lambda _: ({}, _facts(found)),
        )
    labels = label_concepts(x)
    embedded = texts(x, "probe", tower, labels.concepts)
    probe = probed(x, tower)

    def make(_):
        arrays = {
            "images": probe.artifact.arrays[EMBEDDINGS],
            "texts": embedded.artifact.arrays["texts"],
        }
        concepts = ContrastiveConcepts.make(
            labels.concepts, arrays["images"], arrays["texts"], model.scale, model.shift, x.mesh
        )
        found = calibration.calibrate(concepts.cosines, labels.rows, x.split.train)
        curve = {
            name: np.nan_to_num(getattr(found.quality, name))
            for name in ("predicted", "observed", "count")
        }
        return curve, _facts(found)

    fields = {
        "probe": probe.key,
        "texts": embedded.key,
        "labels": probed(x, TRAINED).key,
        "hierarchy": _hierarchy_fields(x),
    }
    return once(
        x,
        "probe-calibration",
        f"{model.name}, calibration",
        fields | {"train": x.split.train.tolist()},
        make,
    )


def _facts(found: calibration.Calibration) -> dict[str, Any]:
    facts = {"scale": found.scale, "shift": found.shift, "source": found.source}
    return (
        facts
        if found.quality is None
        else facts | {name: float(getattr(found.quality, name)) for name in ("nll", "brier", "ece")}
    )


def _hierarchy_fields(x: Run) -> dict[str, Any]:
    return {name: x.config["concepts"][name] for name in ("superclasses", "hierarchy")}


def _by_encoder(
    x: Run, stage: str, entry: Mapping[str, str], concepts: Sequence[str]
) -> tuple[ContrastiveConcepts, Made]:
    tower = tower_id(entry)
    images, embedded, facts = (
        probed(x, tower),
        texts(x, stage, tower, concepts),
        calibrated(x, tower).artifact.facts,
    )
    arrays = images.artifact.arrays[EMBEDDINGS], embedded.artifact.arrays["texts"]
    return ContrastiveConcepts.make(
        concepts, *arrays, facts["scale"], facts["shift"], x.mesh
    ), embedded


def _encoder_fields(x: Run, entry: Mapping[str, str]) -> dict[str, Any]:
    return {
        "images": probed(x, tower_id(entry)).key,
        "calibration": calibrated(x, tower_id(entry)).key,
    }


# --- by method and by simulator ---


def method_concepts(
    x: Run, method: str
) -> tuple[LabelConcepts | ContrastiveConcepts, dict[str, Any]]:
    """The concept matrix that a method explains with, and what it depends on, for fingerprints."""
    entry = x.config["methods"][method]
    if entry["concepts"] == "label":
        return label_concepts(x), {"labels": probed(x, TRAINED).key, **_hierarchy_fields(x)}
    found, embedded = _by_encoder(
        x, "fit", entry, words(x).concepts if entry["concepts"] == "siglip" else nonsense(x)
    )
    return found, {"texts": embedded.key, **_encoder_fields(x, entry)}


def simulator_concepts(
    x: Run,
    simulator: str,
    concepts: Sequence[str],
    vocabulary: Sequence[str],
    stage: str = "simulate",
) -> LabelConcepts | ContrastiveConcepts:
    """The probabilities by which a simulator foresees activations, at least of these concepts.

    Args:
      x: the run.
      simulator: its name in the config.
      concepts: those that occur in the explanations.
      vocabulary: those that might have; all of them are embedded at once where they are few, so that every tap and control uses the same.
      stage: which one asks, for those that occur only.
    """
    entry = x.config["simulators"][simulator]
    if entry == "labels" or not concepts:
        return label_concepts(x)
    if len(vocabulary) <= FEW:
        stage, concepts = "simulate", vocabulary
    return _by_encoder(x, stage, entry, concepts)[0]


def simulator_fields(x: Run, simulator: str) -> dict[str, Any]:
    """What a simulator's probabilities depend on beside the words, for fingerprints."""
    entry = x.config["simulators"][simulator]
    if entry == "labels":
        return {"labels": probed(x, TRAINED).key, **_hierarchy_fields(x)}
    return {"templates": list(x.config["concepts"]["templates"]), **_encoder_fields(x, entry)}


def can_simulate(x: Run, method: str, simulator: str) -> bool:
    """Labels can only simulate explanations by labels; an encoder can simulate any."""
    return (
        x.config["simulators"][simulator] != "labels"
        or x.config["methods"][method]["concepts"] == "label"
    )
