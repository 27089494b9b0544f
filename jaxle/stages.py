"""The stages of a run, in order; each reuses what it finds whole in the cache (`jaxle.run`).

probe      images → activations of every tap, labels, embeddings by every encoder, its calibration      one pass over the images
fit        activations, concepts → moments; candidates in order                                         per tap and method
search     moments, candidates → explanations                                                           per tap and method
simulate   explanations, simulator → simulated activations on val and test                              per tap, method and simulator
score      simulated, real activations → scores.csv, summary.json                                       tables of the whole run
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxle import ablating, artifacts, evaluating, matrices, scoring
from jaxle.explaining import PRECONDITIONED, explained, measured, ranked
from jaxle.report.progress import say
from jaxle.run import STAGES, TRAINED, Run, prepare

__all__ = ["STAGES", "run"]


def run(config: Mapping[str, Any], requested: list[str], mesh: Mesh) -> None:
    """Run the requested stages in order and write the workdir's files.

    Args:
      config: nested dict with the fields of `configs/common.py`, `workdir` filled in.
      requested: names out of `STAGES`; a stage that another one needs and that is neither requested nor complete is an error.
      mesh: the device mesh.

    Raises:
      ValueError: bad input; what was computed before it stays.
    """
    start = time.monotonic()
    x = prepare(config, requested, mesh)
    matrices.check(x)
    ablating.check(x)
    artifacts.write_json(
        x.workdir / "config.json",
        {key: value for key, value in x.config.items() if key != "workdir"},
    )
    for stage in STAGES:
        if stage in requested:
            began = time.monotonic()
            say(f"{stage} …")
            RUN[stage](x)
            say(f"{stage} done in {time.monotonic() - began:.1f} s")
    seconds = {stage: round(x.seconds.get(stage, 0.0), 3) for stage in requested}
    artifacts.write_json(
        x.workdir / "timing.json",
        {"seconds": seconds, "total_seconds": round(time.monotonic() - start, 3)},
    )


def _units(x: Run) -> Iterator[tuple[str, str, str]]:
    """Every (variant, tap, method) of the run."""
    for variant in x.targets:
        for unit in scoring.units(x):
            yield variant, *unit


def _probe(x: Run) -> None:
    for name in matrices.readings(x):
        matrices.probed(x, name)
    for tower in x.towers:
        facts = matrices.calibrated(x, tower).artifact.facts
        say(f"  {tower}: σ({facts['scale']:.4g}·(cos {facts['shift']:+.4g})), {facts['source']}")
    for name, index in x.split._asdict().items():
        artifacts.write_file(
            x.workdir / "split" / f"{name}.npy",
            lambda file, index=index: np.save(file, index, allow_pickle=False),
        )
    accuracy = matrices.probed(x, TRAINED).artifact.facts.get("top1_accuracy")
    if accuracy is not None:
        say(
            f"  {x.targets[TRAINED].name}: top-1 accuracy {100 * accuracy:.2f} % on {len(x.source)} images"
        )


def _fit(x: Run) -> None:
    for unit in _units(x):
        (measured if x.config["methods"][unit[-1]]["search"] == PRECONDITIONED else ranked)(
            x, *unit
        )


def _search(x: Run) -> None:
    for variant, tap, method in _units(x):
        _, explanations = explained(x, variant, tap, method)
        if variant == TRAINED:
            explanations.to_csv(scoring.folder(x, tap, method) / "explanations.csv")


def _simulate(x: Run) -> None:
    for variant, tap, method in _units(x):
        for simulator in evaluating.simulators(x, method):
            evaluating.simulated(x, variant, tap, method, simulator)


RUN: dict[str, Callable[[Run], None]] = {
    "probe": _probe,
    "fit": _fit,
    "search": _search,
    "simulate": _simulate,
    "score": scoring.score,
}
