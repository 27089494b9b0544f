"""Exchanges after forward selection: each chosen concept gives way to a better one.

A concept that was the best first choice need not be the best beside those that came later. For a
chosen set S, with P = (G_SS)⁻¹ and W = P G_S·, every concept j has what S leaves of its variance,
d_j, and of its covariance with the target, e_j. One concept out or in is

    out i:  d_j += W_ij²/P_ii,   e_j += W_ij (P c_S)_i / P_ii
    in j:   with r = G_j· − G_jS P G_S·:   d −= r²/d_j,   e −= r e_j/d_j

so that a round costs a few products of (concepts chosen) × (concepts) numbers per concept chosen
and neuron, all neurons go together, and nothing is factorised. The state kept is that of all slots
but the one that is tried. Neurons of like length share a block, a block goes through as many slots
as its longest explanation has, and a round is of the neurons that the one before has changed.
Source: Miller 1984, Selection of subsets of regression variables, sequential replacement
(https://doi.org/10.2307/2981576).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jaxle.arrays import Array
from jaxle.mesh import data_size, of_first
from jaxle.solve.forward import BLOCK, TIE, TOGETHER, Aim, Held, fitting, gains, hold
from jaxle.solve.least_squares import PIVOT
from jaxle.solve.moments import Moments, correlations
from jaxle.solve.split import ROWS, WHOLE, split_jit

T = TypeVar("T")
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
    if rounds < 1:
        return selected
    program = _program(mesh)
    gram = correlations(moments) if gram is None else jnp.asarray(gram)
    # the blocks of all processes are of the same neurons
    selected = of_first(mesh, selected).copy()
    block = fitting(block, selected.shape[1], moments.cross.shape[0]) * data_size(mesh)
    for held in hold(moments, aim, mesh, block):
        open_ = np.asarray(held.neurons)
        open_ = open_[(selected[open_] >= 0).any(axis=1)]
        for _ in range(rounds):
            before = selected[open_]
            for neurons, rows in by_length(held, open_, selected, block):
                selected[neurons] = np.asarray(program(gram, rows, selected[neurons], words))
            # all others would choose again what they have
            open_ = open_[(selected[open_] != before).any(axis=1)]
    return selected


def by_length(
    held: Held,
    neurons: Int[np.ndarray, " some"],
    selected: Int[np.ndarray, "neurons slots"],
    block: int,
) -> Iterator[tuple[Int[np.ndarray, " block"], jax.Array]]:
    """Yields numbers and rows of some neurons block by block, the shortest explanations first."""
    order = np.argsort(np.sum(selected[neurons] >= 0, axis=1), kind="stable")
    return held.blocks(neurons[order], block)


@functools.cache
def _program(mesh: Mesh | None):
    return split_jit(_round, mesh, (WHOLE, ROWS, ROWS, WHOLE), ROWS)


def _round(gram, cross, selected, words=None):
    """One round of one block: cross as in `forward`, selected (neurons, slots)."""

    def choose(others, t, old, nothing):
        left = others.left if words is None else no_longer(words, old, others.left, 0.0)
        gain, best, new = gains(left, others.cov)
        own = jnp.take_along_axis(gain, jnp.maximum(old, 0)[:, None], axis=1)[:, 0]
        return jnp.where((old >= 0) & (best > own + TIE), new, old), nothing

    return in_turn(gram, cross, selected, choose, ())[0]


def in_turn(
    gram: Float[Array, "concepts concepts"],
    cross: Float[Array, "neurons concepts"],
    selected: Int[jax.Array, "neurons slots"],
    choose: Callable[..., tuple[Int[jax.Array, " neurons"], T]],
    found: T,
) -> tuple[Int[jax.Array, "neurons slots"], T]:
    """Returns the sets after each slot in turn has got what is chosen for it beside the others.

    Args:
      gram, cross: standardised.
      selected: the sets to start from.
      choose: (state of all slots but one, that one, its concept (neurons,), found) → its new
        concept, and what else is found.
      found: what is found before the first slot.
    """
    slots = used(selected)

    def turn(t, carry):
        selected, others, found = carry
        new, found = choose(others, t, selected[:, t], found)

        def move(carry):
            others, _ = carry
            return take(gram, put(gram, cross, others, t, new), t + 1), jnp.bool_(False)

        # a loop of at most one step, since a branch would copy the state; after the last slot
        # nothing reads it
        others, _ = jax.lax.while_loop(lambda c: c[1], move, (others, t + 1 < slots))
        return selected.at[:, t].set(new), others, found

    begin = jnp.asarray(selected), start(gram, cross, selected, 1), found
    selected, _, found = jax.lax.fori_loop(0, slots, turn, begin)
    return selected, found


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
    first: int = 0,
) -> Chosen:
    """Returns the state of the given sets from slot `first` on, standardised."""
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
        first, used(selected), lambda t, c: put(gram, cross, c, t, selected[:, t]), chosen
    )


def used(selected: Int[Array, "neurons slots"]) -> Int[jax.Array, ""]:
    """Returns how many slots there are up to the last that any neuron uses."""
    last = jnp.arange(1, selected.shape[1] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(selected >= 0, last[None, :], 0))


def take(
    gram: Float[Array, "concepts concepts"], chosen: Chosen, t: int | Int[Array, ""]
) -> Chosen:
    """Returns the state in which slot t is empty."""
    p = chosen.inverse[:, t]
    own = p[:, t][:, None]
    inv = jnp.where(own > 0, 1 / jnp.where(own > 0, own, 1.0), 0.0)
    w = combine(gram, chosen, p)
    inverse = chosen.inverse - p[:, :, None] * (p * inv)[:, None, :]
    inverse = inverse.at[:, t].set(0.0).at[:, :, t].set(0.0)
    return Chosen(
        chosen.index.at[:, t].set(-1),
        inverse,
        chosen.cross.at[:, t].set(0.0),
        chosen.left + w**2 * inv,
        chosen.cov + w * (jnp.sum(p * chosen.cross, axis=1, keepdims=True) * inv),
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
    A pass over the sum adds `forward.TOGETHER` of them.

    Args:
      gram, chosen: as for `put`.
      weights: 0 in empty slots.
    """
    more = ((0, 0), (0, -weights.shape[1] % TOGETHER))
    weights, index = jnp.pad(weights, more), jnp.pad(jnp.maximum(chosen.index, 0), more)

    def add(part, total):
        for s in range(TOGETHER):
            slot = part * TOGETHER + s
            total = total + weights[:, slot][:, None] * gram[index[:, slot]]
        return total

    parts = (used(chosen.index) + TOGETHER - 1) // TOGETHER
    return jax.lax.fori_loop(1, parts, add, add(0, 0.0))


def between(
    gram: Float[Array, "concepts concepts"], chosen: Chosen, place: Int[Array, " neurons"]
) -> Float[jax.Array, "neurons slots"]:
    """Returns each neuron's coefficients P G_Sj of a concept j = `place` on those chosen."""
    shared = gram[jnp.maximum(chosen.index, 0), place[:, None]]
    return jnp.sum(chosen.inverse * shared[:, None, :], axis=2)
