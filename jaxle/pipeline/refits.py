"""Refits: what the whole search finds where activations belong to other images.

    permuted layers → explanations → what they report on val: the optimism of the search

Source: method.md §8; `evaluation.nulls`. Permuted layers are columns of the same moments as the
real one, so that nothing of the concepts is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.evaluation.nulls import score_refits
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.explain import Explained, search
from jaxle.pipeline.layers import Layer, Layers
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.simulate import Able, Simulator, simulate_images


def refit_all(
    cache: Cache,
    explained: Sequence[Explained],
    able: Mapping[str, Able],
    layers: Layers,
    partition: Partition,
) -> dict[tuple[str, str], dict[str, float]]:
    """Returns (key of explanations, simulator) → facts of the trained network's; none if off."""
    made = {}
    for entry in explained:
        permuted = layers.permuted[entry.layer.key]
        if permuted and entry.layer.kind == TRAINED:
            own = able[entry.fitted.key].simulators
            for name, facts in refit(cache, entry, permuted, own, partition).items():
                made[entry.key, name] = facts
    return made


def refit(
    cache: Cache,
    explained: Explained,
    permuted: Sequence[Layer],
    simulators: Sequence[Simulator],
    partition: Partition,
) -> dict[str, dict[str, float]]:
    """Returns simulator → mean correlations of explanations that were fitted to permuted layers.

    `permuted_val_correlation` is what the search itself reports, `permuted_correlation` that with
    the real test activations.
    """
    what = f"{explained.layer}, {explained.method}, {len(permuted)} refits"
    inputs = [explained, Several(permuted), Several(simulators), partition]
    return dict(cache.step(REFITS, what, inputs).facts)


def _refit(
    explained: Explained, permuted, simulators, partition: Partition, options: None, mesh: Any
) -> Made:
    fitted, test, live = explained.fitted, partition.split.test, explained.live
    found = [search(fitted, layer, partition, explained.searched, mesh) for layer in permuted]
    real, facts = np.asarray(explained.layer.values[test]), {}
    for simulator in simulators:
        got = score_refits(
            found, lambda e, by=simulator: simulate_images(e, by.concepts.matrix, test), real
        )
        facts[simulator.name] = {
            f"permuted_{name}": float(values[:, live].mean()) if live.any() else 0.0
            for name, values in (
                ("val_correlation", got.val_correlation),
                ("correlation", got.test_correlation),
            )
        }
    return {}, facts


REFITS = Step("refits", "score", 1, _refit)
