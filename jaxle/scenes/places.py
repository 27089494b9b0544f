"""Backgrounds: one grey field 0..1 per image, whose structure, and not its tint, is the place.

Every place comes in any muted tint, light or dark, with either sign and any strength of contrast,
under light that falls off in any direction: brightness and mean colour say little about the place,
so that an untrained network's activations hardly depend on it. Lattices of hashed values are
interpolated along one axis after the other, so no sum has an order and all platforms agree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int

from jaxle.scenes import draws
from jaxle.scenes.layout import SIDE


def _smooth(across: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    t = (np.arange(across, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / across)
    left = t.astype(np.int64)
    t = t - left.astype(np.float32)
    return left, t * t * (3 - 2 * t)


def _noise(lattice: np.ndarray) -> np.ndarray:
    # float32 (images, rows + 1, columns + 1) -> (images, SIDE, SIDE), smooth between the lattice's
    # values
    top, weight = _smooth(SIDE, lattice.shape[1] - 1)
    lattice = lattice[:, top] + (lattice[:, top + 1] - lattice[:, top]) * weight[:, None]
    left, weight = _smooth(SIDE, lattice.shape[2] - 1)
    return lattice[:, :, left] + (lattice[:, :, left + 1] - lattice[:, :, left]) * weight


Take = Callable[..., np.ndarray]


def _supply(index: np.ndarray, seed: int) -> Take:
    # take(rows, columns) -> the next float32 (images, rows, columns) in [0, 1)
    words, used = draws.bits(index, seed, 1, 768), 0

    def take(rows: int, columns: int) -> np.ndarray:
        nonlocal used
        some, used = words[:, used : used + rows * columns], used + rows * columns
        return draws.uniform(some).reshape(-1, rows, columns)

    return take


_ROW, _COLUMN = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]


def _shift(take: Take, n: int) -> np.ndarray:
    return np.floor(take(1, 1) * n).astype(np.int64)


def _hump(t: np.ndarray) -> np.ndarray:
    # a smooth wave of period 1 between 0 and 1, from parabolas
    t = t - np.floor(t)
    arch = 8 * t * (1 - 2 * t) * (t < 0.5) - 8 * (1 - t) * (2 * t - 1) * (t >= 0.5)
    return 0.5 + 0.5 * arch


def _clouds(take: Take) -> np.ndarray:
    field = 0.62 * _noise(take(5, 5)) + 0.38 * _noise(take(10, 10))
    return np.clip((field - 0.36) * 3.2, 0, 1)


def _waves(take: Take) -> np.ndarray:
    period = 7 + 3 * take(1, 1)
    sway = 2 * _noise(take(3, 7))
    return _hump(_ROW.astype(np.float32) / period + sway * 0.8 + take(1, 1)) * (
        0.65 + 0.35 * _noise(take(5, 5))
    )


def _grass(take: Take) -> np.ndarray:
    blades = 0.5 * _noise(take(8, 25)) + 0.5 * _noise(take(8, 33))
    return np.clip((blades - 0.5) * 2 + 0.5, 0, 1)


def _pebbles(take: Take) -> np.ndarray:
    # cells of 8 pixels, a stone in each: distance to the nearest of nine stones
    n = 10
    jitter_x, jitter_y, tone = (take(n, n) for _ in range(3))
    row, column = _ROW // 8 + 1, _COLUMN // 8 + 1
    best = np.full((len(tone), SIDE, SIDE), np.inf, np.float32)
    shade = np.zeros_like(best)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = (row + down)[0, :, 0], (column + right)[0, 0, :]
            x = 5 * jitter_x[:, r][:, :, c] + (c * 8 - _COLUMN - 6.5).astype(np.float32)
            y = 5 * jitter_y[:, r][:, :, c] + (r[:, None] * 8 - _ROW - 6.5).astype(np.float32)
            distance = x * x + y * y
            closer = distance < best
            best = np.where(closer, distance, best)
            shade = np.where(closer, tone[:, r][:, :, c], shade)
    return np.clip(1.35 - np.sqrt(best) / 4.2, 0, 1) * (0.45 + 0.55 * shade)


def _blocks(
    take: Take, height: int, width: int, shift: int, seam: int, spread: float
) -> np.ndarray:
    # courses of blocks, every other one shifted, with seams; a tone for each block
    row, column = _ROW + _shift(take, height), _COLUMN + _shift(take, width)
    course = row // height
    column = column + shift * (course & 1)
    block = column // width
    tone = take(11, 11)
    tone = tone[np.arange(len(tone))[:, None, None], course % 11, block % 11]
    seams = (row % height < seam) | (column % width < seam)
    return np.where(seams, np.float32(0), (1 - spread) + spread * tone)


def _bricks(take: Take) -> np.ndarray:
    return _blocks(take, 8, 16, 8, 2, 0.4)


def _tiles(take: Take) -> np.ndarray:
    return _blocks(take, 13, 13, 0, 2, 0.15)


def _planks(take: Take) -> np.ndarray:
    grain = _noise(take(5, 33)) - 0.5
    boards = _blocks(take, 997, 12, 0, 1, 0.45)
    return np.clip(boards + 0.5 * grain * (boards > 0), 0, 1)


def _fabric(take: Take) -> np.ndarray:
    # threads over and under each other, four pixels each
    row, column = _ROW + _shift(take, 8), _COLUMN + _shift(take, 8)
    over = ((row // 4 + column // 4) & 1).astype(bool)
    round_off = np.array([0.35, 0.9, 1.0, 0.55], np.float32)
    return np.where(over, round_off[row % 4], 0.75 * round_off[column % 4])


FIELD = {
    "clouds": _clouds,
    "waves": _waves,
    "grass": _grass,
    "pebbles": _pebbles,
    "bricks": _bricks,
    "tiles": _tiles,
    "planks": _planks,
    "fabric": _fabric,
}


def backgrounds(
    index: Int[np.ndarray, " images"], seed: int, place: Int[np.ndarray, " images"]
) -> Float32[np.ndarray, "images colours height width"]:
    """Returns the background of each image, float32 (images, 3, SIDE, SIDE), about 0–255.

    Args:
      index: int (images,).
      seed: of the world.
      place: int (images,), a number of `PLACES` in the order of `FIELD`.
    """
    field = np.empty((len(place), SIDE, SIDE), np.float32)
    for number, paint in enumerate(FIELD.values()):
        chosen = np.flatnonzero(place == number)
        if len(chosen):
            field[chosen] = paint(_supply(index[chosen], seed))
    words = draws.bits(index, seed, 2, 11)
    level = draws.uniform(words[:, 0], 75, 185)
    cast = draws.uniform(words[:, 1:4], -42, 42)
    sign = np.where(words[:, 5] & np.uint64(1), 1, -1).astype(np.float32)
    contrast = draws.uniform(words[:, 4], 34, 64) * sign
    drift = draws.uniform(words[:, 6:9], -12, 12)  # light and dark parts differ a little in hue
    slope = draws.uniform(words[:, 9:11], -0.22, 0.22)
    ramp = (np.arange(SIDE, dtype=np.float32) - np.float32(31.5)) / SIDE
    light = 1 + slope[:, 0, None, None] * ramp[:, None] + slope[:, 1, None, None] * ramp
    tint = (level[:, None] + cast)[:, :, None, None]
    swing = (contrast[:, None] + drift)[:, :, None, None]
    return (tint + swing * (field[:, None] - 0.5)) * light[:, None]
