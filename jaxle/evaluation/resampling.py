"""What an explainer would measure on other images of the same kind, drawn with replacement.

    train_i* ~ train_i, val_i* ~ val_i;   train* = ∪ train_i*, val* = ∪ val_i*
    fold_i* = train_i* ∪ val_i*

Images are drawn within folds. One drawn twice could otherwise be both in the fold that judges and
in those that fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from jaxle.arrays import Array, Rows
from jaxle.data.splits import Split
from jaxle.solve import ridge, tiles
from jaxle.solve.folds import assign
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments, merge, second_moments


def resampled(
    measured: Measured,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    activations: Rows,
    split: Split,
    draw: int,
    *,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Measured:
    """Returns `measured` on one bootstrap draw of the images, for `selection_frequency`.

    The concepts that passed screening stay. All moments are those of the drawn images; with folds,
    so are their total and its spectrum.

    Args:
      measured: from `solve.measure.measure`.
      rows: (row index, column index) → (rows, columns) explainer probabilities.
      activations: (images, neurons).
      split: the images that were measured.
      draw: its number.
      seed: integer from 0 to 2⁶⁴ − 1.
      mesh: as in `second_moments`.
    """
    rng = np.random.default_rng([seed, draw])

    columns = tiles.repeated(measured.kept)

    def moments(part: np.ndarray) -> Moments:
        index = np.sort(rng.choice(part, len(part)))
        found = second_moments(lambda i: rows(i, columns), activations, index, mesh=mesh)
        return found.concepts(len(measured.kept))

    parts = fold_rows(split, len(measured.folds)) or [(split.train, split.val)]
    train, val = ([moments(part[i]) if len(part[i]) else None for part in parts] for i in (0, 1))
    found = Measured(measured.kept, _union(train), _union(val))
    if not measured.folds:
        return found
    total = merge([found.train, found.val])
    folds = tuple(_union(pair) for pair in zip(train, val, strict=True))
    return found._replace(folds=folds, total=total, spectrum=ridge.spectrum(total))


def fold_rows(split: Split, n_folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the images of each fold, (train part, val part), as `solve.folds` cuts them.

    None for no folds.
    """
    if n_folds == 0:
        return []
    return list(
        zip(assign(split.train, n_folds, 0), assign(split.val, n_folds, 0)[::-1], strict=True)
    )


def _union(parts) -> Moments:
    return merge([part for part in parts if part is not None])
