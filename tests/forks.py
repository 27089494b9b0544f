"""Programs in processes of their own, forked from one that has loaded what they import.

    arguments, folder, environment → a parent of this environment → fork → exit status, what it said

A process takes three seconds to load JAX, Flax, pandas and the rest. So for each environment that
tests give a program, a parent loads them once, and starts no device. Each program is then a process
with its own folder, environment, arguments and output, and it ends as Python ends: with its status,
or by a signal. What is tested of the start itself stays with `runs.python`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SECONDS = 900  # after which a program is ended
WRITE = os.O_WRONLY | os.O_CREAT
READ_LATER = ("XLA_FLAGS", "PYTEST_CURRENT_TEST")  # by no module while it is loaded
LOADED = "jaxle.pipeline.run", "jaxle.pipeline.defaults", "ml_collections.config_flags"


def python(
    arguments: list[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs Python with some arguments, as `runs.python` does, without the seconds of its start."""
    early = {name: value for name, value in environment.items() if name not in READ_LATER}
    arguments = [str(argument) for argument in arguments]
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {"arguments": arguments, "cwd": str(cwd), "output": [str(out), str(err)]}
        asked["environment"] = dict(environment)
        status = _parent(tuple(sorted(early.items()))).ask(asked)
        said = out.read_text(), err.read_text()
    return subprocess.CompletedProcess(arguments, status, *said)


class _Parent:
    """A process that forks programs one after another; it ends with the process that started it."""

    def __init__(self, environment: Mapping[str, str]):
        pipe, command = subprocess.PIPE, [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1
        )
        atexit.register(self.end)

    def ask(self, asked: dict[str, Any]) -> int:
        """Returns the status of a program; negative: the signal that ended it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """Ends the process: nothing more is asked of it."""
        with self.process:
            pass


@functools.cache
def _parent(environment: tuple[tuple[str, str], ...]) -> _Parent:
    return _Parent(dict(environment))


def _serve() -> list[str]:
    """Returns, in each child, the arguments of its program; the parent stays."""
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
            return asked["arguments"]
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)


def _become(asked: dict[str, Any]) -> None:
    """Gives this process the folder, environment and streams of a program."""
    signal.alarm(SECONDS)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    paths = os.devnull, *asked["output"]
    for number, (path, flags) in enumerate(zip(paths, (os.O_RDONLY, WRITE, WRITE), strict=True)):
        file = os.open(path, flags, 0o600)
        os.dup2(file, number)
        os.close(file)


def _run(arguments: list[str]) -> None:
    """What the command line of Python does: -m MODULE, -c CODE or a file, and their arguments."""
    first, *rest = arguments
    if first == "-m":
        sys.argv = ["-m", *rest[1:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(first).resolve().parent))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    for name in LOADED:
        __import__(name)
    _run(_serve())
