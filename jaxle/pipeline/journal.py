"""What a run says of itself as it goes: lines on the terminal, metrics.jsonl, seconds a stage."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import jax
from etils import epath

from jaxle.report.progress import say


@runtime_checkable
class Named(Protocol):
    """A step, as far as a journal is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> str: ...


class Journal:
    """Notes each step, and how long each stage took.

    Args:
      path: of metrics.jsonl, to which lines are appended; None notes nothing.

    Attributes:
      seconds: stage → seconds, of the stages that were entered.
      compiling: seconds that JAX spent on tracing, lowering and compiling since it was made.
    """

    def __init__(self, path: epath.Path | None):
        self._path = path
        self.seconds: dict[str, float] = {}
        self.compiling = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            self.compiling += duration_secs

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage, and says how long it took."""
        began = time.monotonic()
        say(f"{name} …")
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)
        say(f"{name} done in {self.seconds[name]:.1f} s")

    def note(self, step: Named, what: str, reused: bool, seconds: float) -> None:
        """Notes one look-up: what it was of, and whether it was found or made."""
        say(f"  {step.name}, {what}: {'found in the cache' if reused else f'{seconds:.1f} s'}")
        if self._path is not None:
            line = {"stage": step.stage, "step": step.name, "what": what, "reused": reused}
            with self._path.open("a") as file:
                file.write(json.dumps(line | {"seconds": round(seconds, 3)}) + "\n")
