"""A label sheet: one HTML file in which a person says which words are in which pictures.

    write    pictures and words → one file that opens from disk, without network or server
    read     the CSV that it saves: sheet, image, a column per word; 1, 0, or nothing if unanswered

The file shows pictures and words only. What the neuron does, how the words are weighted and what an
encoder expects would sway the person who answers, so nothing of it is in the file. Words and image
names are untrusted text; they are escaped.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from jaxle.options import suggest
from jaxle.report.environment import environment

SIDE = 512  # pixels; larger pictures are made smaller
LOSSLESS = 128  # pixels up to which a picture is kept exact
SHEET, IMAGE = "sheet", "image"  # the first two columns of a CSV
NAMED = 5  # of what is not answered, how many are named


@dataclass(frozen=True)
class Sheet:
    """What is asked.

    Attributes:
      name: tells one sheet from another, in the CSV and in the browser's memory.
      images: the pictures' names, in the order of the sheet, all different.
      words: what may be in them, in the order of the boxes, all different.
    """

    name: str
    images: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a person answered.

    Attributes:
      values: 1 for in the picture, 0 for not, NaN for no answer.
      open: the images of which not every word is answered, in the order of the sheet.
    """

    values: Float64[np.ndarray, "images words"]
    open: tuple[str, ...]


def write_sheet(sheet: Sheet, pictures: Sequence[UInt8[np.ndarray, "_height _width 3"]]) -> str:
    """Returns the HTML of a sheet.

    Args:
      sheet: what is asked.
      pictures: RGB, 0–255, of any sizes, one an image of the sheet.
    """
    shown = [
        {"name": name, "source": _data_url(picture)}
        for name, picture in zip(sheet.images, pictures, strict=True)
    ]
    # the page's script reads these as JSON, in which |tojson escapes what HTML would read
    facts = {"sheet": sheet.name, "images": list(sheet.images), "words": list(sheet.words)}
    template = environment().get_template("label_sheet.html")
    return template.render(words=sheet.words, pictures=shown, facts=facts)


def _data_url(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    exact = max(image.size) <= LOSSLESS
    file = io.BytesIO()
    if exact:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=88)
    code = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{'png' if exact else 'jpeg'};base64,{code}"


def sheet_of(text: str) -> str:
    """Returns the name of the sheet whose answers a CSV holds.

    Raises:
      ValueError: it is no such CSV, has no row, or has answers to several sheets.
    """
    rows = _rows(text)
    names = sorted({row[0] for _, row in rows[1:]})
    if len(names) != 1:
        raise ValueError(
            f"the answers name {len(names)} sheets ({', '.join(names) or 'none'}): "
            "expected the rows of one."
        )
    return names[0]


def read_answers(text: str, sheet: Sheet) -> Answers:
    """Returns the answers in the CSV that a sheet saved.

    Rows that are absent and cells that are empty count as not answered.

    Raises:
      ValueError: another sheet's, a column or image that the sheet lacks or that comes twice, a
        word without a column, or an answer other than 0, 1 and nothing.
    """
    (_, header), *rows = _rows(text)
    columns = header[2:]
    for word in columns:
        if word not in sheet.words:
            raise ValueError(
                f"the answers have a column {word!r}, which the sheet does not ask for: "
                f"{suggest(word, sheet.words)}."
            )
        if columns.count(word) > 1:
            raise ValueError(f"the answers have the column {word!r} twice: expected it once.")
    missing = [word for word in sheet.words if word not in columns]
    if missing:
        raise ValueError(
            f"the answers lack the column {missing[0]!r}: expected one per word of the sheet, "
            "with empty cells where nothing is answered."
        )
    values = np.full((len(sheet.images), len(sheet.words)), np.nan)
    place = {name: i for i, name in enumerate(sheet.images)}
    order, seen = [sheet.words.index(word) for word in columns], set()
    for line, (name, image, *cells) in rows:
        if name != sheet.name:
            raise ValueError(
                f"line {line} of the answers is of the sheet {name!r}: expected {sheet.name!r}."
            )
        if image not in place:
            raise ValueError(
                f"line {line} of the answers names the image {image!r}, which the sheet does not "
                f"show: {suggest(image, sheet.images)}."
            )
        if image in seen:
            raise ValueError(f"line {line} of the answers names the image {image!r} again.")
        seen.add(image)
        for word, column, cell in zip(columns, order, cells, strict=True):
            values[place[image], column] = _answer(cell.strip(), line, word)
    left = np.flatnonzero(np.isnan(values).any(axis=1))
    return Answers(values, tuple(sheet.images[i] for i in left))


def _answer(cell: str, line: int, word: str) -> float:
    if cell not in ("0", "1", ""):
        raise ValueError(
            f"line {line} of the answers holds {cell!r} for {word!r}: "
            "expected 1 (in the picture), 0 (not), or nothing (no answer)."
        )
    return float(cell) if cell else np.nan


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of every row that is not blank, the header first, all of one length."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of the answers is no CSV: {error}.") from None
    if not rows or rows[0][1][:2] != [SHEET, IMAGE]:
        start = ",".join(rows[0][1][:3]) if rows else ""
        raise ValueError(
            f"the answers begin with {start!r}: expected the CSV that a label sheet saves, "
            f"whose first columns are {SHEET},{IMAGE}."
        )
    for line, row in rows:
        if len(row) != len(rows[0][1]):
            raise ValueError(
                f"line {line} of the answers has {len(row)} cells: "
                f"expected {len(rows[0][1])}, as the header has."
            )
    return rows


def open_line(answers: Answers) -> str:
    """Returns one line that names what is not answered; "" where everything is."""
    if not answers.open:
        return ""
    named = ", ".join(answers.open[:NAMED])
    more = ", …" if len(answers.open) > NAMED else ""
    return (
        f"{len(answers.open)} of {len(answers.values)} pictures are not fully answered "
        f"({named}{more}): the others stand for them, which holds as long as they were not left "
        "out for what they show."
    )
