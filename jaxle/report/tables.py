"""The run's tables: scores.csv, a row per tap, unit, method and simulator; and the records of summary.json.

Means are over live neurons; an unexplained neuron counts as 0; fields that end in `_all` count dead neurons as 0 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from etils import epath

from jaxle import artifacts
from jaxle.explanations import Explanations


class Scored(NamedTuple):
    """One tap × method × simulator: its explanations and, per neuron, score columns (neurons,) float."""

    tap: str
    method: str
    simulator: str
    explanations: Explanations
    columns: Mapping[str, np.ndarray]


def write_scores(path: epath.PathLike, scored: Iterable[Scored]) -> None:
    """Write scores.csv: tap, unit, method, simulator, flag, length, val_correlation, then the score columns."""
    frames = [
        pd.DataFrame(
            {
                "tap": entry.tap,
                "unit": entry.explanations.units,
                "method": entry.method,
                "simulator": entry.simulator,
                "flag": entry.explanations.flags,
                "length": entry.explanations.lengths,
                "val_correlation": [row.val_correlation for row in entry.explanations],
                **entry.columns,
            }
        )
        for entry in scored
    ]
    artifacts.write_text(path, pd.concat(frames).to_csv(index=False, lineterminator="\n"))


def record(entry: Scored) -> dict[str, Any]:
    """The flat summary of one tap × method × simulator, JSON values."""
    explanations = entry.explanations
    live = explanations.flags != "dead"
    explained = explanations.lengths > 0
    val = np.array([row.val_correlation for row in explanations], np.float64)
    summary = {
        "tap": entry.tap,
        "method": entry.method,
        "simulator": entry.simulator,
        "n_neurons": len(explanations),
        "n_dead": int((~live).sum()),
        "n_unexplained": int((live & ~explained).sum()),
        "mean_val_correlation": mean(val, live),
        "mean_length": mean(explanations.lengths, live),
        **explanations.facts,
    }
    for name, values in entry.columns.items():
        values = np.asarray(values, np.float64)
        summary[f"mean_{name}"] = mean(values, live)
        summary[f"sem_{name}"] = standard_error(values, live)
        summary[f"mean_{name}_all"] = float(np.where(live, values, 0.0).mean())
    return summary


def mean(values: np.ndarray, live: np.ndarray) -> float:
    """Mean over live neurons; 0 where none lives."""
    return float(values[live].mean()) if live.any() else 0.0


def standard_error(values: np.ndarray, live: np.ndarray) -> float:
    """Standard error of that mean; 0 for fewer than two live neurons."""
    n = int(live.sum())
    return float(values[live].std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
