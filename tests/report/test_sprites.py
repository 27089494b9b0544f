"""Sheets of thumbnails: each picture in its cell, and never more bytes than were allowed."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxle.report.sprites import PER_SHEET, SMALLEST, write_large, write_sheets

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)  # hardly compressible


def flat(number):
    """A picture of one colour, told from its number."""
    return np.full((48, 48, 3), (6 * number, 255 - 6 * number, 90), np.uint8)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.webp"))


def test_every_picture_lies_in_its_cell(tmp_path):
    found = write_sheets(epath.Path(tmp_path), flat, 37, 48, 1 << 20)
    assert found.side == 48 and found.n == 37 and found.n_bytes == size_of(tmp_path)
    for number in range(37):
        with Image.open(tmp_path / "sprites" / f"{number // PER_SHEET:05d}.webp") as sheet:
            cell = number % PER_SHEET
            centre = (cell % 4 * 48 + 24, cell // 4 * 48 + 24)
            got = np.array(sheet.convert("RGB").getpixel(centre), int)
        assert np.abs(got - flat(number)[0, 0]).max() <= 8
    with Image.open(tmp_path / "sprites" / "00002.webp") as sheet:
        assert sheet.size == (4 * 48, 2 * 48)  # five pictures are two rows


@pytest.mark.parametrize("most", [0, 3_000, 30_000, 60_000])
def test_cells_become_smaller_and_then_fewer(tmp_path, most):
    found = write_sheets(epath.Path(tmp_path), NOISE.__getitem__, len(NOISE), 64, most)
    assert size_of(tmp_path) == found.n_bytes <= most
    assert SMALLEST <= found.side <= 64
    assert found.side == SMALLEST or found.n == len(NOISE)


def test_no_picture_is_no_sheet(tmp_path):
    assert write_sheets(epath.Path(tmp_path), flat, 0, 48, 1 << 20).n == 0
    assert not list(tmp_path.iterdir())


def test_large_pictures_keep_their_shape_and_stop_at_the_limit(tmp_path):
    wide = np.zeros((300, 900, 3), np.uint8)
    assert write_large(epath.Path(tmp_path), lambda number: wide, 3, 1 << 20) == 3
    with Image.open(tmp_path / "pictures" / "000002.webp") as image:
        assert image.size == (512, 171)
    one = (tmp_path / "pictures" / "000000.webp").stat().st_size
    assert write_large(epath.Path(tmp_path / "few"), lambda number: wide, 3, 2 * one) == 2
