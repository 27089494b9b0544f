"""The report of a finished run: pages that open from disk, made of its tables and its cache.

    run's tables and arrays → index.html, data/, sprites/            jaxle report RUN makes it again

Nothing is computed of images here: arrays that only the report needs were made by
`pipeline.shown` and `pipeline.maps` while the run had its networks open. What is written stands in
docs/report_data.md.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
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
from jaxle.report.details import details, rows_shown
from jaxle.report.pages import write_bulk, write_pages
from jaxle.report.shards import numbers, write_shard

PARTIAL, PICTURES = ".report.partial", "pictures.json"
PER_SHARD = 16  # neurons
POINTS = 160  # of a scatter
MEGABYTE = 1 << 20


def write_report(run: FinishedRun) -> epath.Path:
    """Writes the report of a run, and returns its folder; an earlier report is replaced whole.

    Raises:
      ValueError: the run kept no arrays for it, or its images are gone and pictures are wanted.
    """
    folder, partial = run.workdir / REPORT, run.workdir / PARTIAL
    if partial.exists():
        partial.rmtree()
    layers = layer_arrays(run)
    facts, used = report_facts(run, layers), _pictures_used(layers)
    facts["pictures"] = _write_pictures(run, used, folder, partial)
    words = {name: i for i, name in enumerate(facts["words"])}
    near, number = alike_by_method(run, layers), {row: i for i, row in enumerate(used)}
    scattered = np.unique(np.linspace(0, len(run.split.test) - 1, POINTS).round().astype(int))
    bulk: dict[str, Any] = {"run": facts, "layers": [], "neurons": []}
    for place, layer in enumerate(layers):
        top = layer.pictures.by_rank[:, 0, : overview.TOP].tolist()
        table = overview.layer_table(layer.explanations, layer.scores, layer.pictures.real, words)
        table["top"] = [[number[row] for row in own if row in number] for own in top]
        write_shard(partial, f"layers/{place}", table)
        beside = beside_of(run, layer, near)
        pages = details(layer.pictures, layer.entries, beside, number.__getitem__, scattered)
        bulk["layers"].append(table)
        bulk["neurons"].append(_write_neurons(partial, place, pages))
    bulk["map"] = {method: numbers(found.place) for method, found in near.items()}
    bulk["images"] = [run.names[run.split.test[row]] for row in used]
    for name in ("map", "images", "run"):
        write_shard(partial, name, bulk[name])
    write_bulk(partial, bulk)
    write_pages(partial, facts["name"], facts["lines"])
    if folder.exists():
        folder.rmtree()
    partial.rename(folder)
    return folder


def write_timing(workdir: epath.Path, timing: Mapping[str, Any]) -> None:
    """Writes the one data script that depends on the clock."""
    write_shard(workdir / REPORT, "timing", timing)


def _write_neurons(
    folder: epath.Path, layer: int, pages: Iterator[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Writes a layer's pages in shards, and returns all of them."""
    whole = []
    for shard in itertools.count():
        own = list(itertools.islice(pages, PER_SHARD))
        if not own:
            return whole
        write_shard(folder, f"neurons/{layer}/{shard}", own)
        whole += own
    raise AssertionError("count does not end")


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
    """Writes the pictures that the config asks for; those of an earlier report are kept.

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
            partial.mkdir(parents=True)
            for name in (PICTURES, *sprites.FOLDERS):
                if (folder / name).exists():
                    (folder / name).rename(partial / name)
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
