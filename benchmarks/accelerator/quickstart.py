"""A whole run: the quickstart as a user starts it, and once more with the programs it has kept.

    python -m jaxle.launch --config configs/quickstart.py

The first run compiles all its programs, the second reads them from the folder where the first has
kept them; results are not shared. A stage's seconds are those that the launcher prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time

from benchmarks.accelerator.section import Out
from benchmarks.accelerator.table import short

STAGE = re.compile(r"(\w+) done in ([\d.]+) s")
KEPT = {"JAXLE_NO_COMPILATION_CACHE": "0", "JAX_ENABLE_COMPILATION_CACHE": "1"}


def measure(out: Out) -> dict[str, str]:
    """Rows of the table "quickstart"; this process computes nothing itself."""
    config = "configs/quickstart.py"
    few = ["--config.data.limit=300", "--config.evaluation.controls=0", "--stages=probe,fit"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **KEPT, "XDG_CACHE_HOME": folder}
        longest = 0.0
        for run in ("first", "again"):
            if longest and not out.has(longest):
                out.row("quickstart", {"run": run, "stage": "(skipped: no time left)"})
                break
            command = [sys.executable, "-m", "jaxle.launch", "--config", config]
            command += [f"--config.workdir={folder}/{run}", *(few if out.small else [])]
            start = time.monotonic()
            with subprocess.Popen(
                command,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                assert process.stdout is not None, "it is a pipe"
                for line in process.stdout:
                    if found := STAGE.search(line):
                        stage, seconds = found.groups()
                        cells = {"run": run, "stage": stage, "s": short(float(seconds))}
                        out.row("quickstart", cells)
            if process.returncode:
                raise RuntimeError(f"the quickstart ended with status {process.returncode}.")
            longest = time.monotonic() - start
            out.row("quickstart", {"run": run, "stage": "all", "s": short(longest)})
    return {"device, GiB": "not measured"}
