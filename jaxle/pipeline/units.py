"""Units: what is explained at each tap, where it is not its neurons.

    target.units → tap → UnitMap → every network with units in place of that tap's neurons

Untrained and shuffled networks get the very map of the trained one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, TypeVar

from etils import epath

from jaxle import artifacts
from jaxle.models.recorded import RecordedModel
from jaxle.models.units import Wanted, read_units
from jaxle.models.units.metadata import contradiction
from jaxle.models.units.unit_map import UnitMap
from jaxle.pipeline.checks import AnyModel
from jaxle.pipeline.config import Target
from jaxle.pipeline.image_pass import tap_name

TABLE = "units.csv"  # of a tap: where its units come from, a row a unit
N = TypeVar("N", bound=AnyModel)


def wanted_units(target: Target, seed: int) -> Wanted | None:
    """Returns the units that a target asks for; None for neurons. Raises ValueError."""
    return read_units(target.units, target.unit_options, seed)


def made_units(network: AnyModel, target: Target, seed: int) -> dict[str, UnitMap]:
    """Returns tap → the units that a file holds or that are drawn; none where they are learned.

    Raises:
      ValueError: a file that cannot be read, is of another width, or of another network or layer.
      ImportError: torch is needed and absent.
    """
    wanted = wanted_units(target, seed)
    if wanted is None or wanted.maker.make is None:
        return {}
    assert not isinstance(network, RecordedModel), "pipeline.needs refuses units of recorded arrays"
    found = {}
    for tap in target.taps:
        resolved = network.resolve(tap)
        units = wanted.maker.make(wanted, network.taps[resolved][-1])
        with_them = network.with_units(tap, units)
        if getattr(wanted.options, "check_metadata", False):
            names = f"{target.model} {target.weights}"
            if sentence := contradiction(units.about, names, resolved):
                raise ValueError(
                    f"the file of target.units={target.units!r} {sentence}: expected the layer and "
                    "model that it was trained on; target.unit_options.check_metadata=False reads "
                    "it all the same."
                )
        # on the devices once, whatever number of networks has them
        placed = with_them.unit_arrays(tap, with_them.variables)
        found[tap] = units._replace(arrays=placed)
    return found


def attached(network: N, units: Mapping[str, UnitMap]) -> N:
    """Returns a network whose taps have these units in place of neurons."""
    own: Any = network
    for tap, of in units.items():
        own = own.with_units(tap, of)
    return own


def named(units: Mapping[str, UnitMap]) -> dict[str, Any]:
    """Returns tap → what decides what its units are, for keys of the cache."""
    return {tap: repr(of.form) for tap, of in units.items()}


def unit_facts(units: Mapping[str, UnitMap]) -> dict[str, dict[str, Any]]:
    """Returns tap → what is told of its units: kind, how many, and the maker's facts."""
    return {
        tap: {"kind": of.form.kind, "n_units": of.form.n_units, **of.facts}
        for tap, of in units.items()
    }


def write_units(workdir: epath.Path, units: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes <tap>/units.csv where a maker says of each unit where it comes from."""
    for tap, facts in units.items():
        if "table" not in facts:
            continue
        names, columns = zip(*facts["table"], strict=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["unit", *names])
        writer.writerows([unit, *row] for unit, row in enumerate(zip(*columns, strict=True)))
        artifacts.write_text(workdir / tap_name(tap) / TABLE, text.getvalue())
