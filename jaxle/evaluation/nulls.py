"""Nulls: what a score is worth when there is nothing to find (method.md §8). A run makes all but the labels dealt to other images.

    swap               C = ÂᵀŜ/n (neurons × neurons): what the explanations of other neurons score on a neuron
    permute and refit  activations permuted over train ∪ val, the whole search rerun, scored on the real test activations
    random concepts    nonsense names for an encoder, or labels dealt to other images

Under "this neuron has nothing to do with the concepts" its train and val activations are exchangeable given test, so the refitted score
has exactly the observed one's distribution. The concepts' Gram stays, whatever the permutation, and only cross moments are
accumulated again. Its correlations are all close to N(0, 1/n_test), so they may be pooled over neurons (a few permutations each), as long
as a neuron fires on more than a handful of test images (tests/evaluation/test_nulls.py shows it for three marginal distributions).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import BLOCK_BYTES, Array, row_blocks
from jaxle.data.splits import Split, shuffled
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.intervals import check_pair
from jaxle.evaluation.resampling import fold_rows
from jaxle.explainers.linear import Measured
from jaxle.explanations import Explanations
from jaxle.solve.moments import HIGHEST, Moments
from jaxle.stats import standardise

TIE = 1e-5  # correlations this close are equal: round-off of float32 over some 10,000 images
ONSETS = (
    "b",
    "bl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "j",
    "k",
    "kl",
    "m",
    "n",
    "p",
    "pr",
    "s",
    "sk",
    "t",
    "tr",
    "v",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "l", "n", "r", "x")
STREAM = 1 << 32  # permutations here draw from streams of their own, apart from the split's


class Swap(NamedTuple):
    """Own explanation against everyone else's; dead neurons neither score nor compete."""

    correlation: np.ndarray  # (neurons,) float32: the diagonal
    off_diagonal: np.ndarray  # (neurons,) float32: mean correlation of the other live neurons' explanations with this neuron
    specificity: np.ndarray  # (neurons,) float32: correlation − off_diagonal; 0 where dead
    rank: np.ndarray  # (neurons,) float32: place of the own explanation among the live ones', 1 = best, ties count half; 0 where dead
    mean_off_diagonal: float
    mean_specificity: float
    retrieval_at_1: float  # share of live neurons whose own explanation scores best; one of t that tie counts 1/t
    mrr: float  # mean of 1/rank


class Permuted(NamedTuple):
    """Scores of explanations that were fitted to permuted activations."""

    val_correlation: np.ndarray  # (permutations, neurons) float32, as the search reports it: the optimism of choosing the best
    test_correlation: (
        np.ndarray
    )  # (permutations, neurons) float32, with the real test activations: the null of the test score


def swap(simulated: Array, activations: Array, live: np.ndarray | None = None) -> Swap:
    """Is an explanation about its own neuron? Use it on test images, where every neuron has a simulation.

    Args:
      simulated: (images, neurons), any real dtype.
      activations: (images, neurons), the same images and neurons.
      live: (neurons,) bool; None for all.

    Returns:
      Swap; with a single live neuron nothing is off the diagonal: 0, and rank 1.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    live = check_pair(simulated, activations, live)
    n_neurons = activations.shape[1]
    a, s = _standard(jnp.asarray(activations)), _standard(jnp.asarray(simulated))
    size = min(n_neurons, max(1, BLOCK_BYTES // (4 * n_neurons)))
    diagonal, off, greater, ties = (np.zeros(n_neurons) for _ in range(4))
    for start in range(0, n_neurons, size):
        start = min(start, n_neurons - size)  # the last block reaches back: one shape, one program
        own = np.arange(start, start + size, dtype=np.int32)
        parts = _compare(a[:, start : start + size], s, live, own)
        for target, part in zip((diagonal, off, greater, ties), parts, strict=True):
            target[own] = np.asarray(part)
    rank = np.where(live, 1.0 + greater + 0.5 * ties, 0.0)
    specificity = np.where(live, diagonal - off, 0.0)
    first = np.where(greater == 0, 1.0 / (1.0 + ties), 0.0)
    means = [
        float(values[live].mean()) if live.any() else 0.0
        for values in (off, specificity, first, 1.0 / np.maximum(rank, 1.0))
    ]
    return Swap(
        *(np.asarray(values, np.float32) for values in (diagonal, off, specificity, rank)), *means
    )


def permute_and_refit(
    measured: Measured,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    activations: Array,
    split: Split,
    refit: Callable[[Measured], Explanations],
    simulate: Callable[[Explanations], np.ndarray],
    *,
    permutations: int = 1,
    seed: int = 0,
) -> Permuted:
    """What the whole search scores when the activations belong to other images; feed it to `p_values`, pooled over live neurons.

    Args:
      measured: what the explainer measured; its concepts, their means and Grams are kept.
      rows: (row index, column index) → (rows, columns) explainer probabilities.
      activations: (images, neurons).
      split: as in `measured`.
      refit: moments → explanations, such as `linear.rank` and `linear.select` with the run's options.
      simulate: explanations → (test images, neurons), on the images `split.test` in that order.
      permutations: how many; each costs a pass over the concept probabilities, a fit and a search.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      Permuted. A neuron left unexplained has 0 in both.
    """
    test = np.asarray(activations[split.test])
    val, scores = [], []
    for number in range(permutations):
        explanations = refit(permute(measured, rows, activations, split, seed, number))
        val.append(np.array([row.val_correlation or 0.0 for row in explanations], np.float32))
        scores.append(correlation(simulate(explanations), test))
    shape = (permutations, activations.shape[1])
    return Permuted(
        np.array(val, np.float32).reshape(shape), np.array(scores, np.float32).reshape(shape)
    )


def permute(
    measured: Measured, rows: Callable, activations: Array, split: Split, seed: int, number: int
) -> Measured:
    """`measured` as it would be with the activations permuted over the images of train and val, every neuron's in its own way.

    Arguments as in `permute_and_refit`; `number` says which permutations of this seed. A neuron's permutation is a common random one
    followed by a rotation of its own: each is uniform, and neurons that fire together do not share their luck.
    """
    images = np.concatenate([split.train, split.val])
    values, n_neurons = np.asarray(activations), activations.shape[1]
    order = images[shuffled(len(images), seed, STREAM + number)]
    rotation = np.random.Philox(key=np.array([seed, STREAM + number], np.uint64)).random_raw(
        n_neurons
    )
    rotation = (rotation % np.uint64(len(images))).astype(np.int64)
    position = np.zeros(len(values), np.int64)
    position[images] = np.arange(len(images))

    def moved(moments: Moments, index: np.ndarray) -> Moments:
        def read(block: np.ndarray) -> np.ndarray:
            return values[
                order[(position[block][:, None] + rotation[None, :]) % len(images)],
                np.arange(n_neurons),
            ]

        return reassign(moments, lambda i: rows(i, measured.kept), read, index)

    folds = zip(measured.folds, fold_rows(split, len(measured.folds)), strict=True)
    return measured._replace(
        train=moved(measured.train, split.train),
        val=moved(measured.val, split.val),
        folds=tuple(moved(moments, np.concatenate(parts)) for moments, parts in folds),
    )


def reassign(
    moments: Moments,
    features: Callable[[np.ndarray], Array],
    activations: Callable[[np.ndarray], Array],
    index: np.ndarray,
) -> Moments:
    """Moments of some images with other activations in place of their own: the concepts' own moments are not redone.

    Args:
      moments: of the same images with their own activations.
      features: row index → (rows, concepts), the concepts of `moments`.
      activations: row index → (rows, neurons), the others.
      index: (rows,) int, the images.

    Returns:
      Moments with new mean_y, cross and var_y.
    """
    n, n_neurons = len(index), moments.cross.shape[1]
    n_rows = min(n, max(1, BLOCK_BYTES // (4 * (n_neurons + len(moments.mean_x)))))
    mean = np.zeros(n_neurons)
    for block in row_blocks(n, 4 * n_neurons):
        mean += np.asarray(activations(index[block]), np.float64).sum(0) / n
    mean = jnp.asarray(mean, jnp.float32)
    state = (
        jnp.zeros(n_neurons, jnp.float32),
        jnp.zeros(moments.cross.shape, jnp.float32),
        jnp.zeros(n_neurons, jnp.float32),
    )
    for start in range(0, n, n_rows):
        place = index[
            np.minimum(np.arange(start, start + n_rows), n - 1)
        ]  # one shape, one program; the count masks the rest
        x, y = features(place), activations(place)
        jax.block_until_ready(state)  # at most two tiles at a time
        state = _add(
            state,
            jnp.asarray(x),
            jnp.asarray(y),
            moments.mean_x,
            mean,
            jnp.int32(min(n_rows, n - start)),
        )
    left, cross, var = (part / n for part in state)
    return moments._replace(mean_y=mean + left, cross=cross, var_y=jnp.maximum(var - left**2, 0.0))


def nonsense_names(n: int, seed: int, avoid: Collection[str] = ()) -> list[str]:
    """Words that mean nothing, such as "drolvix", for the random-concepts null of an encoder.

    Args:
      n: how many.
      seed: integer from 0 to 2⁶⁴ − 1.
      avoid: real words, which none of them is (compared in lower case).

    Returns:
      n different names of two to three syllables; the same for the same arguments on every machine.
    """
    stream = np.random.Philox(key=np.array([seed, STREAM], np.uint64))
    taken, names = {word.lower() for word in avoid}, []
    parts = (ONSETS, VOWELS, CODAS)
    while len(names) < n:
        number, syllables = int(stream.random_raw()) >> 8, []
        for _ in range(2 + number % 2):
            for letters in parts:
                number, place = divmod(number, len(letters))
                syllables.append(letters[place])
        name = "".join(syllables)
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def shuffled_rows(rows: Callable[..., Array], n_images: int, seed: int) -> Callable[..., Array]:
    """The random-concepts null of labels, for scripts of your own: every image has the labels of another one.

    No run calls it. Give what it returns to `linear.measure` and `simulate_rows` in place of `rows`: explanations then score chance on
    test, and on val what choosing the best of so many concepts earns by itself. All columns move together, so that each keeps its frequency
    and its company; only the link to the images is cut. Neurons that fire together share their luck, which `permute_and_refit` parts: use
    that one where scores are pooled over neurons.

    Args:
      rows: (row index, column index) → (rows, columns) 0 or 1, such as `LabelConcepts.rows`.
      n_images: how many images there are.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      A function like `rows`.
    """
    order = shuffled(n_images, seed, STREAM - 1)
    return lambda index, *columns: rows(order[index], *columns)


@jax.jit
def _standard(x):
    return standardise(x.astype(jnp.float32))[0]


@jax.jit
def _compare(a, s, live, own):
    """A block of neurons against all explanations: own correlation, mean of the others', how many of them are better, how many tie."""
    c = jnp.matmul(a.T, s, precision=HIGHEST) / a.shape[0]
    diagonal = jnp.take_along_axis(c, own[:, None], axis=1)
    other = live[None, :] & (jnp.arange(s.shape[1], dtype=jnp.int32)[None, :] != own[:, None])
    off = jnp.sum(jnp.where(other, c, 0.0), axis=1) / jnp.maximum(1, jnp.sum(other, axis=1))
    greater = jnp.sum(other & (c > diagonal + TIE), axis=1)
    ties = jnp.sum(other & (jnp.abs(c - diagonal) <= TIE), axis=1)
    return jnp.clip(diagonal[:, 0], -1.0, 1.0), off, greater, ties


@jax.jit
def _add(state, x, y, mean_x, mean_y, count):
    total, cross, var = state
    real = (jnp.arange(x.shape[0], dtype=jnp.int32) < count)[:, None]
    x, y = (
        jnp.where(real, z.astype(jnp.float32) - mean[None, :], 0.0)
        for z, mean in ((x, mean_x), (y, mean_y))
    )
    return (
        total + jnp.sum(y, axis=0),
        cross + jnp.matmul(x.T, y, precision=HIGHEST),
        var + jnp.sum(y * y, axis=0),
    )
