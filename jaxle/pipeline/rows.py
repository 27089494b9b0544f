"""Rows: all that is known of a layer, a method and a simulator, put side by side for the tables.

What does not depend on the simulator or the method is made once (`look_beside`): ceilings, moments
on test images, the network's temperature, how stable the choice of words is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.explainers import find_explainer
from jaxle.explanations import to_cell
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.config import Config
from jaxle.pipeline.contribute import (
    Draws,
    Equivalents,
    OnTest,
    contribute,
    equivalents,
    on_test,
    select_again,
)
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.intervene import Classifier, ScaledClassifier, ablate, temperature
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.score import Scored, ceiling
from jaxle.pipeline.simulate import Able
from jaxle.pipeline.tables import Row
from jaxle.report.listing import Listed


@dataclass(frozen=True, eq=False)
class Beside:
    """What stands beside the scores.

    Attributes:
      ceilings: key of the moments → layer's key → (neurons,) ceiling.
      tested: simulator's key → moments on test images.
      target: the network with its temperature, where ablation is asked for.
    """

    ceilings: Mapping[str, Mapping[str, np.ndarray]]
    tested: Mapping[str, OnTest]
    target: ScaledClassifier | None


def look_beside(
    cache: Cache,
    able: Iterable[Able],
    explained: Sequence[Explained],
    partition: Partition,
    target: Classifier | None,
    config: Config,
) -> Beside:
    """Returns what stands beside the scores, made once for all methods and simulators."""
    own, able = config.evaluation, list(able)
    ceilings, tested = {}, {}
    layers = list(dict.fromkeys(e.layer for e in explained if e.layer.kind == TRAINED))
    if own.ceiling:
        ceilings = {
            a.fitted.key: ceiling(cache, a.fitted, layers, explained, partition) for a in able
        }
    if own.contributions:
        every = [simulator for a in able for simulator in a.simulators]
        tested = {one.key: on_test(cache, one, layers, partition) for one in every}
    calibrated = None if target is None else temperature(cache, target, partition)
    return Beside(ceilings, tested, calibrated)


def make_rows(
    cache: Cache, scored: Sequence[Scored], beside: Beside, partition: Partition, config: Config
) -> list[Row]:
    """Returns the rows of the trained network, in the order of their scores."""
    again: dict[str, Again] = {}
    rows = []
    for entry in scored:
        explained = entry.simulated.explained
        if explained.layer.kind != TRAINED:
            continue
        if explained.key not in again:
            again[explained.key] = _look_again(cache, explained, partition, config)
        row, own = _row(cache, entry, beside, partition, config), again[explained.key]
        parts, facts = {**row.parts, **own.parts}, {**row.facts, **own.facts}
        rows.append(dataclasses.replace(row, parts=parts, facts=facts))
    return rows


def with_refits(
    rows: Sequence[Row], refitted: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[Row]:
    """Returns the rows with the facts of refits on permuted activations, where there are any."""
    return [
        dataclasses.replace(row, facts={**row.facts, **refitted.get(key, {})})
        for row in rows
        for key in [(row.explained.key, row.simulator)]
    ]


def by_explained(rows: Iterable[Row]) -> list[tuple[Explained, list[Row]]]:
    """Returns the rows of each layer and method together, in order.

    Methods with the same explainer and options have one key, and each its own tables.
    """
    found: dict[tuple[str, str], tuple[Explained, list[Row]]] = {}
    for row in rows:
        own = (row.explained.layer.key, row.explained.method)
        found.setdefault(own, (row.explained, []))[1].append(row)
    return list(found.values())


def listed(rows: Iterable[Row]) -> list[Listed]:
    """Returns the rows as the listing shows them."""
    return [
        Listed(
            **row.about,
            explanations=row.explained.explanations,
            live=row.explained.live,
            correlation=row.columns["correlation"],
        )
        for row in rows
    ]


def _row(cache: Cache, entry: Scored, beside: Beside, partition: Partition, config: Config) -> Row:
    simulated = entry.simulated
    explained, simulator = simulated.explained, simulated.simulator
    columns, facts, parts = dict(entry.columns), dict(entry.facts), {}
    if beside.target is not None and config.evaluation.ablation:
        more, about = ablate(cache, beside.target, simulated, partition, config)
        columns, facts = columns | more, facts | about
    if beside.ceilings:
        columns["ceiling"] = beside.ceilings[explained.fitted.key][explained.layer.key]
    if beside.tested:
        added = contribute(cache, simulated, beside.tested[simulator.key], partition)
        parts = {f"{name} {simulator.name}": values for name, values in added.items()}
    return Row(entry, columns, facts, parts)


@dataclass(frozen=True, eq=False)
class Again:
    """How certain the words of a layer's explanations are: columns of concepts.csv, and facts."""

    parts: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def _look_again(cache: Cache, explained: Explained, partition: Partition, config: Config) -> Again:
    own = config.evaluation
    if not own.contributions and not own.selection_draws:
        return Again({}, {})
    alike = equivalents(cache, explained)
    parts, facts = {"equivalent": _joined(alike, explained)}, {}
    if own.selection_draws and find_explainer(explained.searched.explainer).from_moments:
        draws = Draws(own.selection_draws, config.seed)
        stable = select_again(cache, explained, alike, partition, draws)
        parts["selection_frequency"], facts["mean_selection_overlap"] = stable
    return Again(parts, facts)


def _joined(alike: Equivalents, explained: Explained) -> np.ndarray:
    """(neurons, most) texts, names joined by " | "."""
    most = max([1, *explained.explanations.terms])
    texts = np.full((len(alike.names), most), "", object)
    for k, slots in enumerate(alike.names):
        texts[k, : len(slots)] = [to_cell(" | ".join(names)) if names else "" for names in slots]
    return texts
