"""What a config asks for and images without labels cannot give: it is left out, and that is said.

    Config, Source → Config of what can be done, a sentence for each thing that is left out

The config's defaults explain and simulate with labels. A folder of photographs has none: what an
encoder explains and simulates is what remains, and a config of which nothing remains is refused
(`pipeline.needs`).
"""

from __future__ import annotations

import dataclasses

from jaxle.concepts.sets import OF_THE_DATA
from jaxle.data.masks import masks_of
from jaxle.data.sources import Source
from jaxle.pipeline.config import Config
from jaxle.pipeline.reading import LABELS


def without_labels(config: Config, source: Source) -> tuple[Config, tuple[str, ...]]:
    """Returns the config without what needs labels, where the images have none, and what went.

    Methods and simulators stay where all of them need labels, to be refused by name.

    Args:
      config: the settings.
      source: the images.
    """
    # masks come with annotations, which may take long to read
    if source.class_names or masks_of(source) is not None or source.annotations is not None:
        return config, ()
    said: list[str] = []
    methods = {name: m for name, m in config.methods.items() if m.encoder is not None}
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
    able = dataclasses.replace(
        config,
        methods=methods,
        simulators=simulators or config.simulators,
        evaluation=evaluation,
        concepts=concepts,
    )
    return able, tuple(f"Left out, for the images have no labels: {line}." for line in sorted(said))
