"""Formulas that separate a neuron's high activations from its low ones: beam search by AUROC.

    AUROC(φ) = ½ + Σ_{x: φ} r'(x) / (2 n₁ n₀),   r' = 2·rank − (n + 1), the mean rank where tied

r' is a whole number that sums to 0, so that rank sums are exact in float32 while they stay below
2²⁴. Those of all formulas φ AND c, for φ of the beam and every concept c, are one matrix product,
(r' ∘ φ)ᵀ X, and their sizes another, φᵀ X. The other three forms follow:

    φ AND NOT c:  R_φ − R_φc       φ OR c:  R_φ + R_c − R_φc       φ OR NOT c:  R_φc − R_c

and likewise for sizes, with n more in the last. A formula is a list of literals, (…(l₁ ∘ l₂) ∘ l₃):
all formulas of at most three words are of this form, NOT moved inwards.
Source: Bykov et al. 2023 (https://arxiv.org/abs/2311.13594); ranks: Mann & Whitney 1947
(https://doi.org/10.1214/aoms/1177730491).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.mesh import round_up
from jaxle.solve import tiles
from jaxle.solve.moments import HIGHEST

FORMS = 4  # φ AND c, φ AND NOT c, φ OR c, φ OR NOT c
OUTSIDE = 2.0  # a formula of a size out of the limits comes after all others, and may still grow


class Formulas(NamedTuple):
    """Formulas of a block of neurons: literals, joined from the first to the last."""

    concept: Int[Array, "neurons width words"]
    negated: Bool[Array, "neurons width words"]
    either: Bool[Array, "neurons width words"]  # OR before the literal, in place of AND
    length: Int[Array, "neurons width"]  # 0: none


class Beam(NamedTuple):
    """Formulas with what their AUROC is made of."""

    formulas: Formulas
    total: Float[Array, "neurons width"]  # Σ r' over the images where it holds
    size: Float[Array, "neurons width"]  # how many these are
    score: Float[Array, "neurons width"]  # AUROC; OUTSIDE less out of the limits, −inf for none


class Images(NamedTuple):
    """Doubled, centred ranks of a block of neurons, and labels by tiles."""

    ranks: Float[jax.Array, "padded neurons"]  # 0 in rows that pad
    labels: Callable[[int], Float[Array, "rows concepts"]]  # first row of a tile
    n: int
    rows: int  # of a tile


def images(
    activations: Float[Array, "images neurons"],
    rows: Callable[[np.ndarray], Float[Array, "rows concepts"]],
    index: Int[np.ndarray, " images"],
    n_concepts: int,
) -> Images:
    """Returns ranks and labels of some images.

    Args:
      activations: of these images.
      rows: image numbers → labels.
      index: the images.
      n_concepts: columns of the labels.
    """
    n = len(index)
    height = tiles.tile_rows([n], n_concepts + activations.shape[1])
    padded = np.full((round_up(n, height), activations.shape[1]), np.inf, np.float32)
    padded[:n] = activations

    def labels(start: int) -> Float[Array, "rows concepts"]:
        numbers = index[np.minimum(np.arange(start, start + height), n - 1)]
        return jnp.asarray(rows(numbers), jnp.float32)

    return Images(_doubled_ranks(padded, np.int32(n)), labels, n, height)


def search(
    of: Images,
    n_concepts: int,
    *,
    most: int,
    width: int,
    fractions: tuple[float, float],
) -> Beam:
    """Returns each neuron's best formulas of at most 1, 2, … `most` words, `width` of each.

    Args:
      of: the images that fit.
      n_concepts: columns of the labels.
      most: words in a formula.
      width: formulas that are kept and made longer, of each neuron.
      fractions: least and largest share of the images where a formula should hold. One out of
        these limits is kept only while the beam has room, so that a wide beam is exhaustive.

    Returns:
      Beam of most·width formulas: the best of one word, then the best of at most two, …; a formula
      may be in several. Of formulas of equal size and rank sum one is kept, of equal AUROC the
      shorter first.
    """
    n_neurons = of.ranks.shape[1]
    total, size = _sums(of, None, n_concepts)
    total, size, n = total[:, 0], size[0, 0], np.float32(of.n)
    limits = np.array([max(fractions[0] * of.n, 1), min(fractions[1] * of.n, of.n - 1)], np.float32)
    no = np.zeros((n_neurons, width, most), bool)
    blank = Formulas(no.astype(np.int32), no, no, np.zeros((n_neurons, width), np.int32))
    nothing = np.zeros((n_neurons, width), np.float32)
    beam = Beam(blank, nothing, nothing, np.full_like(nothing, -np.inf))
    beams = [_first(beam, total, size, n, limits)]
    for _ in range(1, most):
        and_concept = _sums(of, beams[-1].formulas, n_concepts)
        beams.append(_longer(beams[-1], total, size, and_concept, n, limits))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *beams)


def scores(of: Images, formulas: Formulas) -> Float[np.ndarray, "neurons width"]:
    """Returns the AUROC of formulas on other images; ½ where one holds of all of them or none."""
    total, size = np.zeros((2, *formulas.length.shape), np.float32)
    for start in range(0, of.ranks.shape[0], of.rows):
        ranks = jax.lax.dynamic_slice_in_dim(of.ranks, np.int32(start), of.rows)
        count = np.int32(min(of.rows, of.n - start))
        total, size = _add_scores(total, size, formulas, ranks, of.labels(start), count)
    total, size = (np.asarray(part, np.float64) for part in (total, size))
    pairs = size * (of.n - size)
    return np.where(pairs > 0, 0.5 + total / (2 * np.where(pairs > 0, pairs, 1)), 0.5)


def _sums(of: Images, formulas: Formulas | None, n_concepts: int):
    """Rank sums and sizes (neurons, width, concepts) of every formula AND every concept.

    Without formulas: of every concept, width 1.
    """
    n_neurons = of.ranks.shape[1]
    shape = (n_neurons, 1 if formulas is None else formulas.length.shape[1], n_concepts)
    state = jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)
    for start in range(0, of.ranks.shape[0], of.rows):
        ranks = jax.lax.dynamic_slice_in_dim(of.ranks, np.int32(start), of.rows)
        count = np.int32(min(of.rows, of.n - start))
        jax.block_until_ready(state)  # at most two tiles at a time
        state = _add_sums(*state, formulas, ranks, of.labels(start), count)
    return state


@jax.jit
def _doubled_ranks(values, n):
    """2·rank − (n + 1) in each column's first n rows, ties sharing their mean rank; 0 below."""
    numbers = jnp.broadcast_to(jnp.arange(len(values), dtype=jnp.int32)[:, None], values.shape)
    ordered, order = jax.lax.sort((values, numbers), dimension=0, num_keys=1)
    new = jnp.concatenate([jnp.ones_like(ordered[:1], bool), ordered[1:] != ordered[:-1]])
    last = jnp.concatenate([new[1:], jnp.ones_like(new[:1])])
    first = jax.lax.cummax(jnp.where(new, numbers, 0), axis=0)
    final = jax.lax.cummin(jnp.where(last, numbers, len(values)), axis=0, reverse=True)
    _, doubled = jax.lax.sort((order, first + final + 1 - n), dimension=0, num_keys=1)
    return jnp.where(numbers < n, doubled, 0).astype(jnp.float32)


def _truth(formulas: Formulas, labels, count):
    """(rows, neurons, width) of 0 and 1: where each formula holds; 0 in rows that pad."""
    n_neurons, width, words = formulas.concept.shape
    alive = jnp.arange(labels.shape[0], dtype=jnp.int32) < count
    found = jnp.zeros((labels.shape[0], n_neurons, width), jnp.float32)
    for i in range(words):
        value = labels[:, formulas.concept[:, :, i].reshape(-1)].reshape(found.shape)
        value = jnp.where(formulas.negated[None, :, :, i], 1 - value, value)
        both = found * value
        joined = jnp.where(formulas.either[None, :, :, i], found + value - both, both)
        longer = (i < formulas.length)[None]
        found = jnp.where(longer, value if i == 0 else joined, found)
    return jnp.where(alive[:, None, None], found, 0.0)


@jax.jit
def _add_sums(total, size, formulas, ranks, labels, count):
    if formulas is None:
        alive = jnp.arange(labels.shape[0], dtype=jnp.int32) < count
        truth = jnp.broadcast_to(alive[:, None, None], (*ranks.shape, 1)).astype(jnp.float32)
    else:
        truth = _truth(formulas, labels, count)
    flat = (len(ranks), -1)

    def product(values):
        found = jnp.matmul(values.reshape(flat).T, labels, precision=HIGHEST)
        return found.reshape(total.shape)

    return total + product(truth * ranks[:, :, None]), size + product(truth)


@jax.jit
def _add_scores(total, size, formulas, ranks, labels, count):
    truth = _truth(formulas, labels, count)
    return total + jnp.sum(truth * ranks[:, :, None], axis=0), size + jnp.sum(truth, axis=0)


def _auroc(total, size, n, limits):
    pairs = size * (n - size)
    score = jnp.where(pairs > 0, 0.5 + total / (2 * jnp.where(pairs > 0, pairs, 1.0)), -jnp.inf)
    return jnp.where((size >= limits[0]) & (size <= limits[1]), score, score - OUTSIDE)


@jax.jit
def _first(beam: Beam, total_c, size_c, n, limits) -> Beam:
    """The best single concepts and negated ones; `beam` says how many."""
    total = jnp.stack([total_c, -total_c], axis=1)[:, None]
    size = jnp.broadcast_to(jnp.stack([size_c, n - size_c])[None, None], total.shape)
    empty = beam.formulas.length[:, :1] == 0
    return _best(beam, total, size, empty, n, limits, either=(False, False))


@jax.jit
def _longer(beam: Beam, total_c, size_c, and_concept, n, limits) -> Beam:
    """The best of the beam and of all that is one literal longer."""
    total, size = and_concept
    total_f, size_f = beam.total[:, :, None], beam.size[:, :, None]
    total_c, size_c = total_c[:, None, :], size_c[None, None, :]
    totals = [total, total_f - total, total_f + total_c - total, total - total_c]
    sizes = [size, size_f - size, size_f + size_c - size, n - size_c + size]
    total, size = (jnp.stack(part, axis=2) for part in (totals, sizes))
    able = (beam.score > -jnp.inf) & (beam.formulas.length < beam.formulas.concept.shape[2])
    return _best(beam, total, size, able, n, limits, either=(False, False, True, True))


def _best(beam: Beam, total, size, able, n, limits, *, either: Sequence[bool]) -> Beam:
    """The beam's width of best formulas: old ones, and those that add a literal.

    `total`, `size` are (neurons, formulas, forms, concepts); `able` says which may grow.
    """
    n_neurons, width = beam.score.shape
    _, grown, forms, n_concepts = total.shape
    score = jnp.where(able[:, :, None, None], _auroc(total, size, n, limits), -jnp.inf)
    flat = (n_neurons, -1)
    scores, totals, sizes = (
        jnp.concatenate([old, new.reshape(flat)], axis=1)
        for old, new in ((beam.score, score), (beam.total, total), (beam.size, size))
    )
    best, place = jax.lax.top_k(_once(scores, totals, sizes), width)
    total, size = (jnp.take_along_axis(part, place, axis=1) for part in (totals, sizes))
    # where each came from: an old formula, or formula, form and concept
    is_old, new = place < width, jnp.maximum(place - width, 0)
    source = jnp.where(is_old, place, new // (forms * n_concepts)).astype(jnp.int32)
    form, concept = new // n_concepts % forms, new % n_concepts
    old = beam.formulas

    def from_source(part):
        return jnp.take_along_axis(part, source[:, :, None], axis=1)

    length = jnp.take_along_axis(old.length, source, axis=1)
    words = jnp.arange(old.concept.shape[2], dtype=jnp.int32)[None, None, :]
    here = ~is_old[:, :, None] & (words == length[:, :, None])
    joined = jnp.asarray(either)[form]
    formulas = Formulas(
        jnp.where(here, concept[:, :, None], from_source(old.concept)).astype(jnp.int32),
        jnp.where(here, (form % 2 == 1)[:, :, None], from_source(old.negated)),
        jnp.where(here, joined[:, :, None], from_source(old.either)),
        jnp.where(best == -jnp.inf, 0, length + ~is_old).astype(jnp.int32),
    )
    return Beam(formulas, total, size, best)


def _once(scores, totals, sizes):
    """Scores; −inf for all but the first of those of equal size and rank sum."""
    places = jnp.broadcast_to(jnp.arange(scores.shape[1], dtype=jnp.int32), scores.shape)
    keys = (scores, totals, sizes, places)
    _, total, size, place = jax.lax.sort(keys, dimension=1, num_keys=3, is_stable=True)
    same = (total[:, 1:] == total[:, :-1]) & (size[:, 1:] == size[:, :-1])
    again = jnp.pad(same, ((0, 0), (1, 0)))
    rows = jnp.arange(len(scores), dtype=jnp.int32)[:, None]
    return jnp.where(jnp.zeros_like(again).at[rows, place].set(again), -jnp.inf, scores)


def block_size(n_images: int, n_concepts: int, width: int) -> int:
    """Returns how many neurons are searched for at a time, a power of two."""
    return tiles.fitting(256, 4 * (6 * n_images + 8 * FORMS * width * n_concepts))
