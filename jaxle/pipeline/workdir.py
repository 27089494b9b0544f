"""The workdir of a run: it always describes one run, the one of its config.json.

    config.json, split/, tables, summary.json, run.json, report/   of this run
    cache/                                                          of any run, found by key

Where another config ran here before, its tables go before anything else is written; its cache
stays. A run of another target is refused, so that nobody's results are lost to a flag.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from typing import Any

import numpy as np
from etils import epath

from jaxle import artifacts, multihost
from jaxle.artifacts import fingerprint
from jaxle.data.sources import names_of
from jaxle.models.units import NEURONS
from jaxle.pipeline.config import Config
from jaxle.pipeline.inputs import Inputs
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.reading import write_config
from jaxle.pipeline.skipped import TABLE as SKIPPED
from jaxle.report.progress import say

CONFIG, RUN, CACHE, SPLIT = "config.json", "run.json", "cache", "split"
CONTROLS, REPORT = "controls.csv", "report"
TABLES = ("scores.csv", CONTROLS, "impact.csv", "impact_curve.csv", SKIPPED)
TOP_TABLES = (*TABLES, "summary.json", "timing.json")
LAYER_TABLES = ("explanations.csv", "concepts.csv")
TAP_TABLES = ("units.csv",)


def settings(config: Config) -> dict[str, Any]:
    """Returns the settings as JSON values, without the place where they are run."""
    values = write_config(config)
    del values["workdir"]
    return values


def run_key(config: Config) -> str:
    """Returns what names a run: a fingerprint of its settings."""
    return fingerprint(settings(config))


def open_workdir(config: Config) -> epath.Path:
    """Returns the workdir, with config.json of this run and no table of another.

    Raises:
      ValueError: it holds a run of another target, or is no folder.
    """
    workdir = epath.Path(config.workdir)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir {workdir} is a file: expected a folder, or a new name.")
    wanted = settings(config)
    before = _read(workdir / CONFIG)
    if before is not None:
        _check_target(workdir, before, wanted)
    if before != wanted:
        old = table_paths(workdir)
        if before is not None and old:
            say(f"{workdir} held a run of other settings: its tables go, its cache stays")
        for path in old:
            path.unlink(missing_ok=True)
            _remove_empty(path.parent, workdir)
        if (workdir / REPORT).exists():
            (workdir / REPORT).rmtree()
        artifacts.write_json(workdir / CONFIG, wanted)
    return workdir


def _read(path: epath.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}  # half a file of a run that was killed: another config, as far as is known


def _check_target(workdir: epath.Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    old, new = (_explained(config) for config in (before, wanted))
    if "target" in before and old != new:
        raise ValueError(
            f"workdir {workdir} holds a run of {' '.join(filter(None, old))}, and this run "
            f"explains {' '.join(filter(None, new))}: give it another folder by --config.workdir."
        )


def _explained(config: dict[str, Any]) -> tuple[str, ...]:
    """Model, weights and units of a config; "" for what is not set."""
    target = config.get("target", {})
    units = target.get("units", NEURONS)
    return target.get("model", ""), target.get("weights", ""), "" if units == NEURONS else units


def table_paths(workdir: epath.Path) -> list[epath.Path]:
    """Returns every file there that a run writes, beside config.json and the cache."""
    if not workdir.exists():
        return []
    found = [workdir / name for name in (*TOP_TABLES, RUN)]
    found += list((workdir / SPLIT).glob("*")) if (workdir / SPLIT).exists() else []
    for tap in workdir.iterdir():
        if tap.is_dir() and tap.name not in (CACHE, SPLIT, REPORT):
            found += [tap / name for name in TAP_TABLES]
            found += [m / name for m in tap.iterdir() if m.is_dir() for name in LAYER_TABLES]
    return sorted(path for path in found if path.exists())


def _remove_empty(folder: epath.Path, top: epath.Path) -> None:
    while folder != top and folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def write_split(workdir: epath.Path, inputs: Inputs) -> None:
    """Writes which images train, choose and score, and names.txt: the images by number."""
    for name, index in inputs.partition.split._asdict().items():
        save = functools.partial(np.save, arr=index, allow_pickle=False)
        artifacts.write_file(workdir / SPLIT / f"{name}.npy", save)
    names = names_of(inputs.images.source)
    artifacts.write_text(workdir / SPLIT / "names.txt", "".join(f"{name}\n" for name in names))


def close(workdir: epath.Path, journal: Journal) -> dict[str, Any]:
    """Writes and returns timing.json: all that depends on the clock, and nothing else does."""
    seconds = journal.seconds
    timing = {
        "seconds": seconds,
        "total_seconds": round(sum(seconds.values()), 3),
        "compile_seconds": round(journal.compiling, 3),
        "programs": dict(sorted(Counter(journal.programs).items())),
    }
    if multihost.first():
        artifacts.write_json(workdir / "timing.json", timing)
    return timing
