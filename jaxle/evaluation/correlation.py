"""The correlation score: Pearson's ρ of simulated and real activation (paper, section 4.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import check_pair, pad_neurons
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.stats import pearson


@checks_input
def correlation(
    simulated: Real[Array, "images neurons"], activations: Real[Array, "images neurons"]
) -> Float32[np.ndarray, " neurons"]:
    """Returns how well simulated activations follow the real ones, neuron by neuron.

    Give it images on which nothing was fitted or chosen.

    Args:
      simulated: (images, neurons), any real dtype.
      activations: (images, neurons), the same images and neurons.

    Returns:
      (neurons,) float32 in [−1, 1]; 0 where either side is constant, a single image included.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    check_pair(simulated, activations)
    sides = (jnp.asarray(pad_neurons(x), jnp.float32) for x in (simulated, activations))
    return np.asarray(_pearson(*sides))[: activations.shape[1]]


_pearson = jax.jit(pearson)


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
