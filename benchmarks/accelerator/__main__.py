"""One command for whoever has an accelerator: what jaxle does on it, as tables in Markdown.

    python -m benchmarks.accelerator [--out FILE]     one GPU or TPU: at most nine minutes
    python -m benchmarks.accelerator --small          toy sizes, on any machine
    python -m benchmarks.accelerator --only solver networks --seconds 200

From the checkout's root, with jaxle installed; nothing is downloaded. Sections, by value: what the
machine does (the floor; it comes with any other), the arithmetic of the moments, parity with the
CPU, the solver at the paper's size, networks, permutation test and interventions, other libraries,
the quickstart. Each is a process of its own with its share of the time (`budget`); a row is written
as soon as it is measured, and what no longer fits says so. The exit status is 0 unless a section
failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.accelerator import budget
from benchmarks.accelerator.table import Report

SECTIONS = (
    budget.Section("hardware", 30, 10),
    budget.Section("arithmetic", 20, 10),
    budget.Section("parity", 90, 20),
    budget.Section("solver", 100, 20),
    budget.Section("networks", 110, 20),
    budget.Section("intervention", 50, 15),
    budget.Section("libraries", 40, 15),
    budget.Section("quickstart", 90, 30),
)
# a section's first call compiles, whatever earlier runs have kept
ENVIRONMENT = {"JAXLE_NO_COMPILATION_CACHE": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"}


def main() -> int:
    """Runs the sections; returns the exit status."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="a file for the tables, beside what is printed")
    parser.add_argument("--small", action="store_true", help="toy sizes, for any machine")
    names = [section.name for section in SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, help="these sections, and the floor")
    parser.add_argument("--seconds", type=float, help="of the whole, shared out as by default")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        streams = [sys.stdout]
        if args.out:
            streams.append(stack.enter_context(open(args.out, "w", encoding="utf-8")))
        report = Report(*streams)
        date = datetime.date.today().isoformat()
        size = " --small" if args.small else ""
        report.text(f"`python -m benchmarks.accelerator{size}`, {date}")
        return run(report, start, args.small, chosen(args.only or names, args.seconds))


def chosen(names: Sequence[str], seconds: float | None) -> list[budget.Section]:
    """Returns the sections of these names, with the seconds shared out after the floor's own.

    What the floor has not measured, no other section can compare with.
    """
    floor, *others = (section for section in SECTIONS if section.name in {"hardware", *names})
    if seconds is None:
        return [floor, *others]
    share = max(0.0, seconds - floor.seconds) / sum(section.seconds for section in others)
    return [floor, *(each._replace(seconds=share * each.seconds) for each in others)]


def run(report: Report, start: float, small: bool, sections: Sequence[budget.Section]) -> int:
    """Runs the sections by their time; returns the exit status."""
    known: dict[str, float] = {}
    peaks: list[dict[str, str]] = []
    ends, status = budget.ends(sections), 0

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

    for section in sections:
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
