"""The CSV file of a layer's explanations, in the format of the paper's authors.

Source: github.com/Trustworthy-ML-Lab/Linear-Explanations. Columns: `unit`, optionally `layer`, then
`val correlation` and `weight0,concept0,…,bias` (unused slots hold 0), or `description`; then score
columns in any order. jaxle reads that without loss, and writes it with one last column more,
`flag`. Where a row is neither linear nor a bare description in a table of such, the column `kind`
stands before `flag`. A file may hold several layers, such as MILAN's of a whole network. Network
Dissection's own tallies are read too (`jaxle.explanations.tally`).

**Names that pandas would not give back.** `pandas.read_csv` turns a cell such as `null`, `None`,
`NA` or an empty one into a missing value, whether it is quoted or not, and a used concept named
`0` looks like an unused slot. jaxle writes such a name between apostrophes, `'null'`, which pandas
reads as text; reading takes one pair of apostrophes off. A name that itself is `'null'` gets
another pair, so that every name comes back as it was.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float64

from jaxle import artifacts
from jaxle.explanations import tally
from jaxle.explanations.explanation import Explanation

SLOTS = 10  # weight0 … weight9, as published; a longer explanation widens the table
# what pandas 3 takes for a missing value by default, and how an unused slot is written
_MISSING = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|"
    "null||0|0.0".split("|")
)
_APOSTROPHES = re.compile(r"('*)(.*?)('*)", re.DOTALL)
_SLOT = re.compile(r"(weight|concept)(0|[1-9]\d*)")
_FACTS = ("layer", "unit", "description", "val correlation", "bias", "kind", "flag")


class Table(NamedTuple):
    """What a file holds: rows, score columns by name, and the layer's name where it has one."""

    rows: tuple[Explanation, ...]
    scores: dict[str, Float64[np.ndarray, " neurons"]]
    layer: str | None


def is_column(name: str) -> bool:
    """Whether the format has a column of its own by this name, so that no score may bear it."""
    return name in _FACTS or _SLOT.fullmatch(name) is not None


def to_cell(name: str) -> str:
    """Returns a concept's name as it stands in a CSV file: one of pandas' missing values quoted."""
    return f"'{name}'" if _is_missing(name) else name


def from_cell(cell: str) -> str:
    """Returns the name that `to_cell` wrote."""
    quoted = len(cell) > 1 and cell.startswith("'") and _is_missing(cell)
    return cell[1:-1] if quoted else cell


def _is_missing(name: str) -> bool:
    """Whether a name is one of pandas' missing values, between any number of apostrophes."""
    if not name.strip("'"):
        return len(name) % 2 == 0  # n pairs around the empty name
    match = _APOSTROPHES.fullmatch(name)
    assert match is not None
    before, core, after = match.groups()
    return before == after and core in _MISSING


def write(
    path: epath.PathLike,
    rows: Sequence[Explanation],
    scores: Mapping[str, Float64[np.ndarray, " neurons"]],
    layer: str | None,
) -> None:
    """Writes the file atomically, as UTF-8; `read` gives the same table back, bit for bit.

    Only the layer of a table without rows is lost.

    Args:
      path: where.
      rows: one explanation a neuron.
      scores: column name → (neurons,).
      layer: the layer's name, in a column of its own; None leaves the column out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(_lines(rows, scores, layer))
    artifacts.write_text(path, text.getvalue())


def _lines(rows, scores, layer) -> Iterator[list]:
    described = bool(rows) and all(
        row.kind == "description" and row.is_bare and row.val_correlation is None for row in rows
    )
    kinds = not described and any(row.kind != "linear" for row in rows)
    slots = max([SLOTS, *(len(row.concepts) for row in rows)])
    pairs = [name for i in range(slots) for name in (f"weight{i}", f"concept{i}")]
    yield [
        *(["layer"] if layer is not None else []),
        "unit",
        *(["description"] if described else ["val correlation", *pairs, "bias"]),
        *scores,
        *(["kind"] if kinds else []),
        "flag",
    ]
    for k, row in enumerate(rows):
        cells = [*([layer] if layer is not None else []), row.unit]
        if described:
            cells.append(to_cell(row.concepts[0]))
        else:
            cells.append("" if row.val_correlation is None else row.val_correlation)
            for weight, concept in zip(row.weights, row.concepts, strict=True):
                cells += [weight, to_cell(concept)]
            cells += [0, 0] * (slots - len(row.concepts))
            cells.append(row.bias)
        cells += [float(values[k]) for values in scores.values()]
        yield [*cells, *([row.kind] if kinds else []), row.flag]


def read(path: epath.PathLike) -> Table:
    """Reads a published table of one layer, or one that jaxle wrote.

    A line break within a name, which other programs may have written, becomes a space.

    Args:
      path: a CSV file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
      ValueError: the file is no such table; the message names the line and the column.
    """
    tables = read_layers(path)
    if len(tables) > 1:
        names = sorted(name for name in tables if name is not None)
        raise ValueError(f"{path} mixes the layers {names}: expected one layer a file.")
    return next(iter(tables.values()))


def read_layers(path: epath.PathLike) -> dict[str | None, Table]:
    """Reads the tables of a published file, by layer in the order of the file.

    The only name is None where the file does not say which layer it is of.

    Args:
      path: as in `read`.

    Raises:
      ValueError: as in `read`.
    """
    path = epath.Path(path).expanduser()
    header, *lines = _cells(path)
    slots = _check_header(path, header)
    table: dict[str | None, list[_Line]] = {}
    for i, cells in enumerate(lines):
        where = f"{path}, line {i + 2}"
        if len(cells) != len(header):
            raise ValueError(f"{where}: expected {len(header)} cells, got {len(cells)}.")
        line = _Line(where, dict(zip(header, cells, strict=True)))
        table.setdefault(line.cells.get("layer"), []).append(line)
    tallied = tally.is_tally(header)
    # pandas writes an index without a name
    scores = ["score"] if tallied else [name for name in header if name and not is_column(name)]
    found: dict[str | None, Table] = {}
    for layer, own in table.items():
        if tallied:
            rows = tuple(_tallied(own))
        else:
            rows = tuple(_explanation(line, slots) for line in own)
        values = {name: np.array([line.number(name) for line in own]) for name in scores}
        found[layer] = Table(rows, values, layer)
    return found or {None: Table((), {name: np.zeros(0) for name in scores}, None)}


def _cells(path: epath.Path) -> list[list[str]]:
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
        table = list(csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in {error.encoding} (byte {error.start}): save it as UTF-8."
        ) from None
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}.") from None
    header = set(table[0]) if table else set()
    if not tally.is_tally(header) and not ("unit" in header and {"description", "bias"} & header):
        raise ValueError(
            f"{path} is no table of explanations: expected columns unit and either description or "
            "weight0, concept0, …, bias, or the label and score of a tally; "
            f"got {table[0][:6] if table else 'an empty file'}."
        )
    return table


def _check_header(path: epath.Path, header: list[str]) -> int:
    """The number of slots; every one must have both of its columns."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has more than one column {twice[0]!r}: expected each name once.")
    found = [match for name in header if (match := _SLOT.fullmatch(name))]
    slots = max([0, *(int(match[2]) + 1 for match in found)])
    wanted = [f"{kind}{i}" for i in range(slots) for kind in ("weight", "concept")]
    if missing := [name for name in wanted if name not in header]:
        raise ValueError(f"{path} lacks the column {missing[0]!r}, though it has {found[-1][0]!r}.")
    return slots


class _Line(NamedTuple):
    where: str
    cells: dict[str, str]

    def number(self, name: str) -> float:
        try:
            value = float(self.cells[name])
        except ValueError:
            raise ValueError(
                f"{self.where}, column {name!r}: expected a number, got {self.cells[name]!r}."
            ) from None
        if not math.isfinite(value):
            raise ValueError(
                f"{self.where}, column {name!r}: expected a finite number, got {value}."
            )
        return value

    def whole(self, name: str) -> int:
        text = self.cells[name].strip()
        if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
            return int(text)
        value = self.number(name)
        if not value.is_integer():
            raise ValueError(
                f"{self.where}, column {name!r}: expected a whole number, got {value}."
            )
        return int(value)

    def name(self, name: str) -> str:
        return " ".join(from_cell(self.cells[name]).splitlines())


def _explanation(line: _Line, slots: int) -> Explanation:
    cells = line.cells
    unit, flag, kind = line.whole("unit"), cells.get("flag", ""), cells.get("kind", "linear")
    if "description" in cells:
        kind, bias, rho = "description", 0.0, None
        terms = [(1.0, line.name("description"))] if cells["description"] else []
        if not terms:
            kind, flag = "linear", flag or "unnamed"
    else:
        bias = line.number("bias")
        rho = line.number("val correlation") if cells.get("val correlation", "") else None
        terms = [
            (line.number(f"weight{i}"), line.name(f"concept{i}"))
            for i in range(slots)
            if line.number(f"weight{i}") or cells[f"concept{i}"] not in ("0", "0.0", "")
        ]
    weights, concepts = tuple(w for w, _ in terms), tuple(c for _, c in terms)
    try:
        return Explanation(unit, concepts, weights, bias, rho, flag, kind)
    except ValueError as error:
        raise ValueError(f"{line.where}: {error}") from None


def _tallied(lines: Sequence[_Line]) -> Iterator[Explanation]:
    """Rows of a tally: units in the order of the file, or as its column counts them."""
    counted = [line.whole("unit") for line in lines if "unit" in line.cells]
    units = tally.units(counted) if counted else range(len(lines))
    for line, unit in zip(lines, units, strict=True):
        name = tally.name(line.name("label"))
        own = ((name,), (1.0,)) if name else ((), ())
        kind, flag = ("description", "") if name else ("linear", "unexplained")
        try:
            yield Explanation(unit, *own, 0.0, None, flag, kind)
        except ValueError as error:
            raise ValueError(f"{line.where}: {error}") from None
