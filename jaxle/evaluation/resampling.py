"""What an explainer would have measured on other images of the same kind: train, val and folds, each drawn anew with replacement.

    train_i* ~ train_i, val_i* ~ val_i;   train* = ∪ train_i*, val* = ∪ val_i*, fold_i* = train_i* ∪ val_i*

Drawn within folds, so that no image is both in the fold that judges and in those that fit, as one drawn twice could be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from jaxle.arrays import Array
from jaxle.data.splits import Split
from jaxle.explainers.linear import Measured
from jaxle.solve.folds import deal
from jaxle.solve.moments import Moments, merge, second_moments


def resampled(
    measured: Measured,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    activations: Array,
    split: Split,
    draw: int,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Measured:
    """`measured` on one bootstrap draw of the images; the concepts that passed screening stay. Feed it to `selection_frequency`.

    Args:
      measured: from the explainer.
      rows: (row index, column index) → (rows, columns) explainer probabilities.
      activations: (images, neurons).
      split: as in `measured`.
      draw: its number.
      seed: integer from 0 to 2⁶⁴ − 1.
      mesh: as in `second_moments`.
    """
    rng = np.random.default_rng([seed, draw])

    def moments(part: np.ndarray) -> Moments:
        return second_moments(
            lambda i: rows(i, measured.kept),
            activations,
            np.sort(rng.choice(part, len(part))),
            mesh=mesh,
        )

    parts = fold_rows(split, len(measured.folds)) or [(split.train, split.val)]
    train, val = ([moments(part[i]) if len(part[i]) else None for part in parts] for i in (0, 1))
    folds = (
        tuple(merge([m for m in pair if m is not None]) for pair in zip(train, val, strict=True))
        if measured.folds
        else ()
    )
    return measured._replace(
        train=merge([m for m in train if m is not None]),
        val=merge([m for m in val if m is not None]),
        folds=folds,
    )


def fold_rows(split: Split, n_folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images of each fold, (train part, val part), as `solve.folds.fold_moments` cuts them; none for no folds."""
    if n_folds == 0:
        return []
    return list(zip(deal(split.train, n_folds, 0), deal(split.val, n_folds, 0)[::-1], strict=True))
