"""Neurons that their explanations say are alike: each one's nearest, and a map of all.

    simulated activations (images, neurons) → correlation of two neurons' → nearest, positions

Two explanations are alike as far as they predict the same, whatever words they use: the correlation
of their simulated activations. The map draws neurons with common neighbours together: springs along
the nearest neighbours, repulsion from neurons drawn at random, as in LargeVis (Tang et al. 2016,
https://arxiv.org/abs/1602.00370), from the first two principal components on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32, Int64

NEAREST = 8
IMAGES = 1000  # on which simulated activations are compared
BLOCK = 512  # neurons whose correlations with all are held at once
ROUNDS, REPELLED = 200, 5  # of the map; neurons that one is repelled from a spring and round


class Alike(NamedTuple):
    """Nearest neurons, the most alike first, and a position of each in the unit square.

    Attributes:
      nearest: (neurons, nearest) numbers; −1 where there are fewer that correlate positively, and
        for a neuron whose simulated activation is constant.
      correlation: of these, 0 where there is none.
      place: (neurons, 2); NaN for a neuron whose simulated activation is constant.
    """

    nearest: Int32[np.ndarray, "neurons nearest"]
    correlation: Float32[np.ndarray, "neurons nearest"]
    place: Float32[np.ndarray, "neurons 2"]


def equal_steps(n: int, most: int) -> Int64[np.ndarray, " some"]:
    """Returns at most so many of the numbers 0 … n − 1, from the first to the last."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).round().astype(np.int64))


def find_alike(simulated: Float[np.ndarray, "images neurons"], seed: int = 0) -> Alike:
    """Returns each neuron's nearest by explanation, and a map of all.

    Args:
      simulated: what the explanations predict, of all neurons side by side.
      seed: of what is drawn.
    """
    some = np.asarray(simulated[equal_steps(len(simulated), IMAGES)])
    x = some.astype(np.float64)
    x = x - x.mean(axis=0)
    norm = np.sqrt((x * x).sum(axis=0))
    varies = norm > 1e-6 * np.abs(some).max(axis=0, initial=0)
    those = np.flatnonzero(varies)
    n = x.shape[1]
    nearest = np.full((n, NEAREST), -1, np.int32)
    correlation = np.zeros((n, NEAREST), np.float32)
    place = np.full((n, 2), np.nan, np.float32)
    if not len(those):
        return Alike(nearest, correlation, place)
    unit = (x[:, those] / norm[those]).astype(np.float32)
    near, rho = _nearest(unit)
    width = near.shape[1]
    nearest[those, :width] = np.where(near >= 0, those[near], -1)
    correlation[those, :width] = rho
    place[those] = _map(unit, near, rho, seed)
    return Alike(nearest, correlation, place)


def _nearest(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = unit.shape[1]
    width = min(NEAREST, n - 1)
    near, rho = np.full((n, width), -1, np.int32), np.zeros((n, width), np.float32)
    for start in range(0, n if width else 0, BLOCK):
        stop = min(start + BLOCK, n)
        block = unit[:, start:stop].T @ unit
        block[np.arange(stop - start), np.arange(start, stop)] = -2
        part = np.argpartition(-block, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(block, part, axis=1)
        order = np.lexsort((part, -values), axis=1)
        values = np.take_along_axis(values, order, axis=1)
        near[start:stop] = np.where(values > 0, np.take_along_axis(part, order, axis=1), -1)
        rho[start:stop] = np.maximum(values, 0)
    return near, np.minimum(rho, 1)


def _map(unit: np.ndarray, near: np.ndarray, rho: np.ndarray, seed: int) -> np.ndarray:
    """(neurons, 2) in the unit square."""
    n, rng = unit.shape[1], np.random.default_rng(seed)
    place = _components(unit, rng)
    one, other = np.repeat(np.arange(n), near.shape[1]), near.ravel()
    strength = np.where(other >= 0, rho.ravel(), 0).astype(np.float64)
    other = np.maximum(other, 0)
    for step in range(ROUNDS if n > 2 else 0):
        rate = 1.0 - step / ROUNDS
        apart = place[one] - place[other]
        pull = apart * (strength / (1 + (apart * apart).sum(axis=1)))[:, None]
        moved = _sum(other, pull, n) - _sum(one, pull, n)
        for _ in range(REPELLED):
            drawn = rng.integers(n, size=n)
            apart = place - place[drawn]
            distance = (apart * apart).sum(axis=1)
            moved += 1.5 * apart / ((0.05 + distance) * (1 + distance))[:, None]
        place += rate * np.clip(0.25 * moved, -1, 1)
    low, high = place.min(axis=0), place.max(axis=0)
    return ((place - low) / np.where(high > low, high - low, 1)).astype(np.float32)


def _components(unit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The neurons on the first two principal directions, about 5 wide."""
    basis = rng.standard_normal((unit.shape[1], 2))
    for _ in range(8):  # power iterations
        basis, _ = np.linalg.qr(unit.T @ (unit @ basis))
    basis = basis * np.where(basis.sum(axis=0) < 0, -1, 1)
    if basis.shape[1] < 2:  # a single neuron
        basis = np.pad(basis, ((0, 0), (0, 2 - basis.shape[1])))
    return 5 * basis / max(np.abs(basis).max(), 1e-12) + 1e-3 * rng.standard_normal(basis.shape)


def _sum(index: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    return np.stack([np.bincount(index, values[:, i], n) for i in range(2)], axis=1)
