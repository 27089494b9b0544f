"""What a config asks for and its images cannot give: it is left out of the run, and that is said.

    Config, Source → Config of what can be done, a sentence for each thing that is left out

The config's defaults explain and simulate with labels. A folder of photographs has none: what an
encoder explains and simulates is what remains, and a config of which nothing remains is refused
(`pipeline.needs`). Recorded activations have no network that could be drawn anew or looked into.
"""

from __future__ import annotations

import dataclasses

from jaxle.concepts.sets import OF_THE_DATA
from jaxle.data.masks import masks_of
from jaxle.data.sources import Source, has_pictures, recorded_of
from jaxle.models.recorded import NAME
from jaxle.pipeline.config import Config
from jaxle.pipeline.reading import LABELS
from jaxle.pipeline.recorded import ALL


def possible(config: Config, source: Source) -> tuple[Config, tuple[str, ...]]:
    """Returns what of a config can be done with some images, and a sentence for what cannot.

    Args:
      config: the settings.
      source: the images.
    """
    config, one = _without_network(config, source)
    config, other = _without_labels(config, source)
    return config, (*one, *other)


def _without_network(config: Config, source: Source) -> tuple[Config, tuple[str, ...]]:
    """Of recorded activations: their taps by name, and without what runs a network or a picture."""
    said, target, evaluation, report = [], config.target, config.evaluation, config.report
    if target.model == NAME:
        recorded = recorded_of(source)
        if target.taps == ALL and recorded is not None and recorded.activations:
            target = dataclasses.replace(target, taps=tuple(recorded.activations))
        for field, none, what in (
            ("controls", 0, "untrained networks would have to be run"),
            ("shuffled", False, "a shuffled network would have to be run"),
            ("counterfactual", 0, "pairs of pictures would have to be run"),
        ):
            if getattr(evaluation, field) != none:
                evaluation = dataclasses.replace(evaluation, **{field: none})
                said.append(f"evaluation.{field}, for which {what}")
        report = dataclasses.replace(report, maps=False)
    if not has_pictures(source) and report.images != "none":
        report = dataclasses.replace(report, images="none")
        said.append("the report's pictures, of which there are none")
    found = dataclasses.replace(config, target=target, evaluation=evaluation, report=report)
    return found, tuple(f"Left out, for activations are recorded: {line}." for line in said)


def _without_labels(config: Config, source: Source) -> tuple[Config, tuple[str, ...]]:
    """Methods and simulators stay where all of them need labels, to be refused by name."""
    # masks come with annotations, which may take long to read
    if source.class_names or masks_of(source) is not None or source.annotations is not None:
        return config, ()
    said: list[str] = []
    methods = {name: m for name, m in config.methods.items() if m.concepts != "label"}
    if not methods:
        return config, ()
    for name in config.methods.keys() - methods.keys():
        said.append(f"method {name!r} explains with labels")
    for name, method in methods.items():
        if method.no_longer_than and method.no_longer_than not in methods:
            methods[name] = dataclasses.replace(method, no_longer_than="")
            said.append(f"the length of method {name!r} is that of {method.no_longer_than!r}")
    simulators = {name: entry for name, entry in config.simulators.items() if entry != LABELS}
    for name in config.simulators.keys() - simulators.keys() if simulators else ():
        said.append(f"simulator {name!r} is the labels")
    evaluation = config.evaluation
    if evaluation.ablation or evaluation.impact:
        evaluation = dataclasses.replace(evaluation, ablation="", impact=False)
        said.append("ablation scores and Top Impact ask how well classes are told")
    own = tuple(name for name in config.concepts.sets if name not in OF_THE_DATA)
    concepts = config.concepts
    if own and own != concepts.sets:
        gone = " and ".join(name for name in concepts.sets if name in OF_THE_DATA)
        concepts = dataclasses.replace(concepts, sets=own)
        said.append(f"the words of {gone} are the labels'")
    found = dataclasses.replace(
        config,
        methods=methods,
        simulators=simulators or config.simulators,
        evaluation=evaluation,
        concepts=concepts,
    )
    return found, tuple(
        f"Left out, for the images have no labels: {line}." for line in sorted(said)
    )
