"""What a search finds where there is nothing to find (method.md §8).

    permute and refit  activations permuted over train ∪ val, the whole search run again: what it
                       reports on val is its optimism, what chance gives the best of many
    random concepts    words that mean nothing, for an encoder; or labels permuted over images

The refitted explanations' correlations with the real test activations are no null for ρ. What such
an explanation says is arbitrary, but it speaks of concepts, and a neuron that responds to concepts
correlates with arbitrary sums of them: in real layers these correlations spread 1.4 to 5.4 times as
widely as chance would, 1/√n. P-values are made by permuting test images instead
(`evaluation.permutation`). `swap` is another null.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Real

from jaxle.arrays import Array
from jaxle.data.splits import Split, shuffled
from jaxle.evaluation.correlation import correlation
from jaxle.explanations import Explanations

ONSETS = tuple("b bl d dr f fl g gr j k kl m n p pr s sk t tr v z".split())
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "l", "n", "r", "x")
STREAM = 1 << 32  # permutations here draw from streams of their own, apart from the split's


class Refits(NamedTuple):
    """Scores of explanations that were fitted to permuted activations."""

    # as the search reports it: the optimism of choosing the best
    val_correlation: Float32[np.ndarray, "refits neurons"]
    # with the real test activations: about 0 on average
    test_correlation: Float32[np.ndarray, "refits neurons"]


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


def score_refits(
    found: Iterable[Explanations],
    simulate: Callable[[Explanations], np.ndarray],
    activations: Real[Array, "images neurons"],
) -> Refits:
    """Returns what explanations of permuted activations score: the optimism of the search.

    Such explanations are `jaxle.explain(PermutedActivations(activations, split, seed, i), …)`, with
    the options of the real ones, for i = 0, 1, …

    Args:
      found: of each permutation, the explanations of all neurons in order.
      simulate: explanations → (images, neurons) on the test images.
      activations: (images, neurons), the real ones on the same images.

    Returns:
      Refits. A neuron without an explanation has 0 in both.

    Raises:
      ValueError: the explanations are of another number of neurons.
    """
    n_neurons = activations.shape[1]
    val, test = [], []
    for explanations in found:
        if len(explanations) != n_neurons:
            raise ValueError(
                f"a refit gave {len(explanations)} explanations for {n_neurons} neurons: "
                "expected one a neuron, in order."
            )
        val.append([row.val_correlation or 0.0 for row in explanations])
        test.append(correlation(simulate(explanations), activations))
    shape = (len(val), n_neurons)
    return Refits(*(np.asarray(x, np.float32).reshape(shape) for x in (val, test)))


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
    same permutation, so that their scores are not independent; `PermutedActivations` has one for
    each neuron.

    Args:
      rows: (row index, column index) → (rows, columns) 0 or 1, such as `LabelConcepts.rows`.
      n_images: how many images there are.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      A function like `rows`.
    """
    order = shuffled(n_images, seed, STREAM - 1)
    return lambda index, *columns: rows(order[index], *columns)
