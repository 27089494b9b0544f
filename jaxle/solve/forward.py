"""Forward selection by explained variance over all concepts, its length judged on folds.

    step:    j* = argmax_j e_j² / d_j,   d_j = var(x̃_j), e_j = cov(x̃_j, y),
             x̃_j what the chosen concepts leave of x_j
    length:  argmax_L ρ̄_L − ε L,   ρ̄_L = mean over folds of the correlation, on that fold, of the
             fit of the first L concepts on the others

Everything is read off second moments, for many neurons at once. The target y of the steps may be a
dense fit's prediction X w in place of the activation: then its cross moments are c' = G w. The
lengths are always judged against the activation itself. method.md §9, `search="preconditioned"`.
Sources: Chen, Billings & Luo 1989, orthogonal least squares
(https://doi.org/10.1080/00207178908953472); Paul, Bair, Hastie & Tibshirani 2008, "Preconditioning"
for feature selection (https://doi.org/10.1214/009053607000000578).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.mesh import data_size
from jaxle.solve import tiles
from jaxle.solve.least_squares import PIVOT
from jaxle.solve.moments import HIGHEST, ROWS, WHOLE, Moments, scales, split_jit
from jaxle.stats import is_constant

# Of the target's variance: concepts whose explained variances are this close (and within 1 %) tie.
# Where columns depend on one another (a superclass and its complement), which is larger is the
# round-off of float32 moments, and differs by device. The first one that correlates positively
# with what is left wins, else the first: "0.22×vehicle" reads better than "−0.22×animal".
TIE = 1e-5
LEAST = 1e-6  # of the target's variance: a concept that explains less ends the path
# Of a prediction's variance: in float32 moments of a fold, less is no different from a prediction
# that does not vary there.
FLAT = 1e-6
BLOCK = 256  # neurons per program and device


def path(
    moments: Moments,
    weights: Float[Array, "concepts neurons"] | None = None,
    *,
    most: int,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> Int[np.ndarray, "neurons most"]:
    """Returns every neuron's concepts in the order in which forward selection takes them.

    Concepts of either sign are taken.

    Args:
      moments: of the images that choose, train ∪ val.
      weights: (concepts, neurons) float32 on raw columns: select for this dense fit's prediction;
        None: for the activation.
      most: concepts per neuron.
      mesh: split the neurons over its axis `data`.
      block: neurons per program and device; memory is `most` numbers per neuron of a block and
        concept.

    Returns:
      (neurons, most) int32, −1 past the end of a path: nothing is left to explain, or all that is
      left depends on what was chosen.
    """
    most_possible = min(most, moments.cross.shape[0])
    block = tiles.fitting(block, 4 * most_possible * moments.cross.shape[0])
    program = _program(mesh, weights is not None, most_possible)
    parts = [
        np.asarray(program(gram, rows)) for _, gram, rows in blocks(moments, weights, mesh, block)
    ]
    selected = np.concatenate(parts)[: moments.cross.shape[1]]
    return np.pad(selected, ((0, 0), (0, most - most_possible)), constant_values=-1)


def blocks(
    moments: Moments,
    weights: Float[Array, "concepts neurons"] | None,
    mesh: Mesh | None,
    block: int,
) -> Iterator[tuple[np.ndarray, jax.Array, jax.Array]]:
    """Yields neurons block by block: numbers, correlations of all concepts, and the neurons' rows.

    All blocks have one size, to which neurons are padded (`Moments.padded`). Rows (neurons,
    concepts) are standardised cross moments; with `weights`, a dense fit's standardised weights.

    Args:
      moments, weights, mesh, block: as for `path`.
    """
    n_neurons, n_devices = moments.cross.shape[1], data_size(mesh)
    moments = moments.padded(n_devices)
    n_padded = moments.cross.shape[1]
    block = min(block * n_devices, n_padded)
    gram, size = _standardise(moments)
    source, unit = moments.cross, size.inv_x
    if weights is not None:
        source, unit = tiles.pad_columns(weights, n_padded), size.std_x
    for begin in range(0, n_neurons, block):
        neurons = np.minimum(np.arange(begin, begin + block, dtype=np.int32), n_padded - 1)
        yield neurons, gram, _rows(source, unit, size.inv_y, neurons)


def cross_of_fit(
    gram: Float[Array, "concepts concepts"], rows: Float[Array, "neurons concepts"]
) -> Float[jax.Array, "neurons concepts"]:
    """Returns cross moments of concepts and a dense fit's prediction, in units of its deviation.

    Args:
      gram: correlations of the concepts.
      rows: the fit's standardised weights.
    """
    cross = jnp.matmul(rows, gram, precision=HIGHEST)
    total = jnp.sum(rows * cross, axis=1)
    scale = jnp.where(total > 0, 1 / jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)
    return cross * scale[:, None]


def judge(
    folds: Sequence[Moments], selected: Int[np.ndarray, "neurons most"]
) -> Float[np.ndarray, "neurons most"]:
    """Returns how well every prefix of a path predicts images that its weights were not fitted on.

    Args:
      folds: moments of at least two disjoint image sets.
      selected: (neurons, most) int32 from `path`.

    Returns:
      (neurons, most) float64: mean over folds of Pearson's correlation, in a fold, of activation
      and the least-squares fit on all other folds; −inf past the path's end. A concept that does
      not vary outside a fold (or depends there on those before) is left out of that fold's fit; a
      fold in which prediction or activation does not vary counts as 0.

    Raises:
      ValueError: fewer than two folds.
    """
    if len(folds) < 2:
        raise ValueError(f"judging a path needs at least 2 folds, got {len(folds)}.")
    n_neurons = len(selected)
    size = tiles.fitting(tiles.MOST, 32 * len(folds) * selected.shape[1] ** 2)
    if n_neurons > size:
        parts = [slice(i, i + size) for i in range(0, n_neurons, size)]
        return np.concatenate([judge([f.neurons(p) for f in folds], selected[p]) for p in parts])
    folds = [fold.padded() for fold in folds]
    n_padded = folds[0].cross.shape[1]
    used = selected >= 0
    index = np.pad(np.where(used, selected, 0), ((0, n_padded - n_neurons), (0, 0)))
    neurons = np.arange(n_padded, dtype=np.int32)
    parts = [
        [np.asarray(part, np.float64)[:n_neurons] for part in _gather(fold, index, neurons)]
        for fold in folds
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


def lengths(rho: Float[np.ndarray, "neurons most"], min_gain: float) -> Int[np.ndarray, " neurons"]:
    """Returns the length with the largest ρ̄ − min_gain · length, the shortest of equals.

    0 where ρ̄ is not positive there.

    Args:
      rho: (neurons, most) from `judge`.
      min_gain: what a concept must add to ρ̄.
    """
    length = np.argmax(rho - min_gain * np.arange(1, rho.shape[1] + 1), axis=1)
    best = np.take_along_axis(rho, length[:, None], axis=1)[:, 0]
    return np.where(best > 0, length + 1, 0).astype(np.int32)


def gain_for(
    rho: Float[np.ndarray, "neurons most"], mean_length: float, live: Bool[np.ndarray, " neurons"]
) -> float:
    """Returns the least `min_gain` (to 1e-9) that keeps the mean length at `mean_length` or less.

    Args:
      rho: (neurons, most) from `judge`.
      mean_length: what the mean length of live neurons may not exceed; at least 1.
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
    diagonal = jnp.where(size.inv_x > 0, 1.0, 0.0)[:, None]
    return jnp.where(jnp.eye(len(gram), dtype=bool), diagonal, gram), size


@jax.jit
def _rows(source, scale_x, inv_y, neurons):
    return (source[:, neurons] * scale_x[:, None] * inv_y[neurons][None, :]).T


@functools.cache
def _program(mesh: Mesh | None, dense: bool, most: int):
    return split_jit(functools.partial(_forward, dense=dense, most=most), mesh, (WHOLE, ROWS), ROWS)


def gains(
    left: Float[Array, "neurons concepts"], cov: Float[Array, "neurons concepts"]
) -> tuple[
    Float[jax.Array, "neurons concepts"], Float[jax.Array, " neurons"], Int[jax.Array, " neurons"]
]:
    """Returns what each concept would explain, the most of it, and which concept that is.

    −1 for a concept that depends on those chosen; of ties the first of positive covariance.

    Args:
      left: d, what the chosen concepts leave of each concept's variance.
      cov: e, and of its covariance with the target.
    """
    gain = jnp.where(left > PIVOT, cov**2 / jnp.where(left > PIVOT, left, 1.0), -1.0)
    best = jnp.max(gain, axis=1)
    near = gain >= jnp.maximum(best - TIE, 0.99 * best)[:, None]
    place = jnp.argmax(2 * near + (near & (cov > 0)), axis=1)
    return gain, best, place.astype(jnp.int32)


def _forward(gram, rows, *, dense: bool, most: int):
    """The paths of one block; `rows` as `blocks` gives them."""
    cross = cross_of_fit(gram, rows) if dense else rows
    n, m = cross.shape
    varies = jnp.diagonal(gram)

    def step(t, carry):
        left, cov, basis, selected, active = carry
        _, best, place = gains(left, cov)
        active = active & (best > LEAST)

        def at(z):
            return jnp.take_along_axis(z, place[:, None], axis=1)

        moves = active[:, None]
        # 0: nothing moves
        root = jnp.where(moves, 1 / jnp.sqrt(jnp.where(moves, at(left), 1.0)), 0.0)

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
    """(gram, cross, mean of x) of the union of image sets.

    Each part is (n, gram, cross, mean of x, mean of y, …).
    """
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
    """(neurons, most): correlation on one image set of the fits of all prefixes on another."""
    (gram, cross, mean_x), (test_gram, test_cross, test_mean, test_mean_y, test_var) = train, test
    var = np.diagonal(gram, axis1=1, axis2=2)
    varies = used & ~is_constant(np.sqrt(np.maximum(var, 0)), mean_x)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, var, 1.0)), 0.0)
    gram, cross = gram * scale[:, :, None] * scale[:, None, :], cross * scale
    test_std = np.sqrt(np.maximum(np.diagonal(test_gram, axis1=1, axis2=2), 0))
    test_scale = np.where(is_constant(test_std, test_mean), 0.0, scale)
    test_gram = test_gram * test_scale[:, :, None] * test_scale[:, None, :]
    test_cross = test_cross * test_scale
    # row t: the direction that concept t adds, in terms of the concepts
    basis = np.zeros_like(gram)
    for t in range(gram.shape[1]):
        shared = np.einsum("kst,kt->ks", basis, gram[:, :, t])
        left = gram[:, t, t] - np.sum(shared**2, axis=1)
        direction = -np.einsum("ks,kst->kt", shared, basis)
        direction[:, t] += 1.0
        unit = np.where(left > PIVOT, 1 / np.sqrt(np.where(left > PIVOT, left, 1.0)), 0.0)
        basis[:, t] = unit[:, None] * direction
    coefficient = np.einsum("kst,kt->ks", basis, cross)
    cov = np.cumsum(coefficient * np.einsum("kst,kt->ks", basis, test_cross), axis=1)
    outer = coefficient[:, :, None] * coefficient[:, None, :]
    scatter = (basis @ test_gram @ np.swapaxes(basis, 1, 2)) * outer
    spread = np.diagonal(np.cumsum(np.cumsum(scatter, axis=1), axis=2), axis1=1, axis2=2)
    target_varies = ~is_constant(np.sqrt(np.maximum(test_var, 0)), test_mean_y)
    varies = (spread > FLAT * np.cumsum(coefficient**2, axis=1)) & target_varies[:, None]
    rho = cov / np.sqrt(np.where(varies, spread * test_var[:, None], 1.0))
    return np.where(varies, np.clip(rho, -1.0, 1.0), 0.0)
