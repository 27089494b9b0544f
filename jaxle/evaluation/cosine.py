"""Cosine of simulated and real activation, neither of them centred (method.md §8).

cosine = a·s/(‖a‖‖s‖)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import as_pair, column_blocks, pad_neurons
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
    for block in column_blocks(n_neurons, 4 * n_images):
        a, s = (pad_neurons(_float32(x[:, block])) for x in (activations, simulated))
        out[block] = np.asarray(_cosine(a, s))[: block.stop - block.start]
    return out


def _float32(x) -> np.ndarray:
    """float32; float64, which may exceed its range, first divided by its largest magnitude."""
    if x.dtype != np.float64:
        return np.asarray(x, np.float32)
    largest = np.abs(x).max(axis=0)
    return (x / np.where(largest > 0, largest, 1.0)).astype(np.float32)


@jax.jit
def _cosine(a, s):
    # each column divided by its largest magnitude, so that no square overflows
    a, s = (
        x / jnp.maximum(jnp.max(jnp.abs(x), axis=0), jnp.finfo(jnp.float32).tiny)[None, :]
        for x in (a, s)
    )
    size = jnp.sum(a * a, axis=0) * jnp.sum(s * s, axis=0)
    value = jnp.sum(a * s, axis=0) / jnp.sqrt(jnp.where(size > 0, size, 1.0))
    return jnp.where(size > 0, jnp.clip(value, -1.0, 1.0), 0.0)


def _compute(evidence: Evidence) -> Computed:
    return {"cosine": cosine(evidence.simulated, evidence.activations)}, {}


METRIC = Metric(
    (Column("cosine", -1.0, 1.0, "higher", "a·s/(‖a‖‖s‖) on test, neither side centred"),),
    _compute,
)
