"""What every search sees of the images: the concepts that pass screening, and second moments over those."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxle.arrays import Array, row_blocks
from jaxle.data.splits import Split
from jaxle.explainers.screen import screen
from jaxle.solve.folds import fold_moments
from jaxle.solve.moments import Moments, second_moments


class Measured(NamedTuple):
    """What the fit sees of the images."""

    kept: np.ndarray  # (concepts,) int64 columns that passed screening; the moments are over those
    train: Moments
    val: Moments
    folds: tuple[Moments, ...] = ()  # of train ∪ val, where a search judges by folds


def measure(
    rows: Callable[..., Array],
    n_concepts: int,
    activations: Array,
    split: Split,
    min_top5: float,
    mesh: Mesh | None = None,
    folds: int = 0,
) -> Measured:
    """Screen the concepts on train, then accumulate train's and val's moments, each image read once.

    Args:
      rows: (row index, column index) → (rows, columns) probabilities; made on the fly, so images × concepts is never held.
      n_concepts: how many columns there are.
      activations: (images, neurons).
      split: its train and val rows are read, its test rows are not.
      min_top5: see `linear.explain`.
      mesh: images are split over its axis `data`.
      folds: cut train ∪ val into so many folds and keep their moments too (memory: a Gram matrix each); 0: none.

    Raises:
      ValueError: no concept passes.
    """
    screened = screen(rows, split.train, n_concepts, min_top5)
    kept = np.flatnonzero(screened.kept)
    if len(kept) == 0:
        raise ValueError(
            f"none of the {n_concepts} concepts passes screening: the largest mean of five top probabilities is "
            f"{screened.top5.max():.3g}, expected at least min_top5={min_top5} (0 turns the rule off), in a column that varies on train."
        )

    def features(index):
        return rows(index, kept)

    if folds:
        return Measured(
            kept, *fold_moments(features, activations, split.train, split.val, folds, mesh=mesh)
        )
    return Measured(
        kept,
        *(
            second_moments(features, activations, index, mesh=mesh)
            for index in (split.train, split.val)
        ),
    )


def maximum(activations: Array) -> np.ndarray:
    """(neurons,) float32: each neuron's largest activation over all images, read in blocks."""
    blocks = row_blocks(activations.shape[0], activations.shape[1] * activations.dtype.itemsize)
    return np.max([np.asarray(activations[block], np.float32).max(0) for block in blocks], axis=0)
