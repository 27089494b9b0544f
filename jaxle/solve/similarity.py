"""Which concept's cosines with images fit each neuron best: four measures, concept tile by tile.

    S_ic = exp(a cos_ic) / Σ_c exp(a cos_ic)               images i, concepts c
    t = 0 … T − 1: the images that activate neuron k most, from the largest activation down
    soft_wpmi     log p_kc = Σ_t log(1 + p_t (S_tc − 1) + ε),  p_t = .998 − (t/T)(.998 − .97)
    wpmi          log p_kc = Σ_t log(S_tc + ε)
                  score = log p_kc − λ (log Σ_k p_kc − log K)
    rank_reorder  score = −(Σ_t |q_t − q'_t|³ / mean of that over all orders) / √(mean_t cos_tc),
                  q' = the same activations in the order in which the cosines put the T images
    cos_cubed     score = cosine over images of (q − mean q)³ and (cos − mean cos)³

Equations: Oikarinen & Weng, CLIP-Dissect, ICLR 2023 (arXiv 2204.10965), and docs/methods.md.

**Memory.** Of images × concepts no more is held than a tile of concepts, for the U images that are
among the T of any neuron; of neurons × concepts the same tile. A tile has about `TILE_BYTES`. Since
all neurons are there for every tile, Σ_k takes no second pass; Σ_c takes one before, so that the
cosines are made twice. cos_cubed reads all images, in blocks.

**Numbers.** log(1 + p(S − 1) + ε) is log(1 − p + ε), the same for all neurons and concepts, plus
log(1 + S p/(1 − p + ε)), which is computed; one logarithm is taken of the product of five. Where
one neuron outweighs all others for a concept, λ = 1 gives log K less a number that float32 could
not hold beside it. So scores are kept, and compared, without λ log K.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from jaxle.arrays import Array, Rows, host_blocks
from jaxle.mesh import round_up
from jaxle.solve.tiles import bucket, read_tile, tile_index, tile_rows

TILE_BYTES = 256 << 20
LEAST_COLUMNS, MOST_COLUMNS = 64, 4096  # concepts a tile
MOST_ROWS = 4096  # images of a tile that are made at a time
GROUP = 5  # factors a logarithm
BLOCK = 8  # neurons at a time
EPSILON = 1e-7
FIRST, LAST = 0.998, 0.97  # p_t
CUBE = 3
TIE = 2e-5  # scores that differ by less, or by less than this share of them, are equal

Cosines = Callable[[np.ndarray, np.ndarray], Array]


class Measure(NamedTuple):
    """What is computed: a name of the module docstring, and its numbers."""

    name: str
    top: int  # T, at most as many as there are images; cos_cubed takes all
    sharpness: float  # a
    discount: float  # λ


class Best(NamedTuple):
    """Each neuron's concept of largest score."""

    concept: Int32[np.ndarray, " neurons"]  # place among the columns; −1: none can be chosen
    score: Float32[np.ndarray, " neurons"]  # 0 where there is none
    varies: Bool[np.ndarray, " neurons"]  # over the images that were read


class Top(NamedTuple):
    """The most activating images of every neuron, padded neurons included."""

    places: Int32[np.ndarray, "padded top"]  # into the images that were read
    values: Float32[np.ndarray, "padded top"]
    low: Float32[np.ndarray, " padded"]  # least activation


def best_concepts(
    activations: Rows,
    cosines: Cosines,
    columns: Int[np.ndarray, " concepts"],
    images: Int[np.ndarray, " images"],
    measure: Measure,
) -> Best:
    """Returns the concept of largest score of every neuron; among equal scores the first.

    A neuron that does not vary has none.

    Args:
      activations: (all images, neurons), an array or what is read by rows.
      cosines: (row index, column index) → (rows, columns), made where they are read.
      columns: which columns are the concepts.
      images: which images are read.
      measure: how concepts are scored.
    """
    n_neurons = activations.shape[1]
    images = np.sort(images)
    top = top_images(activations, images, min(measure.top, len(images)))
    left_out = 0.0
    if measure.name == "cos_cubed":
        scores = _cubed(activations, cosines, columns, images, len(top.low))
    elif measure.name == "rank_reorder":
        scores = _reordered(top, cosines, columns, images)
    else:
        terms = _terms(measure.name, top.places.shape[1], len(columns))
        left_out = measure.discount * np.log(n_neurons) + (1 - measure.discount) * terms.constant
        scores = _mutual(top, cosines, columns, images, measure, n_neurons)
    best = np.full(len(top.low), -np.inf, np.float32), np.full(len(top.low), -1, np.int32)
    for start, count, tile in scores:
        best = _better(*best, tile, np.int32(start), np.int32(count))
    score, concept = (np.array(part)[:n_neurons] for part in best)
    score = score + np.float32(left_out)
    varies = (top.values[:, 0] > top.low)[:n_neurons]
    chosen = varies & (concept >= 0)
    return Best(np.where(chosen, concept, -1), np.where(chosen, score, np.float32(0)), varies)


def top_images(activations: Rows, images: Int[np.ndarray, " images"], count: int) -> Top:
    """Returns the images that activate each neuron most; of equal ones the first.

    Args:
      activations: (all images, neurons).
      images: which are read, ascending.
      count: how many a neuron.
    """
    padded = round_up(bucket(activations.shape[1]), BLOCK)
    height, n = tile_rows([len(images)], padded), np.int32(len(images))
    carry = (
        jnp.full((padded, count), -jnp.inf, jnp.float32),
        jnp.zeros((padded, count), jnp.int32),
        jnp.full(padded, jnp.inf, jnp.float32),
    )
    for start in range(0, len(images), height):
        index = tile_index(images, start, height, len(images))
        tile = jnp.asarray(read_tile(activations, index, padded), jnp.float32)
        carry = _merge(*carry, tile, np.int32(start), n)
    values, places, low = (np.asarray(part) for part in carry)
    return Top(places, values, low)


@jax.jit
def _merge(values, places, low, tile, start, n):
    at = start + jnp.arange(tile.shape[0], dtype=jnp.int32)
    real = (at < n)[None, :]
    tile = jnp.where(tile == 0, 0.0, tile)  # top_k puts −0 below 0
    joined = jnp.concatenate([values, jnp.where(real, tile.T, -jnp.inf)], axis=1)
    every = jnp.concatenate([places, jnp.broadcast_to(at[None, :], tile.T.shape)], axis=1)
    top, index = jax.lax.top_k(joined, values.shape[1])
    low = jnp.minimum(low, jnp.min(tile, axis=0))  # what is padded repeats a real image
    return top, jnp.take_along_axis(every, index, axis=1), low


@jax.jit
def _better(best, concept, scores, start, count):
    """The best so far, or the first of a tile's best where that is better by more than a tie."""
    real = jnp.arange(scores.shape[1], dtype=jnp.int32)[None, :] < count
    scores = jnp.where(real, scores, -jnp.inf)
    top = jnp.max(scores, axis=1)
    first = jnp.argmax(scores >= _less(top)[:, None], axis=1).astype(jnp.int32)
    newer = _less(top) > best
    own = jnp.take_along_axis(scores, first[:, None], axis=1)[:, 0]
    return jnp.where(newer, own, best), jnp.where(newer, start + first, concept)


def _less(score):
    """The least score that is equal to this one."""
    finite = jnp.isfinite(score)
    some = jnp.where(finite, score, 0.0)
    return jnp.where(finite, some - TIE * jnp.minimum(1.0, jnp.abs(some)), score)


class Terms(NamedTuple):
    """log p_kc = Σ_t log(floor_t + slope_t S_tc) + constant."""

    floor: Float64[np.ndarray, " top"]
    slope: Float64[np.ndarray, " top"]
    constant: float


def _terms(name: str, count: int, n_concepts: int) -> Terms:
    if name == "soft_wpmi":
        inside = FIRST - np.arange(count) / count * (FIRST - LAST)
        outside = 1 - inside + EPSILON
        return Terms(np.ones(count), inside / outside, float(np.sum(np.log(outside))))
    # shares as multiples of their mean
    floor, slope = np.full(count, n_concepts * EPSILON), np.full(count, float(n_concepts))
    return Terms(floor, slope, -count * float(np.log(n_concepts)))


def _mutual(top: Top, cosines, columns, images, measure: Measure, n_neurons: int):
    """soft_wpmi and wpmi: tiles of (padded neurons, concepts)."""
    count = top.places.shape[1]
    terms = _terms(measure.name, count, len(columns))
    used, inverse = np.unique(top.places[:n_neurons], return_inverse=True)
    places = np.zeros((len(top.places), round_up(count, GROUP)), np.int32)
    places[:n_neurons, :count] = inverse.reshape(n_neurons, count)
    more = (0, places.shape[1] - count)
    floor = np.pad(terms.floor, more, constant_values=1.0).astype(np.float32)
    slope = np.pad(terms.slope, more).astype(np.float32)
    read = _Reader(cosines, columns, images[used], len(top.low))
    sharpness = np.float32(measure.sharpness)
    log_sum = np.full(read.n_rows, -np.inf, np.float32)
    for tile in read.tiles():
        for rows, values in read.rows(tile):
            log_sum[rows] = _log_sum(log_sum[rows], values, sharpness, np.int32(tile.count))
    numbers = np.float32(measure.discount), np.int32(n_neurons)
    for tile in read.tiles():
        shares = jnp.zeros((read.n_rows, read.width), jnp.float32)
        for rows, values in read.rows(tile):
            part = _shares(values, log_sum[rows], sharpness)
            shares = _put(shares, part, np.int32(rows.start))
        likelihood = _likelihood(shares, places, floor, slope)
        yield tile.start, tile.count, _discounted(likelihood, *numbers)


@jax.jit
def _log_sum(so_far, cosines, sharpness, count):
    real = jnp.arange(cosines.shape[1], dtype=jnp.int32)[None, :] < count
    more = jax.nn.logsumexp(jnp.where(real, sharpness * cosines, -jnp.inf), axis=1)
    return jnp.logaddexp(so_far, more)


@jax.jit
def _shares(cosines, log_sum, sharpness):
    return jnp.exp(sharpness * cosines - log_sum[:, None])


@functools.partial(jax.jit, donate_argnums=0)
def _put(whole, part, start):
    return jax.lax.dynamic_update_slice(whole, part, (start, jnp.int32(0)))


@jax.jit
def _likelihood(shares, places, floor, slope):
    """Σ_t log(floor_t + slope_t S_tc) of every neuron and concept of a tile.

    Args:
      shares: (rows, columns).
      places: (neurons, top) int32, rows.
      floor, slope: (top,); what is padded has 1 and 0.
    """
    floor, slope = (x.reshape(-1, GROUP) for x in (floor, slope))

    def some(rows):
        def step(g, total):
            x = shares[rows[:, g]]
            factors = floor[g][None, :, None] + slope[g][None, :, None] * x
            return total + jnp.log(jnp.prod(factors, axis=1))

        blank = jnp.zeros((rows.shape[0], shares.shape[1]), jnp.float32)
        return jax.lax.fori_loop(0, rows.shape[1], step, blank)

    blocks = places.reshape(-1, BLOCK, floor.shape[0], GROUP)
    return jax.lax.map(some, blocks).reshape(len(places), -1)


@jax.jit
def _discounted(likelihood, discount, n_neurons):
    number = jnp.arange(likelihood.shape[0])[:, None]
    real = jnp.where(number < n_neurons, likelihood, -jnp.inf)
    most = jnp.max(real, axis=0, keepdims=True)
    largest = number == jnp.argmax(real, axis=0, keepdims=True)
    others = jnp.where(largest, 0.0, jnp.exp(real - most))
    others = jnp.log1p(jnp.sum(others, axis=0, keepdims=True))
    return likelihood - discount * most - discount * others


def _reordered(top: Top, cosines, columns, images):
    """rank_reorder: tiles of (padded neurons, concepts)."""
    used, inverse = np.unique(top.places, return_inverse=True)
    places = inverse.reshape(top.places.shape).astype(np.int32)
    span = top.values[:, :1].astype(np.float64) - top.values[:, -1:]
    values = (top.values - top.values[:, -1:]) / np.where(span > 0, span, 1.0)
    chance = _mean_difference(values)
    values, chance = values.astype(np.float32), chance.astype(np.float32)
    read = _Reader(cosines, columns, images[used], len(top.low))
    for tile in read.tiles():
        whole = jnp.zeros((read.n_rows, read.width), jnp.float32)
        for rows, part in read.rows(tile):
            whole = _put(whole, part, np.int32(rows.start))
        yield tile.start, tile.count, _errors(whole, places, values, chance)


def _mean_difference(values: np.ndarray) -> np.ndarray:
    """(neurons,) mean of |v_i − v_j|³ over all i, j; each row of `values` descends."""
    n = values.shape[1]
    after = [
        np.cumsum((values**power)[:, ::-1], axis=1)[:, ::-1] - values**power for power in (1, 2, 3)
    ]
    count = np.arange(n - 1, -1, -1)
    each = count * values**3 - 3 * values**2 * after[0] + 3 * values * after[1] - after[2]
    return np.maximum(2 * each.sum(axis=1) / n**2, 0.0)


@jax.jit
def _errors(cosines, places, values, chance):
    def one(neuron):
        rows, own, usual = neuron
        x = cosines[rows]
        order = jnp.argsort(x, axis=0, stable=True)
        error = jnp.mean(jnp.abs(own[order] - own[::-1][:, None]) ** CUBE, axis=0)
        mean = jnp.mean(x, axis=0)
        able = (mean > 0) & (usual > 0)
        by = jnp.where(able, usual * jnp.sqrt(jnp.where(able, mean, 1.0)), 1.0)
        return jnp.where(able, -error / by, -jnp.inf)

    return jax.lax.map(one, (places, values, chance))


def _cubed(activations: Rows, cosines, columns, images, padded: int):
    """cos_cubed: tiles of (padded neurons, concepts)."""
    mean, scale = _centre(activations, images)
    read = _Reader(cosines, columns, images, padded)
    for tile in read.tiles():
        total = jnp.zeros(read.width, jnp.float32)
        for rows, part in read.rows(tile):
            total = _sum(total, part, np.int32(read.n_real - rows.start))
        own = (
            jnp.zeros((padded, read.width), jnp.float32),
            jnp.zeros(padded, jnp.float32),
            jnp.zeros(read.width, jnp.float32),
        )
        for rows, part in read.rows(tile):
            x = (np.asarray(activations[read.images[rows]], np.float64) - mean) / scale
            x = np.pad(x.astype(np.float32), ((0, 0), (0, padded - x.shape[1])))
            real = np.int32(read.n_real - rows.start)
            own = _products(*own, x, part, total, np.float32(read.n_real), real)
        yield tile.start, tile.count, _cosine(*own)


def _centre(activations: Rows, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(neurons,) mean, and the largest distance from it; 1 where there is none."""
    parts = [
        (x.sum(axis=0, dtype=np.float64), x.min(axis=0), x.max(axis=0))
        for _, x in host_blocks(activations, images)
    ]
    total, low, high = (np.stack(part).astype(np.float64) for part in zip(*parts, strict=True))
    mean = total.sum(axis=0) / len(images)
    far = np.maximum(high.max(axis=0) - mean, mean - low.min(axis=0))
    return mean, np.where(far > 0, far, 1.0)


@jax.jit
def _sum(total, cosines, n_real):
    real = jnp.arange(cosines.shape[0])[:, None] < n_real
    return total + jnp.sum(jnp.where(real, cosines, 0.0), axis=0)


@jax.jit
def _products(both, of_neurons, of_concepts, x, cosines, total, n, n_real):
    real = (jnp.arange(cosines.shape[0]) < n_real)[:, None]
    x = jnp.where(real, x, 0.0) ** CUBE
    y = jnp.where(real, cosines - total[None, :] / n, 0.0) ** CUBE
    product = jnp.matmul(x.T, y, precision=jax.lax.Precision.HIGHEST)
    return (
        both + product,
        of_neurons + jnp.sum(x**2, axis=0),
        of_concepts + jnp.sum(y**2, axis=0),
    )


@jax.jit
def _cosine(both, of_neurons, of_concepts):
    able = (of_neurons > 0)[:, None] & (of_concepts > 0)[None, :]
    by = jnp.sqrt(of_neurons)[:, None] * jnp.sqrt(of_concepts)[None, :]
    return jnp.where(able, both / jnp.where(able, by, 1.0), -jnp.inf)


class _Tile(NamedTuple):
    """Concepts start … start + count − 1; what is padded repeats the last one."""

    start: int
    count: int
    columns: np.ndarray


class _Reader:
    """Cosines of some images in tiles of few shapes."""

    def __init__(self, cosines: Cosines, columns: np.ndarray, images: np.ndarray, neurons: int):
        self._cosines, self._columns, self.n_real = cosines, columns, len(images)
        step = max(64, 1 << max(0, len(images).bit_length() - 4))
        self.n_rows, self._height = round_up(len(images), step), min(step, MOST_ROWS)
        self.images = np.pad(images, (0, self.n_rows - len(images)), mode="edge")
        fit = max(1, TILE_BYTES // (4 * (self.n_rows + 3 * neurons)))
        fit = min(1 << (fit.bit_length() - 1), 1 << (len(columns) - 1).bit_length())
        self.width = min(max(fit, LEAST_COLUMNS), MOST_COLUMNS)

    def tiles(self) -> Iterator[_Tile]:
        """Yields the concepts, a tile at a time."""
        for start in range(0, len(self._columns), self.width):
            own = self._columns[start : start + self.width]
            yield _Tile(start, len(own), np.pad(own, (0, self.width - len(own)), mode="edge"))

    def rows(self, tile: _Tile) -> Iterator[tuple[slice, jax.Array]]:
        """Yields (which rows, (rows, columns) cosines) of a tile."""
        for start in range(0, self.n_rows, self._height):
            rows = slice(start, start + self._height)
            made = self._cosines(self.images[rows], tile.columns)
            yield rows, jnp.asarray(made, jnp.float32)
