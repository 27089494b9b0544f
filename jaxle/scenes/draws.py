"""Random numbers by counting: draw j of image i depends on (seed, stream, i, j) only.

    base_i = mix(i + mix(seed + stream·c)),   draw_ij = mix(base_i + (j + 1)·g)

with mix the finaliser of SplitMix64, so any image can be made alone, in any order. All in wrapping
64-bit integers, and floats are multiples of 2⁻²⁴: the same on every platform. Source: Steele, Lea &
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_STREAM = np.uint64(0xD1342543DE82EF95)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(
    index: Int[np.ndarray, " images"], seed: int, stream: int, count: int
) -> UInt64[np.ndarray, "images {count}"]:
    """Returns `count` independent 32-bit integers for every image.

    Args:
      index: int (images,).
      seed: of the world.
      stream: another stream gives independent draws.
      count: draws per image.

    Returns:
      uint64 (images, count), each below 2³².
    """
    key = _mix(
        np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + np.array([stream], np.uint64) * _STREAM
    )
    base = _mix(np.asarray(index).astype(np.int64).astype(np.uint64) + key)
    counter = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return _mix(base[:, None] + counter) >> np.uint64(32)


def uniform(
    words: UInt64[np.ndarray, "*draws"], low: float | int = 0.0, high: float | int = 1.0
) -> Float32[np.ndarray, "*draws"]:
    """Returns 32-bit draws as numbers in [low, high)."""
    return low + (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24) * np.float32(
        high - low
    )


def choice(
    words: UInt64[np.ndarray, "*draws"], n: int | Int[np.ndarray, "*draws"]
) -> Int64[np.ndarray, "*draws"]:
    """Returns 32-bit draws as whole numbers in 0..n-1; `n` may be one number a draw."""
    return ((words * np.asarray(n).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def weighted(
    words: UInt64[np.ndarray, "*draws"], shares: tuple[int, ...]
) -> Int64[np.ndarray, "*draws"]:
    """Returns 32-bit draws as whole numbers in 0..len(shares)-1.

    Their probabilities are proportional to the whole numbers `shares`.
    """
    return np.searchsorted(np.cumsum(shares), choice(words, sum(shares)), side="right")
