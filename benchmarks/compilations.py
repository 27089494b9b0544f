"""Claim: a run compiles few programs, and one program serves many taps, methods and networks.

    python -m benchmarks.compilations [--shapes] [--config FILE] [--config.a.b=value …]

From the checkout's root. One run in a fresh process that keeps no compiled programs; the config is
the quickstart unless another is named, and flags are those of `jaxle.launch`. Prints a line per
program (its name, the line of jaxle that called it, how many times it was compiled, for as many
shapes, and seconds of XLA's compilation). Then seconds of tracing, lowering and compiling, each
moment of a thread counted once; seconds of the CPU that passed meanwhile, whichever thread used
them; and when the first explanations and the whole run were there. `--shapes` adds the shapes of
what was compiled more than once, and how arrays lie on a mesh.
"""

from __future__ import annotations

import json
import logging
import os
import re
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
from benchmarks.ratios import ratio  # noqa: E402

KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
UNCACHED = {"JAXLE_NO_COMPILATION_CACHE": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"}
FIRST = "explanations.csv"


class Program(NamedTuple):
    """One compilation: the program, where jaxle asked for it, its arguments' shapes, seconds."""

    name: str
    site: str
    shapes: str
    seconds: float


class Recorder(logging.Handler):
    """Listens to all that JAX traces, lowers and compiles in this process, from when it is made.

    Attributes:
      programs: in the order in which they were compiled.
      spans: kind → (thread, begin, end) of each, in seconds of the clock.
      busy: (0, begin, end) of each, in seconds of the CPU.
    """

    def __init__(self):
        super().__init__(logging.DEBUG)
        import jax

        self.programs: list[Program] = []
        self.spans: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self.busy: list[tuple[int, float, float]] = []
        self._here = threading.local()
        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_time_span_listener(self._end)
        logger = logging.getLogger("jax._src.interpreters.pxla")
        logger.setLevel(logging.DEBUG)  # which says the shapes before each compilation
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("Compiling") and isinstance(record.args, tuple):
            shapes = re.findall(r"ShapedArray\(([^)]*)\)", str(record.args[1]))
            placed = re.findall(r"spec=(P\([^)]*\))", str(record.args[2]))
            self._here.shapes = " ".join(part.replace(" ", "") for part in [*shapes, *placed])

    def _begin(self, event: str, value: float | int, **_: str | int) -> None:
        if event in KINDS:
            self._here.began = [*getattr(self._here, "began", []), time.process_time()]

    def _end(self, event: str, start_time: float, end_time: float, **about: str | int) -> None:
        kind = KINDS.get(event)
        if kind is None:
            return
        self.busy.append((0, self._here.began.pop(), time.process_time()))
        self.spans[kind].append((threading.get_ident(), start_time, end_time))
        if kind == "compiling":
            name = str(about.get("fun_name", "?")).removeprefix("jit_").removeprefix("jit(")
            shapes = getattr(self._here, "shapes", "")
            self.programs.append(Program(name.rstrip(")"), _site(), shapes, end_time - start_time))

    def seconds(self) -> dict[str, float]:
        """Returns kind → seconds, and `all` together; what lies within another counts once."""
        found = {kind: _covered(self.spans[kind]) for kind in KINDS.values()}
        spans = [span for spans in self.spans.values() for span in spans]
        return found | {"all": _covered(spans), "of the CPU": _covered(self.busy)}


def _site() -> str:
    """The innermost line of jaxle on the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if f"{os.sep}jaxle{os.sep}" in path and not path.endswith("compilations.py"):
            return f"{path.rpartition(f'{os.sep}jaxle{os.sep}')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def _covered(spans: list[tuple[int, float, float]]) -> float:
    """Seconds that the spans cover, thread by thread."""
    total = 0.0
    for thread in {thread for thread, _, _ in spans}:
        end = 0.0
        for start, stop in sorted((a, b) for of, a, b in spans if of == thread):
            total += max(0.0, stop - max(start, end))
            end = max(end, stop)
    return total


def record(out: str, arguments: list[str]) -> None:
    """Runs the launcher in this process, and writes what it compiled as JSON."""
    began = time.time()
    recorder = Recorder()
    sys.argv = ["jaxle.launch", *arguments]
    status = 0
    try:
        runpy.run_module("jaxle.launch", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = int(end.code or 0)
    found = {
        "programs": recorder.programs,
        "seconds": recorder.seconds(),
        "wall": time.time() - began,
        "cpu": time.process_time(),
        "began": began,
        "status": status,
    }
    Path(out).write_text(json.dumps(found))


def table(programs: list[Program], shapes: bool = False) -> list[str]:
    """Returns the lines of a table: a line per program and call, those compiled longest first."""
    groups: dict[tuple[str, str], list[Program]] = defaultdict(list)
    for program in programs:
        groups[program.name, program.site].append(program)
    lines = [f"{'program':34} {'called at':40} {'count':>5} {'shapes':>6} {'seconds':>7}"]
    for (name, site), those in sorted(
        groups.items(), key=lambda item: -sum(program.seconds for program in item[1])
    ):
        kinds = {program.shapes for program in those}
        seconds = sum(program.seconds for program in those)
        lines.append(f"{name:34} {site:40} {len(those):5} {len(kinds):6} {seconds:7.2f}")
        if shapes and len(those) > 1:
            lines += [f"    {program.seconds:6.2f}  {program.shapes}" for program in those]
    return lines


def main() -> int:
    """Runs the config, and prints the table; returns the run's exit status."""
    arguments = sys.argv[1:]
    shapes = "--shapes" in arguments
    arguments = [argument for argument in arguments if argument != "--shapes"]
    if not any(a.partition("=")[0].lstrip("-") == "config" for a in arguments):
        arguments.insert(0, f"--config={ROOT}/configs/quickstart.py")
    with tempfile.TemporaryDirectory() as folder:
        if not any("config.workdir" in argument for argument in arguments):
            arguments.append(f"--config.workdir={folder}/run")
        out = f"{folder}/compiled.json"
        command = [sys.executable, "-m", "benchmarks.compilations", "--record", out, *arguments]
        began = time.time()
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **UNCACHED})
        first = None
        while process.poll() is None:
            time.sleep(0.05)
            if first is None and any(Path(folder).glob(f"run/*/*/{FIRST}")):
                first = time.time() - began
        found = json.loads(Path(out).read_text())
    programs = [Program(*program) for program in found["programs"]]
    print("\n".join(table(programs, shapes)))
    names = len({program.name for program in programs})
    print(f"\n{len(programs)} programs of {names} names")
    print(", ".join(f"{kind} {s:.1f} s" for kind, s in found["seconds"].items()))
    if first is not None:
        print(f"first explanations after {first:.1f} s")
    print(f"whole run {found['wall']:.1f} s, {found['cpu']:.1f} CPU seconds")
    ratio("programs", len(programs))
    return found["status"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
