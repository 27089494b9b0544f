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
from jaxtyping import Float, Int

from jaxle.arrays import Array, Rows, host_blocks
from jaxle.mesh import data_size
from jaxle.solve import ridge, tiles
from jaxle.solve.counted import ByClass
from jaxle.solve.folds import fold_moments
from jaxle.solve.moments import Features, Moments, merge, second_moments
from jaxle.solve.screen import screen
from jaxle.units import Units


class Measured(NamedTuple):
    """What a fit sees of the images; moments are over the kept concepts."""

    kept: Int[np.ndarray, " kept"]  # columns that passed screening
    train: Moments
    val: Moments
    folds: tuple[Moments, ...] = ()  # of train ∪ val, where a search judges by folds
    total: Moments | None = None  # of train ∪ val, with folds
    spectrum: ridge.Spectrum | None = None  # of the total's standardised Gram matrix, with folds

    def neurons(self, index: slice | np.ndarray) -> Measured:
        """Returns the same for some neurons only; Gram matrices and spectrum are not copied."""
        return self._moments(lambda moments: moments.neurons(index))

    def on_device(self) -> Measured:
        """Returns the same with JAX arrays for moments, so that fits need not copy them again."""
        return self._moments(Moments.on_device)

    def _moments(self, change: Callable[[Moments], Moments]) -> Measured:
        return self._replace(
            train=change(self.train),
            val=change(self.val),
            folds=tuple(change(fold) for fold in self.folds),
            total=None if self.total is None else change(self.total),
        )


def measure(
    rows: Callable[..., Array],
    n_concepts: int,
    activations: Rows,
    train: Int[np.ndarray, " train"],
    val: Int[np.ndarray, " val"],
    *,
    min_top5: float,
    mesh: Mesh | None = None,
    folds: int = 0,
    units: Units | None = None,
    by_class: ByClass | None = None,
) -> Measured:
    """Returns the concepts that pass screening on train, and moments; each image is read once.

    Args:
      rows: (row index, column index or all) → (rows, columns) probabilities, made where they are
        read, so that images × concepts is never held.
      n_concepts: how many columns there are.
      activations: (images, neurons), an array or anything with shape, dtype and row indexing.
      train, val: int (images,), disjoint; other rows are not read.
      min_top5: least mean of a concept's five largest probabilities; 0 turns the paper's rules off.
      mesh: images are split over its axis `data`.
      folds: cut train ∪ val into so many folds (memory: a Gram matrix each); 0 for none.
      units: those of the values that `rows` gives; None where these are probabilities themselves.
      by_class: what `rows` gives, where an image's class decides it: moments are counted then.

    Raises:
      ValueError: no concept passes.
    """
    screened = screen(rows, train, n_concepts, min_top5, units)
    kept = np.flatnonzero(screened.kept)
    if len(kept) == 0:
        reach = f"whose five top probabilities have a mean of min_top5={min_top5} or more " * (
            min_top5 > 0
        )
        found = f"none {reach}varies there"
        if screened.top5.max() < min_top5:
            found = (
                f"the largest mean of five top probabilities is {screened.top5.max():.3g}, "
                f"expected at least min_top5={min_top5} (0 turns the rule off)"
            )
        raise ValueError(
            f"none of the {n_concepts} concepts passes screening on {len(train)} train images: "
            f"{found}."
        )

    columns, n = tiles.repeated(kept), len(kept)

    def tile(index: np.ndarray) -> Array:
        return rows(index, columns)

    features: Features = tile if by_class is None else by_class.some(kept)
    if folds:
        parts = fold_moments(features, activations, train, val, folds, mesh=mesh)
        total = merge([parts.train, parts.val]).concepts(n)
        each = tuple(fold.concepts(n) for fold in parts.folds)
        of_train, of_val = parts.train.concepts(n), parts.val.concepts(n)
        return Measured(kept, of_train, of_val, each, total, ridge.spectrum(total))
    width = len(columns) + tiles.bucket(activations.shape[1])
    tile_rows = tiles.tile_rows([len(train), len(val)], width, data_size(mesh))
    of_train, of_val = (
        second_moments(features, activations, index, mesh=mesh, tile_rows=tile_rows).concepts(n)
        for index in (train, val)
    )
    return Measured(kept, of_train, of_val)


def extremes(activations: Rows) -> Float[np.ndarray, "2 neurons"]:
    """Returns each neuron's least and largest activation over all images, read in blocks."""
    # in float32, float64 columns far from 0 would be constant
    dtype = np.result_type(np.float32, activations.dtype)
    parts = [(x.min(axis=0), x.max(axis=0)) for _, x in host_blocks(activations)]
    low, high = (np.stack(part).astype(dtype) for part in zip(*parts, strict=True))
    return np.stack([low.min(axis=0), high.max(axis=0)])
