"""Random numbers by counting: draw j of image i depends on (seed, stream, i, j) only, so any image can be made alone, in any order.

    base_i = mix(i + mix(seed + stream·c)),   draw_ij = mix(base_i + (j + 1)·g),   mix = the finaliser of SplitMix64

All in wrapping 64-bit integers, and floats are multiples of 2⁻²⁴: the same on every platform.
Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_STREAM = np.uint64(0xD1342543DE82EF95)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(index: np.ndarray, seed: int, stream: int, count: int) -> np.ndarray:
    """Draw `count` independent 32-bit integers for every image.

    `index`: int (images,). Returns uint64 (images, count), each below 2³²; another `stream` gives independent draws.
    """
    key = _mix(
        np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + np.array([stream], np.uint64) * _STREAM
    )
    base = _mix(np.asarray(index).astype(np.int64).astype(np.uint64) + key)
    counter = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return _mix(base[:, None] + counter) >> np.uint64(32)


def uniform(words: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Turn 32-bit draws into float32 in [low, high)."""
    return low + (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24) * np.float32(
        high - low
    )


def choice(words: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    """Turn 32-bit draws into int64 in 0..n-1; `n` may be one number a draw."""
    return ((words * np.asarray(n).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def weighted(words: np.ndarray, shares: tuple[int, ...]) -> np.ndarray:
    """Turn 32-bit draws into int64 in 0..len(shares)-1 with probabilities proportional to the whole numbers `shares`."""
    return np.searchsorted(np.cumsum(shares), choice(words, sum(shares)), side="right")
