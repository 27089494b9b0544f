"""Intervene: what a run's neurons do to the network's output, and how much explanations keep.

temperature   T of the network's softmax, calibrated on val
ablate        the simulated value in the neuron's place        (`intervention.ablation`)
impact        which images a neuron matters for                (`intervention.impact`)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.intervention.ablation import ablation_scores
from jaxle.intervention.impact import BETAS, top_impact
from jaxle.intervention.replacement import Tail, open_tail
from jaxle.intervention.temperature import fit_temperature
from jaxle.models.recorded import AnyClassifier, RecordedModel
from jaxle.pipeline.cache import Cache, Made, Step, derived_key
from jaxle.pipeline.config import Config
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.layers import Layer, Layers
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.simulate import Simulated

LOGITS = 256  # images a step


@dataclass(frozen=True, eq=False)
class Classifier:
    """The target as a classifier of its probe images.

    Attributes:
      key: of the network, the images and their classes.
      model: the target.
      images: row index → uint8 images (images, size, size, 3), fitted for it; of recorded
        activations rows of the tap with a head.
      labels: (images,) int32, classes by the network's numbers.
      tail: tap → the network after it, opened once.
    """

    key: str
    model: AnyClassifier
    images: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray
    tail: Callable[[str], Tail]


@dataclass(frozen=True, eq=False)
class ScaledClassifier:
    """A classifier with the temperature of its softmax."""

    key: str
    classifier: Classifier
    temperature: float


@dataclass(frozen=True)
class Ablating:
    """What ablation scores depend on beside their inputs."""

    procedure: str
    max_images: int
    max_neurons: int
    pool: str
    seed: int


def own_classes(inputs: Inputs) -> np.ndarray:
    """Returns (images,) int32, every image's class by the network's numbers; else a ValueError."""
    source, known = inputs.images.source, inputs.trained.class_names
    if source.labels is None:
        raise ValueError("ablation scores and Top Impact need class labels: these data have none.")
    place = {name.lower(): i for i, name in enumerate(known)}
    unknown = [name for name in source.class_names if name.lower() not in place]
    if unknown:
        raise ValueError(
            "ablation scores and Top Impact need labels of the network's own classes: it knows no "
            f"{', '.join(map(repr, unknown[:3]))}; its classes are "
            f"{', '.join(known[:3]) or 'unnamed'}…; name them in target.class_names."
        )
    numbers = [place[name.lower()] for name in source.class_names]
    return np.array(numbers, np.int32)[np.asarray(source.labels)]


def classifier(inputs: Inputs, config: Config) -> Classifier:
    """Returns the target with its images and classes. Raises ValueError as `own_classes`."""
    model, source = inputs.trained, inputs.images.source
    if not isinstance(model, AnyClassifier):
        raise ValueError(f"{model.name} is no classifier: ablation and Top Impact need one.")
    if isinstance(model, RecordedModel):
        for tap in config.target.taps:
            model.suffix(tap)  # or a refusal, before anything is computed
    labels, pool = own_classes(inputs), config.target.pool
    first = inputs.partition.split.val[:4]

    def images(index: np.ndarray) -> np.ndarray:
        if isinstance(model, RecordedModel):
            return model.rows(index)
        with ThreadPoolExecutor() as threads:
            fitted = threads.map(lambda i: model.preprocess.fit(source[int(i)][0]), index)
            return np.stack(list(fitted))

    tail = functools.cache(lambda tap: open_tail(model, tap, pool, images(first)))
    records = [inputs.networks[TRAINED], inputs.images]
    key = derived_key("classifier", 1, records, {"class_names": list(model.class_names)})
    return Classifier(key, model, images, labels, tail)


def temperature(cache: Cache, target: Classifier, partition: Partition) -> ScaledClassifier:
    """Returns the classifier with its temperature, calibrated on the validation images."""
    stored = cache.step(TEMPERATURE, target.model.name, [target, partition])
    return ScaledClassifier(stored.key, target, stored.facts["temperature"])


def _temperature(target: Classifier, partition: Partition, options: None, mesh: Any) -> Made:
    rows = partition.split.val
    parts = [rows[start : start + LOGITS] for start in range(0, len(rows), LOGITS)]
    logits = [target.model.logits(target.images(part), LOGITS) for part in parts]
    found = fit_temperature(np.concatenate(logits), target.labels[rows])
    return {}, {"temperature": found.value, "capped": found.capped}


def ablate(
    cache: Cache,
    target: ScaledClassifier,
    simulated: Simulated,
    partition: Partition,
    config: Config,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns columns of scores.csv (neurons,), `ablation_scored` the neurons that were scored."""
    own = config.evaluation
    options = Ablating(
        own.ablation, own.ablation_images, own.ablation_neurons, config.target.pool, config.seed
    )
    explained = simulated.explained
    what = f"{explained.layer}, {explained.method} by {simulated.simulator.name}"
    stored = cache.step(ABLATE, what, [target, simulated, partition], options)
    return dict(stored.arrays), dict(stored.facts)


def _ablate(
    target: ScaledClassifier,
    simulated: Simulated,
    partition: Partition,
    options: Ablating,
    mesh: Any,
) -> Made:
    tap, split = simulated.explained.layer.tap, partition.split
    tail, neurons = target.classifier.tail(tap), None
    most = options.max_neurons or tail.n_neurons
    if tail.path != "linear" and most < tail.n_neurons:
        drawn = np.random.default_rng(options.seed).permutation(tail.n_neurons)
        neurons = np.sort(drawn[:most])
    got = ablation_scores(
        target.classifier.model,
        tap,
        options.pool,
        target.classifier.images,
        target.classifier.labels,
        simulated.val,
        simulated.test,
        split.val,
        split.test,
        optim=options.procedure,
        temperature=target.temperature,
        max_images=options.max_images,
        neurons=neurons,
        seed=options.seed,
        tail=tail,
    )
    columns: dict[str, np.ndarray] = {}
    fields = {name: name for name in ("excess", "constant", "optim", "norm")}
    for name, field in (fields | {"scale": "optim_scale", "shift": "optim_shift"}).items():
        columns[f"ablation_{name}"] = np.zeros(tail.n_neurons, np.float32)
        columns[f"ablation_{name}"][got.neurons] = getattr(got, field)
    columns["ablation_scored"] = np.zeros(tail.n_neurons, bool)
    columns["ablation_scored"][got.neurons] = True
    names = ("path", "n_val", "n_test", "n_without_effect", "temperature")
    facts = {name: getattr(got, name) for name in names}
    more = {"procedure": options.procedure, "n_neurons": len(got.neurons)}
    return columns, {"ablation": facts | more}


@dataclass(frozen=True, eq=False)
class Impact:
    """Top Impact of a layer: arrays of `intervention.impact.Impact`, and means by β."""

    tap: str
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def impact_all(
    cache: Cache, target: ScaledClassifier | None, layers: Layers, config: Config
) -> list[Impact]:
    """Returns Top Impact of the trained network's layers; none where it is not asked for."""
    if target is None or not config.evaluation.impact:
        return []
    return [impact(cache, target, layer, config) for layer in layers.trained]


def impact(cache: Cache, target: ScaledClassifier, layer: Layer, config: Config) -> Impact:
    """Returns which images each neuron of a layer matters for."""
    stored = cache.step(IMPACT, str(layer), [target, layer], {"pool": config.target.pool})
    return Impact(layer.tap, dict(stored.arrays), dict(stored.facts))


def _impact(target: ScaledClassifier, layer: Layer, options: dict[str, str], mesh: Any) -> Made:
    own, pools = target.classifier, {layer.tap: options["pool"]}
    every = np.arange(len(own.labels))
    found = top_impact(
        own.model, pools, own.images, own.labels, every, temperature=target.temperature
    )
    got = found[layer.tap]
    names = ("table", "curve_at", "curve", "accuracy_lost", "loss_gained", "total")
    means = {f"{beta:g}": float(mean) for beta, mean in zip(BETAS, got.mean, strict=True)}
    facts = {"path": got.path, "n_images": got.n_images, "n_without_effect": got.n_without_effect}
    return {name: getattr(got, name) for name in names}, {**facts, "mean": means}


TEMPERATURE = Step("temperature", "score", 1, _temperature, alone=True)
ABLATE = Step("ablate", "score", 4, _ablate, alone=True)
IMPACT = Step("impact", "score", 1, _impact, alone=True)
