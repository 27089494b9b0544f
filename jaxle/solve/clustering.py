"""Clustering of few rows, many times over: Ward's method cut at a distance, and k-means.

    Ward     merges the two clusters i, j of least distance
             d²(k, i∪j) = ((n_i + n_k) d²(k, i) + (n_j + n_k) d²(k, j) − n_k d²(i, j)) / N,
             N = n_i + n_j + n_k
             while that distance is below the threshold
    k-means  each row to its nearest centre, each centre to the mean of its rows (Lloyd)

All have one shape whatever they find, so that they can be mapped over neurons. Source: Ward 1963;
Lance & Williams 1967.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxle.arrays import Array


def ward(
    x: Float[Array, "rows columns"], distance: float | Float[Array, ""]
) -> Int[jax.Array, " rows"]:
    """Returns the cluster of every row, named by the number of one of its rows.

    Args:
      x: (rows, columns).
      distance: clusters at least so far from each other stay apart; of two single rows it is
        ‖x − y‖.
    """
    n = len(x)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    square = jnp.sum(x**2, axis=1)
    between = square[:, None] + square[None] - 2 * jnp.matmul(x, x.T, precision="highest")
    between = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, jnp.maximum(between, 0))
    limit = jnp.square(jnp.asarray(distance, jnp.float32))

    def merge(state):
        between, size, labels, _ = state
        i, j = jnp.unravel_index(jnp.argmin(between), between.shape)
        least, ni, nj = between[i, j], size[i], size[j]
        new = (ni + size) * between[i] + (nj + size) * between[j] - size * least
        new = new / (ni + nj + size)
        gone = jnp.arange(n) == j
        new = jnp.where(gone | (jnp.arange(n) == i) | jnp.isinf(between[i]), jnp.inf, new)
        between = between.at[i].set(new).at[:, i].set(new)
        between = jnp.where(gone[:, None] | gone[None], jnp.inf, between)
        size = jnp.where(gone, 0.0, size.at[i].set(ni + nj))
        return between, size, jnp.where(labels == j, i, labels), jnp.min(between)

    start = (between, jnp.ones(n), jnp.arange(n), jnp.min(between))
    return jax.lax.while_loop(lambda state: state[3] < limit, merge, start)[2]


def k_means(
    x: Float[Array, "rows columns"], centres: Float[Array, "centres columns"], *, steps: int
) -> Int[jax.Array, " rows"]:
    """Returns the nearest centre of every row, after at most so many steps from the given centres.

    A centre that no row is nearest to stays where it is; one that is infinite is never nearest.
    """
    n = len(centres)

    def assign(centres):
        kept = jnp.where(jnp.isfinite(centres), centres, 0.0)
        far = jnp.sum(kept**2, axis=1)[None] - 2 * jnp.matmul(x, kept.T, precision="highest")
        return jnp.argmin(jnp.where(jnp.isfinite(centres[:, 0])[None], far, jnp.inf), axis=1)

    def step(state):
        labels, centres, _, number = state
        one = jax.nn.one_hot(labels, n)
        count = jnp.sum(one, axis=0)
        means = jnp.matmul(one.T, x, precision="highest") / jnp.maximum(count, 1)[:, None]
        centres = jnp.where(count[:, None] > 0, means, centres)
        new = assign(centres)
        return new, centres, jnp.any(new != labels), number + 1

    start = (assign(centres), centres, jnp.array(True), 0)
    return jax.lax.while_loop(lambda s: s[2] & (s[3] < steps), step, start)[0]


def far_apart(x: Float[Array, "rows columns"], key: jax.Array, k: int) -> Int[jax.Array, " k"]:
    """Returns k rows to begin k-means from: each drawn by its squared distance to those before.

    Source: Arthur & Vassilvitskii 2007, k-means++.
    """
    n = len(x)

    def draw(i, state):
        chosen, nearest = state
        weights = jnp.where(i == 0, jnp.ones(n), nearest)
        row = jax.random.categorical(jax.random.fold_in(key, i), jnp.log(weights))
        nearest = jnp.minimum(nearest, jnp.sum((x - x[row][None]) ** 2, axis=1))
        return chosen.at[i].set(row), nearest

    start = (jnp.zeros(k, jnp.int32), jnp.full(n, jnp.inf))
    return jax.lax.fori_loop(0, k, draw, start)[0]
