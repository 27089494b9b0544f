"""The summary of a run: facts of the run, and a flat record per tap, method and simulator.

Means are over live neurons; an unexplained neuron and a constant simulation count as 0; fields that
end in `_all` count dead neurons as 0 too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxle.columns import Column
from jaxle.data.duplicates import duplicates
from jaxle.data.sources import names_of
from jaxle.intervention.impact import BETAS, mean_over_taps
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.inputs import SHUFFLED, UNTRAINED, Inputs, encoder_name
from jaxle.pipeline.intervene import Impact
from jaxle.pipeline.matrices import Calibrated, ConceptMatrix
from jaxle.pipeline.opened import TRAINED
from jaxle.pipeline.probe import Labelled, Probed
from jaxle.pipeline.reading import LABELS
from jaxle.pipeline.score import Scored
from jaxle.pipeline.tables import Row, columns
from jaxle.pipeline.workdir import run_key

CONTROL = ("mean_correlation", "mean_length", "n_dead", "n_explained")


def record(row: Row, held: Mapping[str, Column], controls: Sequence[Scored]) -> dict[str, Any]:
    """Returns the flat record of one tap, method and simulator, JSON values.

    Args:
      row: what is known of it.
      held: what each column holds.
      controls: the same of networks that learned nothing.
    """
    explained, fitted = row.explained, row.explained.fitted
    found = flat(explained.explanations.facts) | _counts(explained) | flat(row.facts) | row.about
    found["n_screened_out"] = len(fitted.concepts.names) - len(fitted.names)
    if fitted.screened_out:
        found |= flat({"screened_out": fitted.screened_out})
    for name, values in row.columns.items():
        if held[name].averaged:
            counted = explained.live
            if held[name].counted:
                counted = counted & np.asarray(row.columns[held[name].counted])
            found |= _averages(name, values, explained.live, counted)
    if not fitted.brought and row.scored.simulated.simulator.is_encoder_of(fitted.concepts):
        found["simulated_by_explainer"] = True
    own = (row.scored.simulated.simulator.concepts, fitted.concepts)
    found["simulated_by"], found["explained_by"] = map(words_by, own)
    for kind in (UNTRAINED, SHUFFLED):
        found |= _control(kind, [c for c in controls if c.simulated.explained.layer.kind == kind])
    return found


def words_by(concepts: ConceptMatrix) -> str:
    """Returns who says which concepts an image has: an encoder's name, labels, or your own."""
    if concepts.encoder is None:
        return {"label": LABELS}.get(concepts.kind, concepts.kind)
    return encoder_name(concepts.encoder.calibrated.embedded.encoder)


def flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested facts under joined names: {"teacher": {"strength": 1}} → teacher_strength."""
    joined = {}
    for name, value in facts.items():
        inner = isinstance(value, Mapping)
        joined |= flat(value, f"{prefix}{name}_") if inner else {f"{prefix}{name}": value}
    return joined


def run_facts(
    config: Config,
    inputs: Inputs,
    probed: Probed,
    labelled: Labelled,
    calibrated: Mapping[Encoder, Calibrated],
    mesh: Mesh,
) -> dict[str, Any]:
    """Returns the run-level part of summary.json."""
    split, target, skipped = inputs.partition.split, inputs.trained, inputs.images.skipped
    again = duplicates(np.asarray(probed.pictures), split)
    names = names_of(inputs.images.source) if again.first else []
    encoders = {
        encoder_name(encoder): {
            "weights_sha256": own.embedded.opened.network.weights_hash,
            **own.facts,
        }
        for encoder, own in calibrated.items()
    }
    return {
        "config_fingerprint": run_key(config),
        "jaxle": version("jaxle"),
        "jax": jax.__version__,
        "platform": jax.devices()[0].platform,
        "n_devices": mesh.size,
        "source": config.data.source,
        "n_images": len(inputs.images.source),
        "n_skipped": 0 if skipped is None else len(skipped.index),
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_test": len(split.test),
        "n_duplicate_val": again.val,
        "n_duplicate_test": again.test,
        "duplicate": [names[image] for image in again.first or ()],
        "model": target.name,
        "weights_sha256": target.weights_hash,
        "top1_accuracy": top1_accuracy(probed, labelled, target.class_names),
        "encoders": encoders,
        **({"units": _units(inputs)} if inputs.units else {}),
    }


def _units(inputs: Inputs) -> dict[str, dict[str, Any]]:
    """Tap → what is told of its units, but for what a table of its own holds."""
    return {
        tap: {name: value for name, value in facts.items() if name != "table"}
        for tap, facts in inputs.units.items()
    }


def top1_accuracy(probed: Probed, labelled: Labelled, class_names: Sequence[str]) -> float | None:
    """Returns the share of images whose predicted class bears the label's name.

    None where there are no labels, or where network and data name different classes.
    """
    place = {name.lower(): i for i, name in enumerate(class_names)}
    names = [name.lower() for name in labelled.class_names]
    if labelled.labels is None or not all(name in place for name in names):
        return None
    wanted = np.array([place[name] for name in names])
    return float((np.asarray(probed.predicted) == wanted[labelled.labels]).mean())


def records(rows: Sequence[Row], scored: Sequence[Scored], config: Config) -> list[dict[str, Any]]:
    """Returns the flat record of every tap, method and simulator, controls beside it."""
    held, found = columns(config), []
    for row in rows:
        controls = [
            other
            for other in scored
            if other.simulated.explained.layer.kind != TRAINED and other.about == row.about
        ]
        found.append(record(row, held, controls))
    return found


def top_impact(impacts: Sequence[Impact]) -> dict[str, Any]:
    """Returns Top Impact by tap and over all; nothing where there is none."""
    if not impacts:
        return {}
    tables = ([impact.arrays[name] for impact in impacts] for name in ("table", "total"))
    means = mean_over_taps(*tables)
    overall = {f"{beta:g}": float(mean) for beta, mean in zip(BETAS, means, strict=True)}
    taps = {impact.tap: impact.facts for impact in impacts}
    return {"top_impact": {"taps": taps, "all": overall}}


def _counts(explained: Explained) -> dict[str, Any]:
    table, live = explained.explanations, explained.live
    val = np.array([row.val_correlation or 0.0 for row in table], np.float64)
    return {
        "n_neurons": len(table),
        "n_dead": int((~live).sum()),
        "n_unexplained": int((live & (table.lengths == 0)).sum()),
        "mean_val_correlation": mean(val, live),
        "mean_length": mean(table.lengths, live),
    }


def _control(kind: str, controls: Sequence[Scored]) -> dict[str, Any]:
    """The same figures on networks that learned nothing: what looks like an explanation there.

    Means over networks, and the standard error of the mean correlation: over networks, of a single
    one over its neurons.
    """
    figures = []
    for scored in controls:
        explained, rho = scored.simulated.explained, scored.columns["correlation"]
        found = _counts(explained) | flat(scored.facts)
        figures.append(found | _averages("correlation", rho, explained.live, explained.live))
    if not figures:
        return {}
    shared = [name for name in CONTROL if all(name in found for found in figures)]
    means = {name: float(np.mean([found[name] for found in figures])) for name in shared}
    means["sem_correlation"] = figures[0]["sem_correlation"]
    if len(figures) > 1:
        correlations = np.array([found["mean_correlation"] for found in figures])
        means["sem_correlation"] = standard_error(correlations, np.ones(len(figures), bool))
    return {f"{kind}_{name}": value for name, value in means.items()}


def _averages(
    name: str, values: np.ndarray, live: np.ndarray, counted: np.ndarray
) -> dict[str, float]:
    values = np.asarray(values, np.float64)
    return {
        f"mean_{name}": mean(values, counted),
        f"sem_{name}": standard_error(values, counted),
        f"mean_{name}_all": float(np.where(live, values, 0.0).mean()),
    }


def mean(values: np.ndarray, counted: np.ndarray) -> float:
    """Returns the mean over the neurons that count; 0 where none does."""
    return float(values[counted].mean()) if counted.any() else 0.0


def standard_error(values: np.ndarray, counted: np.ndarray) -> float:
    """Returns the standard error of that mean; 0 for fewer than two neurons."""
    n = int(counted.sum())
    return float(values[counted].std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
