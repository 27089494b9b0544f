"""The table of regressions: its arithmetic, what fails, and that its commands parse."""

import argparse
import json
import queue
import runpy
import sys
from pathlib import Path

import pytest

from benchmarks import ratios, regress
from benchmarks.cases import CASES, LEFT_OUT, Case, Figure
from benchmarks.regress import Outcome, compare, rows

ROOT = Path(__file__).resolve().parent.parent
SPEED = Figure("libraries / jaxle", "larger", 0.25)
MEMORY = Figure("memory, MB", "smaller", 0.25)
CASE = Case("one", "benchmarks/one.py", (SPEED, MEMORY))


def test_a_printed_figure_is_read_again(capsys):
    ratios.ratio("torch: the loop / jaxle, CPU seconds", 6.4249)
    print("a ratio of 3: not such a line")
    assert ratios.read(capsys.readouterr().out) == {"torch: the loop / jaxle, CPU seconds": 6.425}
    for value in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite and above 0"):
            ratios.ratio("x", value)


@pytest.mark.parametrize(
    ("figure", "now", "judged"),
    [
        (SPEED, 8.1, ""),  # 10 / 1.25 is 8
        (SPEED, 7.9, "worse"),
        (SPEED, 12.4, ""),
        (SPEED, 12.6, "better"),
        (MEMORY, 12.4, ""),
        (MEMORY, 12.6, "worse"),
        (MEMORY, 7.9, "better"),
    ],
)
def test_a_figure_is_worse_beyond_its_tolerance(figure, now, judged):
    assert compare(figure, now, 10.0) == judged


def test_rows_hold_the_median_and_what_is_new_or_lacking():
    outcome = Outcome({SPEED.name: [5.0, 9.0, 7.0]})
    speed, memory = rows(CASE, outcome, {SPEED.name: 10.0})
    assert speed.cells[3:] == ("7", "10", "0.70", "25%", "WORSE", "5 … 9") and speed.worse
    assert "NOT PRINTED" in memory.cells and memory.worse
    both = Outcome({SPEED.name: [10.0], MEMORY.name: [3.0]})
    speed, memory = rows(CASE, both, {SPEED.name: 10.0})
    assert speed.cells[3:] == ("10", "10", "1.00", "25%", "", "")
    assert "not recorded" in memory.cells and not (speed.worse or memory.worse)


def test_a_package_that_is_not_installed_is_named_and_does_not_fail():
    case = CASE._replace(needs=("sys", "no_such_package"))
    (row,) = rows(case, regress.measure(case, 1, queue.Queue()), {})
    assert row.cells == ("one", "needs no_such_package, which is not installed")
    assert not row.worse


BENCHMARK = """
import sys
sys.path.append({root!r})
from benchmarks.ratios import ratio
ratio("libraries / jaxle", {speed})
{more}
"""


@pytest.fixture
def table(monkeypatch, tmp_path, capsys):
    """Runs `regress.py` on a benchmark that is written here; returns its status and output."""
    monkeypatch.setattr(regress, "RELEASED", tmp_path / "released.json")
    monkeypatch.setattr(regress, "CASES", (Case("one", str(tmp_path / "one.py"), (SPEED,)),))

    def run(speed: float, *arguments: str, more: str = "") -> tuple[int, str]:
        made = BENCHMARK.format(root=str(ROOT), speed=speed, more=more)
        (tmp_path / "one.py").write_text(made)
        monkeypatch.setattr(sys, "argv", ["regress.py", *arguments])
        return regress.main(), capsys.readouterr().out

    return run


def test_status_is_1_for_what_is_worse_or_fails_and_nothing_incomplete_is_recorded(table):
    failing = "raise SystemExit('a tile was lost')"
    status, out = table(10, "--record", more=failing)
    assert status == 1 and "nothing recorded: one" in out and not regress.RELEASED.exists()
    assert table(10, "--record")[0] == 0
    known = json.loads(regress.RELEASED.read_text())
    assert list(known["figures"].values()) == [{SPEED.name: 10.0}]
    assert known["version"] and known["date"] and "cores" in known["machine"]
    status, out = table(9.8)
    assert status == 0 and "0.98" in out
    status, out = table(5)
    assert status == 1 and "WORSE" in out and "5 … 5" in out  # measured twice more
    status, out = table(10, more=failing)
    assert status == 1 and "FAILED, status 1: a tile was lost" in out
    with pytest.raises(SystemExit):
        table(10, "--record", "--only", "one")


def test_every_benchmark_is_measured_or_said_to_be_left_out():
    measured = {Path(case.command.split()[0]).name for case in CASES}
    known = measured | set(LEFT_OUT)
    files = {file.name for file in (ROOT / "benchmarks").glob("*.py")}
    assert files == known, "add to CASES or LEFT_OUT of benchmarks/cases.py"
    assert not measured & set(LEFT_OUT)


class Parsed(Exception):
    """Raised in place of a benchmark's work."""


def test_every_command_parses(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self, *arguments):
        parse(self, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    for case in CASES:
        path, *arguments = case.command.split()
        source = (ROOT / path).read_text()
        if "parse_args" not in source:
            assert not arguments, f"{case.name} takes no arguments of its own"
            compile(source, path, "exec")
            continue
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / path), run_name="__main__")


def test_what_is_recorded_is_measured():
    known = regress.load(regress.RELEASED)["figures"]
    of = {case.command: {figure.name for figure in case.figures} for case in CASES}
    assert known and all(set(figures) <= of[command] for command, figures in known.items())
