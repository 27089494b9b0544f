"""Learn: units made from the trained network's own activations, and what their maker measured.

    Probed (pooled neurons) of train images → UnitMap → Probed (pooled units) of every network

A linear map commutes with averages over positions, so the images are not read again. What is
reconstructed is measured in the probe pass, and a run whose units do not reconstruct stops here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.arrays import host_blocks
from jaxle.models.units import Learned, Wanted
from jaxle.models.units.unit_map import UnitForm, UnitMap, explained_variance
from jaxle.pipeline.cache import Cache, Made, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.image_pass import PICTURES, tap_name
from jaxle.pipeline.inputs import Inputs, with_units
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.probe import Probed
from jaxle.pipeline.readers import PREDICTED
from jaxle.pipeline.units import unit_facts, wanted_units
from jaxle.references import source_fingerprint


@dataclass(frozen=True, eq=False)
class LearnedUnits:
    """Tap → units, and the key of all that they were learned from."""

    key: str
    units: Mapping[str, UnitMap]


def learn_units(
    cache: Cache, inputs: Inputs, probed: Mapping[str, Probed], config: Config
) -> tuple[Inputs, dict[str, Probed]]:
    """Returns networks with the units that are learned, and their activations; else what is given.

    Args:
      cache: of the run.
      inputs: networks and split.
      probed: network → its neurons.
      config: which units.

    Raises:
      ValueError: a pool with which units learned from pooled values would not agree, or what a
        maker refuses.
    """
    wanted = wanted_units(config.target, config.seed)
    if wanted is None or wanted.maker.learn is None:
        return inputs, dict(probed)
    _check_pool(inputs, config)
    code = source_fingerprint(wanted.maker.learn)
    found, keys = {}, []
    for tap in config.target.taps:
        records = [probed[TRAINED], inputs.partition]
        stored = cache.step(LEARN, f"{wanted.name} of {tap}", records, (code, tap, wanted))
        arrays, form = {k: np.asarray(v) for k, v in stored.arrays.items()}, stored.facts["form"]
        found[tap] = UnitMap(UnitForm(**form), arrays, stored.facts["facts"])
        keys.append(stored.key)
    learned = LearnedUnits(" ".join(keys), found)
    moved = {name: _move(cache, one, learned) for name, one in probed.items()}
    networks = {name: with_units(of, found) for name, of in inputs.networks.items()}
    return dataclasses.replace(inputs, networks=networks, units=unit_facts(found)), moved


def _check_pool(inputs: Inputs, config: Config) -> None:
    target, network = config.target, inputs.trained
    for tap in target.taps:
        if target.pool == "max" and len(network.taps[network.resolve(tap)]) > 1:
            raise ValueError(
                f"target.units={target.units!r} is learned from pooled values, of which the "
                f"maximum over positions of tap {tap!r} is no linear map: expected target.pool "
                "avg, first or patches."
            )


def _learn(probed: Probed, partition: Partition, options: Any, mesh: Any) -> Made:
    _, tap, wanted = options
    assert isinstance(wanted, Wanted) and wanted.maker.learn is not None, "asked for above"
    values = probed.activations[tap]
    units = wanted.maker.learn(wanted, Learned(values, partition.split.train))
    if not units.form.linear or units.form.width != values.shape[1]:
        raise ValueError(
            f"target.units {wanted.name!r} learned a map of {units.form.width} values with "
            f"activation {units.form.activation!r}: expected a linear one of {values.shape[1]}."
        )
    return units.arrays, {"form": dataclasses.asdict(units.form), "facts": dict(units.facts)}


def _move(cache: Cache, probed: Probed, learned: LearnedUnits) -> Probed:
    stored = cache.step(VALUES, f"units of {probed.network}", [probed, learned])
    activations = {tap: stored.arrays[tap_name(tap)] for tap in learned.units}
    return dataclasses.replace(probed, key=stored.key, activations=activations, step=VALUES.name)


def _values(probed: Probed, learned: LearnedUnits, options: None, mesh: Any) -> Made:
    made = {}
    for tap, units in learned.units.items():
        own, values = units.arrays, probed.activations[tap]
        centre = own.get("centre", np.zeros(units.form.width, np.float32))
        made[tap_name(tap)] = np.concatenate(
            [
                (block.astype(np.float32) - centre) @ own["encoder"].T + own["bias"]
                for _, block in host_blocks(values)
            ]
        )
    return {**made, PREDICTED: probed.predicted, PICTURES: probed.pictures}, {}


def check_reconstruction(inputs: Inputs, probed: Probed, config: Config) -> Inputs:
    """Returns the inputs with the explained variance of units that reconstruct.

    Raises:
      ValueError: one below `target.min_explained_variance`.
    """
    units, least = dict(inputs.units), config.target.min_explained_variance
    for tap, statistics in probed.reconstruction.items():
        share = explained_variance(np.asarray(statistics))
        if least and share < least:
            raise ValueError(
                f"target.units={config.target.units!r} reconstructs tap {tap!r} with an explained "
                f"variance of {share:.3f} on the {len(statistics)} probe images: expected at least "
                f"target.min_explained_variance={least:g}; check the tap, the tokens (target.pool: "
                "first, patches or avg), the normalisation (target.unit_options.inputs) and b_dec "
                "(target.unit_options.subtract_decoder_bias), or set it to 0."
            )
        units[tap] = {**units[tap], "explained_variance": share}
    return dataclasses.replace(inputs, units=units)


LEARN = Step("learn_units", "probe", 1, _learn, alone=True)
VALUES = Step("unit_values", "probe", 1, _values, alone=True)
