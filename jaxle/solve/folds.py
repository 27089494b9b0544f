"""Moments of folds: train and val cut into the same few parts, each image read once.

    fold_i = train_i ∪ val_i,   train = ∪ train_i,   val = ∪ val_i,   train ∪ val = ∪ fold_i

Every sum is made from the parts' moments by the law of total covariance (`solve.moments.merge`), so
that fits on train, on train ∪ val, and on all folds but one come from one pass over the images.
What it costs beyond that pass is memory: a Gram matrix a fold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from jaxle.arrays import Rows
from jaxle.mesh import data_size
from jaxle.solve import tiles
from jaxle.solve.moments import Features, Moments, merge, padded_moments

N_FOLDS = 5


class Folds(NamedTuple):
    """Moments of train, of val, and of the folds of their union."""

    train: Moments
    val: Moments
    folds: tuple[Moments, ...]


def fold_moments(
    features: Features,
    targets: Rows,
    split_train: Int[np.ndarray, " train"],
    split_val: Int[np.ndarray, " val"],
    n_folds: int = N_FOLDS,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Folds:
    """Returns the moments of train, of val and of the folds of both.

    Args:
      features, targets, mesh: as in `second_moments`.
      split_train, split_val: (rows,) int, disjoint; each fold has its share of both.
      n_folds: how many, at least 2.
      seed: draws which image is in which fold.

    Returns:
      Folds; fewer than `n_folds` of them where there are fewer images than that.

    Raises:
      ValueError: fewer than two folds, or an empty part.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}.")
    if not len(split_train) or not len(split_val):
        raise ValueError(
            f"folds need images in both train and val, got {len(split_train)} and {len(split_val)}."
        )
    train_parts = assign(split_train, n_folds, seed)
    val_parts = assign(split_val, n_folds, seed)[::-1]
    width = (features(split_train[:1]) if callable(features) else features).shape[1]
    width += tiles.bucket(targets.shape[1])
    # one length of tile for all parts, so that they share their programs
    lengths = [len(part) for part in (*train_parts, *val_parts)]
    tile_rows = tiles.tile_rows(lengths, width, data_size(mesh))

    def moments(rows: np.ndarray) -> list[Moments]:
        if not len(rows):
            return []
        return [padded_moments(features, targets, rows, mesh=mesh, tile_rows=tile_rows)]

    train, val, folds = [], [], []
    for train_rows, val_rows in zip(train_parts, val_parts, strict=True):
        a, b = moments(train_rows), moments(val_rows)
        train, val = _sum(train + a), _sum(val + b)
        folds += _sum(a + b)
    real = slice(0, targets.shape[1])
    of_train, of_val, *of_folds = (part.neurons(real) for part in (*train, *val, *folds))
    return Folds(of_train, of_val, tuple(of_folds))


def _sum(parts: list[Moments]) -> list[Moments]:
    return [merge(parts)] if parts else []


def assign(
    rows: Int[np.ndarray, " rows"], n_folds: int, seed: int
) -> list[Int[np.ndarray, " part"]]:
    """Returns the rows in `n_folds` random parts that differ in size by at most one.

    Each part keeps the order of the rows' numbers, in which files are read fastest.

    Args:
      rows: (rows,) int.
      n_folds: how many parts.
      seed: draws which row is in which part.
    """
    # a raw stream: NumPy never changes it
    bits = np.random.Philox(key=np.array([seed, n_folds], np.uint64)).random_raw(len(rows))
    order = np.argsort(bits, kind="stable")
    return [np.sort(np.asarray(rows)[order[i::n_folds]]) for i in range(n_folds)]
