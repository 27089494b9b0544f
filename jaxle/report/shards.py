"""Data of the report as scripts, since a page that opens from a folder can load no JSON.

    name, value → jaxle.receive("name", value);     in data/name.js, whole or not at all

Browsers refuse `fetch` and modules from `file://`; a classic script is read. Text is JSON in ASCII,
in which `<`, `>` and `&` are escaped too, so that no name can end a script or begin a tag.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Shaped

from jaxle import artifacts

DIGITS = 6  # of numbers that a file of the run holds as well
DRAWN = 4  # of numbers that are drawn only
BULK = "report.jsonl.gz"
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def to_script(name: str, value: Any) -> str:
    """Returns the text of a data script.

    Args:
      name: what the page asks for.
      value: JSON values; no number may be NaN or infinite.

    Raises:
      ValueError: one is.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character, escape in _ESCAPED.items():
        text = text.replace(character, escape)
    return f"jaxle.receive({json.dumps(name)},{text});\n"


class Shards:
    """Writes data scripts, and the same values into one file as they come.

    That file is report.jsonl.gz: a line `{"name": …, "value": …}` a script, for whoever reads a
    report by program.

    Args:
      folder: of the report.
    """

    def __init__(self, folder: epath.Path):
        self._folder = folder

    def __enter__(self) -> Shards:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._folder / BULK).open("wb")
        self._bulk = gzip.GzipFile("", "wb", 6, self._file, mtime=0)
        return self

    def write(self, name: str, value: Any) -> None:
        """Writes data/<name>.js, and a line of the bulk file."""
        write_shard(self._folder, name, value)
        line = json.dumps({"name": name, "value": value}, separators=(",", ":"), allow_nan=False)
        self._bulk.write(line.encode("ascii") + b"\n")

    def __exit__(self, *failure: object) -> None:
        self._bulk.close()
        self._file.close()


def copy_shard(source: epath.Path, folder: epath.Path, name: str) -> None:
    """Copies a data script from one report to another."""
    text = (source / "data" / f"{name}.js").read_text()
    artifacts.write_text(folder / "data" / f"{name}.js", text)


def write_shard(folder: epath.Path, name: str, value: Any) -> None:
    """Writes data/<name>.js below the folder of a report."""
    artifacts.write_text(folder / "data" / f"{name}.js", to_script(name, value))


def numbers(values: Shaped[np.ndarray, "..."], digits: int = DRAWN) -> Any:
    """Returns an array as nested lists, to some significant digits; None where it is not finite.

    Whole numbers and truth values stay what they are.
    """
    values = np.asarray(values)
    if values.dtype.kind in "biu":
        return values.tolist()
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    size = np.abs(np.where(finite & (wide != 0), wide, 1.0))
    places = digits - 1 - np.floor(np.log10(size))
    with np.errstate(over="ignore", invalid="ignore"):
        unit = 10.0**places
        rounded = np.round(np.where(finite, wide, 0.0) * unit) / unit
    rounded = np.where(np.isfinite(rounded), rounded, wide)  # so small that the unit overflows
    if finite.all():
        return rounded.tolist()
    mixed = rounded.astype(object)
    mixed[~finite] = None
    return mixed.tolist()
