"""Records of what a run has opened: images, their split, and networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxle.data.sources import Source
from jaxle.data.splits import Split
from jaxle.pipeline.checks import AnyModel
from jaxle.pipeline.skipped import Skipped

TRAINED = "trained"  # the network that is explained


@dataclass(frozen=True, eq=False)
class Images:
    """The probe images; the key is a fingerprint of their content, taken once a run.

    `skipped` says what is left out of the whole source; None where an image that cannot be decoded
    stops the run.
    """

    key: str
    source: Source
    skipped: Skipped | None = None


@dataclass(frozen=True, eq=False)
class Partition:
    """Which images train, choose and score."""

    key: str
    split: Split


N = TypeVar("N", bound=AnyModel, covariant=True)


@dataclass(frozen=True, eq=False)
class Opened(Generic[N]):
    """A network; the key is of all that decides what it makes of an image."""

    key: str
    network: N
    kind: str = TRAINED
