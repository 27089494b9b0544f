"""The tables of `python -m benchmarks.accelerator`, as Markdown that grows by rows.

    cells (column → text) → a row of one of TABLES, written and flushed at once

So a run that is stopped leaves every row that it measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import NamedTuple, TextIO


class Columns(NamedTuple):
    """One table."""

    title: str
    columns: tuple[str, ...]
    about: str


WIDTH = 100  # of text; a row of a table is one line
STAGES = (
    "stage",
    "first call, s",
    "warm, s",
    "ms a neuron",
    "floor, s",
    "warm / floor",
    "floor of",
)
TABLES = {
    "hardware": Columns(
        "What the machine does",
        ("what", "size", "measured"),
        "Rates are counted from the time of whole calls; what the tables below call a floor, or a "
        "share of peak, is of these.",
    ),
    "arithmetic": Columns(
        "How the moments could be multiplied",
        ("product", "TFLOP/s", "worst correlation", "root mean square", "adds to the gap at most"),
        "Correlations of columns, compared with float64; what they add to the gap of an "
        "explanation whose standardised weights sum to 1 in size, as a share of the objective at "
        "zero. The elastic net stops at 1e-6.",
    ),
    "parity": Columns(
        "The same numbers as on the CPU",
        ("what", "largest difference", "where", "same"),
        "One generated problem on both kinds of device.",
    ),
    "solver": Columns("From arrays to explanations", STAGES, "The first call counts compilation."),
    "networks": Columns(
        "Networks, as the pass over the images runs them",
        ("network", "dtype", "batch", "images/s", "TFLOP/s", "of peak", "compiled in, s", "GiB"),
        "Random weights of full shape; uint8 images that lie on the device; float32 is multiplied "
        "as JAX does by default. GiB: weights, images and all that a step holds.",
    ),
    "intervention": Columns(
        "Null, ablation and Top Impact", STAGES, "The first call counts compilation."
    ),
    "libraries": Columns(
        "Beside other libraries",
        ("what", "theirs", "jaxle's", "theirs / jaxle's time"),
        "In the same run, on the same device unless said otherwise.",
    ),
    "quickstart": Columns(
        "A whole run",
        ("run", "stage", "s"),
        "`configs/quickstart.py` in a process of its own, from the command to its last line.",
    ),
    "memory": Columns(
        "Peak memory",
        ("section", "device, GiB", "host, GiB"),
        "Each section is a process of its own.",
    ),
}


class Report:
    """Writes rows to some streams; a table's head comes before its first row."""

    def __init__(self, *streams: TextIO):
        self._streams, self._open = streams, ""

    def text(self, paragraph: str) -> None:
        """Writes a paragraph."""
        self._open = ""
        self._write(f"\n{fill(paragraph, WIDTH)}\n")

    def row(self, table: str, cells: Mapping[str, str]) -> None:
        """Writes one row of a table; a column without a cell is left empty.

        Raises:
          ValueError: a cell of no column of this table.
        """
        title, columns, about = TABLES[table]
        if unknown := set(cells) - set(columns):
            raise ValueError(
                f"table {table!r} has the columns {', '.join(columns)}, got {min(unknown)!r}."
            )
        if self._open != table:
            rule = "|".join("---" for _ in columns)
            self._write(f"\n## {title}\n\n{fill(about, WIDTH)}\n\n{line(columns)}\n|{rule}|\n")
            self._open = table
        self._write(line([cells.get(column, "") for column in columns]) + "\n")

    def _write(self, text: str) -> None:
        for stream in self._streams:
            stream.write(text)
            stream.flush()


def line(cells) -> str:
    """Returns the cells as one line of a Markdown table."""
    escaped = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def short(value: float | None, digits: int = 3) -> str:
    """Returns a number with so many significant digits, without an exponent where one can read it;
    "" for None."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"
