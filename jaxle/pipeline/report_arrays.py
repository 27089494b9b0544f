"""The arrays that only the report needs, made while the run has its networks open.

rows of the run → `shown`, `sums` and `maps` in the cache, and their names for run.json
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxle.pipeline.cache import Cache
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.encoders import CALIBRATION
from jaxle.pipeline.inputs import Inputs, encoder_name
from jaxle.pipeline.maps import MAPS, maps
from jaxle.pipeline.matrices import Calibrated
from jaxle.pipeline.pushes import PUSHES, pushes
from jaxle.pipeline.shown import SHOW, SUMS, show, sums
from jaxle.pipeline.simulate import SIMULATE
from jaxle.pipeline.tables import Row


def make_report_arrays(
    cache: Cache,
    inputs: Inputs,
    rows: Sequence[Row],
    calibrated: Mapping[Encoder, Calibrated],
    config: Config,
) -> dict[str, Any]:
    """Returns where they lie: names in the cache, in the order of the rows.

    Args:
      cache: of the run.
      inputs: of the run.
      rows: of the trained network.
      calibrated: the encoders.
      config: whether maps are wanted.
    """
    partition, simulated = inputs.partition, [row.scored.simulated for row in rows]
    layers = list(dict.fromkeys(one.explained.layer for one in simulated))
    shown = {layer.key: show(cache, layer, partition) for layer in layers}
    names = []
    for row, one in zip(rows, simulated, strict=True):
        stored = sums(cache, one, shown[one.explained.layer.key], partition)
        where = {"sums": f"{SUMS.name}-{stored.key}", "simulated": f"{SIMULATE.name}-{one.key}"}
        names.append({**row.about, **where})
    drawn = None
    if config.report.maps and config.report.images != "none":
        drawn = f"{MAPS.name}-{maps(cache, inputs, list(shown.values())).key}"
    curves = {
        encoder_name(encoder): f"{CALIBRATION.name}-{own.key}"
        for encoder, own in calibrated.items()
        if "ece" in own.facts  # it was fitted on labels
    }
    pushed = pushes(cache, inputs, config)
    return {
        "pushes": None if pushed is None else f"{PUSHES.name}-{pushed.key}",
        "layers": {layer.tap: f"{SHOW.name}-{shown[layer.key].key}" for layer in layers},
        "rows": names,
        "maps": drawn,
        "calibration": curves,
        "preprocess": dataclasses.asdict(inputs.trained.preprocess),
    }
