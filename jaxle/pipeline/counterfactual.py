"""The counterfactual test of a run: do neurons change as their explanations say?

Σ w·ΔP, Δq → columns of scores.csv and concepts.csv      `evaluation.counterfactual`
trained − untrained → facts                              `evaluation.contrast`

The labels of the edits say how P changes. Only for words that they lack the simulator of a row is
asked. Its errors are taken for changes then, so that only large predictions count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.changes import MEASURES
from jaxle.evaluation.contrast import contrast_draws
from jaxle.evaluation.counterfactual import COLUMNS, counterfactual
from jaxle.evaluation.simulation import simulable
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.inputs import SHUFFLED, UNTRAINED
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.opened import TRAINED
from jaxle.pipeline.pairs import PairConcepts, Paired, PairImages, pair_concepts
from jaxle.pipeline.score import Scored
from jaxle.pipeline.tables import Row

DRAWS = 1000  # resamples of the pairs, where the config asks for none of the images
LEAST_SOFT = 0.5  # sd of a simulation from which a change by an encoder's word is a prediction
PARTS = ("counterfactual_pairs", "counterfactual_effect", "counterfactual_agreement")


@dataclass(frozen=True, eq=False)
class Judged:
    """The test of one layer, method and simulator.

    Attributes:
      columns: of scores.csv, (neurons,) each.
      parts: of concepts.csv, (neurons, longest) each.
      draws: the layer's means on every resample of the pairs, for `against`.
      kinds: a flat record a kind of edit.
      facts: JSON values.
    """

    key: str
    columns: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]
    kinds: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


def counterfactual_all(
    cache: Cache, scored: Sequence[Scored], paired: Paired | None, config: Config
) -> dict[str, Judged]:
    """Returns the test of every score of trained and untrained networks, by the score's key.

    A trained network's holds the comparison with the untrained ones, where there are any. None
    where there are no pairs.
    """
    if paired is None:
        return {}
    concepts: dict[tuple[str, str], PairConcepts] = {}
    found: dict[str, Judged] = {}
    beside: dict[tuple[str, ...], list[Judged]] = {}
    for entry in scored:
        explained, name = entry.simulated.explained, entry.simulated.simulator.name
        kind, place = explained.layer.kind, (explained.fitted.key, name)
        if kind == SHUFFLED:
            continue
        if place not in concepts:
            concepts[place] = pair_concepts(cache, name, explained.fitted, paired, config)
        found[entry.key] = judge(cache, explained, concepts[place], paired, config)
        if kind == UNTRAINED:
            beside.setdefault(tuple(entry.about.values()), []).append(found[entry.key])
    for entry in scored:
        others = beside.get(tuple(entry.about.values()), [])
        if others and entry.simulated.explained.layer.kind == TRAINED:
            own, what = found[entry.key], ", ".join(entry.about.values())
            facts = {**own.facts, **against(cache, own, others, what)}
            found[entry.key] = dataclasses.replace(own, facts=facts)
    return found


def judge(
    cache: Cache, explained: Explained, concepts: PairConcepts, paired: Paired, config: Config
) -> Judged:
    """Returns the test of one layer's explanations."""
    pairs, sides = paired.images, paired.sides(explained.layer)
    options = {"draws": config.evaluation.draws or DRAWS, "seed": config.seed}
    what = f"{explained.layer}, {explained.method}, {pairs.both.n_pairs} pairs"
    stored = cache.step(COUNTERFACTUAL, what, [explained, concepts, sides, pairs], options)
    arrays, facts = stored.arrays, dict(stored.facts)
    return Judged(
        stored.key,
        {column.name: arrays[column.name] for column in COLUMNS},
        {name: arrays[f"concept.{name}"] for name in PARTS},
        {name: arrays[f"draws.{name}"] for name in MEASURES},
        kinds=facts.pop("kinds"),
        facts=facts,
    )


def _judge(
    explained: Explained,
    concepts: PairConcepts,
    sides: Layer,
    pairs: PairImages,
    options: Mapping[str, int],
    mesh: Any,
) -> Made:
    n, explanations = pairs.both.n_pairs, simulable(explained.explanations, concepts.known)
    names = explanations.concepts or tuple(concepts.labels.concepts[:1])
    soft = concepts.unlabelled(names)
    probabilities = concepts.rows(2 * n, names)
    values = np.asarray(sides.values)
    got = counterfactual(
        explanations,
        values[:n],
        values[n:],
        probabilities[:n],
        probabilities[n:],
        names,
        kinds=pairs.both.edits,
        live=explained.live,
        least_predicted=LEAST_SOFT if soft else None,
        **options,
    )
    own = got.by_concept
    parts = (own.n_pairs, own.effect, own.agreement.value)
    more = max([1, *explained.explanations.terms]) - own.effect.shape[1]
    parts = (np.pad(part, ((0, 0), (0, more))) for part in parts)
    arrays = {f"concept.{name}": part for name, part in zip(PARTS, parts, strict=True)}
    arrays |= {f"draws.{name}": values for name, values in got.draws.items()}
    facts: dict[str, Any] = {
        "n_counterfactual_pairs": n,
        "n_counterfactual_judged": int(got.judged.sum()),
        "n_counterfactual_following": got.n_following,
        "n_counterfactual_unlabelled": len(soft),
    }
    for name, (_, low, high) in got.means.items():
        facts[f"mean_counterfactual_{name}_low"] = low
        facts[f"mean_counterfactual_{name}_high"] = high
    return {**got.columns, **arrays}, {**facts, "kinds": got.kind_frame().to_dict("records")}


def against(
    cache: Cache, trained: Judged, untrained: Sequence[Judged], what: str
) -> dict[str, Any]:
    """Returns facts: the untrained networks' means, and how much more the trained one's are."""
    return dict(cache.step(CONTRAST, what, [trained, Several(untrained)]).facts)


def _against(trained: Judged, untrained: Sequence[Judged], options: None, mesh: Any) -> Made:
    n = trained.facts["n_counterfactual_pairs"]
    got = contrast_draws(trained.draws, [one.draws for one in untrained], n)
    facts: dict[str, Any] = {"n_counterfactual_untrained": got.n_untrained}
    for name in MEASURES:
        value, low, high = got.difference[name]
        facts[f"untrained_counterfactual_{name}"] = float(np.mean(got.untrained[name]))
        ends = {"gain": value, "gain_low": low, "gain_high": high}
        facts |= {f"counterfactual_{name}_{end}": number for end, number in ends.items()}
    return {}, facts


def with_counterfactual(rows: Sequence[Row], judged: Mapping[str, Judged]) -> list[Row]:
    """Returns the rows with the test's columns, facts and parts."""
    found = []
    for row in rows:
        own = judged.get(row.scored.key)
        if own is not None:
            parts = {f"{name} {row.simulator}": values for name, values in own.parts.items()}
            row = dataclasses.replace(
                row,
                columns={**row.columns, **own.columns},
                facts={**row.facts, **own.facts},
                parts={**row.parts, **parts},
            )
        found.append(row)
    return found


def kind_records(scored: Sequence[Scored], judged: Mapping[str, Judged]) -> list[dict[str, Any]]:
    """Returns a flat record a tap, method, simulator, network and kind of edit.

    `response` says how strongly a network reacts to such edits, whether its explanations predict it
    or not: what an untrained network truly follows shows here.
    """
    return [
        {**entry.about, "network": entry.simulated.explained.layer.network, **kind}
        for entry in scored
        if entry.key in judged
        for kind in judged[entry.key].kinds
    ]


COUNTERFACTUAL = Step("counterfactual", "score", 2, _judge, alone=True)
CONTRAST = Step("contrast", "score", 1, _against, alone=True)
