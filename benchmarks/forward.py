"""method.md §9 in plain float64 NumPy, on moments of five folds.

What `variants` builds on, and a check of the library's search.

teacher    w_R, dense ridge of every neuron, strength by mean correlation over the folds
forward    orthogonal least squares on the teacher's prediction, cross moments G w_R
lengths    argmax of mean correlation over the folds − min_gain · number of concepts
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxle.solve.ridge import STRENGTHS

FOLDS, MOST, MIN_GAIN = 5, 10, 0.02
PIVOT = 1e-5  # of a concept's variance: dependent


class Moments(NamedTuple):
    """Means and centred second moments of one set of images, divided by its weight."""

    n: float
    mean_x: np.ndarray  # (concepts,)
    mean_y: np.ndarray  # (neurons,)
    gram: np.ndarray  # (concepts, concepts)
    cross: np.ndarray  # (concepts, neurons)
    var_y: np.ndarray  # (neurons,)


class Path(NamedTuple):
    """What is chosen, in order, and how the folds judge every length."""

    order: np.ndarray  # (neurons, most) int, −1 past the end
    rho: np.ndarray  # (neurons, most, folds)


def moments(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Moments:
    """x (images, concepts), y (images, neurons) float64, weight (images,) or None for ones."""
    weight = np.ones(len(x)) if weight is None else weight
    n = weight.sum()
    mean_x, mean_y = weight @ x / n, weight @ y / n
    x, y = x - mean_x, y - mean_y
    weighted = x * (weight / n)[:, None]
    return Moments(n, mean_x, mean_y, x.T @ weighted, weighted.T @ y, (weight / n) @ y**2)


def merge(parts: list[Moments]) -> Moments:
    """Moments of the union."""
    n = sum(part.n for part in parts)
    shares = np.array([part.n / n for part in parts])
    mean_x = shares @ np.stack([part.mean_x for part in parts])
    mean_y = shares @ np.stack([part.mean_y for part in parts])
    gram, cross, var_y = (np.zeros_like(part) for part in parts[0][3:])
    for part in parts:
        dx, dy, share = part.mean_x - mean_x, part.mean_y - mean_y, part.n / n
        gram += share * (part.gram + np.outer(dx, dx))
        cross += share * (part.cross + np.outer(dx, dy))
        var_y += share * (part.var_y + dy**2)
    return Moments(n, mean_x, mean_y, gram, cross, var_y)


def inverse(std: np.ndarray) -> np.ndarray:
    """1 / std, and 0 where a column is constant."""
    return np.where(std > 1e-9, 1 / np.where(std > 1e-9, std, 1.0), 0.0)


def _ridge(total: Moments, strength: float) -> np.ndarray:
    """(concepts, neurons) raw weights."""
    size = inverse(np.sqrt(np.diag(total.gram)))
    gram = total.gram * size[:, None] * size[None, :] + strength * np.eye(len(size))
    return np.linalg.solve(gram, total.cross * size[:, None]) * size[:, None]


def correlations(weights: np.ndarray, held: Moments) -> np.ndarray:
    """(neurons,) correlation of the prediction with the target on the held-out images."""
    spread = np.sum(weights * (held.gram @ weights), axis=0) * held.var_y
    cov = np.sum(weights * held.cross, axis=0)
    return np.where(spread > 0, cov / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def teacher(folds: list[Moments]) -> np.ndarray:
    """(concepts, neurons) raw weights of the dense ridge.

    Strength per neuron by mean correlation over the folds.
    """
    rests = [merge([other for other in folds if other is not fold]) for fold in folds]
    pairs = list(zip(rests, folds, strict=True))
    scores = np.array(
        [
            np.mean([correlations(_ridge(rest, s), fold) for rest, fold in pairs], axis=0)
            for s in STRENGTHS
        ]
    )
    best, total = scores.argmax(axis=0), merge(folds)
    weights = np.zeros_like(total.cross)
    for i, strength in enumerate(STRENGTHS):
        if (best == i).any():
            weights[:, best == i] = _ridge(total, strength)[:, best == i]
    return weights


def forward(gram: np.ndarray, cross: np.ndarray, most: int = MOST) -> np.ndarray:
    """(neurons, most) concepts by orthogonal least squares, −1 where none is left.

    Each step takes the one of largest explained variance.
    """
    size = inverse(np.sqrt(np.diag(gram)))
    gram, left = gram * size[:, None] * size[None, :], (cross * size[:, None]).T.copy()
    n_neurons, n_concepts = left.shape
    neurons = np.arange(n_neurons)
    var = np.where(size > 0, 1.0, 0.0) * np.ones((n_neurons, 1))
    basis = np.zeros((n_neurons, 0, n_concepts))
    order = np.full((n_neurons, most), -1)
    for step in range(min(most, n_concepts)):
        gain = np.where(var > PIVOT, left**2 / np.where(var > PIVOT, var, 1.0), -1.0)
        best = gain.argmax(axis=1)
        alive = gain[neurons, best] > 0
        root = np.where(alive, 1 / np.sqrt(np.where(alive, var[neurons, best], 1.0)), 0.0)[:, None]
        u = (gram[best] - np.einsum("kt,ktm->km", basis[neurons, :, best], basis)) * root
        left = left - u * (left[neurons, best][:, None] * root)
        var = var - u**2
        var[neurons, best] = 0.0
        basis = np.concatenate([basis, u[:, None, :]], axis=1)
        order[:, step] = np.where(alive, best, -1)
    return order


def refit(total: Moments, order: np.ndarray) -> np.ndarray:
    """(concepts, neurons) least-squares weights on raw columns of each neuron's own concepts.

    `order` is (neurons, most), −1 for none.
    """
    weights, used = np.zeros_like(total.cross), order >= 0
    index = np.where(used, order, 0)
    std = np.where(used, np.sqrt(np.maximum(np.diag(total.gram)[index], 0.0)), 1.0)
    inv, both = inverse(std), used[:, :, None] & used[:, None, :]
    matrix = np.where(
        both,
        total.gram[index[:, :, None], index[:, None, :]] * inv[:, :, None] * inv[:, None, :],
        np.eye(order.shape[1]),
    )
    target = np.where(used, np.take_along_axis(total.cross.T, index, axis=1) * inv, 0.0)
    solved = (
        np.einsum("kij,kj->ki", np.linalg.pinv(matrix, rcond=1e-8, hermitian=True), target) * inv
    )
    # concepts of a neuron are different, so that nothing is added twice
    for slot in range(order.shape[1]):
        of = np.flatnonzero(used[:, slot])
        weights[index[of, slot], of] = solved[of, slot]
    return weights


def judge(folds: list[Moments], order: np.ndarray) -> np.ndarray:
    """(neurons, most, folds) correlation of every prefix, weights fitted without the fold."""
    rho = np.zeros((*order.shape, len(folds)))
    for f, fold in enumerate(folds):
        rest = merge([other for other in folds if other is not fold])
        for length in range(1, order.shape[1] + 1):
            rho[:, length - 1, f] = correlations(refit(rest, order[:, :length]), fold)
    return rho


def path(folds: list[Moments]) -> Path:
    """method.md §9, steps 1 and 2, and the folds' judgement of step 3."""
    total = merge(folds)
    order = forward(total.gram, total.gram @ teacher(folds))
    return Path(order, judge(folds, order))


def lengths(rho: np.ndarray, min_gain: float = MIN_GAIN) -> np.ndarray:
    """(neurons,) the number of concepts that maximises mean correlation − min_gain·number."""
    return (rho.mean(axis=2) - min_gain * np.arange(1, rho.shape[1] + 1)).argmax(axis=1) + 1


def cut(order: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The first `length` concepts of each neuron, −1 after."""
    return np.where(np.arange(order.shape[1])[None, :] < length[:, None], order, -1)


def lengths_of_mean(rho: np.ndarray, mean: float) -> np.ndarray:
    """Lengths at the largest min_gain at which they are at least `mean` on average.

    So base is never given fewer concepts than a variant.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if lengths(rho, middle).mean() >= mean else (low, middle)
    return lengths(rho, low)
