"""Runs as tests need them: settings with some fields changed, and the program as a user starts it.

All tests of a session share one compilation cache, its workers included.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxle.mesh import make_mesh
from jaxle.pipeline import defaults
from jaxle.pipeline.config import Config
from jaxle.pipeline.reading import read_config
from jaxle.pipeline.run import run
from jaxle.pipeline.stages import STAGES
from tests.flags import COMPILED_FAST

ROOT = Path(__file__).resolve().parent.parent
FOREIGN = f"file:{ROOT}/tests/pipeline/foreign.txt"  # 99 of the 396 foreign words
# all that depends on when and how fast a run was
CLOCK = ("timing.json", "metrics.jsonl", "timing.js")
SCORED = STAGES[: STAGES.index("report")]  # without the report
# explanations and correlations only, of a layer of 16 neurons on few images
QUICK = {
    "data.limit": 80,
    "data.batch_size": 40,
    "target.taps": ("layer1",),
    "evaluation.ceiling": False,
    "evaluation.draws": 0,
    "evaluation.permutations": 0,
    "evaluation.contributions": False,
    "report.listing": 0,
}


def changed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the default settings as nested dicts, with some fields ("data.limit" → value) set."""
    config = defaults.get_config().to_dict()
    for path, value in fields.items():
        *sections, name = path.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[name] = value.to_dict() if isinstance(value, ConfigDict) else value
    return config


def settings(workdir: Path, fields: Mapping[str, Any] | None = None) -> Config:
    """Returns the settings of a quick run, with some fields changed."""
    config = read_config(changed({**QUICK, **(fields or {})}))
    return dataclasses.replace(config, workdir=str(workdir))


def quick(workdir: Path, fields: Mapping[str, Any] | None = None, stages=SCORED) -> dict[str, Any]:
    """Runs such settings in this process, on one device; returns summary.json, {} before it."""
    run(settings(workdir, fields), stages, make_mesh(1))
    path = workdir / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def session_folder(tmp_path_factory) -> Path:
    """Returns a folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def environment(tmp_path_factory, flags: Sequence[str] = COMPILED_FAST) -> dict[str, str]:
    """Returns the environment of a program: one device, and the session's compilation cache.

    Args:
      tmp_path_factory: of the session.
      flags: how programs are compiled; () as a user's are.
    """
    return {
        **os.environ,
        "XLA_FLAGS": " ".join(flags),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(session_folder(tmp_path_factory) / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def python(
    arguments: list[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs Python with some arguments in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=900
    )


def files(workdir: Path) -> dict[str, bytes]:
    """Returns the files of a workdir by name, without those that depend on the clock."""
    return {
        path.relative_to(workdir).as_posix(): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name not in CLOCK
    }


def notes(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl: a look-up of a step each."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
