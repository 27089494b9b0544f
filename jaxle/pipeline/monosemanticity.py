"""Monosemanticity: how alike the images are that drive a neuron, whatever its explanation.

trained layers × embeddings of an encoder → columns of scores.csv   (`evaluation.monosemanticity`)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.evaluation.monosemanticity import TOP, monosemanticity
from jaxle.pipeline.cache import Cache, Made, Step
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.inputs import encoder_name
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.probe import Embedded
from jaxle.pipeline.tables import Row


def with_monosemanticity(
    cache: Cache, rows: Sequence[Row], embedded: Mapping[Encoder, Embedded], config: Config
) -> list[Row]:
    """Returns the rows with the columns of their layer; as they are where nothing embeds images.

    Args:
      cache: of the run.
      rows: of the trained network.
      embedded: the encoders' image embeddings.
      config: the first encoder among its simulators judges, else the first that explains.
    """
    simulating = [entry for entry in config.simulators.values() if isinstance(entry, Encoder)]
    judges = [embedded[encoder] for encoder in (*simulating, *embedded)]
    if not judges:
        return list(rows)
    found = []
    for row in rows:
        layer = row.explained.layer
        stored = cache.step(MONOSEMANTICITY, str(layer), [layer, judges[0]])
        facts = {"monosemanticity_by": encoder_name(judges[0].encoder), **stored.facts}
        columns, facts = {**row.columns, **stored.arrays}, {**row.facts, **facts}
        found.append(dataclasses.replace(row, columns=columns, facts=facts))
    return found


def _monosemanticity(layer: Layer, judge: Embedded, options: None, mesh: Any) -> Made:
    embeddings = np.asarray(judge.embeddings)
    got = monosemanticity(layer.values, embeddings, top=min(TOP, len(embeddings)))
    columns = {"monosemanticity": got.monosemanticity, "clarity": got.clarity}
    return columns, {"monosemanticity_of_all_images": got.of_all_images}


MONOSEMANTICITY = Step("monosemanticity", "score", 1, _monosemanticity, alone=True)
