"""The correlation score: Pearson's ρ of simulated and real activation (paper, section 4.1).

Computed in float64 on the host: nothing is compiled, whatever the number of images.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import as_pair, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.stats import is_constant
from jaxle.units import in_units


@checks_input
def correlation(
    simulated: Real[Array, "images neurons"], activations: Real[Array, "images neurons"]
) -> Float32[np.ndarray, " neurons"]:
    """Returns how well simulated activations follow the real ones, neuron by neuron.

    Give it images on which nothing was fitted or chosen. Offsets and scales do not matter.

    Args:
      simulated: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      activations: (images, neurons), the same images and neurons.

    Returns:
      (neurons,) float32 in [−1, 1]; 0 where either side is constant, a single image included.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    pair = as_pair(simulated, activations)
    both = in_units(pair.simulated), in_units(pair.activations)
    n_images, n_neurons = pair.activations.shape
    rho = np.zeros(n_neurons, np.float32)
    for block in column_blocks(n_neurons, 8 * n_images):
        a, b = (standardise(np.asarray(x[:, block]).astype(np.float64)) for x in both)
        rho[block] = np.clip(np.mean(a * b, axis=0), -1.0, 1.0)
    return rho


def standardise(x: Float[np.ndarray, "images neurons"]) -> Float[np.ndarray, "images neurons"]:
    """Returns columns of mean 0 and standard deviation 1; a constant column becomes 0."""
    mean = x.mean(axis=0)
    x = x - mean
    std = np.sqrt(np.mean(x**2, axis=0))
    varies = ~is_constant(std, mean)
    return np.where(varies, x / np.where(varies, std, 1.0), 0.0)


def _compute(evidence: Evidence) -> Computed:
    return {"correlation": correlation(evidence.simulated, evidence.activations)}, {}


METRIC = Metric(
    (
        Column(
            "correlation",
            -1.0,
            1.0,
            "higher",
            "Pearson's ρ of simulated and real activation on test, the score of the paper",
        ),
    ),
    _compute,
)
