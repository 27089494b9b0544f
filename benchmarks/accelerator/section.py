"""One section of the benchmark in a process of its own; its lines on stdout are JSON.

python -m benchmarks.accelerator.section NAME --seconds S --known JSON [--small]

{"row": table, "cells": {column: text}}   a row of a table
{"known": {name: number}}                 what later sections compare with
{"machine": text}                         what the numbers are of
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.accelerator.table import short
from jaxle.compilation import leave_out_triton

GIB = 2**30


class Out:
    """What a section says, and the time that it has.

    Attributes:
      known: numbers that sections before this one measured.
      small: toy sizes.
    """

    def __init__(self, seconds: float, known: Mapping[str, float], small: bool):
        self.known, self.small = dict(known), small
        self._end = time.monotonic() + seconds

    def row(self, table: str, cells: Mapping[str, str]) -> None:
        """Adds a row, column → text."""
        self.say({"row": table, "cells": dict(cells)})

    def know(self, **numbers: float) -> None:
        """Hands numbers on to later sections, and keeps them for this one."""
        self.known |= numbers
        self.say({"known": numbers})

    def has(self, seconds: float) -> bool:
        """Returns whether so many seconds are left."""
        return self._end - time.monotonic() >= seconds

    def say(self, message: Mapping[str, Any]) -> None:
        """Writes one message."""
        print(json.dumps(message), flush=True)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what `run` returns, computed, and the seconds that took."""
    start = time.perf_counter()
    result = jax.block_until_ready(run())
    return result, time.perf_counter() - start


def best(run: Callable[[], Any], rounds: int = 5) -> float:
    """Returns the least seconds of some calls, after one that is not counted."""
    timed(run)
    return min(timed(run)[1] for _ in range(rounds))


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the operations of a program before it is compiled, calls of libraries included.

    Counted of the program for a CPU: what JAX has for GPUs and TPUs counts none.
    """
    cpu = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu), arguments)
    counted: Any = jax.jit(function).lower(*shapes).cost_analysis()
    return counted["flops"]


def memory(own: Mapping[str, str] | None) -> dict[str, str]:
    """Returns peak memory: of the device, where it says so, and of this process on the host, or of
    one that it started.

    Args:
      own: the device's, of a section that does not compute by JAX; None asks JAX.
    """
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    host = max(resource.getrusage(each).ru_maxrss for each in who) * 1024
    if own is None:
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        own = {"device, GiB": "the host's" if peak is None else short(peak / GIB)}
    return {**own, "host, GiB": short(host / GIB)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--known", type=json.loads, default={})
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    leave_out_triton()  # as the launcher does
    out = Out(args.seconds, args.known, args.small)
    own = importlib.import_module(f"benchmarks.accelerator.{args.name}").measure(out)
    out.row("memory", {"section": args.name, **memory(own)})


if __name__ == "__main__":
    sys.exit(main())
