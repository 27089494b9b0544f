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
from typing import Any, Literal, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
from benchmarks.ratios import cpu, read  # noqa: E402

RELEASED = ROOT / "benchmarks/released.json"
SECONDS = 900  # of one benchmark at most
CALM = {"JAX_ENABLE_COMPILATION_CACHE": "0", "OMP_WAIT_POLICY": "passive"}


class Figure(NamedTuple):
    """One line that a benchmark prints (`ratios.ratio`)."""

    name: str
    better: Literal["larger", "smaller"]
    tolerance: float  # worse by more than this share is a regression


class Case(NamedTuple):
    """One benchmark at a size of seconds; `{scratch}` in its command is an empty folder."""

    name: str
    command: str
    figures: tuple[Figure, ...]
    needs: tuple[str, ...] = ()  # packages that jaxle itself does not need


def larger(name: str, tolerance: float) -> Figure:
    return Figure(name, "larger", tolerance)


def smaller(name: str, tolerance: float) -> Figure:
    return Figure(name, "smaller", tolerance)


CASES = (
    Case(
        "solver",
        "benchmarks/solver.py similarity 3500 1000 512 --fast",
        (
            larger("libraries / jaxle, CPU seconds", 0.3),
            smaller("preconditioned / the paper's search, CPU seconds", 0.3),
            smaller("peak memory above inputs, MB", 0.2),
        ),
        ("sklearn", "threadpoolctl"),
    ),
    Case(
        "counting",
        "benchmarks/solver.py one_hot 7000 1000 512 --fast",
        (
            larger("libraries / jaxle, CPU seconds", 0.3),
            larger("counting libraries / jaxle, CPU seconds", 0.3),
            smaller("preconditioned / the paper's search, CPU seconds", 0.3),
        ),
        ("sklearn", "threadpoolctl"),
    ),
    Case(
        "wide",
        "benchmarks/wide.py --neurons 16384 --concepts 1000",
        (smaller("peak memory above inputs and moments, MB", 0.2),),
    ),
    Case(
        "accumulation",
        "benchmarks/accumulation.py --small",
        (larger("16,384 tiles, one accumulator / in parts, largest error", 0.2),),
    ),
    Case(
        "concepts",
        "benchmarks/concepts.py --images 8000 --concepts 2000 --numbers 256",
        (
            larger("top-k of all / screening by groups, CPU seconds", 0.3),
            larger("the grid's evaluations / Newton's passes", 0.2),
            smaller("peak memory above embeddings, MB", 0.2),
        ),
    ),
    Case(
        "clip_dissect",
        "benchmarks/clip_dissect.py --neurons 512 --concepts 4000 --images 10000 --loop-neurons 32",
        (
            larger("torch / jaxle warm, CPU seconds", 0.3),
            smaller("peak memory above inputs, MB", 0.2),
        ),
        ("torch",),
    ),
    Case(
        "invert",
        "benchmarks/invert.py --neurons 64 --concepts 100 --images 4000",
        (
            larger("NumPy's loop / jaxle warm, CPU seconds", 0.3),
            smaller("peak memory above inputs, MB", 0.2),
        ),
    ),
    Case(
        "ablation",
        "benchmarks/ablation.py --cpu --shapes resnet20_cifar10",
        (
            larger("resnet20_cifar10, layer2, one neuron at a time / batched", 0.3),
            larger("resnet20_cifar10, layer3, one neuron at a time / batched", 0.3),
        ),
    ),
    Case(
        "evaluation",
        "benchmarks/evaluation.py --cost --images 2000 --neurons 256 --draws 200",
        tuple(
            larger(f"draws by gathering rows / {name}, CPU seconds", 0.3)
            for name in ("bootstrap", "paired", "permutation null", "swap null", "metrics")
        ),
    ),
    Case(
        "units",
        "benchmarks/units.py --units 40000 --concepts 0",
        (
            larger("whole / a tile at a time, CPU seconds", 0.3),
            smaller("peak memory above arrays, a tile at a time, MB", 0.2),
        ),
    ),
    Case(
        "pass",
        "benchmarks/probe.py --images 64 --rounds 3",
        (
            larger("decode + network / the pass, CPU seconds", 0.3),
            larger("torch / the pass, CPU seconds", 0.3),
        ),
        ("torch", "transformers"),
    ),
    Case(
        "pass_memory",
        "benchmarks/probe.py --memory --counts 1000 8000",
        (smaller("memory of a pass over 8000 images, MB", 0.2),),
    ),
    Case(
        "models",
        "benchmarks/models.py --batch 2 --rounds 3",
        (
            larger("ResNet-50 at 224, torch / jaxle, CPU seconds", 0.3),
            larger("SigLIP-B/16-224, images, torch / jaxle, CPU seconds", 0.3),
        ),
        ("torch", "transformers"),
    ),
    Case(
        "report",
        "benchmarks/report_size.py {scratch} --neurons 500 --images 1000 --no-pages",
        (
            smaller("the report / jaxle's help, CPU seconds", 0.3),
            smaller("peak memory above that of the help, MB", 0.2),
            smaller("kB of the report a neuron", 0.2),
        ),
    ),
    Case("compilations", "benchmarks/compilations.py", (smaller("programs", 0.03),)),
)

# why the other files here are not measured
LEFT_OUT = {
    "ablation_zero.py": "quality",
    "controls.py": "quality",
    "counterfactual.py": "quality",
    "formulas.py": "quality",
    "labelling.py": "quality",
    "noise.py": "quality",
    "prompts.py": "quality",
    "recovery.py": "quality",
    "variants.py": "quality",
    "scaling.py": "a model of costs whose stages solver.py and evaluation.py measure",
    "forward.py": "part of others",
    "problems.py": "part of others",
    "ratios.py": "part of others",
    "rivals.py": "part of others",
    "regress.py": "this file",
}


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


def chosen(names: list[str] | None) -> list[Case]:
    """Returns the cases of these names; of none, all."""
    return [case for case in CASES if not names or case.name in names]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; medians count")
    parser.add_argument("--record", action="store_true", help=f"write {RELEASED.name}")
    own = parser.parse_args()
    if own.record and own.only:
        parser.error("--record takes all benchmarks, so that they have one date and machine")
    start, cases, before = time.monotonic(), chosen(own.only), load(RELEASED)
    outcomes = measure_all(cases, own.repeats)

    def lines(case: Case) -> list[Row]:
        return rows(case, outcomes[case.name], before["figures"].get(case.command, {}))

    worse = [
        case
        for case in cases
        if any(row.worse for row in lines(case)) and not outcomes[case.name].failure
    ]
    if worse and not own.record:
        for name, more in measure_all(worse, 2).items():
            outcomes[name] = joined(outcomes[name], more)
    found = [row for case in cases for row in lines(case)]
    print(f"released: {before['version']} of {before['date']}, {before['machine']}")
    print(f"now: {machine()}; {time.monotonic() - start:.0f} s, {cpu():.0f} CPU seconds\n")
    print(table(found))
    if own.record:
        incomplete = [
            case.name
            for case in cases
            if outcomes[case.name].failure
            or not (
                outcomes[case.name].missing
                or {figure.name for figure in case.figures} <= outcomes[case.name].values.keys()
            )
        ]
        if incomplete:
            print(f"nothing recorded: {', '.join(incomplete)} did not print all figures")
            return 1
        record(RELEASED, cases, outcomes)
        return 0
    return int(any(row.worse for row in found))


if __name__ == "__main__":
    sys.exit(main())
