"""Least squares on a growing set of concepts, in closed form from second moments, for many neurons.

For a pool of concepts per neuron, modified Gram–Schmidt on the training moments writes every
concept as

    x_j = Σ_t u_tj q_t + x̃_j,   q_t orthonormal on train, x̃_j what the chosen concepts leave of x_j

and y's coefficient on q_t is z_t, so that choosing j next adds (e_j/d_j) x̃_j to the prediction,
with d_j = var(x̃_j) and e_j = cov(x̃_j, y). The same recursion on the validation moments gives each
candidate's validation correlation without solving anything. A concept whose d_j is round-off (a
superclass is the exact sum of its classes) is dependent and never chosen. The final weights are
solved again in float64 on the host.
Source: Chen, Billings & Luo 1989, orthogonal least squares
(https://doi.org/10.1080/00207178908953472).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.solve import tiles
from jaxle.solve.moments import Moments, scales

# Of a concept's variance: in float32 moments, less is no different from an exact dependence.
PIVOT = 1e-5


class Pool(NamedTuple):
    """State of the recursion, concepts and targets in units of their deviation on train."""

    index: Int[Array, "neurons pool"]  # concepts of the pool
    size: Float[Array, "neurons pool"]  # 1/std of each on train
    var: Float[Array, "neurons pool"]  # d: variance that is left on train
    cov: Float[Array, "neurons pool"]  # e: covariance with the target that is left on train
    val_var: Float[Array, "neurons pool"]  # variance of x̃ on val
    val_cov: Float[Array, "neurons pool"]  # covariance of x̃ with the target on val
    val_fit: Float[Array, "neurons pool"]  # covariance of x̃ with the prediction on val
    basis: Float[jax.Array, "neurons chosen pool"]  # u
    val_basis: Float[jax.Array, "neurons chosen pool"]  # covariance of q and x on val
    val_gram: Float[jax.Array, "neurons chosen chosen"]  # covariance of the q on val
    fit_cov: Float[Array, " neurons"]  # covariance of prediction and target on val
    fit_var: Float[Array, " neurons"]  # variance of the prediction on val
    target_var: Float[Array, " neurons"]  # variance of the target on val


def start(
    train: Moments,
    val: Moments,
    neurons: Int[Array, " neurons"],
    index: Int[Array, "neurons pool"],
    most: int,
) -> Pool:
    """Returns the state in which nothing is chosen.

    Args:
      train, val: moments of both sets.
      neurons: (neurons,) int32, which targets.
      index: (neurons, pool) int32, each one's candidates.
      most: concepts that may be chosen.
    """
    scale = scales(train)
    size, unit = scale.inv_x[index], scale.inv_y[neurons]
    cov, val_cov = (m.cross[index, neurons[:, None]] * size * unit[:, None] for m in (train, val))
    alive = jnp.where(size > 0, 1.0, 0.0)
    val_var = jnp.diagonal(val.gram)[index] * size**2
    basis = jnp.zeros((index.shape[0], most, index.shape[1]), jnp.float32)
    zero = jnp.zeros(len(index), jnp.float32)
    square = jnp.zeros((index.shape[0], most, most), jnp.float32)
    return Pool(
        index,
        size,
        alive,
        cov,
        val_var,
        val_cov,
        jnp.zeros_like(cov),
        basis,
        basis,
        square,
        zero,
        zero,
        val.var_y[neurons] * unit**2,
    )


def val_correlations(pool: Pool) -> Float[jax.Array, "neurons pool"]:
    """Returns the validation correlation of the fit on the chosen concepts and each one more.

    −inf where that concept is dependent.
    """
    independent = pool.var > PIVOT
    step = pool.cov / jnp.where(independent, pool.var, 1.0)
    cov = pool.fit_cov[:, None] + step * pool.val_cov
    var = pool.fit_var[:, None] + 2 * step * pool.val_fit + step**2 * pool.val_var
    spread = var * pool.target_var[:, None]
    rho = jnp.where(spread > 0, cov / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)
    return jnp.where(independent, rho, -jnp.inf)


def partial_val_correlations(pool: Pool) -> Float[jax.Array, "neurons pool"]:
    """Returns each concept's partial correlation with the target on val, beside the fit so far.

    Of what the chosen concepts leave of it on train, in the direction of its weight: positive where
    val agrees. 0 where nothing varies.
    """
    fitted = pool.fit_var > 0
    inv = jnp.where(fitted, 1 / jnp.where(fitted, pool.fit_var, 1.0), 0.0)
    shared = pool.val_fit * inv[:, None]
    cov = pool.val_cov - shared * pool.fit_cov[:, None]
    var = pool.val_var - shared * pool.val_fit
    left = pool.target_var - pool.fit_cov**2 * inv
    spread = var * left[:, None]
    rho = jnp.where(spread > 0, cov / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)
    return rho * jnp.sign(pool.cov)


def choose(
    pool: Pool,
    train_gram: Float[Array, "concepts concepts"],
    val_gram: Float[Array, "concepts concepts"],
    place: Int[Array, " neurons"],
    slot: int | Int[Array, ""],
    active: Bool[Array, " neurons"],
) -> Pool:
    """Returns the state with one concept of each neuron's pool moved into its fit.

    Args:
      pool: the state.
      train_gram, val_gram: (concepts, concepts) of both sets.
      place: (neurons,) int32, its place in the pool.
      slot: how many were chosen before.
      active: (neurons,) bool; the others stay as they are.
    """

    def at(z):
        return jnp.take_along_axis(z, place[:, None], axis=1)

    def column(z):
        return jnp.take_along_axis(z, place[:, None, None], axis=2)[:, :, 0]

    concept = at(pool.index)
    scale = at(pool.size) * pool.size
    # 0: nothing moves
    root = jnp.where(active, 1 / jnp.sqrt(jnp.where(active, at(pool.var)[:, 0], 1.0)), 0.0)
    root = root[:, None]
    old = column(pool.basis)[:, :, None]  # what the chosen one shares with those before
    u = (train_gram[concept, pool.index] * scale - jnp.sum(old * pool.basis, axis=1)) * root
    v = (val_gram[concept, pool.index] * scale - jnp.sum(old * pool.val_basis, axis=1)) * root
    # covariance of the new q with the old ones on val
    shared = (column(pool.val_basis) - jnp.sum(old * pool.val_gram, axis=1)) * root
    q_var = at(pool.val_var) * root**2
    q_cov, z, fit_q = at(pool.val_cov) * root, at(pool.cov) * root, at(pool.val_fit) * root
    # covariance of x̃ and the new q on val
    rest = v - jnp.sum(pool.basis * shared[:, :, None], axis=1)
    square = (
        pool.val_gram.at[:, slot, :]
        .add(shared)
        .at[:, :, slot]
        .add(shared)
        .at[:, slot, slot]
        .add(q_var[:, 0])
    )
    return pool._replace(
        var=pool.var - u**2,
        cov=pool.cov - u * z,
        val_var=pool.val_var - 2 * u * rest + u**2 * q_var,
        val_cov=pool.val_cov - u * q_cov,
        val_fit=pool.val_fit - u * fit_q + z * (rest - u * q_var),
        basis=pool.basis.at[:, slot].set(u),
        val_basis=pool.val_basis.at[:, slot].set(v),
        val_gram=square,
        fit_cov=pool.fit_cov + (z * q_cov)[:, 0],
        fit_var=pool.fit_var + (2 * z * fit_q + z**2 * q_var)[:, 0],
    )


def refit(
    train: Moments, val: Moments, selected: Int[np.ndarray, "neurons most"]
) -> tuple[
    Float[np.ndarray, "neurons most"], Float[np.ndarray, " neurons"], Float[np.ndarray, " neurons"]
]:
    """Returns least squares with intercept of every neuron on its own concepts, in raw columns.

    Solved in float64.

    Args:
      train, val: moments of both sets.
      selected: (neurons, most) int32 independent concepts, −1 where there is none.

    Returns:
      weights (neurons, most), bias (neurons,), val_correlation (neurons,); float64, weight 0 where
      there is no concept.
    """
    n_neurons = len(selected)
    size = tiles.fitting(tiles.MOST, 32 * selected.shape[1] ** 2)
    if n_neurons > size:
        parts = [slice(i, i + size) for i in range(0, n_neurons, size)]
        found = [refit(train.neurons(p), val.neurons(p), selected[p]) for p in parts]
        weights, bias, rho = (np.concatenate(part) for part in zip(*found, strict=True))
        return weights, bias, rho
    train, val = train.padded().wide(), val.padded().wide()
    more = train.cross.shape[1] - n_neurons
    selected = np.pad(selected, ((0, more), (0, 0)), constant_values=-1)
    used = selected >= 0
    index, neurons = np.where(used, selected, 0), np.arange(len(selected), dtype=np.int32)
    block, val_block, cross, val_cross = (
        np.asarray(part, np.float64)
        for part in _gather(train.arrays(), val.arrays(), index, neurons)
    )
    mean_x, mean_y, var_y = (
        np.asarray(part, np.float64) for part in (train.mean_x, train.mean_y, val.var_y)
    )
    std = np.where(used, np.sqrt(np.maximum(np.diagonal(block, axis1=1, axis2=2), 0)), 1.0)
    both = used[:, :, None] & used[:, None, :]
    matrix = np.where(both, block / (std[:, :, None] * std[:, None, :]), np.eye(selected.shape[1]))
    weights = np.linalg.solve(matrix, np.where(used, cross / std, 0.0)[:, :, None])[:, :, 0] / std
    bias = mean_y - np.sum(weights * mean_x[index], axis=1)
    spread = np.einsum("ki,kij,kj->k", weights, val_block, weights) * var_y
    cov = np.sum(weights * val_cross, axis=1)
    rho = np.where(spread > 0, cov / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
    return weights[:n_neurons], bias[:n_neurons], rho[:n_neurons]


@jax.jit
def _gather(train: Moments, val: Moments, index, neurons):
    pair = index[:, :, None], index[:, None, :]
    return (
        train.gram[pair],
        val.gram[pair],
        train.cross[index, neurons[:, None]],
        val.cross[index, neurons[:, None]],
    )
