"""The tables of a run: explanations.csv and concepts.csv of each layer and method, scores.csv.

Columns come from the records that the rooms state them in (`evaluation.METRICS`,
`evaluation.CEILING`, `intervention.COLUMNS`), and so does docs/scores.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from jaxle import artifacts
from jaxle.columns import Column
from jaxle.evaluation import CEILING, counterfactual, find_metrics, monosemanticity
from jaxle.explanations import to_cell
from jaxle.intervention import COLUMNS
from jaxle.intervention.impact import BETAS
from jaxle.pipeline.config import Config
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.image_pass import tap_name
from jaxle.pipeline.intervene import Impact
from jaxle.pipeline.opened import TRAINED
from jaxle.pipeline.score import Scored

LAST = ("selection_frequency", "equivalent")  # of concepts.csv: not by simulator


@dataclass(frozen=True, eq=False)
class Row:
    """All that is known of one layer, method and simulator.

    Attributes:
      scored: its scores.
      columns: those of scores.csv, (neurons,) each: the scores', the ceiling, ablation.
      facts: of the layer, JSON values.
      parts: of concepts.csv, column name → (neurons, most).
    """

    scored: Scored
    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    parts: Mapping[str, np.ndarray]

    @property
    def explained(self) -> Explained:
        """The explanations that were scored."""
        return self.scored.simulated.explained

    @property
    def simulator(self) -> str:
        """The simulator's name."""
        return self.scored.simulated.simulator.name

    @property
    def about(self) -> dict[str, str]:
        """Tap, method and simulator."""
        return self.scored.about


def columns(config: Config) -> dict[str, Column]:
    """Returns name → what it holds, of every score column that a run of this config can write."""
    rows = find_metrics(config.evaluation.metrics).values()
    found = [column for metric in rows for column in metric.columns]
    found += [*COLUMNS, CEILING, *monosemanticity.COLUMNS, *counterfactual.COLUMNS]
    return {column.name: column for column in found}


def folder(workdir: epath.Path, explained: Explained) -> epath.Path:
    """Returns where the tables of a layer by a method are written."""
    return workdir / tap_name(explained.layer.tap) / explained.method


def write_explanations(workdir: epath.Path, explained: Explained, rows: Sequence[Row] = ()) -> None:
    """Writes explanations.csv, with the scores of `rows`, those of the same layer and method."""
    published: dict[str, np.ndarray] = {}
    for row in rows:
        suffix = f" {row.simulator}" if published else ""
        published[f"sim correlation{suffix}"] = row.columns["correlation"]
        for name in ("optim", "norm"):
            if f"ablation_{name}" in row.columns:
                published[f"sim ablation({name}){suffix}"] = row.columns[f"ablation_{name}"]
    table = explained.explanations.with_scores(published)
    table.to_csv(folder(workdir, explained) / "explanations.csv")


def write_concepts(workdir: epath.Path, explained: Explained, rows: Sequence[Row]) -> None:
    """Writes concepts.csv, a row per unit and concept, with the parts of `rows`; none without."""
    parts: dict[str, np.ndarray] = {}
    for row in rows:
        parts |= {name: values for name, values in row.parts.items() if name not in parts}
    if not parts:
        return
    last = {name: parts.pop(name) for name in LAST if name in parts}
    parts |= last
    explanations = explained.explanations
    longest = max([1, *explanations.terms])
    neurons, slots = np.nonzero(np.arange(longest) < explanations.terms[:, None])
    places = list(zip(neurons.tolist(), slots.tolist(), strict=True))
    frame = {
        "unit": explanations.units[neurons],
        "concept": [to_cell(explanations.rows[k].concepts[i]) for k, i in places],
        "weight": [explanations.rows[k].weights[i] for k, i in places],
        **{name: values[neurons, slots] for name, values in parts.items()},
    }
    _write(folder(workdir, explained) / "concepts.csv", pd.DataFrame(frame))


def write_scores(path: epath.Path, rows: Sequence[Row]) -> None:
    """Writes scores.csv, a row per tap, unit, method and simulator."""
    frames = []
    for row in rows:
        table = row.explained.explanations
        about = row.about
        own = {
            "tap": about["tap"],
            "unit": table.units,
            "method": about["method"],
            "simulator": about["simulator"],
            "flag": table.flags,
            "length": table.lengths,
            "val_correlation": [r.val_correlation for r in table],
        }
        frames.append(pd.DataFrame({**own, **row.columns}))
    _write(path, pd.concat(frames))


def write_impact(workdir: epath.Path, impacts: Sequence[Impact]) -> None:
    """Writes impact.csv (tap, unit, TI at each β, what is lost without the neuron) and its curve.

    Nothing is written where there is no impact.
    """
    if not impacts:
        return
    rows, curves = [], []
    for impact in impacts:
        arrays, tap = impact.arrays, impact.tap
        shares = {f"top_impact_{beta:g}": arrays["table"][:, i] for i, beta in enumerate(BETAS)}
        lost = {name: arrays[name] for name in ("accuracy_lost", "loss_gained")}
        units = np.arange(len(arrays["table"]))
        rows.append(pd.DataFrame({"tap": tap, "unit": units, **shares, **lost}))
        curve = {"share_of_images": arrays["curve_at"], "top_impact": arrays["curve"]}
        curves.append(pd.DataFrame({"tap": tap, **curve}))
    _write(workdir / "impact.csv", pd.concat(rows))
    _write(workdir / "impact_curve.csv", pd.concat(curves))


def write_controls(path: epath.Path, scored: Sequence[Scored]) -> None:
    """Writes ρ of every neuron of networks that learned nothing; no file where there is none."""
    frames = []
    for entry in scored:
        layer, about = entry.simulated.explained.layer, entry.about
        if layer.kind == TRAINED:
            continue
        own = {**about, "network": layer.network, "correlation": entry.columns["correlation"]}
        frame = pd.DataFrame(own)
        frame.insert(1, "unit", entry.simulated.explained.explanations.units)
        frames.append(frame)
    if frames:
        _write(path, pd.concat(frames))


def _write(path: epath.Path, frame: pd.DataFrame) -> None:
    artifacts.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
