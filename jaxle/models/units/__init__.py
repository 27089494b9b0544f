"""What may be explained at a tap: its neurons, or units that a map makes of its values.

    target.units = name:argument  →  a row of UNITS  →  UnitMap  →  a network whose tap has units

A maker is one function in a file of its own. It reads a file, draws, or learns from the trained
network's pooled values on train images; what it returns is a `UnitMap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxle.arrays import Rows
from jaxle.models.checkpoints import unreadable
from jaxle.models.download import absent
from jaxle.models.units.concept_vectors import ConceptVectors, concept_units
from jaxle.models.units.directions import read_directions
from jaxle.models.units.pca import principal_components
from jaxle.models.units.random_directions import random_directions
from jaxle.models.units.sae import SHIPPED, WHAT, Sae, read_sae
from jaxle.models.units.semi_nmf import SemiNmf, factor_directions
from jaxle.models.units.unit_map import UnitMap
from jaxle.options import read, suggest
from jaxle.references import is_reference, load_reference

NEURONS = "neurons"
FIELD = "target.units"


@dataclass(frozen=True)
class NoOptions:
    """Of a maker that has none."""


@dataclass(frozen=True)
class Wanted:
    """Which units are wanted.

    Attributes:
      name: a row of `UNITS`, or package.module:NAME of a maker of your own.
      argument: a file's name, a number as text, or "".
      options: the maker's own record.
      seed: of draws.
    """

    name: str
    argument: str
    options: Any
    seed: int = 0

    @property
    def maker(self) -> Maker:
        """The row."""
        return _maker(self.name)

    @property
    def count(self) -> int:
        """K of "pca:K"."""
        return int(self.argument)


@dataclass(frozen=True)
class Learned:
    """What a maker learns from: a tap's pooled values (images, width), and the train images."""

    values: Rows
    rows: np.ndarray


@dataclass(frozen=True)
class Maker:
    """A row of `UNITS`.

    Attributes:
      meaning: one line.
      takes: FILE, K, or "" for no argument.
      make: wanted, width of the tap → units; None where units are learned.
      learn: wanted, values → units; None where they are made.
      options: a dataclass of `jaxle.options.option` fields.
    """

    meaning: str
    takes: str
    make: Callable[[Wanted, int], UnitMap] | None = None
    learn: Callable[[Wanted, Learned], UnitMap] | None = None
    options: type = NoOptions


UNITS: dict[str, Maker] = {
    "directions": Maker(
        "projections on the directions of a file, rectified or not",
        "FILE",
        make=lambda wanted, width: read_directions(wanted.argument, width),
    ),
    "sae": Maker(
        "features of a sparse autoencoder: saev, Prisma, dictionary_learning, SAELens",
        "FILE",
        make=lambda wanted, width: read_sae(wanted.argument, width, wanted.options),
        options=Sae,
    ),
    "random": Maker(
        "random directions, a control",
        "K",
        make=lambda wanted, width: random_directions(width, wanted.count, wanted.seed),
    ),
    "pca": Maker(
        "principal components of the pooled values on train",
        "K",
        learn=lambda wanted, of: principal_components(of.values, of.rows, wanted.count),
    ),
    "semi_nmf": Maker(
        "directions whose non-negative sums the pooled values are",
        "K",
        learn=lambda wanted, of: factor_directions(
            of.values, of.rows, wanted.count, wanted.seed, wanted.options
        ),
        options=SemiNmf,
    ),
    "concept_vectors": Maker(
        "the directions into which each neuron's most activating images fall",
        "",
        learn=lambda wanted, of: concept_units(of.values, of.rows, wanted.options),
        options=ConceptVectors,
    ),
}


def read_units(text: str, options: Mapping[str, Any], seed: int = 0) -> Wanted | None:
    """Returns the units that a config asks for; None for the tap's own neurons.

    Args:
      text: of `target.units`.
      options: of `target.unit_options`.
      seed: of draws.

    Raises:
      ValueError: unknown units (the nearest are named), a missing or odd argument, an unknown
        option or one out of range.
    """
    name, colon, argument = text.partition(":")
    if text == NEURONS:
        if options:
            raise ValueError(
                f"config field target.unit_options holds {', '.join(options)}, and neurons have no "
                "options: expected other target.units, or none."
            )
        return None
    if name not in UNITS and is_reference(text):
        name, argument = text, ""
    elif name not in UNITS:
        known = [NEURONS, *(n + (f":{m.takes}" if m.takes else "") for n, m in UNITS.items())]
        raise ValueError(f"unknown {FIELD} {text!r}: {suggest(name, known)}.")
    maker = _maker(name)
    if bool(argument) != bool(maker.takes):
        wanted = f"{name}:{maker.takes}" if maker.takes else name
        raise ValueError(f"config field {FIELD} must be {wanted!r}, got {text!r}.")
    if maker.takes == "K" and not (argument.isascii() and argument.isdigit() and int(argument)):
        raise ValueError(
            f"config field {FIELD} must be '{name}:K' with K a whole number of at least 1, "
            f"got {text!r}."
        )
    own = read(maker.options, options, "config field target.unit_options.")
    return Wanted(name, argument, own, seed)


def lacking(wanted: Wanted) -> str:
    """Returns a sentence where the file of some units is missing, or cannot be read as things are,
    else ""."""
    if wanted.maker.takes != "FILE" or wanted.argument in SHIPPED:
        return ""
    path = Path(wanted.argument).expanduser()
    if wanted.name == "sae" and (sentence := absent(wanted.argument, WHAT)):
        return sentence
    if wanted.name != "sae" and not path.exists():
        return f"{FIELD} reads {wanted.argument!r}, which does not exist"
    # of an address or a hub id the suffix tells as well
    name = wanted.argument.partition("#")[0]
    return "" if path.suffix == ".npy" or path.is_dir() else unreadable(name) or ""


def _maker(name: str) -> Maker:
    if name in UNITS:
        return UNITS[name]
    found = load_reference(name, FIELD)
    if not isinstance(found, Maker) or (found.make is None) == (found.learn is None):
        raise ValueError(
            f"{FIELD} {name!r} is a {type(found).__name__}: expected a jaxle.models.units.Maker "
            "with make or learn."
        )
    return found
