"""Whether two commits give the same numbers: run both, or take two finished runs, and compare.

    python tools/same_numbers.py OLD NEW --config configs/quickstart.py [--config.a.b=value …]
    python tools/same_numbers.py --workdirs A B

The first form checks OLD and NEW out into a temporary folder and runs each with its own config file
and code, in the environment that runs this script. Paths among the settings must be absolute.

Compared are all files named explanations.csv, concepts.csv and scores.csv. Rows are matched by what
they are about, and columns by name: both may stand in another order. Each file of the first run
must be in the second, with the same rows; each of its columns too. Texts must be equal; numbers may
differ by 1e-6, absolute up to 1 and relative above. Columns, rows and files that only the second
run has are counted; such rows are a difference, new files and columns are not. Prints the largest
difference of each file; exit status 1 where the runs differ.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

TOLERANCE = 1e-6
# what a row is about; rows that agree in it are numbered in their order
KEYS = {
    "explanations.csv": ["unit"],
    "concepts.csv": ["unit", "concept"],
    "scores.csv": ["tap", "unit", "method", "simulator"],
}


class Compared(NamedTuple):
    """One file of both runs: its largest difference, where, its faults, and its new columns."""

    largest: float
    where: str
    faults: list[str]
    added: list[str]


def rows(path: Path) -> pd.DataFrame:
    """The file's cells as text, indexed by what each row is about."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    keys = KEYS[path.name]
    return frame.assign(nth=frame.groupby(keys).cumcount()).set_index([*keys, "nth"])


def numbers(cells: pd.Series) -> np.ndarray:
    """(rows,) float64: the cells that are numbers, NaN for the others."""

    def number(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return np.nan

    return np.array([number(cell) for cell in cells], np.float64)


def differences(old: pd.Series, new: pd.Series) -> np.ndarray:
    """(rows,) float64: |a − b| / max(1, |a|) of numbers; infinity where texts are not equal."""
    a, b = numbers(old), numbers(new)
    far = np.abs(a - b) / np.maximum(1, np.abs(a))
    equal = np.array(old) == np.array(new)
    return np.where(equal, 0.0, np.nan_to_num(far, nan=np.inf))


def compare_files(old: Path, new: Path) -> Compared:
    """Compares one file of both runs."""
    if not new.exists():
        return Compared(np.inf, "", ["the second run does not have it"], [])
    a, b = rows(old), rows(new)
    faults = [f"column {name!r} is missing" for name in a if name not in b]
    for word, lost in (
        ("missing", a.index.difference(b.index)),
        ("new", b.index.difference(a.index)),
    ):
        if len(lost):
            faults.append(f"{len(lost)} rows are {word}, such as {describe(lost[0])}")
    both = a.index.intersection(b.index, sort=False)
    a, b = a.loc[both], b.loc[both]
    largest, where = 0.0, ""
    for name in a.columns.intersection(b.columns, sort=False):
        far = differences(a[name], b[name])
        if not len(far):
            continue
        k = int(far.argmax())
        cell = f"{name}, {describe(both[k])}: {a[name].iloc[k]} and {b[name].iloc[k]}"
        if far[k] > TOLERANCE:
            faults.append(f"{int((far > TOLERANCE).sum())} cells differ, most {cell}")
        if far[k] > largest:
            largest, where = float(far[k]), cell
    return Compared(largest, where, faults, [name for name in b if name not in a])


def describe(key) -> str:
    """A row's key as text, without its number among equal ones."""
    return " ".join(map(str, key[:-1]))


def compare(old: Path, new: Path) -> bool:
    """Compares two finished runs and prints a line for each file; True where none differs."""
    found = sorted(path.relative_to(old) for path in old.rglob("*.csv") if path.name in KEYS)
    found = [path for path in found if path.parts[0] != "cache"]
    if not found:
        print(f"{old} holds none of {', '.join(KEYS)}: no finished run.")
        return False
    same = True
    for path in found:
        got = compare_files(old / path, new / path)
        word = "differs" if got.faults else "same"
        added = f"; new columns: {', '.join(got.added)}" if got.added else ""
        print(f"{word:<8}{path}: largest difference {got.largest:.2g}{added}")
        for fault in got.faults or ([got.where] if got.largest else []):
            print(f"          {fault}")
        same &= not got.faults
    print("The numbers are the same." if same else "The numbers differ.")
    return same


def run(commit: str, name: str, folder: Path, config: str, settings: list[str]) -> Path:
    """Runs a commit's own code on its own config file; returns the run's folder."""
    tree, workdir = folder / name, folder / f"{name}_run"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
    try:
        print(f"Running {commit} …", flush=True)
        command = [sys.executable, "-m", "jaxle.launch", "--config", config, *settings]
        subprocess.run(
            [*command, f"--config.workdir={workdir}"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)
    return workdir


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("commits", nargs="*", metavar="COMMIT", help="OLD and NEW")
    parser.add_argument("--workdirs", nargs=2, type=Path, metavar=("A", "B"))
    parser.add_argument("--config", help="a config file of both commits")
    given, settings = parser.parse_known_args()
    if wrong := [text for text in settings if not text.startswith("--config.")]:
        parser.error(f"unknown: {' '.join(wrong)}; settings are given as --config.a.b=value")
    if given.workdirs and not (given.commits or given.config or settings):
        return 0 if compare(*given.workdirs) else 1
    if given.workdirs or len(given.commits) != 2 or not given.config:
        parser.error("expected OLD NEW --config FILE, or --workdirs A B")
    with tempfile.TemporaryDirectory(prefix="same_numbers_") as folder:
        made = [
            run(commit, name, Path(folder), given.config, settings)
            for commit, name in zip(given.commits, ("old", "new"), strict=True)
        ]
        return 0 if compare(*made) else 1


if __name__ == "__main__":
    sys.exit(main())
