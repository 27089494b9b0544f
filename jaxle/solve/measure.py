"""What every search reads of the images: the concepts that pass screening, and second moments.

    screen on train → kept columns;   moments of train and of val;   where folds are asked for, also
    moments of the folds of train ∪ val, their total, and the spectrum of its Gram matrix

All that depends on the concepts alone (screening, Gram matrices, spectrum) is made once, whatever
the number of neurons: layers and permuted activations are more columns of the same moments, and
`Measured.neurons` gives each its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, Real

from jaxle.arrays import Array, row_blocks
from jaxle.solve import ridge
from jaxle.solve.folds import fold_moments
from jaxle.solve.moments import Moments, merge, second_moments
from jaxle.solve.screen import screen


class Measured(NamedTuple):
    """What a fit sees of the images; moments are over the kept concepts."""

    kept: Int[np.ndarray, "kept"]  # columns that passed screening
    train: Moments
    val: Moments
    folds: tuple[Moments, ...] = ()  # of train ∪ val, where a search judges by folds
    total: Moments | None = None  # of train ∪ val, with folds
    spectrum: ridge.Spectrum | None = None  # of the total's standardised Gram matrix, with folds

    def neurons(self, index: slice) -> Measured:
        """The same for some neurons only; concepts, Gram matrices and spectrum are not copied."""
        return self._replace(
            train=self.train.neurons(index),
            val=self.val.neurons(index),
            folds=tuple(fold.neurons(index) for fold in self.folds),
            total=None if self.total is None else self.total.neurons(index),
        )


def measure(
    rows: Callable[..., Array],
    n_concepts: int,
    activations: Array,
    train: np.ndarray,
    val: np.ndarray,
    *,
    min_top5: float,
    mesh: Mesh | None = None,
    folds: int = 0,
) -> Measured:
    """Screens the concepts on train, then accumulates moments; each image is read once.

    Args:
      rows: (row index, column index) → (rows, columns) probabilities, made where they are read, so
        that images × concepts is never held.
      n_concepts: how many columns there are.
      activations: (images, neurons), an array or anything with shape, dtype and row indexing.
      train, val: int (images,), disjoint; other rows are not read.
      min_top5: least mean of a concept's five largest probabilities; 0 turns the rule off.
      mesh: images are split over its axis `data`.
      folds: cut train ∪ val into so many folds (memory: a Gram matrix each); 0 for none.

    Raises:
      ValueError: no concept passes.
    """
    screened = screen(rows, train, n_concepts, min_top5)
    kept = np.flatnonzero(screened.kept)
    if len(kept) == 0:
        raise ValueError(
            f"none of the {n_concepts} concepts passes screening: the largest mean of five top "
            f"probabilities is {screened.top5.max():.3g}, expected at least min_top5={min_top5} "
            "(0 turns the rule off), in a column that varies on train."
        )

    def features(index):
        return rows(index, kept)

    if not folds:
        parts = (second_moments(features, activations, index, mesh=mesh) for index in (train, val))
        return Measured(kept, *parts)
    parts = fold_moments(features, activations, train, val, folds, mesh=mesh)
    total = merge([parts.train, parts.val])
    return Measured(kept, parts.train, parts.val, parts.folds, total, ridge.spectrum(total))


def maximum(activations: Real[Array, "images neurons"]) -> Float[np.ndarray, " neurons"]:
    """(neurons,) float32: each neuron's largest activation over all images, read in blocks."""
    n_images, n_neurons = activations.shape
    blocks = row_blocks(n_images, n_neurons * activations.dtype.itemsize)
    return np.max([np.asarray(activations[block], np.float32).max(0) for block in blocks], axis=0)
