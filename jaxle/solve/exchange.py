"""Exchanges after forward selection: each chosen concept gives way to a better one.

A concept that was the best first choice need not be the best beside those that came later. For a
chosen set S, with P = (G_SS)⁻¹ and W = P G_S·, every concept j has what S leaves of its variance,
d_j, and of its covariance with the target, e_j. One concept out or in is

    out i:  d_j += W_ij²/P_ii,   e_j += W_ij (P c_S)_i / P_ii
    in j:   with r = G_j· − G_jS P G_S·:   d −= r²/d_j,   e −= r e_j/d_j

so that a round costs a few products of (concepts chosen) × (concepts) numbers per concept chosen
and neuron, all neurons go together, and nothing is factorised. Neurons of like length share a
block, and a block goes through as many slots as its longest explanation has.
Source: Miller 1984, Selection of subsets of regression variables, sequential replacement
(https://doi.org/10.2307/2981576).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jaxle.arrays import Array
from jaxle.mesh import of_first
from jaxle.solve.forward import BLOCK, TIE, Aim, blocks, fitting, gains
from jaxle.solve.least_squares import PIVOT
from jaxle.solve.moments import Moments
from jaxle.solve.split import ROWS, WHOLE, split_jit

ROUNDS = 3  # the last one seldom changes anything


class Chosen(NamedTuple):
    """The chosen concepts of a block of neurons, and what they leave of all concepts.

    Standardised; an empty slot is all zero.
    """

    index: Int[jax.Array, "neurons slots"]  # −1 where empty
    inverse: Float[jax.Array, "neurons slots slots"]  # P
    cross: Float[jax.Array, "neurons slots"]  # c_S
    left: Float[jax.Array, "neurons concepts"]  # d
    cov: Float[jax.Array, "neurons concepts"]  # e


def exchange(
    moments: Moments,
    selected: Int[np.ndarray, "neurons slots"],
    aim: Aim | None = None,
    *,
    rounds: int = ROUNDS,
    words: Int[np.ndarray, " concepts"] | None = None,
    gram: Float[Array, "concepts concepts"] | None = None,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> Int[np.ndarray, "neurons slots"]:
    """Returns better sets of the same sizes as those that `forward.path` chose.

    Args:
      moments: of the images that choose, train ∪ val.
      selected: (neurons, slots) int32, −1 in unused slots.
      aim, gram, mesh, block: as for `forward.path`.
      rounds: how often, at most, every slot of a neuron is tried in turn; a round without an
        exchange is the last.
      words: (concepts,) int, of how many words each is: no concept gives way to a longer one. None:
        of one.

    Returns:
      (neurons, slots) int32: the same slots used. A concept goes only where another explains more
      by over `forward.TIE` of the variance.
    """
    if rounds < 1 or (selected < 0).all():
        return selected
    program = _program(mesh, rounds)

    def run(gram, rows, own):
        return program(gram, rows, own, words)

    return by_length(run, moments, selected, aim, gram, mesh, block)


def by_length(
    program: Callable[..., jax.Array],
    moments: Moments,
    selected: Int[np.ndarray, "neurons slots"],
    aim: Aim | None,
    gram: Float[Array, "concepts concepts"] | None,
    mesh: Mesh | None,
    block: int,
) -> Int[np.ndarray, "neurons ..."]:
    """Returns what a program makes of all neurons, block by block, the shortest explanations first.

    Args:
      program: (correlations of all concepts, rows as `forward.blocks` gives them, selected) → an
        array with a row for each neuron of the block.
      moments, selected, aim, gram, mesh, block: as for `exchange`.
    """
    selected = of_first(mesh, selected)  # the blocks of all processes are of the same neurons
    block = fitting(block, selected.shape[1], moments.cross.shape[0])
    order = np.argsort(np.sum(selected >= 0, axis=1), kind="stable")
    parts = [
        (neurons, np.asarray(program(gram, rows, selected[neurons])))
        for neurons, gram, rows in blocks(moments, aim, gram, mesh, block, order)
    ]
    found = np.empty((len(selected), *parts[0][1].shape[1:]), parts[0][1].dtype)
    for neurons, part in parts:
        found[neurons] = part
    return found


@functools.cache
def _program(mesh: Mesh | None, rounds: int):
    step = functools.partial(_exchange, rounds=rounds)
    return split_jit(step, mesh, (WHOLE, ROWS, ROWS, WHOLE), ROWS)


def _exchange(gram, cross, selected, words=None, *, rounds: int):
    """One block: cross as in `forward`, selected (neurons, slots)."""
    slots = used(selected)
    chosen = start(gram, cross, selected)

    def turn(t, chosen):
        old = chosen.index[:, t]
        left, cov = beside(gram, chosen, t)
        left = left if words is None else no_longer(words, old, left, 0.0)
        gain, best, new = gains(left, cov)
        own = jnp.take_along_axis(gain, jnp.maximum(old, 0)[:, None], axis=1)[:, 0]
        new = jnp.where((old >= 0) & (best > own + TIE), new, old)
        return replace(gram, cross, chosen, t, new)

    def round_(carry):
        chosen, _, i = carry
        better = jax.lax.fori_loop(0, slots, turn, chosen)
        return better, jnp.any(better.index != chosen.index), i + 1

    carry = jax.lax.while_loop(
        lambda c: c[1] & (c[2] < rounds), round_, (chosen, jnp.bool_(True), jnp.int32(0))
    )
    return carry[0].index


def no_longer(
    words: Int[Array, " concepts"],
    old: Int[Array, " neurons"],
    values: Float[Array, "neurons concepts"],
    other: float,
) -> Float[jax.Array, "neurons concepts"]:
    """Returns values of concepts with no more words than an old one, `other` for longer ones."""
    return jnp.where(words[None, :] <= words[jnp.maximum(old, 0)][:, None], values, other)


def start(
    gram: Float[Array, "concepts concepts"],
    cross: Float[Array, "neurons concepts"],
    selected: Int[Array, "neurons slots"],
) -> Chosen:
    """Returns the state of the given sets; `gram` and `cross` are standardised."""
    (n, m), slots = cross.shape, selected.shape[1]
    zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
    chosen = Chosen(
        jnp.full((n, slots), -1, jnp.int32),
        zeros((n, slots, slots)),
        zeros((n, slots)),
        jnp.broadcast_to(jnp.diagonal(gram)[None, :], (n, m)),
        jnp.asarray(cross),
    )
    return jax.lax.fori_loop(
        0, used(selected), lambda t, c: put(gram, cross, c, t, selected[:, t]), chosen
    )


def used(selected: Int[Array, "neurons slots"]) -> Int[jax.Array, ""]:
    """Returns how many slots there are up to the last that any neuron uses."""
    last = jnp.arange(1, selected.shape[1] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(selected >= 0, last[None, :], 0))


def beside(
    gram: Float[Array, "concepts concepts"], chosen: Chosen, t: int | Int[Array, ""]
) -> tuple[Float[jax.Array, "neurons concepts"], Float[jax.Array, "neurons concepts"]]:
    """Returns what all chosen concepts but slot t's leave of variances and covariances: d and e."""
    p = chosen.inverse[:, t]
    own = p[:, t][:, None]
    inv = jnp.where(own > 0, 1 / jnp.where(own > 0, own, 1.0), 0.0)
    w = combine(gram, chosen, p)
    cov = chosen.cov + w * (jnp.sum(p * chosen.cross, axis=1, keepdims=True) * inv)
    return chosen.left + w**2 * inv, cov


def replace(
    gram: Float[Array, "concepts concepts"],
    cross: Float[Array, "neurons concepts"],
    chosen: Chosen,
    t: int | Int[Array, ""],
    new: Int[Array, " neurons"],
) -> Chosen:
    """Returns the state with each neuron's concept `new` in slot t; where none is new, as it is."""

    def step(carry):
        chosen, _ = carry
        return put(gram, cross, take(gram, chosen, t), t, new), jnp.bool_(False)

    # a loop of at most one step, since a branch would copy the state
    differs = jnp.any(new != chosen.index[:, t])
    return jax.lax.while_loop(lambda carry: carry[1], step, (chosen, differs))[0]


def take(
    gram: Float[Array, "concepts concepts"], chosen: Chosen, t: int | Int[Array, ""]
) -> Chosen:
    """Returns the state in which slot t is empty."""
    p = chosen.inverse[:, t]
    own = p[:, t][:, None]
    inv = jnp.where(own > 0, 1 / jnp.where(own > 0, own, 1.0), 0.0)
    left, cov = beside(gram, chosen, t)
    inverse = chosen.inverse - p[:, :, None] * (p * inv)[:, None, :]
    inverse = inverse.at[:, t].set(0.0).at[:, :, t].set(0.0)
    return Chosen(
        chosen.index.at[:, t].set(-1),
        inverse,
        chosen.cross.at[:, t].set(0.0),
        left,
        cov,
    )


def put(
    gram: Float[Array, "concepts concepts"],
    cross: Float[Array, "neurons concepts"],
    chosen: Chosen,
    t: int | Int[Array, ""],
    place: Int[Array, " neurons"],
) -> Chosen:
    """Returns the state whose empty slot t holds each neuron's concept `place` (−1: none)."""
    some, j = (place >= 0)[:, None], jnp.maximum(place, 0)

    def at(z):
        return jnp.take_along_axis(z, j[:, None], axis=1)

    left = at(chosen.left)
    # 0: nothing moves
    inv = jnp.where(some & (left > PIVOT), 1 / jnp.where(left > PIVOT, left, 1.0), 0.0)
    q = between(gram, chosen, j)
    rest = gram[j] - combine(gram, chosen, q)
    q = q.at[:, t].set(-1.0)
    return Chosen(
        chosen.index.at[:, t].set(place),
        chosen.inverse + q[:, :, None] * (q * inv)[:, None, :],
        chosen.cross.at[:, t].set(jnp.where(some, at(cross), 0.0)[:, 0]),
        chosen.left - rest**2 * inv,
        chosen.cov - rest * (at(chosen.cov) * inv),
    )


def combine(
    gram: Float[Array, "concepts concepts"],
    chosen: Chosen,
    weights: Float[Array, "neurons slots"],
) -> Float[jax.Array, "neurons concepts"]:
    """Returns Σ_s weights[k, s] G[s-th concept chosen, :], added slot by slot in float32.

    The rows of G are read where they are: copies for each neuron would be moved with its state.

    Args:
      gram, chosen: as for `put`.
      weights: 0 in empty slots.
    """

    def add(s, total):
        return total + weights[:, s][:, None] * gram[jnp.maximum(chosen.index[:, s], 0)]

    return jax.lax.fori_loop(0, used(chosen.index), add, jnp.zeros_like(chosen.left))


def between(
    gram: Float[Array, "concepts concepts"], chosen: Chosen, place: Int[Array, " neurons"]
) -> Float[jax.Array, "neurons slots"]:
    """Returns each neuron's coefficients P G_Sj of a concept j = `place` on those chosen."""
    shared = gram[jnp.maximum(chosen.index, 0), place[:, None]]
    return jnp.sum(chosen.inverse * shared[:, None, :], axis=2)
