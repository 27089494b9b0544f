"""The index of a finished run, run.json: which tables are its own, and where its arrays lie.

run       fingerprint of the settings, as in summary.json
tables    file → sha256, of every table that this run wrote
arrays    what `jaxle.load_run` opens: names of results in the cache
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from jaxle import artifacts
from jaxle.pipeline.config import Config
from jaxle.pipeline.encoders import TEXT
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Images
from jaxle.pipeline.probe import LABELS, PROBE, Labelled, Probed
from jaxle.pipeline.workdir import RUN, run_key, table_paths


def write_index(
    workdir: epath.Path, config: Config, images: Images, arrays: Mapping[str, Any]
) -> None:
    """Writes run.json, once all tables are there.

    Args:
      workdir: of the run.
      config: of the run.
      images: the probe images.
      arrays: where arrays lie (`index_arrays`), with those of the report where there is one.
    """
    tables = {
        path.relative_to(workdir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in table_paths(workdir)
        if path.name not in (RUN, "timing.json")
    }
    index = {"run": run_key(config), "images": images.key, "tables": tables, "arrays": arrays}
    artifacts.write_json(workdir / RUN, index)


def index_arrays(
    labelled: Labelled, probed: Mapping[str, Probed], fitted: Mapping[str, Fitted]
) -> dict[str, Any]:
    """Returns where the labels, every network's activations and every method's concepts lie."""
    return {
        "labels": f"{LABELS.name}-{labelled.key}",
        "networks": {name: f"{probe.step}-{probe.key}" for name, probe in probed.items()},
        "methods": {name: _matrix(own.concepts) for name, own in fitted.items()},
    }


def _matrix(concepts: ConceptMatrix) -> dict[str, Any]:
    if concepts.encoder is None:
        return {"kind": concepts.kind}
    calibrated, texts = concepts.encoder.calibrated, concepts.encoder.texts
    return {
        "kind": concepts.kind,
        "embeddings": f"{PROBE.name}-{calibrated.embedded.key}",
        "texts": f"{TEXT.name}-{texts.key}",
        "scale": calibrated.scale,
        "shift": calibrated.shift,
    }
