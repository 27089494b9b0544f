"""Moments of folds: train and val cut into the same few parts, each image read once, every sum made from the parts' moments.

    fold_i = train_i ∪ val_i,   train = ∪ train_i,   val = ∪ val_i,   train ∪ val = ∪ fold_i

by the law of total covariance (`solve.moments.merge`), so that fits on train, on train ∪ val, and on all folds but one come from one pass
over the images. What it costs beyond that pass is memory: a Gram matrix a fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxle.solve.moments import TILE_BYTES, Moments, merge, second_moments

N_FOLDS = 5


class Folds(NamedTuple):
    """Moments of train, of val, and of the folds of their union."""

    train: Moments
    val: Moments
    folds: tuple[Moments, ...]


def fold_moments(
    features: np.ndarray | Callable[[np.ndarray], np.ndarray],
    targets: np.ndarray,
    split_train: np.ndarray,
    split_val: np.ndarray,
    n_folds: int = N_FOLDS,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Folds:
    """Accumulate the moments of train, val and the folds of both; use it in place of two calls of `second_moments` where a fit needs folds.

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
    train_parts, val_parts = deal(split_train, n_folds, seed), deal(split_val, n_folds, seed)[::-1]
    width = (
        targets.shape[1] + (features(split_train[:1]) if callable(features) else features).shape[1]
    )
    train, val, folds = None, None, []
    for train_rows, val_rows in zip(train_parts, val_parts, strict=True):
        parts = []
        if len(train_rows):
            parts.append(
                second_moments(
                    features,
                    targets,
                    train_rows,
                    mesh=mesh,
                    tile_rows=_tile_rows(train_parts, width, mesh),
                )
            )
            train = parts[-1] if train is None else merge([train, parts[-1]])
        if len(val_rows):
            parts.append(
                second_moments(
                    features,
                    targets,
                    val_rows,
                    mesh=mesh,
                    tile_rows=_tile_rows(val_parts, width, mesh),
                )
            )
            val = parts[-1] if val is None else merge([val, parts[-1]])
        if parts:
            folds.append(merge(parts))
    if train is None or val is None:
        raise ValueError(
            f"folds need images in both train and val, got {len(split_train)} and {len(split_val)}."
        )
    return Folds(train, val, tuple(folds))


def deal(rows: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """The rows in `n_folds` parts that differ in size by at most one, at random; each keeps the order in which files are read fastest."""
    bits = np.random.Philox(key=np.array([seed, n_folds], np.uint64)).random_raw(
        len(rows)
    )  # a raw stream: NumPy never changes it
    order = np.argsort(bits, kind="stable")
    return [np.sort(np.asarray(rows)[order[i::n_folds]]) for i in range(n_folds)]


def _tile_rows(parts: list[np.ndarray], width: int, mesh: Mesh | None) -> int:
    """One length of tile for all parts, so that they share their programs."""
    n = max(map(len, parts))
    most = max(256, TILE_BYTES // (4 * max(1, width))) * (1 if mesh is None else mesh.shape["data"])
    return -(-n // -(-n // most))
