"""Forward selection by explained variance over all concepts, and the length of its path judged on folds, for many neurons at once.

    step:    j* = argmax_j e_j² / d_j,   d_j = var(x̃_j), e_j = cov(x̃_j, y), x̃_j what the chosen concepts leave of x_j
    length:  argmax_L ρ̄_L − ε L,   ρ̄_L = mean over folds of the correlation, on that fold, of the fit of the first L concepts on the others

Everything is read off second moments. The target y of the steps may be a dense fit's prediction X w in place of the activation: then its
cross moments are c' = G w. The lengths are always judged against the activation itself. method.md §9, `search="preconditioned"`.
Sources: Chen, Billings & Luo 1989, orthogonal least squares (https://doi.org/10.1080/00207178908953472); Paul, Bair, Hastie & Tibshirani
2008, "Preconditioning" for feature selection (https://doi.org/10.1214/009053607000000578).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxle.solve.moments import CONSTANT, HIGHEST, ROWS, WHOLE, Moments, scales, split_jit

PIVOT = 1e-5  # of a concept's variance: what float32 moments cannot tell from an exact dependence
TIE = 1e-6  # of the target's variance: concepts whose explained variances are this close (and within 1 %) tie, and the lowest index wins
LEAST = 1e-6  # of the target's variance: a concept that explains less ends the path
FLAT = 1e-6  # of a prediction's variance: what float32 moments of a fold cannot tell from a prediction that does not vary there
BLOCK = 256  # neurons per program and device


def path(
    moments: Moments,
    weights: jax.Array | None = None,
    *,
    most: int,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> np.ndarray:
    """The concepts of every neuron in the order in which forward selection takes them, of either sign.

    Args:
      moments: of the images that choose, train ∪ val.
      weights: (concepts, neurons) float32 on raw columns: select for this dense fit's prediction; None: for the activation.
      most: concepts per neuron.
      mesh: split the neurons over its axis `data`.
      block: neurons per program and device; memory is `most` numbers per neuron of a block and concept.

    Returns:
      (neurons, most) int32, −1 past the end of a path: nothing is left to explain, or all that is left depends on what was chosen.
    """
    most_possible = min(most, moments.cross.shape[0])
    program = _program(mesh, weights is not None, most_possible)
    parts = [
        np.asarray(program(gram, rows)) for _, gram, rows in blocks(moments, weights, mesh, block)
    ]
    selected = np.concatenate(parts)[: moments.cross.shape[1]]
    return np.pad(selected, ((0, 0), (0, most - most_possible)), constant_values=-1)


def blocks(
    moments: Moments, weights: jax.Array | None, mesh: Mesh | None, block: int
) -> Iterator[tuple[np.ndarray, jax.Array, jax.Array]]:
    """Neurons block by block, the last one padded: their numbers, the correlations of all concepts, and their rows.

    Rows (neurons, concepts) are the weights of a dense fit
    Without weights the rows are standardised cross moments instead, (neurons, concepts) either way.
    """
    n_neurons, n_devices = moments.cross.shape[1], 1 if mesh is None else mesh.shape["data"]
    block = min(block * n_devices, -(-n_neurons // n_devices) * n_devices)
    moments = jax.tree.map(jnp.asarray, moments)
    gram, size = _standardise(moments)
    source = moments.cross if weights is None else jnp.asarray(weights)
    for begin in range(0, n_neurons, block):
        neurons = np.minimum(np.arange(begin, begin + block), n_neurons - 1)
        yield (
            neurons,
            gram,
            _rows(source, size.inv_x if weights is None else size.std_x, size.inv_y, neurons),
        )


def cross_of_fit(gram, rows):
    """Cross moments of concepts and a dense fit's prediction, in units of its deviation; rows are its standardised weights."""
    cross = jnp.matmul(rows, gram, precision=HIGHEST)
    total = jnp.sum(rows * cross, axis=1)
    scale = jnp.where(total > 0, 1 / jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)
    return cross * scale[:, None]


def judge(folds: tuple[Moments, ...], selected: np.ndarray) -> np.ndarray:
    """How well every prefix of a path predicts images that its weights have not seen.

    Args:
      folds: moments of at least two disjoint image sets.
      selected: (neurons, most) int32 from `path`.

    Returns:
      (neurons, most) float64: mean over folds of Pearson's correlation, in a fold, of activation and the least-squares fit on all other
      folds; −inf past the path's end. A concept that does not vary outside a fold (or depends there on those before) is left out of that
      fold's fit; a fold in which prediction or activation does not vary counts as 0.
    """
    if len(folds) < 2:
        raise ValueError(f"judging a path needs at least 2 folds, got {len(folds)}.")
    used = selected >= 0
    index, neurons = np.where(used, selected, 0), np.arange(len(selected), dtype=np.int32)
    parts = [
        [np.asarray(part, np.float64) for part in _gather(fold, index, neurons)] for fold in folds
    ]
    mean = np.zeros(selected.shape)
    for i, own in enumerate(parts):
        others = [
            (fold.n, *part)
            for j, (fold, part) in enumerate(zip(folds, parts, strict=True))
            if j != i
        ]
        mean += _prefix_correlations(_pooled(others), own, used)
    return np.where(used, mean / len(folds), -np.inf)


def lengths(rho: np.ndarray, min_gain: float) -> np.ndarray:
    """(neurons,) int32: the length of largest ρ̄ − min_gain · length, the shortest of equals; 0 where ρ̄ is not positive there."""
    length = np.argmax(rho - min_gain * np.arange(1, rho.shape[1] + 1), axis=1)
    return np.where(
        np.take_along_axis(rho, length[:, None], axis=1)[:, 0] > 0, length + 1, 0
    ).astype(np.int32)


def gain_for(rho: np.ndarray, mean_length: float, live: np.ndarray) -> float:
    """The least `min_gain` (to 1e-9) with which the live neurons' mean length is at most `mean_length` ≥ 1; only lengths decide.

    Args:
      rho: (neurons, most) from `judge`.
      mean_length: what the mean may not exceed.
      live: (neurons,) bool, the neurons that count.
    """

    def fits(min_gain):
        return not live.any() or lengths(rho, min_gain)[live].mean() <= mean_length

    low, high = 0.0, 2.0  # no concept adds 2 to a correlation
    if fits(low):
        return low
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@jax.jit
def _standardise(moments: Moments):
    size = scales(moments)
    gram = moments.gram * size.inv_x[:, None] * size.inv_x[None, :]
    return jnp.where(
        jnp.eye(len(gram), dtype=bool), jnp.where(size.inv_x > 0, 1.0, 0.0)[:, None], gram
    ), size


@jax.jit
def _rows(source, scale_x, inv_y, neurons):
    return (source[:, neurons] * scale_x[:, None] * inv_y[neurons][None, :]).T


@functools.cache
def _program(mesh: Mesh | None, dense: bool, most: int):
    return split_jit(functools.partial(_forward, dense=dense, most=most), mesh, (WHOLE, ROWS), ROWS)


def gains(left, cov):
    """What each concept would explain (neurons, concepts), −1 where it depends on those chosen; the most; which one, the first of ties."""
    gain = jnp.where(left > PIVOT, cov**2 / jnp.where(left > PIVOT, left, 1.0), -1.0)
    best = jnp.max(gain, axis=1)
    return (
        gain,
        best,
        jnp.argmax(gain >= jnp.maximum(best - TIE, 0.99 * best)[:, None], axis=1).astype(jnp.int32),
    )


def _forward(gram, rows, *, dense: bool, most: int):
    """One block: rows (neurons, concepts) are standardised cross moments, or a dense fit's standardised weights."""
    cross = cross_of_fit(gram, rows) if dense else rows
    n, m = cross.shape
    varies = jnp.diagonal(gram)

    def step(t, carry):
        left, cov, basis, selected, active = carry
        _, best, place = gains(left, cov)
        active = active & (best > LEAST)

        def at(z):
            return jnp.take_along_axis(z, place[:, None], axis=1)

        root = jnp.where(
            active[:, None], 1 / jnp.sqrt(jnp.where(active[:, None], at(left), 1.0)), 0.0
        )  # 0: nothing moves

        def project(s, row):
            return row - at(basis[s]) * basis[s]

        u = jax.lax.fori_loop(0, t, project, gram[place]) * root
        cov = cov - u * (at(cov) * root)
        return (
            left - u**2,
            cov,
            basis.at[t].set(u),
            selected.at[:, t].set(jnp.where(active, place, -1)),
            active,
        )

    blank = jnp.full((n, most), -1, jnp.int32)
    basis = jnp.zeros((most, n, m), jnp.float32)
    carry = (jnp.broadcast_to(varies[None, :], (n, m)), cross, basis, blank, jnp.ones(n, bool))
    return jax.lax.fori_loop(0, most, step, carry)[3]


@jax.jit
def _gather(moments: Moments, index, neurons):
    gram = moments.gram[index[:, :, None], index[:, None, :]]
    return (
        gram,
        moments.cross[index, neurons[:, None]],
        moments.mean_x[index],
        moments.mean_y,
        moments.var_y,
    )


def _pooled(parts):
    """(gram, cross, mean of x) of the union of image sets, from each one's (n, gram, cross, mean of x, mean of y, …)."""
    share = np.array([part[0] for part in parts], np.float64)
    share /= share.sum()
    mean_x, mean_y = (
        sum(a * part[i] for a, part in zip(share, parts, strict=True)) for i in (3, 4)
    )
    gram, cross = np.zeros_like(parts[0][1]), np.zeros_like(parts[0][2])
    for a, (_, part_gram, part_cross, part_x, part_y, _) in zip(share, parts, strict=True):
        dx, dy = part_x - mean_x, part_y - mean_y
        gram += a * (part_gram + dx[:, :, None] * dx[:, None, :])
        cross += a * (part_cross + dx * dy[:, None])
    return gram, cross, mean_x


def _prefix_correlations(train, test, used):
    """(neurons, most): correlation on one image set of the fits of all prefixes on another, by Gram–Schmidt."""
    (gram, cross, mean_x), (test_gram, test_cross, test_mean, test_mean_y, test_var) = train, test
    var = np.diagonal(gram, axis1=1, axis2=2)
    alive = used & (var > (CONSTANT * mean_x) ** 2)
    scale = np.where(alive, 1 / np.sqrt(np.where(alive, var, 1.0)), 0.0)
    gram, cross = gram * scale[:, :, None] * scale[:, None, :], cross * scale
    test_scale = np.where(
        np.diagonal(test_gram, axis1=1, axis2=2) > (CONSTANT * test_mean) ** 2, scale, 0.0
    )
    test_gram, test_cross = (
        test_gram * test_scale[:, :, None] * test_scale[:, None, :],
        test_cross * test_scale,
    )
    basis = np.zeros_like(
        gram
    )  # row t: the direction that concept t adds, in terms of the concepts
    for t in range(gram.shape[1]):
        shared = np.einsum("kst,kt->ks", basis, gram[:, :, t])
        left = gram[:, t, t] - np.sum(shared**2, axis=1)
        direction = -np.einsum("ks,kst->kt", shared, basis)
        direction[:, t] += 1.0
        basis[:, t] = (
            np.where(left > PIVOT, 1 / np.sqrt(np.where(left > PIVOT, left, 1.0)), 0.0)[:, None]
            * direction
        )
    coefficient = np.einsum("kst,kt->ks", basis, cross)
    cov = np.cumsum(coefficient * np.einsum("kst,kt->ks", basis, test_cross), axis=1)
    scatter = (
        (basis @ test_gram @ np.swapaxes(basis, 1, 2))
        * coefficient[:, :, None]
        * coefficient[:, None, :]
    )
    spread = np.diagonal(np.cumsum(np.cumsum(scatter, axis=1), axis=2), axis1=1, axis2=2)
    varies = (spread > FLAT * np.cumsum(coefficient**2, axis=1)) & (
        test_var > (CONSTANT * test_mean_y) ** 2
    )[:, None]
    rho = cov / np.sqrt(np.where(varies, spread * test_var[:, None], 1.0))
    return np.where(varies, np.clip(rho, -1.0, 1.0), 0.0)
