"""The time of a run: sections one after another, each until its own end on the common clock.

    section i ends by Σ_{j ≤ i} seconds_j after the start

What a section does not use is the next one's. A section is a process of its own: it is ended at its
time, what it has said by then counts, and the memory of its device is free for the next.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Section(NamedTuple):
    """A part of the run: its name, the seconds it adds, and those without which it is left out."""

    name: str
    seconds: float
    least: float


class Ended(NamedTuple):
    """How a section ended: `stopped` at its time, or with a status and its last words."""

    status: int
    stopped: bool
    error: str


def ends(sections: Sequence[Section]) -> dict[str, float]:
    """Returns each section's end, in seconds after the start."""
    totals = itertools.accumulate(section.seconds for section in sections)
    return {section.name: end for section, end in zip(sections, totals, strict=True)}


def left(section: Section, end: float, now: float) -> float | None:
    """Returns the seconds that a section has, or None where they are too few to begin it."""
    return end - now if end - now >= section.least else None


def run(
    command: Sequence[str],
    seconds: float,
    hear: Callable[[str], None],
    environment: Mapping[str, str],
) -> Ended:
    """Runs a command for at most so many seconds; `hear` gets each line of its output at once."""
    stopped = threading.Event()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        ) as process,
    ):

        def stop():
            stopped.set()
            end(process)

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None, "it is a pipe"
            for line in process.stdout:
                hear(line)
            status = process.wait()
        finally:
            timer.cancel()
            end(process)
        errors.seek(0)
        said = [text.strip() for text in errors.read().splitlines() if text.strip()]
    return Ended(status, stopped.is_set(), said[-1] if said else "")


def end(process: subprocess.Popen) -> None:
    """Kills a process and those that it started, unless it has ended."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()
