"""The correlation score: Pearson's ρ between simulated and real activation on test images (paper, section 4.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import Array, check_equal_rows, check_matrix
from jaxle.stats import pearson


def correlation(simulated: Array, activations: Array) -> np.ndarray:
    """How well simulated activations follow the real ones, neuron by neuron; give it images that no choice was made on.

    Args:
      simulated: (images, neurons), any real dtype.
      activations: (images, neurons), the same images and neurons.

    Returns:
      (neurons,) float32 in [−1, 1]; 0 where either side is constant, a single image included.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    check_matrix(simulated, "simulated")
    check_matrix(activations, "activations")
    check_equal_rows(simulated, activations, ("simulated", "activations"))
    if simulated.shape[1] != activations.shape[1]:
        raise ValueError(
            f"simulated and activations must describe the same neurons, got {simulated.shape[1]} and {activations.shape[1]} columns."
        )
    return np.asarray(
        _pearson(jnp.asarray(simulated, jnp.float32), jnp.asarray(activations, jnp.float32))
    )


_pearson = jax.jit(pearson)
