"""One run: everything that is settled before the first image, and the artifacts that its stages make or find.

A stage's artifact lies in `cache/` under the fingerprint of exactly what it was made from, upstream fingerprints included; one that is
there and whole is used again. So the same command resumes, and a changed setting redoes only what reads it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts, settings
from jaxle.artifacts import Artifact, fingerprint
from jaxle.data.generated import generate_folder
from jaxle.data.sources import Source, open_source
from jaxle.data.splits import Split, load_split, make_split
from jaxle.evaluation.random_network import batch_statistics, permute_parameters
from jaxle.evaluation.replacement import Tail
from jaxle.models.generated import generate
from jaxle.models.model import Model
from jaxle.models.placement import place
from jaxle.models.two_tower import TwoTower
from jaxle.models.zoo import load_model
from jaxle.report.progress import say

STAGES = ("probe", "fit", "search", "simulate", "score")
TRAINED, UNTRAINED, SHUFFLED = "trained", "untrained", "shuffled"
STATISTICS, STEP = (
    512,
    64,
)  # training images from which a shuffled network's batch statistics are measured, and how many at once
OWN = (
    "arguments",
    "call",
    "preprocess",
    "class_names",
)  # what a network of the user's own may need beside its name and weights
GENERATED = "generated"


class Made(NamedTuple):
    """An artifact and the fingerprint that names it."""

    key: str
    artifact: Artifact


class Run(NamedTuple):
    """Checked names, opened inputs, the split, and what this process made or found."""

    config: dict[str, Any]
    requested: tuple[str, ...]
    workdir: epath.Path
    mesh: Mesh
    source: Source
    targets: dict[str, Model]  # TRAINED; UNTRAINED and SHUFFLED where asked
    towers: dict[str, TwoTower]  # by `tower_id`
    split: Split
    made: dict[str, Made]
    passed: dict[
        str, dict[str, np.ndarray]
    ]  # network → what this process's pass over the images read of it, until it is saved
    tails: dict[str, Tail]  # tap → the network after it, where an edit was asked for
    seconds: dict[str, float]


def prepare(config: Mapping[str, Any], requested: list[str], mesh: Mesh) -> Run:
    """Check every name and open every input, cheapest first.

    Args:
      config: nested dict with the fields of `configs/common.py`, `workdir` filled in.
      requested: names out of `STAGES`.
      mesh: the device mesh.

    Raises:
      ValueError: the first thing that is wrong.
    """
    unknown = [stage for stage in requested if stage not in STAGES]
    if unknown or not requested:
        raise ValueError(
            f"unknown stage {unknown[0] if unknown else ''!r}; valid stages: {', '.join(STAGES)}."
        )
    config = settings.check(config)
    target, data, seed = config["target"], config["data"], config["seed"]
    cache = epath.Path(config["workdir"]) / "cache" / GENERATED
    own = {name: target[name] for name in OWN if target[name]} | {
        "dtype": target["dtype"],
        "mesh": mesh,
    }
    targets = {TRAINED: load_model(target["model"], _weights(target, cache, seed), **own)}
    for tap in target["taps"]:
        shape = targets[TRAINED].taps[targets[TRAINED].resolve(tap)]
        if target["pool"] == "none" and len(shape) != 1:
            raise ValueError(
                f"pool 'none' keeps positions apart, and tap {tap!r} has shape {shape}: expected avg, max or first."
            )
    images = data["source"]
    if (n := settings.generated_images(images)) is not None:
        images = (
            f"folder:{generate_folder(cache / 'images', n, targets[TRAINED].class_names, seed)}"
        )
    source = open_source(images, data["split"] or None, data["limit"] or None, seed)
    if data["split_files"]:
        split = load_split(data["split_files"], len(source))
    else:
        split = make_split(len(source), seed, tuple(data["split_fractions"]))
    if config["evaluation"]["untrained"]:
        targets[UNTRAINED] = load_model(target["model"], random_init_seed=seed, **own)
    if config["evaluation"]["shuffled"]:
        targets[SHUFFLED] = _shuffled(targets[TRAINED], source, split, seed)
    towers = {}
    for entry in [*config["methods"].values(), *config["simulators"].values()]:
        if "model" in entry and tower_id(entry) not in towers:
            tower = load_model(
                entry["model"],
                _weights(entry, cache, seed + 1 + len(towers)),
                dtype=entry["dtype"],
                mesh=mesh,
            )
            if not isinstance(tower, TwoTower):
                raise ValueError(
                    f"model {entry['model']!r} has no text tower; explainers and simulators are SigLIP, SigLIP 2 or CLIP."
                )
            towers[tower_id(entry)] = tower
    return Run(
        config,
        tuple(requested),
        epath.Path(config["workdir"]),
        mesh,
        source,
        targets,
        towers,
        split,
        {},
        {},
        {},
        {},
    )


def tower_id(entry: Mapping[str, str]) -> str:
    """What names an encoder in a run: its model, and its weights and dtype where they are not the zoo's own and float32."""
    return " ".join(
        [entry["model"], *filter(None, [entry["weights"], entry["dtype"].removeprefix("float32")])]
    )


def _shuffled(model: Model, source: Source, split: Split, seed: int) -> Model:
    """The network with every parameter tensor's values in other places, and batch statistics to match."""
    recompute = None
    if model.variables.get("batch_stats"):
        images = np.stack(
            [model.preprocess.fit(source[int(i)][0]) for i in split.train[:STATISTICS]]
        )
        step = min(STEP, len(images))
        whole = [
            model.preprocess.normalise(images[start : start + step])
            for start in range(0, len(images) - step + 1, step)
        ]
        recompute = functools.partial(batch_statistics, model.module, batches=whole, **model.call)
    variables = permute_parameters(model.variables, seed, recompute)
    placed = variables if model.mesh is None else place(variables, model.mesh)
    return dataclasses.replace(
        model, variables=placed, weights_hash=f"shuffled:{seed}:{model.weights_hash}"
    )


def _weights(entry: Mapping[str, Any], cache: epath.Path, seed: int) -> str | None:
    """What `load_model` is given: random weights made now, in a published format, where the config says "generated"."""
    if entry["weights"] != GENERATED:
        return entry["weights"] or None
    return str(generate(entry["model"], cache / entry["model"], seed))


def once(
    x: Run,
    stage: str,
    what: str,
    fields: Mapping[str, Any],
    make: Callable[[epath.Path], tuple[dict, dict]],
) -> Made:
    """The artifact that `fields` name: from this process, from the cache, or made now by `make(folder)` → arrays, facts.

    Args:
      x: the run.
      stage: its stage, or "<stage>-<what>" for one of several of a stage.
      what: for the log.
      fields: JSON values: all that the artifact depends on.
      make: called where it is neither made nor found.

    Raises:
      ValueError: it is not there, and its stage was not requested.
    """
    key = fingerprint({"stage": stage, **fields})
    name = f"{stage}-{key}"
    if name not in x.made:
        began, before = time.monotonic(), sum(x.seconds.values())
        folder = x.workdir / "cache" / name
        artifact = artifacts.read(folder)
        reused = artifact is not None
        if artifact is None:
            needed = stage.partition("-")[0]
            if needed not in x.requested:
                raise ValueError(
                    f"stage {needed!r} is not complete for {what}: add it to --stages, as --stages={needed},{','.join(x.requested)}."
                )
            artifact = artifacts.write(folder, *make(folder))
        x.made[name] = Made(key, artifact)
        seconds = time.monotonic() - began
        own = seconds - (
            sum(x.seconds.values()) - before
        )  # what it asked for in the making has counted itself
        x.seconds[stage.partition("-")[0]] = x.seconds.get(stage.partition("-")[0], 0.0) + own
        _note(x, {"stage": stage, "what": what, "reused": reused, "seconds": round(seconds, 3)})
        say(f"  {what}: {'found in the cache' if reused else f'{seconds:.1f} s'}")
    return x.made[name]


def is_made(x: Run, stage: str, fields: Mapping[str, Any]) -> bool:
    """Whether `once` would find this artifact whole."""
    name = f"{stage}-{fingerprint({'stage': stage, **fields})}"
    return name in x.made or artifacts.read(x.workdir / "cache" / name) is not None


def _note(x: Run, line: Mapping[str, Any]) -> None:
    """Append one line to metrics.jsonl."""
    with (x.workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def where(variant: str, tap: str, method: str) -> str:
    """A unit of work, for the log."""
    return f"{tap}, {method}" + (f" ({variant})" if variant != TRAINED else "")


def split_key(split: Split) -> str:
    """The fingerprint of a split."""
    return fingerprint({name: index.tolist() for name, index in split._asdict().items()})
