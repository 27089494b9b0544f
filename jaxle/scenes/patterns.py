"""Textures of objects: how much of the accent tone each point of a patterned object shows.

A pattern lies in the object's own frame, in pixels, so it turns and moves with the object but is as
fine on a small one as on a large. The accent is a lighter or darker tone of the object's own
colour, never another colour's.
"""

from __future__ import annotations

import math

import numpy as np


def _sawtooth(t: np.ndarray) -> np.ndarray:
    # distance to the nearest whole number, 0..½
    return np.abs(t - np.floor(t + 0.5))


def _striped(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    period = 5.0 * scale
    return np.clip((_sawtooth(y / period) - 0.29) * period + 0.5, 0, 1)


def _dotted(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    # the centres and the corners of a square grid
    pitch = 6.6 * scale
    u, v = x / pitch, y / pitch
    corner_u, corner_v = _sawtooth(u + 0.5), _sawtooth(v + 0.5)
    centre_u, centre_v = _sawtooth(u), _sawtooth(v)
    nearest = np.minimum(
        centre_u * centre_u + centre_v * centre_v, corner_u * corner_u + corner_v * corner_v
    )
    return np.clip((0.26 - np.sqrt(nearest)) * pitch + 0.5, 0, 1)


def _checked(x: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    pitch = 7.4 * scale  # two squares
    columns = np.clip((_sawtooth(x / pitch) - 0.25) * (2 * pitch), -1, 1)
    rows = np.clip((_sawtooth(y / pitch) - 0.25) * (2 * pitch), -1, 1)
    return 0.5 + 0.5 * columns * rows


ACCENT = {"striped": _striped, "dotted": _dotted, "checked": _checked}

_TURN = 256
_STEPS = [2 * math.pi * k / _TURN for k in range(_TURN)]
# multiples of 2⁻¹⁴, so that every platform's cosine gives the same table
COSINE = np.array([round(math.cos(a) * 2**14) / 2**14 for a in _STEPS], np.float32)
SINE = np.array([round(math.sin(a) * 2**14) / 2**14 for a in _STEPS], np.float32)
