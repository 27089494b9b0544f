"""Nothing slower elsewhere: all benchmarks small, and their ratios beside those last recorded.

    python benchmarks/regress.py [--only NAME …] [--repeats 1]
    python benchmarks/regress.py --record

Figures do not depend on the machine, or hardly: ratios in CPU seconds within one run, memory beyond
inputs, counts. Each benchmark has one core for itself, as many run at a time as there are cores,
and nothing compiled earlier is kept: so libraries do not wait in loops, and memory does not grow
with the cores. Ratios are therefore others than those of docs/performance.md, which have all cores
and large sizes.

`released.json` holds what `--record` wrote. A figure that is worse by more than its tolerance is
measured twice more, and the median counts. The exit status is 1 if any is still worse, or if a
benchmark fails. A benchmark that needs a package that is not installed says so, and does not fail.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import queue
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
from benchmarks.cases import CASES, Case, Figure  # noqa: E402
from benchmarks.ratios import cpu, read  # noqa: E402

RELEASED = ROOT / "benchmarks/released.json"
SECONDS = 1800  # of one benchmark at most
CALM = {"JAX_ENABLE_COMPILATION_CACHE": "0", "OMP_WAIT_POLICY": "passive"}


class Outcome(NamedTuple):
    """What came of a benchmark: every figure that it printed, once a run, or why there is none."""

    values: dict[str, list[float]]
    failure: str = ""
    missing: str = ""  # packages


class Row(NamedTuple):
    """One line of the table."""

    cells: tuple[str, ...]
    worse: bool = False


HEAD = ("benchmark", "figure", "better", "now", "released", "now / rel.", "allowed", "", "spread")


def measure(case: Case, repeats: int, cores: queue.Queue[int]) -> Outcome:
    """Runs a benchmark so often, on a core that is free, and reads what it prints."""
    missing = [name for name in case.needs if importlib.util.find_spec(name) is None]
    if missing:
        return Outcome({}, missing=", ".join(missing))
    core, values = cores.get(), {}
    try:
        for _ in range(repeats):
            printed, failure = run(case.command, core)
            if failure:
                return Outcome(values, failure)
            for name, value in printed.items():
                values.setdefault(name, []).append(value)
    finally:
        cores.put(core)
    print(f"{case.name} done", file=sys.stderr, flush=True)
    return Outcome(values)


def run(command: str, core: int) -> tuple[dict[str, float], str]:
    """Returns the figures that one run printed, and why it failed, if it did."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [sys.executable, *shlex.split(command.format(scratch=scratch))]
        if sys.platform == "linux":
            words[:1] = ["taskset", "-c", str(core), sys.executable]
        try:
            done = subprocess.run(
                words,
                cwd=ROOT,
                env=os.environ | CALM,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return {}, f"took more than {SECONDS} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        return {}, f"status {done.returncode}: {last}"
    return read(done.stdout), ""


def measure_all(cases: list[Case], repeats: int) -> dict[str, Outcome]:
    """Returns case → outcome; as many run at a time as there are cores."""
    cores: queue.Queue[int] = queue.Queue()
    own = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1)
    for core in own:
        cores.put(core)
    with ThreadPoolExecutor(len(own)) as pool:
        outcomes = pool.map(lambda case: measure(case, repeats, cores), cases)
        return dict(zip((case.name for case in cases), outcomes, strict=True))


def joined(one: Outcome, more: Outcome) -> Outcome:
    """Returns the values of both."""
    names = [*one.values, *(name for name in more.values if name not in one.values)]
    values = {name: [*one.values.get(name, []), *more.values.get(name, [])] for name in names}
    return Outcome(values, one.failure or more.failure, one.missing)


def compare(figure: Figure, now: float, released: float) -> str:
    """Returns "worse", "better" or "", where the change is within the tolerance."""
    gain = now / released if figure.better == "larger" else released / now
    if gain < 1 / (1 + figure.tolerance):
        return "worse"
    return "better" if gain > 1 + figure.tolerance else ""


def rows(case: Case, outcome: Outcome, released: dict[str, float]) -> list[Row]:
    """Returns the lines of a benchmark.

    Args:
      case: its figures.
      outcome: what it printed; medians count.
      released: figure → value when it was recorded.
    """
    if outcome.missing:
        return [Row((case.name, f"needs {outcome.missing}, which is not installed"))]
    if outcome.failure:
        return [Row((case.name, f"FAILED, {outcome.failure}"), worse=True)]
    found = []
    for figure in case.figures:
        allowed = f"{figure.tolerance:.0%}"
        values, before = outcome.values.get(figure.name), released.get(figure.name)
        if not values:
            cells = (case.name, figure.name, figure.better, "NOT PRINTED")
            found.append(Row(cells, worse=True))
            continue
        now = statistics.median(values)
        spread = f"{min(values):.3g} … {max(values):.3g}" if len(values) > 1 else ""
        cells = (case.name, figure.name, figure.better, f"{now:.4g}")
        if before is None:
            found.append(Row((*cells, "not recorded", "", allowed, "", spread)))
            continue
        judged = compare(figure, now, before)
        cells += (f"{before:.4g}", f"{now / before:.2f}", allowed, judged.upper(), spread)
        found.append(Row(cells, judged == "worse"))
    return found


def table(lines: list[Row]) -> str:
    """Returns the table; a line of fewer cells is text from its second cell on."""
    cells = [HEAD, *(row.cells for row in lines)]
    full = [line for line in cells if len(line) == len(HEAD)]
    widths = [max(len(line[i]) for line in full) for i in range(len(HEAD))]
    widths[0] = max(len(line[0]) for line in cells)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in cells
    )


def load(path: Path) -> dict[str, Any]:
    """Returns what was recorded: version, date, machine, and command → figure → value."""
    if not path.exists():
        return {"version": "none", "date": "", "machine": "", "figures": {}}
    return json.loads(path.read_text())


def record(path: Path, cases: list[Case], outcomes: dict[str, Outcome]) -> None:
    """Writes the medians, with what they were measured on."""
    figures = {
        case.command: {
            figure.name: float(f"{statistics.median(outcomes[case.name].values[figure.name]):.4g}")
            for figure in case.figures
        }
        for case in cases
        if not outcomes[case.name].missing
    }
    made = {
        "version": importlib.metadata.version("jaxle"),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "figures": figures,
    }
    path.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")


def machine() -> str:
    """Returns the machine in words."""
    model = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        model = f" ({names[0]})" if names else ""
    version = importlib.metadata.version("jax")
    return f"{os.cpu_count()} cores {platform.machine()}{model}, JAX {version}"


def complete(case: Case, outcome: Outcome) -> bool:
    """Whether every figure was printed, or a package is missing."""
    printed = {figure.name for figure in case.figures} <= outcome.values.keys()
    return bool(outcome.missing) or (printed and not outcome.failure)


def main() -> int:
    """Prints the table, and returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; medians count")
    parser.add_argument("--record", action="store_true", help=f"write {RELEASED.name}")
    own = parser.parse_args()
    if own.record and own.only:
        parser.error("--record takes all benchmarks, so that they have one date and machine")
    start, released = time.monotonic(), load(RELEASED)
    cases = [case for case in CASES if not own.only or case.name in own.only]
    outcomes = measure_all(cases, own.repeats)

    def lines(case: Case) -> list[Row]:
        return rows(case, outcomes[case.name], released["figures"].get(case.command, {}))

    if not own.record:
        doubtful = [
            case
            for case in cases
            if complete(case, outcomes[case.name]) and any(row.worse for row in lines(case))
        ]
        for name, more in measure_all(doubtful, 2).items():
            outcomes[name] = joined(outcomes[name], more)
    found = [row for case in cases for row in lines(case)]
    print(f"released: {released['version']} of {released['date']}, {released['machine']}")
    print(f"now: {machine()}; {time.monotonic() - start:.0f} s, {cpu():.0f} CPU seconds\n")
    print(table(found))
    if not own.record:
        return int(any(row.worse for row in found))
    failed = [case.name for case in cases if not complete(case, outcomes[case.name])]
    if failed:
        print(f"nothing recorded: {', '.join(failed)} did not print all figures")
        return 1
    record(RELEASED, cases, outcomes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
