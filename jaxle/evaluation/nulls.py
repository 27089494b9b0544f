"""Nulls: what a score is worth when there is nothing to find (method.md §8).

    permute and refit  activations permuted over train ∪ val, the whole search run again, its
                       explanations scored on the real test activations
    random concepts    words that mean nothing, for an encoder; or labels permuted over images

If a neuron has nothing to do with the concepts, its train and val activations are exchangeable
given test, so that the refitted score has exactly the distribution of the observed one. The
correlations of the null are all close to N(0, 1/n_test). So they may be pooled over neurons (a few
permutations each), as long as a neuron fires on more than a handful of test images
(tests/evaluation/test_nulls.py shows it for three marginal distributions). `swap` is another null.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Real

from jaxle.arrays import Array, Rows
from jaxle.data.splits import Split, shuffled
from jaxle.evaluation.correlation import correlation
from jaxle.explanations import Explanations

ONSETS = tuple("b bl d dr f fl g gr j k kl m n p pr s sk t tr v z".split())
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "l", "n", "r", "x")
STREAM = 1 << 32  # permutations here draw from streams of their own, apart from the split's


class Permuted(NamedTuple):
    """Scores of explanations that were fitted to permuted activations."""

    # as the search reports it: the optimism of choosing the best
    val_correlation: Float32[np.ndarray, "permutations neurons"]
    # with the real test activations: the null of the test score
    test_correlation: Float32[np.ndarray, "permutations neurons"]


class PermutedActivations:
    """Activations permuted over the images of train and val, each neuron's in its own way.

    It is read like an array of shape (images, neurons), by a slice or by an int array of rows;
    nothing is held but the permutation. Rows outside train and val, such as those of test, are the
    real ones. A neuron's permutation is a common random one followed by a rotation of its own: each
    is uniform, and neurons that fire together are permuted apart.

    Args:
      activations: (images, neurons), any real dtype, NumPy, JAX or memory-mapped.
      split: train, val and test.
      seed: integer from 0 to 2⁶⁴ − 1.
      number: which of the permutations of this seed.
    """

    def __init__(
        self, activations: Real[Array, "images neurons"], split: Split, seed: int, number: int
    ):
        self._values = np.asarray(activations)
        images = np.concatenate([split.train, split.val])
        n_images, n_neurons = self._values.shape
        rotation = np.random.Philox(key=np.array([seed, STREAM + number], np.uint64))
        rotation = rotation.random_raw(n_neurons) % np.uint64(len(images))
        self._order = images[shuffled(len(images), seed, STREAM + number)]
        self._rotation = rotation.astype(np.int64)
        self._position = np.full(n_images, -1, np.int64)  # among train and val
        self._position[images] = np.arange(len(images))

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, neurons)."""
        return self._values.shape

    @property
    def dtype(self) -> np.dtype:
        """That of the activations."""
        return self._values.dtype

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(
        self, rows: slice | Int[np.ndarray, " rows"], /
    ) -> Real[np.ndarray, "rows neurons"]:
        """Returns a copy of some rows."""
        index = np.arange(len(self))[rows]
        found, position = np.array(self._values[index]), self._position[index]
        moved = position >= 0
        place = (position[moved, None] + self._rotation[None, :]) % len(self._order)
        found[moved] = self._values[self._order[place], np.arange(self.shape[1])]
        return found


def permute_and_refit(
    activations: Real[Array, "images neurons"],
    split: Split,
    refit: Callable[[Rows], Explanations],
    simulate: Callable[[Explanations], np.ndarray],
    *,
    permutations: int = 1,
    seed: int = 0,
) -> Permuted:
    """Scores what the whole search finds when the activations belong to other images.

    The test correlations are the null of `discoveries.p_values`, pooled over live neurons.

    Args:
      activations: (images, neurons).
      split: the images that fit, choose and score.
      refit: `PermutedActivations` → explanations of all neurons, such as `jaxle.explain` with the
        options of the real fit. It reads train and val images only.
      simulate: explanations → (test images, neurons), on the images `split.test` in that order.
      permutations: how many; each costs a fit and a search.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      Permuted. A neuron without an explanation has 0 in both.

    Raises:
      ValueError: the refit explains another number of neurons.
    """
    test, n_neurons = np.asarray(activations[split.test]), activations.shape[1]
    shape = (permutations, n_neurons)
    val, scores = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for number in range(permutations):
        explanations = refit(PermutedActivations(activations, split, seed, number))
        if len(explanations) != n_neurons:
            raise ValueError(
                f"refit gave {len(explanations)} explanations for {n_neurons} neurons: "
                "expected one a neuron, in order."
            )
        val[number] = [row.val_correlation or 0.0 for row in explanations]
        scores[number] = correlation(simulate(explanations), test)
    return Permuted(val, scores)


def nonsense_names(n: int, seed: int, avoid: Collection[str] = ()) -> list[str]:
    """Returns words that mean nothing, such as "drolvix": the null of random concepts.

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


def permuted_rows(rows: Callable[..., Any], n_images: int, seed: int) -> Callable[..., Any]:
    """Returns a concept matrix in which every image has the labels of another one.

    This is the null of random concepts for labels, to be called from a script: no run does. Explain
    and simulate with it: explanations then score about 0 on test, and on val what choosing the best
    of so many concepts earns by itself. All columns move together, so that each keeps its frequency
    and its correlations with the others; only the link to the images is cut. All neurons use the
    same permutation, so that their scores are not independent. `permute_and_refit` has a
    permutation for each neuron: use it where scores are pooled over neurons.

    Args:
      rows: (row index, column index) → (rows, columns) 0 or 1, such as `LabelConcepts.rows`.
      n_images: how many images there are.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      A function like `rows`.
    """
    order = shuffled(n_images, seed, STREAM - 1)
    return lambda index, *columns: rows(order[index], *columns)
