"""Preflight: what can be refused before any image is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from jaxle.explainers import find_explainer
from jaxle.options import suggest
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.encoders import check_readable
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.intervene import Classifier, classifier
from jaxle.pipeline.labels import hierarchy, label_matrix, words
from jaxle.pipeline.probe import Labelled
from jaxle.pipeline.stages import STAGES


def check_stages(stages: Sequence[str]) -> str:
    """Returns the last stage that was requested; a ValueError for one that does not exist."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        name = unknown[0] if unknown else ""
        raise ValueError(f"unknown stage {name!r}: {suggest(name, STAGES)}.")
    return [stage for stage in STAGES if stage in stages][-1]


def wanted_classifier(inputs: Inputs, config: Config) -> Classifier | None:
    """Returns the target as a classifier where the config intervenes on it, else None.

    Raises:
      ValueError: it is asked for, and the labels are not of the network's classes.
    """
    if not (config.evaluation.ablation or config.evaluation.impact):
        return None
    return classifier(inputs, config)


def check_methods(inputs: Inputs, config: Config) -> None:
    """Raises a ValueError for a method that cannot explain layers of their sizes."""
    network = inputs.trained
    layers = {tap: network.taps[network.resolve(tap)][-1] for tap in config.target.taps}
    for name, method in config.methods.items():
        check = find_explainer(method.explainer).check
        if check is not None:
            try:
                check(method.options, layers)
            except ValueError as error:
                raise ValueError(f"method {name!r}: {error}") from error


def check_words(inputs: Inputs, labelled: Labelled, config: Config) -> None:
    """Raises a ValueError for words that cannot be, or classes that superclasses do not know."""
    if labelled.labels is not None or labelled.annotations is not None:
        label_matrix(labelled, config.concepts)
    found = hierarchy(labelled.class_names, config.concepts)
    named = [*found.class_names, *found.superclasses]
    if labelled.annotations is not None:
        named += labelled.annotations[0]
    if any(isinstance(method.encoder, Encoder) for method in config.methods.values()):
        named += words(labelled, config.concepts).concepts
    for opened in inputs.encoders.values():
        check_readable(opened.network, named)
