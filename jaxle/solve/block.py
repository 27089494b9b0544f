"""Elastic nets on gathered working sets, many small problems in lockstep, and the duality gap.

    min_w  ½ wᵀGw − cᵀw + ½v + Σ_j α_j |w_j| + ½ Σ_j β_j w_j²,   h = c − Gw − βw

With s = min(1, min_j α_j/|h_j|) the gap of method.md §4 is

    gap = ½ (1−s)² (‖r‖²/n + Σ β_j w_j²) + Σ_j (α_j |w_j| − s w_j h_j),

a sum of terms that are never negative, so float32 certifies a gap far below the round-off of the
objective itself. A block is solved by FISTA with restart, which finds nearly the right face, and
then exactly by block principal pivoting: solve the face by Cholesky, exchange every coordinate that
breaks its optimality condition, and repeat; about five faces settle it, however ill conditioned it
is.
Sources: Beck & Teboulle 2009 and O'Donoghue & Candès 2015 (FISTA, restart); Kim & Park, AISTATS
2010 (pivoting for L1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.solve.moments import HIGHEST

FISTA_STEPS = 48
MAX_PIVOTS = 5
# On the diagonal, keeps the factor of duplicated columns positive; refinement takes it away again.
JITTER = 1e-6
ROUND_OFF = 1e-7  # of a gradient entry, relative to 1 + ‖w‖₁


def duality_gap(
    cross: Float[Array, "neurons concepts"],
    var: Float[Array, " neurons"],
    alpha: Float[Array, "#neurons concepts"],
    beta: Float[Array, "#neurons concepts"],
    weights: Float[Array, "neurons concepts"],
    slope: Float[Array, "neurons concepts"],
) -> Float[jax.Array, " neurons"]:
    """Returns each neuron's duality gap, in units of the objective.

    Every term is at least 0 in exact arithmetic; one rounding of the penalty covers the rest.

    Args:
      cross: c.
      var: v.
      alpha, beta: the penalties' factors.
      weights: w.
      slope: h = c − Gw − βw.
    """
    weights, slope = jnp.asarray(weights), jnp.asarray(slope)
    peak = jnp.max(jnp.abs(slope) / alpha, axis=1)
    s = 1 / jnp.maximum(peak, 1.0)
    norm2 = jnp.sum(beta * weights**2, axis=1)
    residual = var - jnp.sum(weights * cross, axis=1) - jnp.sum(weights * slope, axis=1) - norm2
    penalty = alpha * jnp.abs(weights)
    slack = jnp.sum(jnp.maximum(penalty - s[:, None] * weights * slope, 0.0), axis=1)
    return (
        0.5 * (1 - s) ** 2 * (jnp.maximum(residual, 0.0) + norm2)
        + slack
        + 6e-8 * jnp.sum(penalty, axis=1)
    )


def solve_block(
    gram: Float[Array, "slots set set"],
    cross: Float[Array, "slots set"],
    var: Float[Array, " slots"],
    alpha: Float[Array, "slots set"],
    beta: Float[Array, "slots set"],
    weights: Float[Array, "slots set"],
) -> Float[jax.Array, "slots set"]:
    """Returns better weights of gathered problems: a few FISTA steps, then pivoting.

    Whichever of the two ends has the smaller gap.

    Args:
      gram, cross, var, alpha, beta: the problems, each on its working set of concepts.
      weights: to start from.
    """
    warm = _fista(gram, cross, alpha, beta, weights)
    pivoted = _pivot(gram, cross, alpha, beta, jnp.sign(warm))

    def gap(w):
        return duality_gap(cross, var, alpha, beta, w, cross - _times(gram, w) - beta * w)

    return jnp.where((gap(pivoted) < gap(warm))[:, None], pivoted, warm)


def _times(gram, w):
    return jnp.einsum("kij,kj->ki", gram, w, precision=HIGHEST)


def _fista(gram, cross, alpha, beta, weights):
    """FISTA with restart, step 1/L from the largest absolute row sum."""
    step = 1 / jnp.max(jnp.sum(jnp.abs(gram), axis=2) + beta, axis=1, keepdims=True)

    def body(_, carry):
        w, z, theta = carry
        u = z + step * (cross - _times(gram, z) - beta * z)
        new = jnp.sign(u) * jnp.maximum(jnp.abs(u) - step * alpha, 0.0)
        restart = jnp.sum((z - new) * (new - w), axis=1, keepdims=True) > 0
        theta_new = (1 + jnp.sqrt(1 + 4 * theta**2)) / 2
        z = new + jnp.where(restart, 0.0, (theta - 1) / theta_new) * (new - w)
        return new, z, jnp.where(restart, 1.0, theta_new)

    return jax.lax.fori_loop(
        0, FISTA_STEPS, body, (weights, weights, jnp.ones_like(weights[:, :1]))
    )[0]


def _one_by_one(function):
    """A batched factorisation or solve, one matrix at a time on a CPU split among devices.

    There LAPACK's batched calls (jaxlib 0.10) hand their parts to the thread pool in which they run
    themselves and wait: as many devices as threads, each in such a call, wait for ever. One matrix
    is worked where it is.
    """

    def split(*batches):
        if jax.sharding.get_abstract_mesh().size <= 1:
            return function(*batches)
        return jax.lax.platform_dependent(
            *batches, cpu=lambda *b: jax.lax.map(lambda one: function(*one), b), default=function
        )

    return split


@_one_by_one
def _factor(matrices):
    return jnp.linalg.cholesky(matrices, symmetrize_input=False)


@_one_by_one
def _solve(factors, b):
    return jax.scipy.linalg.cho_solve((factors, True), b)


def _pivot(gram, cross, alpha, beta, signs):
    """Block principal pivoting from the face `signs`: exact where it settles, within five faces."""
    n_slots, size = cross.shape

    def solve_face(factor, signs, b):
        return _solve(factor, jnp.where(signs != 0, b, 0.0)[:, :, None])[:, :, 0]

    def face(signs):
        on = signs != 0
        matrix = jnp.where(on[:, :, None] & on[:, None, :], gram, 0.0)
        ridge = jnp.where(on, beta + JITTER, 1.0)
        factor = _factor(matrix + ridge[:, :, None] * jnp.eye(size, dtype=jnp.float32)[None])
        w = solve_face(factor, signs, cross - alpha * signs)
        w = jnp.where(jnp.isfinite(w), w, 0.0)
        return factor, w, cross - _times(gram, w) - beta * w

    def body(carry):
        signs, *_, fewest, patience, _, i = carry
        factor, w, slope = face(signs)
        noise = ROUND_OFF * (1 + jnp.sum(jnp.abs(w), axis=1, keepdims=True))
        broken = jnp.where(signs != 0, w * signs < 0, jnp.abs(slope) > alpha + noise)
        count = jnp.sum(broken, axis=1)
        fewer = count < fewest
        last = jnp.max(
            jnp.where(broken, jnp.arange(size, dtype=jnp.int32)[None, :], -1), axis=1, keepdims=True
        )
        # one at a time is finite when blocks cycle
        single = jnp.arange(size, dtype=jnp.int32)[None, :] == last
        exchange = broken & ((fewer | (patience > 0))[:, None] | single)
        new = jnp.where(exchange, jnp.where(signs != 0, 0.0, jnp.sign(slope)), signs)
        patience = jnp.where(fewer, 3, jnp.maximum(patience - 1, 0))
        w = jnp.where(broken & (signs != 0), 0.0, w)
        return new, factor, w, slope, jnp.minimum(count, fewest), patience, count > 0, i + 1

    def unsettled(carry):
        return jnp.any(carry[-2]) & (carry[-1] < MAX_PIVOTS)

    zero = jnp.zeros_like(cross)
    start = (
        signs,
        gram,
        zero,
        zero,
        jnp.full(n_slots, size + 1),
        jnp.full(n_slots, 3),
        jnp.ones(n_slots, bool),
        jnp.int32(0),
    )
    signs, factor, w, slope, *_, is_open, _ = jax.lax.while_loop(unsettled, body, start)
    # takes away the round-off of the factor
    refined = w + solve_face(factor, signs, slope - alpha * signs)
    return jnp.where(is_open[:, None] | ~jnp.isfinite(refined), w, refined)
