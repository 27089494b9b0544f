"""The run's tables: scores.csv, a row per tap, unit, method and simulator; and the records of summary.json.

Means are over live neurons; an unexplained neuron counts as 0; fields that end in `_all` count dead neurons as 0 too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from etils import epath

from jaxle import artifacts
from jaxle.explanations import Explanations

# columns whose mean over neurons says nothing
UNMEANT = (
    "correlation_low",
    "correlation_high",
    "retrieval_rank",
    "p_value",
    "q_value",
    "ablation_scored",
)


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


def write_concepts(
    path: epath.PathLike, explanations: Explanations, parts: Mapping[str, np.ndarray]
) -> None:
    """Write concepts.csv: a row per unit and concept of its explanation, in its order: unit, concept, weight, then the parts' columns.

    Args:
      path: where.
      explanations: one row a neuron.
      parts: column name → (neurons, most) float, as `evaluation.contributions` gives them.
    """
    neurons, slots = np.nonzero(
        np.arange(max([1, *explanations.lengths])) < explanations.lengths[:, None]
    )
    frame = {
        "unit": explanations.units[neurons],
        "concept": [explanations[k].concepts[i] for k, i in zip(neurons, slots, strict=True)],
        "weight": [explanations[k].weights[i] for k, i in zip(neurons, slots, strict=True)],
        **{name: values[neurons, slots] for name, values in parts.items()},
    }
    artifacts.write_text(path, pd.DataFrame(frame).to_csv(index=False, lineterminator="\n"))


def write_impact(
    workdir: epath.Path, taps: Mapping[str, Mapping[str, np.ndarray]], betas: Sequence[float]
) -> None:
    """Write impact.csv (tap, unit, TI at each β, what is lost without the neuron) and impact_curve.csv (tap, share of images, mean TI)."""
    rows, curves = [], []
    for tap, arrays in taps.items():
        shares = {f"top_impact_{beta:g}": arrays["table"][:, i] for i, beta in enumerate(betas)}
        lost = {name: arrays[name] for name in ("accuracy_lost", "loss_gained")}
        rows.append(
            pd.DataFrame({"tap": tap, "unit": np.arange(len(arrays["table"])), **shares, **lost})
        )
        curves.append(
            pd.DataFrame(
                {"tap": tap, "share_of_images": arrays["curve_at"], "top_impact": arrays["curve"]}
            )
        )
    for name, frames in (("impact", rows), ("impact_curve", curves)):
        artifacts.write_text(
            workdir / f"{name}.csv", pd.concat(frames).to_csv(index=False, lineterminator="\n")
        )


def record(entry: Scored) -> dict[str, Any]:
    """The flat summary of one tap × method × simulator, JSON values."""
    explanations = entry.explanations
    live = explanations.flags != "dead"
    explained = explanations.lengths > 0
    val = np.array([row.val_correlation for row in explanations], np.float64)
    summary = flat(explanations.facts) | {
        "tap": entry.tap,
        "method": entry.method,
        "simulator": entry.simulator,
        "n_neurons": len(explanations),
        "n_dead": int((~live).sum()),
        "n_unexplained": int((live & ~explained).sum()),
        "mean_val_correlation": mean(val, live),
        "mean_length": mean(explanations.lengths, live),
    }
    for name, values in entry.columns.items():
        if name in UNMEANT:
            continue
        counted = live & entry.columns["ablation_scored"] if name.startswith("ablation") else live
        values = np.asarray(values, np.float64)
        summary[f"mean_{name}"] = mean(values, counted)
        summary[f"sem_{name}"] = standard_error(values, counted)
        summary[f"mean_{name}_all"] = float(np.where(live, values, 0.0).mean())
    return summary


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts under joined names: {"teacher": {"strength": 1}} → {"teacher_strength": 1}."""
    joined = {}
    for name, value in facts.items():
        joined |= (
            flat(value, f"{prefix}{name}_")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return joined


def mean(values: np.ndarray, live: np.ndarray) -> float:
    """Mean over live neurons; 0 where none lives."""
    return float(values[live].mean()) if live.any() else 0.0


def standard_error(values: np.ndarray, live: np.ndarray) -> float:
    """Standard error of that mean; 0 for fewer than two live neurons."""
    n = int(live.sum())
    return float(values[live].std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
