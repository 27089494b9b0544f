"""Null: what the whole search scores where activations belong to other images.

    permuted layers → explanations → simulated → correlation with the real test activations

Source: method.md §8; `evaluation.nulls`. Permuted layers are columns of the same moments as the
real one, so that nothing of the concepts is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.correlation import correlation
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.explain import Explained, search
from jaxle.pipeline.inputs import Partition
from jaxle.pipeline.layers import Layer, Layers
from jaxle.pipeline.simulate import Able, Simulator, simulate_images


@dataclass(frozen=True, eq=False)
class Null:
    """Correlations of explanations fitted to permuted activations.

    `test` is simulator's name → (permutations, neurons), with the real test activations; `val`
    (permutations, neurons) what the search itself reported.
    """

    key: str
    val: np.ndarray
    test: Mapping[str, np.ndarray]


def null_all(
    cache: Cache,
    explained: Sequence[Explained],
    able: Mapping[str, Able],
    layers: Layers,
    partition: Partition,
) -> dict[str, Null]:
    """Returns the null of every layer and method, by the key of its explanations; none if off."""
    made = {}
    for entry in explained:
        permuted = layers.permuted[entry.layer.key]
        if permuted:
            own = able[entry.fitted.key].simulators
            made[entry.key] = null(cache, entry, permuted, own, partition)
    return made


def null(
    cache: Cache,
    explained: Explained,
    permuted: Sequence[Layer],
    simulators: Sequence[Simulator],
    partition: Partition,
) -> Null:
    """Returns what the whole search scores where activations belong to other images."""
    what = f"{explained.layer}, {explained.method}, {len(permuted)} permutations"
    inputs = [explained, Several(permuted), Several(simulators), partition]
    stored = cache.step(NULL, what, inputs)
    test = {simulator.name: stored.arrays[f"test.{simulator.name}"] for simulator in simulators}
    return Null(stored.key, stored.arrays["val"], test)


def _null(explained: Explained, permuted, simulators, partition, options: None, mesh: Any) -> Made:
    test_rows, fitted = partition.split.test, explained.fitted
    real = np.asarray(explained.layer.values[test_rows])
    val, test = [], {f"test.{simulator.name}": [] for simulator in simulators}
    for layer in permuted:
        found = search(fitted, layer, partition, explained.searched, mesh)
        val.append([row.val_correlation or 0.0 for row in found])
        for simulator in simulators:
            simulated = simulate_images(found, simulator.concepts, test_rows)
            test[f"test.{simulator.name}"].append(correlation(simulated, real))
    shape = (len(permuted), real.shape[1])
    return {
        name: np.asarray(scores, np.float32).reshape(shape)
        for name, scores in {"val": val, **test}.items()
    }, {}


NULL = Step("null", "score", 1, _null)
