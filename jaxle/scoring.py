"""The tables of a run: every explanations.csv with its scores, concepts.csv, scores.csv, summary.json, and the listing at its end."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from itertools import combinations
from typing import Any

import jax
import numpy as np
from etils import epath

from jaxle import artifacts
from jaxle.ablating import ablated, impacted
from jaxle.artifacts import fingerprint
from jaxle.evaluating import (
    ceiling,
    compared,
    contributed,
    live,
    scored,
    selected_again,
    simulators,
)
from jaxle.evaluation.agreement import agreement
from jaxle.evaluation.impact import BETAS, mean_over_taps
from jaxle.explaining import explained
from jaxle.matrices import calibrated, probed
from jaxle.probing import tap_name
from jaxle.report import listing, tables
from jaxle.report.tables import Scored
from jaxle.run import TRAINED, Run, tower_id


def units(x: Run) -> Iterator[tuple[str, str]]:
    """Every (tap, method) of the run."""
    for tap in x.config["target"]["taps"]:
        for method in x.config["methods"]:
            yield tap, method


def folder(x: Run, tap: str, method: str) -> epath.Path:
    """Where the tables of a tap by a method are written."""
    return x.workdir / tap_name(tap) / method


def score(x: Run) -> None:
    """Write all tables and print the listing."""
    options, entries, records = x.config["evaluation"], [], []
    for tap, method in units(x):
        _, explanations = explained(x, TRAINED, tap, method)
        shared = (
            {"ceiling": ceiling(x, tap, method).artifact.arrays["ceiling"]}
            if options["ceiling"]
            else {}
        )
        published, parts = {}, {}
        for simulator in simulators(x, method):
            columns, facts = scored(x, TRAINED, tap, method, simulator).artifact
            suffix = f" {simulator}" if published else ""
            published[f"sim correlation{suffix}"] = columns["correlation"]
            if options["ablation"]:
                more = ablated(x, tap, method, simulator).artifact
                columns, facts = {**columns, **more.arrays}, facts | more.facts
                published |= {
                    f"sim ablation({name}){suffix}": columns[f"ablation_{name}"]
                    for name in ("optim", "norm")
                }
            entries.append(Scored(tap, method, simulator, explanations, {**columns, **shared}))
            records.append(
                tables.record(entries[-1])
                | tables.flat(facts)
                | _controls(x, tap, method, simulator)
            )
            if same_encoder(x, method, simulator):
                records[-1]["simulated_by_explainer"] = True
            if options["contributions"]:
                arrays = contributed(x, tap, method, simulator).artifact.arrays
                parts |= {f"{name} {simulator}": array for name, array in arrays.items()}
        if options["selection_draws"]:
            again = selected_again(x, tap, method).artifact
            parts["selection_frequency"] = again.arrays["frequency"]
            for record in records:
                if (record["tap"], record["method"]) == (tap, method):
                    record["mean_selection_overlap"] = again.facts["mean_overlap"]
        explanations.with_scores(published).to_csv(folder(x, tap, method) / "explanations.csv")
        if parts:
            tables.write_concepts(folder(x, tap, method) / "concepts.csv", explanations, parts)
    tables.write_scores(x.workdir / "scores.csv", entries)
    impact = _impact(x) if options["impact"] else {}
    beside = impact | {
        "comparisons": list(_comparisons(x)),
        "agreement": list(_agreements(x, entries)),
    }
    artifacts.write_json(x.workdir / "summary.json", {**_facts(x), **beside, "results": records})
    last = {
        (entry.tap, entry.method): entry.simulator for entry in entries
    }  # its neurons are listed once
    for entry, summary in zip(entries, records, strict=True):
        n = x.config["report"]["listing"] if last[entry.tap, entry.method] == entry.simulator else 0
        for line in listing.lines(entry, summary, n):
            print(line)
    for line in listing.comparison_lines(beside["comparisons"]):
        print(line)
    for note in _notes(x):
        print(f"Note: {note}")


def _impact(x: Run) -> dict[str, Any]:
    """Write impact.csv, a row a tap and neuron, and impact_curve.csv; the summary's table by tap and over all."""
    taps = {tap: impacted(x, tap).artifact for tap in x.config["target"]["taps"]}
    tables.write_impact(x.workdir, {tap: made.arrays for tap, made in taps.items()}, BETAS)
    means = mean_over_taps(
        *([made.arrays[name] for made in taps.values()] for name in ("table", "total"))
    )
    overall = {f"{beta:g}": float(mean) for beta, mean in zip(BETAS, means, strict=True)}
    return {"top_impact": {"taps": {tap: made.facts for tap, made in taps.items()}, "all": overall}}


def _controls(x: Run, tap: str, method: str, simulator: str) -> dict[str, float]:
    """The same run's figures on networks that learned nothing, by variant: what looks like an explanation there."""
    found = {}
    for variant in x.targets:
        if variant != TRAINED:
            _, explanations = explained(x, variant, tap, method)
            columns, facts = scored(x, variant, tap, method, simulator).artifact
            summary = (
                tables.record(
                    Scored(
                        tap,
                        method,
                        simulator,
                        explanations,
                        {"correlation": columns["correlation"]},
                    )
                )
                | facts
            )
            names = ("mean_correlation", "sem_correlation", "mean_length", "n_dead", "n_explained")
            found |= {f"{variant}_{name}": summary[name] for name in names if name in summary}
    return found


def _comparisons(x: Run) -> Iterator[dict[str, Any]]:
    """Every two methods on the same tap and simulator, paired."""
    if not x.config["evaluation"]["draws"]:
        return
    for tap in x.config["target"]["taps"]:
        for simulator in x.config["simulators"]:
            able = [method for method in x.config["methods"] if simulator in simulators(x, method)]
            for other, method in combinations(able, 2):
                facts = compared(x, tap, method, other, simulator).artifact.facts
                yield {
                    "tap": tap,
                    "simulator": simulator,
                    "method": method,
                    "against": other,
                    **facts,
                }


def _agreements(x: Run, entries: list[Scored]) -> Iterator[dict[str, Any]]:
    """Every two simulators: do they rank methods and neurons alike?"""
    for tap in x.config["target"]["taps"]:
        for one, other in combinations(x.config["simulators"], 2):
            scores: dict[str, dict[str, np.ndarray]] = {one: {}, other: {}}
            for entry in entries:
                if entry.tap == tap and entry.simulator in scores:
                    scores[entry.simulator][entry.method] = entry.columns["correlation"]
            both = [method for method in scores[one] if method in scores[other]]
            if both:
                alive = live(explained(x, TRAINED, tap, both[0])[1])
                got = agreement(
                    *({method: scores[name][method] for method in both} for name in (one, other)),
                    live=alive,
                )
                yield {"tap": tap, "simulator": one, "other": other, "methods": both, "tau_methods": got.methods,
                       "tau_neurons": got.neurons, "mean_tau_within": got.mean_within, "same_best": got.same_best}  # fmt: skip


def same_encoder(x: Run, method: str, simulator: str) -> bool:
    """Whether a method's explanations are simulated by the encoder that they were found with: its errors then look like truth."""
    explainer, other = x.config["methods"][method], x.config["simulators"][simulator]
    return "model" in explainer and other != "labels" and tower_id(explainer) == tower_id(other)


def _notes(x: Run) -> Iterator[str]:
    for name, kind in x.config["simulators"].items():
        if kind == "labels":
            yield (
                f"Simulator {name!r} is the ground-truth labels themselves, not a second encoder: "
                "its scores say how well labels explain a neuron, and no error of an encoder enters them."
            )
    for method in x.config["methods"]:
        for simulator in simulators(x, method):
            if same_encoder(x, method, simulator):
                yield (
                    f"Simulator {simulator!r} is the encoder that method {method!r} explains with: its errors are simulated as if they "
                    "were truth, and these scores are too high. Simulate with another encoder."
                )


def _facts(x: Run) -> dict[str, Any]:
    """The run-level part of summary.json."""
    probe = probed(x, TRAINED).artifact
    encoders = {
        name: {"weights_sha256": tower.weights_hash, **calibrated(x, name).artifact.facts}
        for name, tower in x.towers.items()
    }
    return {
        "config_fingerprint": fingerprint(
            {key: value for key, value in x.config.items() if key != "workdir"}
        ),
        "jaxle": version("jaxle"),
        "jax": jax.__version__,
        "platform": jax.devices()[0].platform,
        "n_devices": x.mesh.size,
        "source": x.config["data"]["source"],
        "n_images": len(x.source),
        "n_train": len(x.split.train),
        "n_val": len(x.split.val),
        "n_test": len(x.split.test),
        "model": x.targets[TRAINED].name,
        "weights_sha256": x.targets[TRAINED].weights_hash,
        "top1_accuracy": probe.facts.get("top1_accuracy"),
        "encoders": encoders,
        "notes": list(_notes(x)),
    }
