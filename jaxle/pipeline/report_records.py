"""What a report is made of, read from a finished run: arrays of each layer, facts of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jaxle.explanations import Explanations
from jaxle.pipeline.image_pass import tap_name
from jaxle.pipeline.load import FinishedRun
from jaxle.pipeline.tables import columns
from jaxle.pipeline.workdir import settings
from jaxle.report import overview, paper
from jaxle.report.alike import Alike, find_alike
from jaxle.report.details import Beside, Entry, Pictures
from jaxle.report.outcome import best_method
from jaxle.report.overview import short_source
from jaxle.report.shards import DIGITS, numbers

SHOWN = ("by_bin", "by_rank", "edges", "histogram")
SUMMED = ("over", "under", "probs", "shares")
FORMAT = 1  # of the data, docs/report_data.md


@dataclass(frozen=True, eq=False)
class LayerArrays:
    """A layer as the report shows it.

    Attributes:
      tap: its name.
      first: number of its first neuron among all neurons of the report.
      pictures: its test images.
      explanations: by method.
      entries, scores: by the number of a row of the report, tap × method × simulator.
    """

    tap: str
    first: int
    pictures: Pictures
    explanations: Mapping[str, Explanations]
    entries: Mapping[int, Entry]
    scores: Mapping[int, pd.DataFrame]


def layer_arrays(run: FinishedRun) -> list[LayerArrays]:
    """Returns every layer's arrays.

    Raises:
      ValueError: the run kept none for a report.
    """
    names, found, first = run.report_arrays, [], 0
    for tap in run.taps:
        shown, test = run.stored(names["layers"][tap]).arrays, run.split.test
        maps = run.stored(names["maps"]).arrays.get(tap_name(tap)) if names["maps"] else None
        pictures = Pictures(
            real=np.asarray(run.activations(tap)[test], np.float32),
            **{name: np.asarray(shown[name]) for name in SHOWN},
            maps=maps,
        )
        entries, scores = {}, {}
        for i, row in enumerate(names["rows"]):
            if row["tap"] == tap:
                sums, simulated = (run.stored(row[name]).arrays for name in ("sums", "simulated"))
                own = {name: np.asarray(sums[name]) for name in SUMMED}
                entries[i] = Entry(np.asarray(simulated["test"]), **own)
                scores[i] = run.scores_of(tap, row["method"], row["simulator"])
        tables = {method: run.explanations(tap, method) for method in run.methods}
        found.append(LayerArrays(tap, first, pictures, tables, entries, scores))
        first += pictures.real.shape[1]
    return found


def report_facts(run: FinishedRun, layers: Sequence[LayerArrays]) -> dict[str, Any]:
    """Returns what the front page says of the run as a whole; data/run.js but for the pictures."""
    words = overview.used_words([t for own in layers for t in own.explanations.values()])
    held, names = columns(run.config), run.report_arrays
    return {
        "format": FORMAT,
        "name": f"{run.config.target.model} on {short_source(run.config.data.source)}",
        "summary": run.summary,
        "config": settings(run.config),
        "tables": run.index["tables"],
        "layers": [
            {"tap": own.tap, "first": own.first, "n": own.pictures.real.shape[1]} for own in layers
        ],
        "methods": list(run.methods),
        "best": list(best_method(run.summary["results"])),
        "rows": [
            {name: row[name] for name in ("tap", "method", "simulator")} for row in names["rows"]
        ],
        "columns": {
            name: {"better": column.better, "meaning": column.meaning}
            for name, column in held.items()
        },
        "words": list(words),
        "present": {method: _present(run, method, words) for method in run.methods},
        "calibration": [
            overview.reliability(name, run.summary["encoders"][name], run.stored(where).arrays)
            for name, where in names["calibration"].items()
        ],
        "impact": _curves(run),
        "controls": _controls(run),
        "paper": paper.beside(run.config.target.model, run.taps),
        "lines": _lines(run),
    }


def alike_by_method(run: FinishedRun, layers: Sequence[LayerArrays]) -> dict[str, Alike]:
    """Returns method → neurons of all layers that its explanations say are alike.

    By the method's first simulator.
    """
    found = {}
    for method in run.methods:
        simulated = [
            next(e for i, e in own.entries.items() if _method(run, i) == method).simulated
            for own in layers
            if any(_method(run, i) == method for i in own.entries)
        ]
        if len(simulated) == len(layers):
            found[method] = find_alike(np.concatenate(simulated, axis=1), run.config.seed)
    return found


def beside_of(run: FinishedRun, layer: LayerArrays, near: Mapping[str, Alike]) -> Beside:
    """Returns what else the pages of a layer's neurons hold."""
    span = slice(layer.first, layer.first + layer.pictures.real.shape[1])
    nearest = {
        method: [
            [[n, r] for n, r in zip(those, rho, strict=True) if n >= 0]
            for those, rho in zip(
                found.nearest[span].tolist(), numbers(found.correlation[span]), strict=True
            )
        ]
        for method, found in near.items()
    }
    parts = {method: _parts(run, layer, method) for method in run.methods}
    return Beside(nearest, {n: own for n, own in parts.items() if own}, _pushes(run, layer))


def _method(run: FinishedRun, row: int) -> str:
    return run.report_arrays["rows"][row]["method"]


def _parts(run: FinishedRun, layer: LayerArrays, method: str) -> dict[str, list[list[Any]]]:
    """Column of concepts.csv → a list a neuron of one value a concept."""
    path = run.workdir / tap_name(layer.tap) / method / "concepts.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        frame = pd.read_csv(file, keep_default_na=False)
    ends = np.cumsum(layer.explanations[method].terms)[:-1]
    found = {}
    for name in frame.columns.drop(["unit", "concept", "weight"]):
        values = frame[name].to_numpy()
        whole = values.tolist() if values.dtype == object else numbers(values, DIGITS)
        found[name] = [list(part) for part in np.split(np.array(whole, object), ends)]
    return found


def _pushes(run: FinishedRun, layer: LayerArrays) -> list[list[Any]]:
    """Of each neuron, classes and what a standard deviation of it adds to their logits."""
    name = run.report_arrays["pushes"]
    stored = run.stored(name) if name else None
    if stored is None or stored.facts["tap"] != layer.tap or not stored.arrays:
        return []
    spread = layer.pictures.real.std(axis=0, dtype=np.float64)[:, None]
    added, classes = numbers(stored.arrays["weight"] * spread), stored.facts["classes"]
    index = stored.arrays["index"].tolist()
    return [
        [[classes[j], x] for j, x in zip(own, values, strict=True)]
        for own, values in zip(index, added, strict=True)
    ]


def _present(run: FinishedRun, method: str, words: Mapping[str, int]) -> list[float | None]:
    """Of every word its probability where it is present, by the method's concept matrix."""
    matrix, found = run.concept_matrix(method), np.full(len(words), np.nan)
    place = {name: j for j, name in enumerate(matrix.concepts)}
    known = [name for name in words if name in place]
    if known:
        asked = np.array([place[name] for name in known])
        those = [words[name] for name in known]
        found[those] = overview.present(matrix.rows, run.split.train, asked)
    return numbers(found)


def _curves(run: FinishedRun) -> list[dict[str, Any]]:
    path = run.workdir / "impact_curve.csv"
    if not path.exists():
        return []
    with path.open() as file:
        frame = pd.read_csv(file)
    found = []
    for tap in run.taps:
        own = frame.loc[frame["tap"] == tap].drop(columns="tap")
        found.append({"tap": tap} | {str(n): numbers(np.asarray(own[n])) for n in own.columns})
    return found


def _controls(run: FinishedRun) -> list[dict[str, Any]]:
    """Correlations on networks that learned nothing: a record per row of the report and network."""
    table = run.controls
    if table is None:
        return []
    by, found = ["tap", "method", "simulator", "network"], []
    for _, names in table[by].drop_duplicates().iterrows():
        record = {name: str(names[name]) for name in by}
        those = np.logical_and.reduce([table[name] == value for name, value in record.items()])
        own = table.loc[those, "correlation"].to_numpy()
        found.append({**record, "correlation": numbers(own)})
    return found


def _lines(run: FinishedRun) -> list[str]:
    """A line per layer, method and simulator, for a browser without scripts."""
    return [
        f"{record['tap']} · {record['method']} · simulated by {record['simulator']}: "
        f"test correlation {record['mean_correlation']:.3f} ± {record['sem_correlation']:.3f}, "
        f"{record['mean_length']:.1f} words on average"
        for record in run.summary["results"]
    ]
