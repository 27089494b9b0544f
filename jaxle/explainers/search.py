"""Which few concepts explain a neuron: the paper's greedy search and its top-k, a block at a time.

    greedy: of the first r candidates still open, fit each beside the concepts chosen so far; drop
    those that raise the validation correlation by less than ε; choose the best; stop when none is
    left that does, or at v concepts                                        (paper, Algorithm 1)

All of it is read off second moments (`solve.least_squares`), so no fit touches the images again.
Deliberate differences from the paper's code, each with a test of its name in
tests/explainers/test_search.py: least squares is exact instead of 100 gradient steps, a neuron
without a helpful candidate ends unexplained, and the last concept kept is the one chosen and not
the one tried last.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from jaxle.mesh import data_size
from jaxle.solve import least_squares, noise, tiles
from jaxle.solve.moments import Moments, scales
from jaxle.solve.split import ROWS, WHOLE, split_jit

BLOCK = 512  # neurons per program
TIE = 1e-5  # correlations this close are equal: fits of one span, such as a superclass's complement


class Found(NamedTuple):
    """The chosen concepts of every neuron and the least-squares fit on them, raw columns."""

    selected: np.ndarray  # (neurons, most) int32, in the order chosen, −1 where there is none
    count: np.ndarray  # (neurons,) int32, 0: unexplained
    weights: np.ndarray  # (neurons, most) float32
    bias: np.ndarray  # (neurons,) float32
    val_correlation: np.ndarray  # (neurons,) float32


def greedy(
    train: Moments,
    val: Moments,
    order: np.ndarray,
    *,
    n_candidates: int,
    max_concepts: int,
    min_gain: float,
    words: Int[np.ndarray, " concepts"] | None = None,
    skewness: Float[np.ndarray, " neurons"] | None = None,
    mesh: Mesh | None = None,
) -> Found:
    """Returns what the paper's greedy search chooses.

    Args:
      train, val: moments of the images that fit and of those that choose.
      order: (neurons, pool) int32, candidates best first; n_candidates·max_concepts of them are
        always enough.
      n_candidates: candidates tried per step (r).
      max_concepts: most concepts per neuron (v).
      min_gain: least gain in validation correlation for one more concept (ε); the first needs only
        a positive correlation.
      words: (concepts,) int, of how many words each is: one of two words must gain 2ε. None: of
        one.
      skewness: of each neuron; then a concept is also refused where its partial correlation on
        val, beside the concepts chosen, is no more than that of the best of `n_candidates`
        unrelated ones (`solve.noise`). None: the paper's search.
      mesh: split the neurons over its axis `data`.
    """
    return _search(
        train,
        val,
        order,
        max_concepts,
        mesh,
        greedy=True,
        n_candidates=n_candidates,
        min_gain=min_gain,
        words=words,
        skewness=skewness,
    )


def top_k(
    train: Moments,
    val: Moments,
    order: np.ndarray,
    *,
    max_concepts: int,
    mesh: Mesh | None = None,
    n_candidates: int = 0,
    min_gain: float = 0.0,
) -> Found:
    """The `max_concepts` largest weights, refitted (paper, appendix B.4).

    A concept that depends linearly on those before it is passed over.

    Arguments as in `greedy`; n_candidates and min_gain are not used.
    """
    return _search(
        train, val, order, max_concepts, mesh, greedy=False, n_candidates=1, min_gain=0.0
    )


SEARCHES = {"greedy": greedy, "top_k": top_k}


def _search(
    train,
    val,
    order,
    max_concepts: int,
    mesh,
    *,
    greedy: bool,
    n_candidates: int,
    min_gain: float,
    words: np.ndarray | None = None,
    skewness: np.ndarray | None = None,
) -> Found:
    n_neurons, n_devices = len(order), data_size(mesh)
    padded_train, padded_val = (moments.padded(n_devices).wide() for moments in (train, val))
    neuron_bytes = 4 * max_concepts * (2 * order.shape[1] + max_concepts)  # the state of the fits
    block = tiles.fitting(BLOCK, neuron_bytes) * n_devices
    block = min(block, padded_train.cross.shape[1])
    program = _program(mesh, greedy, max_concepts, skewness is not None)
    more = None
    if words is not None:
        more = np.asarray(words - 1, np.float32) * np.float32(min_gain)
        more = np.pad(more, (0, len(padded_train.mean_x) - len(more)))
    limits = [np.int32(n_candidates), np.float32(min_gain), more]
    if skewness is not None:
        each = [noise.quantile(val.n, n_candidates, step) for step in range(max_concepts)]
        limits += [np.array(each, np.float32), np.float32(val.n), skewness.astype(np.float32)]
    moments, parts = [padded_train.arrays(), padded_val.arrays()], []
    for begin in range(0, n_neurons, block):
        # past the end the last neuron repeats
        neurons = np.minimum(np.arange(begin, begin + block, dtype=np.int32), n_neurons - 1)
        parts.append(program(*moments, order[neurons], neurons, *limits))
    selected = np.concatenate([np.asarray(part) for part in parts])[:n_neurons]
    weights, bias, rho = least_squares.refit(train, val, selected)
    count = np.asarray(np.sum(selected >= 0, axis=1), np.int32)
    return Found(selected, count, *(part.astype(np.float32) for part in (weights, bias, rho)))


@functools.cache
def _program(mesh: Mesh | None, greedy: bool, max_concepts: int, above_noise: bool):
    step = functools.partial(_greedy if greedy else _first, most=max_concepts)
    more = (WHOLE, WHOLE, WHOLE) if above_noise else ()
    return split_jit(step, mesh, (WHOLE, WHOLE, ROWS, ROWS, WHOLE, WHOLE, WHOLE, *more), ROWS)


def _greedy(
    train: Moments, val: Moments, order, neurons, n_candidates, min_gain, more, *chance, most: int
):
    # what a candidate must gain for its words beyond the first
    price = jnp.zeros(order.shape, jnp.float32) if more is None else more[order]
    pool = least_squares.start(train, val, neurons, order, most)
    real = _beyond_noise(val, order, neurons, *chance) if chance else None

    def body(carry):
        pool, selected, is_open, best, active, step = carry
        tried = is_open & (jnp.cumsum(is_open, axis=1) <= n_candidates)
        allowed = tried if real is None else tried & real(pool, step)
        rho = jnp.where(allowed, least_squares.val_correlations(pool) - price, -jnp.inf)
        rho_best = jnp.max(rho, axis=1)
        # of ties the first candidate: which is larger is round-off, and would differ by device
        place = jnp.argmax(rho >= rho_best[:, None] - TIE, axis=1).astype(jnp.int32)
        first = step == 0
        active = active & jnp.where(first, rho_best > 0, rho_best >= best + min_gain)
        rejected = tried & (rho < best[:, None] + min_gain) & ~first
        chosen = jnp.arange(order.shape[1], dtype=jnp.int32)[None, :] == place[:, None]
        is_open = jnp.where(active[:, None], is_open & ~rejected & ~chosen, is_open)
        pool = least_squares.choose(pool, train.gram, val.gram, place, step, active)
        concept = jnp.take_along_axis(order, place[:, None], axis=1)[:, 0]
        selected = selected.at[:, step].set(jnp.where(active, concept, -1))
        reached = rho_best + jnp.take_along_axis(price, place[:, None], axis=1)[:, 0]
        return pool, selected, is_open, jnp.where(active, reached, best), active, step + 1

    def unfinished(carry):
        return jnp.any(carry[4]) & (carry[5] < most)

    n = len(order)
    blank = jnp.full((n, most), -1, jnp.int32)
    carry = (
        pool,
        blank,
        jnp.ones(order.shape, bool),
        jnp.zeros(n, jnp.float32),
        jnp.ones(n, bool),
        jnp.int32(0),
    )
    return jax.lax.while_loop(unfinished, body, carry)[1]


def _beyond_noise(val: Moments, order, neurons, quantiles, n, skewness):
    """Whether each candidate of a pool is more than the best of as many unrelated ones."""
    var = jnp.diagonal(val.gram)
    of_concepts = noise.skewness_of_probabilities(val.mean_x, var, jnp)
    gamma = of_concepts[order] * skewness[neurons][:, None] / jnp.sqrt(n)

    def real(pool: least_squares.Pool, step):
        partial = least_squares.partial_val_correlations(pool)
        t, freedom = quantiles[step]
        # the weight is fitted on train: a candidate whose sign turns on val is refused
        least = noise.least_correlation(t, freedom, gamma * jnp.sign(pool.cov))
        return partial > least

    return real


def _first(
    train: Moments, val: Moments, order, neurons, n_candidates, min_gain, more, *, most: int
):
    order = order[:, :most]
    pool = least_squares.start(train, val, neurons, order, most)
    varies = scales(train).inv_y[neurons] > 0
    selected = jnp.full((len(order), most), -1, jnp.int32)

    def body(step, carry):
        pool, selected = carry
        active = varies & (pool.var[:, step] > least_squares.PIVOT)
        place = jnp.full(len(order), step, jnp.int32)
        pool = least_squares.choose(pool, train.gram, val.gram, place, step, active)
        return pool, selected.at[:, step].set(jnp.where(active, order[:, step], -1))

    _, selected = jax.lax.fori_loop(0, order.shape[1], body, (pool, selected))
    return jnp.take_along_axis(selected, jnp.argsort(selected < 0, axis=1, stable=True), axis=1)
