"""What a run says of itself as it goes: lines on the terminal, metrics.jsonl, seconds a stage."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import jax
from etils import epath

from jaxle import artifacts
from jaxle.report.progress import Bar, say


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
      path: of metrics.jsonl, to which lines are appended (on an object store it is written when a
        stage ends); None notes nothing.
      verbose: a line a step on the terminal; otherwise a bar a stage, and a line at its end.

    Attributes:
      seconds: stage → seconds, of the stages that were entered.
      compiling: seconds that JAX spent on tracing, lowering and compiling since it was made.
      programs: the name of each program that it compiled, or found compiled on disk.
      verbose: as given.
    """

    def __init__(self, path: epath.Path | None, verbose: bool = False):
        self._path, self.verbose = path, verbose
        self._bar: Bar | None = None
        self._looked_up, self._reused = 0, 0
        self._kept: list[str] | None = None  # lines, for where nothing can be appended to
        if path is not None and "://" in os.fspath(path):
            self._kept = [path.read_text()] if path.exists() else []
        self.seconds: dict[str, float] = {}
        self.compiling, self.programs = 0.0, list[str]()
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            self.compiling += duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            self.programs.append(str(about["fun_name"]))

    @contextlib.contextmanager
    def stage(self, name: str, steps: int = 0) -> Iterator[None]:
        """Announces a stage, and says how long it took and what was found in the cache.

        Args:
          name: of the stage.
          steps: of its own name that it is made of, for a bar with the time left; 0: unknown.
        """
        began, self._looked_up, self._reused = time.monotonic(), 0, 0
        if self.verbose:
            say(f"{name} …")
        with Bar(name, 0 if self.verbose else steps) as self._bar:
            try:
                yield
            finally:
                self._write_kept()
        self._bar = None
        self.seconds[name] = round(time.monotonic() - began, 3)
        found = (
            ""
            if self.verbose or not self._reused
            else (f"; {self._reused} of {self._looked_up} steps found in the cache")
        )
        say(f"{name} done in {self.seconds[name]:.1f} s{found}")

    def note(self, step: Named, what: str, reused: bool, seconds: float) -> None:
        """Notes one look-up: what it was of, and whether it was found or made."""
        self._looked_up, self._reused = self._looked_up + 1, self._reused + reused
        if self.verbose:
            say(f"  {step.name}, {what}: {'found in the cache' if reused else f'{seconds:.1f} s'}")
        elif self._bar is not None and step.name == step.stage:
            self._bar.advance(what)
        values = {"reused": reused, "seconds": seconds}
        self.measure({"stage": step.stage, "step": step.name, "what": what}, values)

    def measure(self, line: Mapping[str, str], values: Mapping[str, float]) -> None:
        """Appends a line to metrics.jsonl, and says nothing: `values` are rounded to 1/1000."""
        if self._path is not None:
            rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
            self._append(json.dumps({**line, **rounded}) + "\n")

    def _append(self, line: str) -> None:
        assert self._path is not None
        if self._kept is not None:
            self._kept.append(line)
            return
        with self._path.open("a") as file:
            file.write(line)

    def _write_kept(self) -> None:
        if self._path is not None and self._kept is not None:
            artifacts.write_text(self._path, "".join(self._kept))
