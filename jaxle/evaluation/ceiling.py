"""The ceiling: what a concept set can express of a neuron at any length (method.md §8)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int

from jaxle.arrays import Array, Rows
from jaxle.columns import Column
from jaxle.solve import ridge
from jaxle.solve.measure import Measured
from jaxle.solve.moments import correlate

COLUMN = Column(
    "ceiling",
    -1.0,
    1.0,
    "",
    "ρ on test of a dense ridge on all concepts: what the concept set can express at any length",
)


def dense_correlation(
    measured: Measured,
    rows: Callable[..., Array],
    activations: Rows,
    test: Int[np.ndarray, " images"],
) -> Float32[np.ndarray, " neurons"]:
    """Returns the correlation of a dense ridge with each neuron on test images.

    The ridge is fitted on train, by all concepts that passed screening; its strength is the best on
    val, neuron by neuron.

    Args:
      measured: the explainer's moments of train and val.
      rows: (row index, column index) → (rows, columns) explainer probabilities.
      activations: (images, neurons).
      test: (images,) rows to score on.
    """
    dense = ridge.solve(measured.train, measured.val)

    def kept(index: np.ndarray) -> Array:
        return rows(index, measured.kept)

    return np.asarray(correlate(kept, activations, dense.weights, dense.bias, test))
