"""The line by which a benchmark says what it measured: read by people and by regress.py.

ratio  libraries / jaxle, CPU seconds: 6.42
"""

from __future__ import annotations

import math
import resource
import time

MARK = "ratio  "


def ratio(name: str, value: float) -> None:
    """Prints one figure: a ratio measured in one run, or a count or size of this program alone.

    Args:
      name: what is divided by what, and the unit; its last colon would be taken for the line's.
      value: finite, above 0.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"a figure must be finite and above 0, got {value} for {name!r}")
    print(f"{MARK}{name}: {value:.4g}", flush=True)


def read(text: str) -> dict[str, float]:
    """Returns name → value of all such lines in what a benchmark printed."""
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    parts = [line.removeprefix(MARK).rpartition(": ") for line in lines]
    return {name: float(value) for name, _, value in parts}


def cpu() -> float:
    """Seconds of all cores for this process and for those of its processes that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
