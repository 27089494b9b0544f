"""The cache of a run: a step's result lies under a key made of all that the step is given.

    key = fingerprint(step's name, its version, the keys of its input records, its options)

`Cache.step` calls the step's function with exactly these records and options, and the mesh, so that
a function cannot read what its key does not hold. A version is raised when a formula changes; a
test fails where a step's source has changed and its version has not
(tests/pipeline/test_versions.py).

Where several processes make one run (`jaxle.multihost`), all look results up in the same order in a
folder that they share: the first says what is there and writes what is made.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from jaxle import artifacts, multihost, stopping
from jaxle.artifacts import fingerprint
from jaxle.mesh import network_mesh
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.stages import STAGES

_LATE = 60.0  # seconds

Made = tuple[Mapping[str, Any], Mapping[str, Any]]  # arrays, facts (JSON values)


@runtime_checkable
class Keyed(Protocol):
    """A record that a step may be given."""

    @property
    def key(self) -> str:
        """Fingerprint of its content, or of all that it was made from."""
        ...


class Several(tuple):
    """Several records as one."""

    @property
    def key(self) -> str:
        """The keys of all, in order."""
        return " ".join(record.key for record in self)


class Step(NamedTuple):
    """A cached computation: `make(*inputs, options, mesh)` → arrays, facts."""

    name: str
    stage: str  # of STAGES: the one that must be requested for it to be made; "": any
    version: int
    make: Callable[..., Made]
    alone: bool = False  # of several processes the first makes it, and the others wait


class Stored(NamedTuple):
    """What a step gave, as it lies in the cache."""

    key: str
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Cache:
    """Finds what a step gave before, or makes it.

    Attributes:
      folder: where results lie, each in a folder `<step>-<key>`.
      stages: those that may make what is missing; of the others everything must be there.
      mesh: the devices.
      journal: where each look-up is noted.
    """

    folder: epath.Path
    stages: tuple[str, ...]
    mesh: Mesh
    journal: Journal

    def step(self, step: Step, what: str, inputs: Sequence[Keyed], options: Any = None) -> Stored:
        """Returns what the step gives for these inputs and options: from the cache, or made now.

        Args:
          step: the computation.
          what: for the log.
          inputs: the records that it is given.
          options: a dataclass or JSON values that it is given.

        Raises:
          ValueError: it is not there, and its stage was not requested.
          Stopped: the process was asked to stop; the result is kept.
        """
        began, key = time.monotonic(), self.key(step, inputs, options)
        found = self.find(step, key)
        stored = found
        if stored is None:
            self.require(step, what)
            made: Made = {}, {}
            if not step.alone:
                made = step.make(*inputs, options=options, mesh=self.mesh)
            elif multihost.first():
                own = network_mesh(self.mesh)
                with multihost.alone():
                    made = step.make(*inputs, options=options, mesh=own)
            stored = self.keep(step, key, *made)
        self.journal.note(step, what, found is not None, time.monotonic() - began)
        stopping.check(f"{step.name} of {what}")
        return stored

    def key(self, step: Step, inputs: Sequence[Keyed], options: Any = None) -> str:
        """Returns the key of what the step gives for these inputs and options."""
        return derived_key(step.name, step.version, inputs, options)

    def has(self, step: Step, key: str) -> bool:
        """Returns whether something whole lies under a key."""
        return self.find(step, key) is not None

    def find(self, step: Step, key: str) -> Stored | None:
        """Returns what lies under a key, or None where nothing whole does."""
        place = self.place(step, key)
        artifact = artifacts.read(place) if multihost.first() else None
        if not multihost.agree(artifact is not None):
            return None
        return Stored(key, *(artifact or seen(place)))

    def keep(
        self, step: Step, key: str, arrays: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> Stored:
        """Writes a result under its key, and returns it as `find` would."""
        place = self.place(step, key)
        artifact = artifacts.write(place, arrays, facts) if multihost.first() else None
        multihost.wait(place.name)
        return Stored(key, *(artifact or seen(place)))

    def require(self, step: Step, what: str) -> None:
        """Raises a ValueError where a step's stage was not requested."""
        if step.stage and step.stage not in self.stages:
            last = max(STAGES.index(stage) for stage in (step.stage, *self.stages))
            wanted = STAGES[STAGES.index(step.stage) : last + 1]
            raise ValueError(
                f"stage {step.stage!r} is not complete for {what}: run it first, as by "
                f"--stages={','.join(wanted)}."
            )

    def place(self, step: Step, key: str) -> epath.Path:
        """Returns the folder of a result."""
        return self.folder / f"{step.name}-{key}"


def seen(place: epath.Path) -> artifacts.Artifact:
    """Returns what another process wrote; a shared folder may show it late.

    Raises:
      ValueError: it does not show it within a minute.
    """
    until = time.monotonic() + _LATE
    while (artifact := artifacts.read(place)) is None:
        if time.monotonic() > until:
            raise ValueError(
                f"process {multihost.index()} of {multihost.count()} does not see {place}, which "
                "another process wrote: expected a workdir on storage that all processes share."
            )
        time.sleep(0.5)
    return artifact


def derived_key(name: str, version: int, inputs: Sequence[Keyed], options: Any = None) -> str:
    """Returns the key of what is derived from some records, whether it is kept or made each time.

    Args:
      name: what is derived.
      version: raised when the same inputs and options give something else than before.
      inputs: the records.
      options: a dataclass or JSON values.
    """
    keys = [record.key for record in inputs]
    fields = {"step": name, "version": version, "inputs": keys, "options": plain(options)}
    return fingerprint(fields)


def numerics() -> dict[str, str | None]:
    """Returns what decides how a network's arithmetic rounds, for the keys of what networks make.

    The mesh and the number of images a step are not in any key: results hold to round-off (some
    1e-7) whatever they are.
    """
    precision = jax.config.values["jax_default_matmul_precision"]
    return {"platform": jax.default_backend(), "precision": precision}


def plain(value: Any) -> Any:
    """Returns options as JSON values: dataclasses and mappings as dicts, sequences as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
