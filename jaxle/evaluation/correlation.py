"""The correlation score: Pearson's ρ of simulated and real activation (paper, section 4.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import as_pair, pad_neurons
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.stats import pearson
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
    both = in_units(pair.simulated, "simulated"), in_units(pair.activations, "activations")
    sides = (jnp.asarray(pad_neurons(x), jnp.float32) for x in both)
    return np.asarray(_pearson(*sides))[: pair.activations.shape[1]]


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
