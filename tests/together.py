"""Several processes that make one run, as tests start them: on this machine, two devices each."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import runs
from tests.flags import COMPILED_FAST

DEVICES = "--xla_force_host_platform_device_count=2"


@dataclasses.dataclass
class Started:
    """A process of several, and where it writes what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self, seconds: float) -> tuple[int, str]:
        """Returns its exit status and what it said; a process that takes longer is killed."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still there after {seconds} s: {self.log.read_text()}") from None
        return status, self.log.read_text()


def start(
    n: int, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[Started]:
    """Starts `n` processes, which find one another on a free port of this machine.

    Args:
      n: how many.
      arguments: of Python, the same for all; the flags that number them are added.
      folder: where they work and log.
      environment: of all.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = " ".join((*COMPILED_FAST, DEVICES))
    environment = {**environment, "XLA_FLAGS": flags, "PYTHONPATH": f"{runs.ROOT}"} | {
        key: value for key, value in environment.items() if key == "PYTHONPATH"
    }
    found = []
    for number in range(n):
        log = folder / f"{time.monotonic_ns()}-{number}.log"
        which = [f"--coordinator=127.0.0.1:{port}", f"--processes={n}", f"--process={number}"]
        with log.open("wb") as file:
            command = [sys.executable, *arguments, *which]
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT
            )
        found.append(Started(process, log))
    return found
