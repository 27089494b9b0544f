"""SIGKILL at random moments of a run, and what is left of it: a script, not run by pytest.

    python -m tests.faults.kills --config configs/quickstart.py
    python -m tests.faults.kills --config configs/resnet20_cifar10.py \
        --config.data.source=folder:DATA/cifar10/test \
        --config.target.weights=DATA/cifar10/resnet20-12fca82f.th

A run that nothing disturbs comes first. Then runs are killed at moments drawn evenly from its
length, and the same command is given again, until there were `--kills` of them (30) and the last
run has ended. Each time that a run ends it must have left the bytes of the first in every file but
those of the clock, and have saved each part of the images and each step once: what a kill costs is
the one part or step that was in progress. tests/faults/test_faults.py has the same of a small run.
Ends with status 1 where something differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import runs
from tests.runs import ROOT, notes

HASHES = "cache/generated/hashes.json"  # of files that were old enough when they were hashed

# runs in a workdir, killed after so many seconds or never → exit status; None: it was killed
Run = Callable[[Path, float | None], int | None]


class Seen(NamedTuple):
    """What was seen of some kills.

    Attributes:
      kills, ends: how many runs were killed, and how many ended.
      lost: seconds from what was saved last to each kill.
      wrong: what differed, a sentence each; none where all is well.
    """

    kills: int
    ends: int
    lost: tuple[float, ...]
    wrong: tuple[str, ...]


def made(workdir: Path) -> Counter[tuple[str, str]]:
    """How often each step, and each part of the images, was computed and saved."""
    if not (workdir / "metrics.jsonl").exists():
        return Counter()
    every = (note for note in notes(workdir) if not note["reused"] and note["step"] != "pass")
    return Counter((note["step"], note["what"]) for note in every)


def files(workdir: Path) -> dict[str, bytes]:
    """The files of a workdir by name, without those that depend on the clock."""
    return {name: data for name, data in runs.files(workdir).items() if name != HASHES}


def kill_at_random(
    run: Run, folder: Path, whole: Path, seconds: float, kills: int, seed: int
) -> Seen:
    """Kills runs and starts them again, until there were so many kills and the last run ended.

    Args:
      run: the program.
      folder: for the workdirs.
      whole: the workdir of a run that nothing disturbed.
      seconds: that one took.
      kills: how many.
      seed: of the moments.
    """
    moments, expected, whole_files = random.Random(seed), made(whole), files(whole)
    killed, ends, lost, wrong, since = 0, 0, [], [], 0
    workdir = folder / "run-0"
    while killed < kills or since:
        status = run(workdir, moments.uniform(0, seconds) if killed < kills else None)
        if status is None:
            killed, since = killed + 1, since + 1
            saved = workdir / "metrics.jsonl"
            if saved.exists():
                lost.append(time.time() - saved.stat().st_mtime)
            continue
        ends += 1
        where = f"{workdir.name}, killed {since} times"
        if status:
            wrong.append(f"{where}: ended with status {status}")
        wrong += _differences(where, made(workdir), expected, since)
        own = files(workdir)
        wrong += [
            f"{where}: {name} is not as it should be"
            for name in sorted(own.keys() | whole_files.keys())
            if own.get(name) != whole_files.get(name)
        ]
        print(f"{where}, ended: {len(wrong)} differences so far", flush=True)
        workdir, since = folder / f"run-{ends}", 0
    return Seen(killed, ends, tuple(lost), tuple(wrong))


def _differences(
    where: str, found: Counter[tuple[str, str]], expected: Counter[tuple[str, str]], kills: int
) -> list[str]:
    """What was computed more often than it need be; a kill between saving and noting hides one."""
    more, lacking = found - expected, expected - found
    wrong = [f"{where}: {what} was made {n} times too often" for what, n in more.items()]
    if lacking.total() > kills:
        wrong.append(f"{where}: {lacking.total()} were never noted, such as {next(iter(lacking))}")
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Runs, kills, prints what was seen, and returns the status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    own, rest = parser.parse_known_args(arguments)

    def run(workdir: Path, limit: float | None) -> int | None:
        command = [sys.executable, "-m", "jaxle.launch", *rest, f"--config.workdir={workdir}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("cold", "whole"):  # the second finds its programs compiled, as the others do
            began = time.monotonic()
            if status := run(folder / name, None):
                print(f"the run by itself ended with status {status}")
                return 1
            seconds = time.monotonic() - began
        print(
            f"undisturbed: {seconds:.0f} s, {made(folder / 'whole').total()} parts and steps",
            flush=True,
        )
        seen = kill_at_random(run, folder, folder / "whole", seconds, own.kills, own.seed)
        if files(folder / "cold") != files(folder / "whole"):
            seen = seen._replace(wrong=(*seen.wrong, "two undisturbed runs differ"))
    print(f"{seen.kills} kills, {seen.ends} runs ended, {len(seen.wrong)} differences")
    lost = sorted(seen.lost)
    if lost:
        middle, most = lost[len(lost) // 2], lost[-1]
        print(f"seconds from what was saved last to a kill: median {middle:.1f}, most {most:.1f}")
    print(*seen.wrong, sep="\n")
    return int(bool(seen.wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
