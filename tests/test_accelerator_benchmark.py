"""The benchmark of accelerators: its tables, its time, and what it says of sections that fail.

The sections themselves run in `.ci/run` (`python -m benchmarks.accelerator --small`).
"""

import io
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.accelerator import __main__ as benchmark
from benchmarks.accelerator import budget
from benchmarks.accelerator.table import TABLES, Report, line, short

ROOT = Path(__file__).resolve().parent.parent


def test_a_row_is_one_line_of_a_table_whatever_is_in_it():
    assert line(["a|b", 3, "two\nlines"]) == "| a\\|b | 3 | two lines |"


def test_numbers_have_three_digits_and_exponents_only_where_they_are_needed():
    values = {
        None: "",
        0: "0",
        0.012345: "0.0123",
        12.345: "12.3",
        1234.5: "1,234",
        2e-6: "2.00e-06",
    }
    assert {value: short(value) for value in values} == values


def test_a_table_has_its_head_once_and_again_after_text():
    text = io.StringIO()
    report = Report(text)
    cells = {"what": "copy", "measured": "3 GB/s"}
    for _ in range(2):
        report.row("hardware", cells)
    report.text("Stopped.")
    report.row("hardware", cells)
    assert text.getvalue().count(TABLES["hardware"].title) == 2
    assert text.getvalue().count("| copy |  | 3 GB/s |\n") == 3
    assert all(len(x) <= 100 for x in text.getvalue().splitlines() if not x.startswith("|"))
    with pytest.raises(ValueError, match="got 'speed'"):
        report.row("hardware", {"speed": "3"})


def test_what_a_section_does_not_use_is_the_next_ones():
    one, two = budget.Section("one", 40, 10), budget.Section("two", 60, 20)
    ends = budget.ends((one, two))
    assert ends == {"one": 40, "two": 100}
    assert budget.left(one, ends["one"], now=0) == 40
    assert budget.left(two, ends["two"], now=15) == 85
    assert budget.left(two, ends["two"], now=80) == 20
    assert budget.left(two, ends["two"], now=80.1) is None


def test_the_whole_ends_within_nine_minutes_and_every_section_is_a_file():
    assert max(budget.ends(benchmark.SECTIONS).values()) <= 9 * 60 - 10
    folder = ROOT / "benchmarks/accelerator"
    assert all((folder / f"{section.name}.py").exists() for section in benchmark.SECTIONS)


def test_some_sections_share_the_seconds_that_the_floor_leaves():
    floor, solver, networks = benchmark.chosen(["networks", "solver"], seconds=135)
    assert (floor.name, solver.name, networks.name) == ("hardware", "solver", "networks")
    assert (floor.seconds, solver.seconds, networks.seconds) == pytest.approx((30, 50, 55))
    assert benchmark.chosen([s.name for s in benchmark.SECTIONS], None) == list(benchmark.SECTIONS)


def test_a_command_is_heard_line_by_line_and_ended_at_its_time():
    heard = []
    program = "import subprocess, sys; print('a', flush=True); subprocess.run(['sleep', '60'])"
    start = time.monotonic()
    ended = budget.run([sys.executable, "-c", program], 1.0, heard.append, {})
    assert ended.stopped and heard == ["a\n"]
    assert time.monotonic() - start < 20
    program = "import os, sys; print(os.environ['A']); sys.exit('why')"
    ended = budget.run([sys.executable, "-c", program], 60, heard.append, {"A": "b"})
    assert ended == budget.Ended(1, False, "why") and heard == ["a\n", "b\n"]


def test_sections_hand_on_numbers_and_say_why_they_did_not_end(monkeypatch):
    """One measures, one fails, one is stopped at its time, one finds its time gone."""
    clock = iter([0.0, 0.0, 0.0, 500.0, 500.0])
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    names = ("hardware", "parity", "solver", "networks")
    sections = tuple(budget.Section(name, 10, 5) for name in names)
    commands = []

    def run(command, seconds, hear, environment):
        commands.append(command)
        if len(commands) == 1:
            hear(json.dumps({"machine": "a card"}))
            hear(json.dumps({"known": {"copy": 3}}))
            hear("a library says this\n")
            hear(json.dumps({"row": "hardware", "cells": {"what": "copy"}}))
            hear(json.dumps({"row": "memory", "cells": {"section": "hardware"}}))
            return budget.Ended(0, False, "")
        return budget.Ended(1, len(commands) == 3, "ValueError: no such device")

    monkeypatch.setattr(budget, "run", run)
    text = io.StringIO()
    assert benchmark.run(Report(text), 0.0, small=True, sections=sections) == 1
    assert [command[3] for command in commands] == list(names[:3])
    assert json.loads(commands[1][commands[1].index("--known") + 1]) == {"copy": 3}
    said = text.getvalue()
    assert "On a card" in said and "| copy |" in said and "library" not in said
    assert "Section parity: failed with status 1 (ValueError: no such device)." in said
    assert "Section solver: stopped at its time, 30 s." in said
    assert "Section networks: skipped, its time is over." in said
    assert said.index("| hardware |") > said.index("Section networks")
