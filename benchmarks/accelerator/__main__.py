"""One command for whoever has an accelerator: what jaxle does on it, as tables in Markdown.

    python -m benchmarks.accelerator [--out FILE]     one GPU or TPU: at most nine minutes
    python -m benchmarks.accelerator --small          toy sizes, on any machine

From the checkout's root, with jaxle installed; nothing is downloaded. Sections, by value: what the
machine does (the floor), parity with the CPU, the solver at the paper's size, networks, permutation
test and interventions, other libraries. Each is a process of its own with its share of the time
(`budget`); a row is written as soon as it is measured, and what no longer fits says so. The exit
status is 0 unless a section failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
import time
from typing import Any

from benchmarks.accelerator import budget
from benchmarks.accelerator.table import Report

SECTIONS = (
    budget.Section("hardware", 40, 10),
    budget.Section("parity", 105, 20),
    budget.Section("solver", 135, 20),
    budget.Section("networks", 135, 20),
    budget.Section("intervention", 60, 15),
    budget.Section("libraries", 50, 15),
)
# a section's first call compiles, whatever earlier runs have kept
ENVIRONMENT = {"JAXLE_NO_COMPILATION_CACHE": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"}


def main() -> int:
    """Runs the sections; returns the exit status."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="a file for the tables, beside what is printed")
    parser.add_argument("--small", action="store_true", help="toy sizes, for any machine")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        streams = [sys.stdout]
        if args.out:
            streams.append(stack.enter_context(open(args.out, "w", encoding="utf-8")))
        report = Report(*streams)
        date = datetime.date.today().isoformat()
        size = " --small" if args.small else ""
        report.text(f"`python -m benchmarks.accelerator{size}`, {date}")
        return run(report, start, args.small)


def run(report: Report, start: float, small: bool) -> int:
    """Runs all sections by their time; returns the exit status."""
    known: dict[str, float] = {}
    peaks: list[dict[str, str]] = []
    ends, status = budget.ends(SECTIONS), 0

    def hear(line: str) -> None:
        """A line of a section: a message as JSON; what a library prints is passed over."""
        message: Any = None
        with contextlib.suppress(json.JSONDecodeError):
            message = json.loads(line)
        match message:
            case {"row": "memory", "cells": cells}:
                peaks.append(cells)
            case {"row": table, "cells": cells}:
                report.row(table, cells)
            case {"known": numbers}:
                known.update(numbers)
            case {"machine": text}:
                report.text(f"On {text}")

    for section in SECTIONS:
        seconds = budget.left(section, ends[section.name], time.monotonic() - start)
        if seconds is None:
            report.text(f"Section {section.name}: skipped, its time is over.")
            continue
        module = "benchmarks.accelerator.section"
        command = [sys.executable, "-m", module, section.name, "--seconds", f"{seconds:.0f}"]
        command += ["--known", json.dumps(known), *["--small"] * small]
        ended = budget.run(command, seconds, hear, ENVIRONMENT)
        if ended.stopped:
            report.text(f"Section {section.name}: stopped at its time, {seconds:.0f} s.")
        elif ended.status:
            report.text(
                f"Section {section.name}: failed with status {ended.status} ({ended.error})."
            )
            status = 1
    for cells in peaks:
        report.row("memory", cells)
    report.text(f"{time.monotonic() - start:.0f} s in all.")
    return status


if __name__ == "__main__":
    sys.exit(main())
