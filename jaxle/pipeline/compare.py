"""Compare: two methods on the same neurons and images, and two simulators' rankings.

paired      ρ of one method minus ρ of the other, on the same resamples (`evaluation.intervals`)
agreement   Kendall's τ between two simulators                          (`evaluation.agreement`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from jaxle.evaluation import intervals
from jaxle.evaluation.agreement import agreement
from jaxle.pipeline.cache import Cache, Made, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.opened import Partition
from jaxle.pipeline.score import Scored
from jaxle.pipeline.simulate import Simulated

COLUMNS = ("difference", "low", "high", "few_positives")  # a value a neuron


def compare_all(
    cache: Cache, simulated: Sequence[Simulated], partition: Partition, config: Config
) -> list[dict[str, Any]]:
    """Returns a flat record of every two methods on the same tap and simulator, paired."""
    if not config.evaluation.draws:
        return []
    options = {"draws": config.evaluation.draws, "seed": config.seed}
    records = []
    for other, one in combinations(simulated, 2):
        tap, name = one.explained.layer.tap, one.simulator.name
        if (tap, name) != (other.explained.layer.tap, other.simulator.name):
            continue
        methods = (one.explained.method, other.explained.method)
        what = f"{tap}, {methods[0]} against {methods[1]} by {name}"
        facts = cache.step(PAIRED, what, [one, other, partition], options).facts
        about = {"tap": tap, "simulator": name, "method": methods[0], "against": methods[1]}
        records.append({**about, **facts})
    return records


def _paired(
    one: Simulated, other: Simulated, partition: Partition, options: Mapping[str, int], mesh: Any
) -> Made:
    real = np.asarray(one.explained.layer.values[partition.split.test])
    sides = [np.asarray(one.test), np.asarray(other.test)]
    got = intervals.paired(sides[0], sides[1], real, live=one.explained.live, **options)
    arrays = {name: getattr(got, name) for name in COLUMNS}
    means = ("mean", "mean_low", "mean_high")
    shares = ("share_a_better", "share_a_clear", "share_b_clear")
    return arrays, {name: getattr(got, name) for name in (*means, *shares)}


def agreements(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Returns a flat record of every two simulators on the same tap: do they rank alike?"""
    by: dict[tuple[str, str], dict[str, Scored]] = {}
    for entry in scored:
        explained, name = entry.simulated.explained, entry.simulated.simulator.name
        by.setdefault((explained.layer.tap, name), {})[explained.method] = entry
    records = []
    for (tap, one), (other_tap, other) in combinations(by, 2):
        first, second = by[tap, one], by[other_tap, other]
        methods = [method for method in first if method in second]
        if tap != other_tap or not methods:
            continue
        live = first[methods[0]].simulated.explained.live
        sides = ({m: side[m].columns["correlation"] for m in methods} for side in (first, second))
        got = agreement(*sides, live=live)
        about = {"tap": tap, "simulator": one, "other": other, "methods": methods}
        taus = {"tau_methods": got.methods, "tau_neurons": got.neurons}
        within = {"mean_tau_within": got.mean_within, "same_best": got.same_best}
        records.append({**about, **taus, **within})
    return records


PAIRED = Step("paired", "score", 3, _paired, alone=True)
