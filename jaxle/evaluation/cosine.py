"""Cosine of simulated and real activation, neither of them centred (method.md §8).

cosine = a·s/(‖a‖‖s‖)

Computed in float64 on the host: nothing is compiled, whatever the number of images.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import as_pair, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric


@checks_input
def cosine(
    simulated: Real[Array, "images neurons"], activations: Real[Array, "images neurons"]
) -> Float32[np.ndarray, " neurons"]:
    """Returns the cosine in [−1, 1], neuron by neuron; 0 where a side is zero on all images.

    Args:
      simulated, activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    simulated, activations, _ = as_pair(simulated, activations)
    n_images, n_neurons = activations.shape
    out = np.zeros(n_neurons, np.float32)
    for block in column_blocks(n_neurons, 8 * n_images):
        a, s = (_unit(np.asarray(x[:, block]).astype(np.float64)) for x in (activations, simulated))
        out[block] = np.clip(np.sum(a * s, axis=0), -1.0, 1.0)
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    """Columns of length 1, those of zeros as they are."""
    largest = np.abs(x).max(axis=0)  # divided by first, so that no square overflows
    x = x / np.where(largest > 0, largest, 1.0)
    size = np.sqrt(np.sum(x**2, axis=0))
    return x / np.where(size > 0, size, 1.0)


def _compute(evidence: Evidence) -> Computed:
    return {"cosine": cosine(evidence.simulated, evidence.activations)}, {}


METRIC = Metric(
    (Column("cosine", -1.0, 1.0, "higher", "a·s/(‖a‖‖s‖) on test, neither side centred"),),
    _compute,
)
