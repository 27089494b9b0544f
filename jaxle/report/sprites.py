"""Thumbnails on sheets: many small pictures in a few files, of which a page loads what it shows.

    picture p → sheet p // 16, cell p % 16        a sheet is 4 × 4 cells, WebP

Pictures that are shown together are given neighbouring numbers by the caller, so that they share
sheets.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from jaxle import artifacts

COLUMNS = 4
PER_SHEET = COLUMNS * COLUMNS
LARGEST, SMALLEST = 96, 32  # pixels along a cell's side
LARGE = 512  # pixels along the longer side of a picture that is kept beside its thumbnail
QUALITY = 80  # of WebP
FOLDERS = ("sprites", "pictures")
TRIED = 4 * PER_SHEET  # pictures from which the size of all is estimated

Picture = Callable[[int], UInt8[np.ndarray, "_height _width 3"]]


class Sheets(NamedTuple):
    """What was written: pixels of a cell's side, how many of the pictures have one, bytes."""

    side: int
    n: int
    n_bytes: int


def write_sheets(
    folder: epath.Path, picture: Picture, n: int, size: int, most_bytes: int
) -> Sheets:
    """Writes sprites/<sheet>.webp of pictures 0 … n − 1.

    Where all of them would take more than `most_bytes`, cells are made smaller, and then the last
    pictures are left out.

    Args:
      folder: of the report.
      picture: number → RGB, square.
      n: how many.
      size: pixels of the pictures themselves; cells are never larger.
      most_bytes: that all sheets may take.
    """
    side = min(LARGEST, size)
    bytes_each = _bytes_each(picture, n, side)
    while side > SMALLEST and n * bytes_each > most_bytes:
        side = max(SMALLEST, side * 3 // 4)
        bytes_each = _bytes_each(picture, n, side)
    kept = n if n * bytes_each <= most_bytes else int(most_bytes / bytes_each)
    written, place = 0, 0
    with ThreadPoolExecutor() as threads:
        starts = range(0, kept, PER_SHEET)
        for start, file in zip(
            starts,
            threads.map(
                lambda first: _sheet(picture, first, min(n, first + PER_SHEET), side), starts
            ),
            strict=True,
        ):
            if written + len(file) > most_bytes:
                break
            _write(folder / "sprites" / f"{start // PER_SHEET:05d}.webp", file)
            written, place = written + len(file), min(n, start + PER_SHEET)
    return Sheets(side, place, written)


def write_large(folder: epath.Path, picture: Picture, n: int, most_bytes: int) -> int:
    """Writes pictures/<number>.webp, at most 512 pixels along the longer side.

    Returns:
      How many were written before they would have taken more than `most_bytes`.
    """
    written = 0
    with ThreadPoolExecutor() as threads:
        for number, file in enumerate(threads.map(lambda i: _large(picture(i)), range(n))):
            if written + len(file) > most_bytes:
                return number
            _write(folder / "pictures" / f"{number:06d}.webp", file)
            written += len(file)
    return n


def _large(picture: np.ndarray) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    return _encode(image)


def _bytes_each(picture: Picture, n: int, side: int) -> float:
    tried = min(n, TRIED)
    return len(_sheet(picture, 0, tried, side)) / tried if tried else 0.0


def _sheet(picture: Picture, start: int, stop: int, side: int) -> bytes:
    rows = -(-(stop - start) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * side, rows * side))
    for cell in range(stop - start):
        image = Image.fromarray(picture(start + cell))
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(image, (cell % COLUMNS * side, cell // COLUMNS * side))
    return _encode(sheet)


def _encode(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=2)
    return file.getvalue()


def _write(path: epath.Path, content: bytes) -> None:
    artifacts.write_file(path, lambda file: file.write(content))
