"""The short end of a run: a row of figures a layer and method, then the neurons to look at first.

records of summary.json, explanations → at most some 16 lines; the rest stands in `listing`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.report.listing import Listed

ROWS = 18  # of the table
WIDTH = 100  # characters of a line


def lines(entries: Sequence[Listed], summary: Mapping[str, Any], n: int) -> Iterator[str]:
    """Yields the outcome of a run.

    Args:
      entries: in the order of the summary's records.
      summary: of the run.
      n: how many neurons to list: the best explained ones of the last layer, by the best method.
    """
    last = {(e.tap, e.method): i for i, e in enumerate(entries)}  # by the last simulator
    chosen = [summary["results"][i] for i in last.values()]
    yield from _table(chosen)
    if "top_impact" in summary:
        shares = summary["top_impact"]["all"].items()
        text = ", ".join(f"{100 * x:.3g} % by {100 * float(b):g} %" for b, x in shares)
        yield f"Top Impact, share of the impact by share of the images: {text}"
    for note in summary["notes"]:
        yield f"Note: {note}"
    if n and entries:
        yield from _neurons(_best_of_last_layer(entries, summary), n)


def best_method(records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Returns the method of largest mean test correlation over the layers, and its simulator.

    Each method by its last simulator; of equal ones the first.

    Args:
      records: `results` of summary.json, at least one.
    """
    by = {record["method"]: record["simulator"] for record in records}
    means = {
        method: np.mean(
            [
                record["mean_correlation"]
                for record in records
                if (record["method"], record["simulator"]) == (method, simulator)
            ]
        )
        for method, simulator in by.items()
    }
    best = max(means, key=means.__getitem__)
    return best, by[best]


def _best_of_last_layer(entries: Sequence[Listed], summary: Mapping[str, Any]) -> Listed:
    method, simulator = best_method(summary["results"])
    of_it = [e for e in entries if (e.method, e.simulator) == (method, simulator)]
    return of_it[-1]


def _table(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = [
        ("layer · method", lambda r: f"{r['tap']} · {r['method']}"),
        ("simulated by", lambda r: r["simulator"]),
        ("test ρ", lambda r: f"{r['mean_correlation']:.3f} ± {r['sem_correlation']:.3f}"),
        ("ceiling", lambda r: _figure(r, "mean_ceiling")),
        ("untrained", lambda r: _figure(r, "untrained_mean_correlation")),
        ("> untrained", _better),
        ("ablation excess", lambda r: _figure(r, "mean_ablation_excess")),
        ("unexplained", lambda r: str(r.get("n_unexplained") or "")),
        ("words", lambda r: f"{r['mean_length']:.1f}"),
    ]
    rows = [[cell(record) for _, cell in columns] for record in records[:ROWS]]
    held = [j for j in range(len(columns)) if any(row[j] for row in rows)]
    table = [[columns[j][0] for j in held], *([row[j] for j in held] for row in rows)]
    widths = [max(len(row[j]) for row in table) for j in range(len(held))]
    for row in table:
        cells = [
            cell.ljust(width) if j < 2 else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    if len(records) > ROWS:
        yield f"… and {len(records) - ROWS} more in summary.json"


def _figure(record: Mapping[str, Any], name: str) -> str:
    return f"{record[name]:.3f}" if name in record else ""


def _better(record: Mapping[str, Any]) -> str:
    if "n_controls" not in record:
        return ""
    live = record["n_neurons"] - record["n_dead"]
    return f"{record['n_better']} of {live}" if "n_better" in record else "not countable"


def _neurons(entry: Listed, n: int) -> Iterator[str]:
    rho = np.asarray(entry.correlation)
    live = np.flatnonzero(entry.live & (entry.explanations.lengths > 0))
    if len(live):
        yield f"Best explained by {entry.method}, simulated by {entry.simulator}:"
    for unit in live[np.argsort(-rho[live], kind="stable")][:n].tolist():
        row = entry.explanations.rows[unit]
        line = f"  {entry.tap}/{row.unit}  ρ {rho[unit]:.2f}  {row}"
        yield line if len(line) <= WIDTH else line[: WIDTH - 1].rstrip() + "…"
