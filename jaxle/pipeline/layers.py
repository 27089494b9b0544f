"""Layers: the activations of one tap of one network, and permuted ones, as columns of one matrix.

    trained · layer1 | trained · layer1, permutation 1 | … | untrained-1 · layer1 | …

What depends on a concept matrix alone is made once for all columns (`pipeline.fit`); each layer is
then explained by itself. Permutation i > 0 has every neuron's activations permuted over the train
and val images, and its test activations as they are (`evaluation.nulls`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.nulls import PermutedActivations
from jaxle.pipeline.cache import derived_key
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.probe import Probed
from jaxle.units import InUnits, Units, find_units


@dataclass(frozen=True, eq=False)
class Layer:
    """One tap of one network."""

    key: str
    network: str
    tap: str
    permutation: int  # 0: as it is
    values: Any  # (images, neurons) float32, an array or what is indexed like one
    kind: str = TRAINED  # of the network
    units: Units | None = None  # in which float32 holds their squares; None where it does as is

    @property
    def measurable(self) -> Any:
        """The activations in their units: what moments are made of."""
        return self.values if self.units is None else InUnits(self.values, self.units)

    def __str__(self) -> str:
        more = [] if self.kind == TRAINED else [self.network]
        more += [f"permutation {self.permutation}"] if self.permutation else []
        return self.tap + (f" ({', '.join(more)})" if more else "")


@dataclass(frozen=True, eq=False)
class Layers:
    """All layers of a run: `real` as they are, and permuted ones by the key of the real one."""

    key: str
    real: tuple[Layer, ...]
    permuted: Mapping[str, tuple[Layer, ...]]  # of the trained network's, for refits

    @property
    def trained(self) -> tuple[Layer, ...]:
        """The layers of the network that is explained."""
        return tuple(layer for layer in self.real if layer.kind == TRAINED)

    @property
    def every(self) -> tuple[Layer, ...]:
        """All layers, in the order of their columns."""
        return tuple(
            layer for real in self.real for layer in (real, *self.permuted.get(real.key, ()))
        )


class Columns:
    """Layers side by side, indexed by rows like an array (images, neurons of all layers)."""

    def __init__(self, layers: tuple[Layer, ...]):
        self._values = [layer.measurable for layer in layers]
        widths = [values.shape[1] for values in self._values]
        self.shape = (self._values[0].shape[0], sum(widths))
        self.dtype = np.dtype(np.float32)
        ends = np.cumsum(widths)
        starts = (ends - widths).tolist()
        spans = map(slice, starts, ends.tolist())
        self.spans = {layer.key: span for layer, span in zip(layers, spans, strict=True)}

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.concatenate([np.asarray(v[rows], np.float32) for v in self._values], axis=1)


def make_layers(
    probed: Mapping[str, Probed], partition: Partition, permutations: int, seed: int
) -> Layers:
    """Returns the layers of all networks, those of the trained one with so many permutations.

    Args:
      probed: network → its activations.
      partition: the split, over whose train and val images activations are permuted.
      permutations: how many of each layer of the trained network.
      seed: of the permutations.
    """
    real, permuted, seen = [], {}, np.concatenate(partition.split[:2])
    for name, probe in probed.items():
        for tap, values in probe.activations.items():
            key, units = derived_key("layer", 1, [probe], tap), find_units(values, seen)
            layer = Layer(key, name, tap, 0, values, probe.kind, units)
            real.append(layer)
            numbers = range(permutations if probe.kind == TRAINED else 0)
            permuted[layer.key] = tuple(
                _permuted(layer, partition, number, seed) for number in numbers
            )
    every = [layer for layer in real] + [layer for some in permuted.values() for layer in some]
    return Layers(derived_key("layers", 1, every), tuple(real), permuted)


def _permuted(layer: Layer, partition: Partition, number: int, seed: int) -> Layer:
    values = PermutedActivations(layer.values, partition.split, seed, number)
    key = derived_key("permuted", 1, [layer, partition], {"seed": seed, "number": number})
    return Layer(key, layer.network, layer.tap, number + 1, values, layer.kind, layer.units)
