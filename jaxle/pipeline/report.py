"""The report of a finished run: pages that open from disk, made of its tables and its cache.

    run's tables and arrays → index.html, data/, sprites/            jaxle report RUN makes it again

Nothing is computed of images here: arrays that only the report needs were made by
`pipeline.shown` and `pipeline.maps` while the run had its networks open. What is written stands in
docs/report_data.md.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxle import artifacts
from jaxle.artifacts import fingerprint
from jaxle.images import Preprocess
from jaxle.pipeline.load import FinishedRun
from jaxle.pipeline.report_records import (
    LayerArrays,
    alike_by_method,
    beside_of,
    layer_arrays,
    report_facts,
)
from jaxle.pipeline.workdir import REPORT
from jaxle.report import overview, sprites
from jaxle.report.alike import equal_steps
from jaxle.report.details import details, rows_shown
from jaxle.report.pages import write_pages
from jaxle.report.shards import Shards, copy_shard, numbers, write_shard

PARTIAL, PICTURES = ".report.partial", "pictures.json"
AGAINST, FIGURES = "against", "figures"  # folders that `jaxle report` adds on demand
PER_SHARD = 16  # neurons
POINTS = 160  # of a scatter
MEGABYTE = 1 << 20


def write_report(run: FinishedRun, against: FinishedRun | None = None) -> epath.Path:
    """Writes the report of a run, and returns its folder; an earlier report is replaced.

    Its figures, and the tables of another run beside it, stay until they are made again.

    Args:
      run: the run.
      against: another, whose tables stand beside it under Compare.

    Raises:
      ValueError: the run kept no arrays for it, or its images are gone and pictures are wanted.
    """
    folder, partial = run.workdir / REPORT, run.workdir / PARTIAL
    if partial.exists():
        partial.rmtree()
    layers = layer_arrays(run)
    facts, used = report_facts(run, layers), _pictures_used(layers)
    found = _write_pictures(run, used, folder, partial)
    facts["pictures"] = {name: found[name] for name in sorted(found)}  # as pictures.json has them
    facts["against"] = against is not None or (folder / AGAINST).exists()
    words = {name: i for i, name in enumerate(facts["words"])}
    near, number = alike_by_method(run, layers), {row: i for i, row in enumerate(used)}
    scattered = equal_steps(len(run.split.test), POINTS)
    with Shards(partial) as shards:
        shards.write("run", facts)
        shards.write("images", [run.names[run.split.test[row]] for row in used])
        shards.write("map", {method: numbers(found.place) for method, found in near.items()})
        for place, layer in enumerate(layers):
            top = layer.pictures.by_rank[:, 0, : overview.TOP].tolist()
            table = overview.layer_table(
                layer.explanations, layer.scores, layer.pictures.real, words
            )
            table["top"] = [[number[row] for row in own if row in number] for own in top]
            shards.write(f"layers/{place}", table)
            beside = beside_of(run, layer, near)
            pages = details(layer.pictures, layer.entries, beside, number.__getitem__, scattered)
            for shard in itertools.count():
                own = list(itertools.islice(pages, PER_SHARD))
                if not own:
                    break
                shards.write(f"neurons/{place}/{shard}", own)
    write_pages(partial, facts["name"], facts["lines"])
    if against is not None:
        _copy_tables(against, partial / AGAINST)
    kept = [FIGURES, AGAINST]  # of the earlier report, which is of the same settings
    if facts["pictures"]["stored"] and not (partial / PICTURES).exists():
        kept += [PICTURES, *sprites.FOLDERS]
    for name in kept:
        if (folder / name).exists() and not (partial / name).exists():
            (folder / name).rename(partial / name)
    if folder.exists():
        folder.rmtree()
    partial.rename(folder)
    return folder


def write_timing(workdir: epath.Path, timing: Mapping[str, Any]) -> None:
    """Writes the one data script that depends on the clock."""
    write_shard(workdir / REPORT, "timing", timing)


def _copy_tables(other: FinishedRun, folder: epath.Path) -> None:
    """Copies the tables of another run's report, which is made where there is none."""
    report = other.workdir / REPORT
    if not (report / "index.html").exists():
        write_report(other)
    names = ["run", *(f"layers/{place}" for place in range(len(other.taps)))]
    for name in names:
        copy_shard(report, folder, name)


def _pictures_used(layers: Sequence[LayerArrays]) -> list[int]:
    """Test images in the order in which pages use them: those of the tables first."""
    found: dict[int, None] = {}
    for layer in layers:
        top = layer.pictures.by_rank[:, 0, : overview.TOP].ravel()
        found |= dict.fromkeys(top[top >= 0].tolist())
    for layer in layers:
        entries = list(layer.entries.values())
        for neuron in range(layer.pictures.real.shape[1]):
            found |= dict.fromkeys(rows_shown(layer.pictures, entries, neuron))
    return list(found)


def _write_pictures(
    run: FinishedRun, used: Sequence[int], folder: epath.Path, partial: epath.Path
) -> dict[str, Any]:
    """Writes the pictures that the config asks for, or finds them in an earlier report.

    Args:
      run: the run.
      used: test images, by the number of their picture.
      folder: of the earlier report.
      partial: of this one.
    """
    own, preprocess = run.config.report, Preprocess(**run.index["arrays"]["report"]["preprocess"])
    kind = {"n": len(used), "kind": own.images, "columns": sprites.COLUMNS, "stored": 0, "large": 0}
    wanted = [run.index["images"], list(used), own.images, own.megabytes, repr(preprocess)]
    key = fingerprint({"version": 1, "wanted": wanted})
    if own.images == "none":
        return kind
    if (folder / PICTURES).exists():
        before = json.loads((folder / PICTURES).read_text())
        if before["key"] == key:
            return before["facts"]

    def picture(number: int) -> np.ndarray:
        return run.image(int(run.split.test[used[number]]))

    most, size = own.megabytes * MEGABYTE, preprocess.size

    def fitted(number: int) -> np.ndarray:
        return preprocess.fit(picture(number))

    sheets = sprites.write_sheets(partial, fitted, len(used), size, most)
    kind |= {"side": sheets.side, "stored": sheets.n}
    if own.images == "all":
        kind["large"] = sprites.write_large(partial, picture, sheets.n, most - sheets.n_bytes)
    artifacts.write_json(partial / PICTURES, {"key": key, "facts": kind})
    return kind
