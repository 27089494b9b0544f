"""Wordings of equal value: concepts that could stand in an explanation as well, within noise.

Put concept j in place of i, all others kept. What explains less by

    g_i − g_j ≤ κ · 2 √(σ² v_ij / n),    g = e²/d the variance that one explains beside the others,
    v_ij = g_i + g_j − 2 cov(a_i x̃_i, a_j x̃_j),   a = e/d,   σ² what the explanation leaves of 1

cannot be distinguished by n images: the right side is κ standard errors of the left, the difference
of two fits that are not nested (Vuong 1989, https://doi.org/10.2307/1912557). `reword` chooses
among such wordings, `equivalents` lists them. State and letters are `solve.exchange`'s.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.mesh import data_size, of_first
from jaxle.solve import tiles
from jaxle.solve.exchange import (
    Chosen,
    between,
    by_length,
    combine,
    in_turn,
    no_longer,
    put,
)
from jaxle.solve.forward import BLOCK, TIE, fitting, hold
from jaxle.solve.least_squares import PIVOT
from jaxle.solve.moments import Moments, correlations
from jaxle.solve.split import ROWS, WHOLE, split_jit

SIGN = 1.0  # κ of a wording with fewer negative terms
COMMON = 0.5  # κ of a commoner word
ALIKE = 1.0  # κ of `equivalents`
LISTED = 3  # equivalents per concept


class Common(NamedTuple):
    """How common the concepts are."""

    mean: Float[Array, " concepts"]
    order: Int[Array, " concepts"]  # the largest mean first
    value: Float[Array, " concepts"]  # whole numbers from 1: of the largest mean the largest

    @classmethod
    def of(cls, moments: Moments) -> Common:
        mean = np.asarray(moments.mean_x)
        order = np.argsort(-mean, kind="stable").astype(np.int32)
        value = np.empty(len(order), np.float32)
        value[order] = np.arange(len(order), 0, -1)
        return cls(mean, order, value)


class Substitutes(NamedTuple):
    """What each concept would explain in the place of one, and how certain that is."""

    gain: Float[jax.Array, "neurons concepts"]  # g_j; −1: depends on the other concepts
    own: Float[jax.Array, "neurons 1"]  # g_i
    error: Float[jax.Array, "neurons concepts"]  # standard error of g_i − g_j

    def near(self, errors) -> Bool[jax.Array, "neurons concepts"]:
        """Which concepts explain less by at most so many standard errors, or tie."""
        return (self.gain >= 0) & (self.own - self.gain <= errors * self.error + TIE)


def reword(
    moments: Moments,
    selected: Int[np.ndarray, "neurons slots"],
    *,
    words: Int[np.ndarray, " concepts"] | None = None,
    gram: Float[Array, "concepts concepts"] | None = None,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> Int[np.ndarray, "neurons slots"]:
    """Returns sets of the same sizes and, within noise, of the same value, that read better.

    In turn each concept gives way to one of equal value where that leaves fewer negative terms;
    where it leaves as many, to a commoner one, of larger mean.

    Args:
      moments: of the images that choose, train ∪ val.
      selected: (neurons, slots) int32, −1 in unused slots.
      words: (concepts,) int, of how many words each is: none gives way to a longer one. None: of
        one.
      gram, mesh, block: as for `forward.path`.
    """
    return _by_blocks(_reword, moments, selected, words, gram, mesh, block)


def equivalents(
    moments: Moments,
    selected: Int[np.ndarray, "neurons slots"],
    *,
    words: Int[np.ndarray, " concepts"] | None = None,
    gram: Float[Array, "concepts concepts"] | None = None,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> Int[np.ndarray, "neurons slots listed"]:
    """Returns which concepts could stand in the place of each chosen one, within noise.

    Args:
      moments, selected, words, gram, mesh, block: as for `reword`.

    Returns:
      (neurons, slots, 3) int32, what explains most first; −1 where there are fewer.
    """
    return _by_blocks(_equivalents, moments, selected, words, gram, mesh, block)


def _by_blocks(program, moments: Moments, selected, words, gram, mesh, block: int) -> np.ndarray:
    moments = moments.wide()
    n = len(moments.mean_x)
    known = correlations(moments) if gram is None else jnp.asarray(gram)
    known = tiles.pad_columns(tiles.pad_rows(known, n), n)
    if words is not None:
        words = np.pad(words, (0, n - len(words)))
    step, images, common = _program(mesh, program), np.float32(moments.n), Common.of(moments)
    selected = of_first(mesh, selected)
    block = fitting(block, selected.shape[1], n) * data_size(mesh)
    every, order = np.arange(len(selected)), []
    found = []
    for held in hold(moments, None, mesh, block):
        for neurons, rows in by_length(held, every, selected, block):
            order.append(neurons)
            found.append(np.asarray(step(known, common, images, rows, selected[neurons], words)))
    whole = np.empty((len(selected), *found[0].shape[1:]), found[0].dtype)
    whole[np.concatenate(order)] = np.concatenate(found)
    return whole


@functools.cache
def _program(mesh: Mesh | None, program):
    return split_jit(program, mesh, (WHOLE, WHOLE, WHOLE, ROWS, ROWS, WHOLE), ROWS)


def _reword(gram, common: Common, n, cross, selected, words=None):
    mean = common.mean

    def choose(others: Chosen, t, old, nothing):
        chosen, beside = _substitutes(gram, cross, n, others, t, old, words)
        positive = others.cov > 0
        own = jnp.take_along_axis(positive, jnp.maximum(old, 0)[:, None], axis=1)
        # of what reads better, the commonest word; of equals the first
        better = _commonest(beside.near(SIGN) & positive, common)
        fewer = put(gram, cross, others, t, better)
        improves = (better >= 0) & (_negative(fewer) < _negative(chosen))
        alike = beside.near(COMMON) & (positive == own) & (mean[None, :] > mean[old][:, None])
        alike = _commonest(alike, common)
        new = jnp.where(improves, better, jnp.where(alike >= 0, alike, old))
        return jnp.where(old >= 0, new, -1), nothing

    return in_turn(gram, cross, selected, choose, ())[0]


def _equivalents(gram, common, n, cross, selected, words=None):
    n_neurons, slots = selected.shape
    listed = min(LISTED, len(gram))
    concepts = jnp.arange(len(gram), dtype=jnp.int32)

    def choose(others: Chosen, t, old, found):
        _, beside = _substitutes(gram, cross, n, others, t, old, words)
        open_ = beside.near(ALIKE) & (old >= 0)[:, None] & (concepts[None, :] != old[:, None])
        gain, index = jax.lax.top_k(jnp.where(open_, beside.gain, -1.0), listed)
        found = found.at[:, t, :listed].set(jnp.where(gain >= 0, index.astype(jnp.int32), -1))
        return old, found

    blank = jnp.full((n_neurons, slots, LISTED), -1, jnp.int32)
    return in_turn(gram, cross, selected, choose, blank)[1]


def _substitutes(gram, cross, n, others: Chosen, t, old, words) -> tuple[Chosen, Substitutes]:
    """Every concept in the place of slot t's, those of more words left out; and the old set."""
    chosen = put(gram, cross, others, t, old)
    i = jnp.maximum(old, 0)
    explained = jnp.sum(chosen.cross * _coefficients(chosen), axis=1, keepdims=True)
    open_ = others.left > PIVOT
    ratio = jnp.where(open_, others.cov / jnp.where(open_, others.left, 1.0), 0.0)
    gain = ratio * others.cov

    def at(z):
        return jnp.take_along_axis(z, i[:, None], axis=1)

    # covariances of x̃_i and all x̃_j
    rest = gram[i] - combine(gram, others, between(gram, others, i))
    differs = at(gain) + gain - 2 * at(ratio) * ratio * rest
    error = 2 * jnp.sqrt(jnp.maximum(1 - explained, 0.0) * jnp.maximum(differs, 0.0) / n)
    found = jnp.where(open_, gain, -1.0)
    found = found if words is None else no_longer(words, old, found, -1.0)
    return chosen, Substitutes(found, at(gain), error)


def _coefficients(chosen: Chosen):
    return jnp.sum(chosen.inverse * chosen.cross[:, None, :], axis=2)


def _negative(chosen: Chosen):
    return jnp.sum(_coefficients(chosen) < 0, axis=1)


def _commonest(which, common: Common):
    """Of some concepts the one of largest mean; −1 where there is none."""
    # by a maximum, as in `forward.gains`; float32 holds these whole numbers
    value = jnp.max(jnp.where(which, common.value[None, :], 0.0), axis=1).astype(jnp.int32)
    return jnp.where(value > 0, common.order[len(common.order) - value], -1)
