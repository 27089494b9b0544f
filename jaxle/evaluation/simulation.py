"""Simulation: what an explanation predicts for images that it has not seen.

    s(x) = Σ_i w_i · Pr_sim(c_i | x) + bias        (paper, section 4)

The concept probabilities come from a simulator that is not the explainer. Only the concepts that occur in an explanation are ever asked
of it, tile by tile of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import Array, check_matrix, row_blocks
from jaxle.explanations import Explanations


def simulate(
    explanations: Explanations, concept_probs: Array, concepts: Sequence[str]
) -> np.ndarray:
    """Simulated activations of every neuron on a simulator's images.

    Args:
      explanations: one row a neuron.
      concept_probs: (images, concepts), the simulator's probability of each concept in each image, 0–1; any real dtype, or memory-mapped.
      concepts: the columns' names; more than the explanations use is fine.

    Returns:
      (images, neurons) float32, in units of the activation.

    Raises:
      ValueError: names and columns differ in number, a name occurs twice, a used concept is missing, values are not finite.
    """
    check_matrix(concept_probs, "concept_probs", ("images", "concepts"))
    if len(concepts) != concept_probs.shape[1] or len(set(concepts)) != len(concepts):
        raise ValueError(
            f"concepts must name each of the {concept_probs.shape[1]} columns of concept_probs once, "
            f"got {len(concepts)} names, {len(set(concepts))} of them different."
        )
    place = {concept: i for i, concept in enumerate(concepts)}
    columns = np.array([place[c] for c in explanations.concepts if c in place], np.int64)
    return simulate_rows(
        explanations,
        lambda index, columns: concept_probs[index][:, columns],
        np.arange(concept_probs.shape[0]),
        columns,
        concepts,
    )


def simulate_rows(
    explanations: Explanations,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    index: np.ndarray,
    columns: np.ndarray,
    concepts: Sequence[str],
) -> np.ndarray:
    """`simulate` for probabilities that are made on the fly: what the pipeline calls.

    Args:
      explanations: one row a neuron.
      rows: (row index, column index) → (rows, columns) probabilities.
      index: (images,) which rows to simulate.
      columns: (used,) which columns the explanations use.
      concepts: all column names.

    Returns:
      (images, neurons) float32.
    """
    weights, bias = explanations.weight_matrix([concepts[j] for j in columns])
    weights, bias = jnp.asarray(weights), jnp.asarray(bias)
    out = np.empty((len(index), len(explanations)), np.float32)
    for block in row_blocks(len(index), 4 * (len(columns) + len(explanations))):
        probabilities = jnp.asarray(rows(index[block], columns), jnp.float32)
        out[block] = _weighted_sum(probabilities, weights, bias)
    return out


@jax.jit
def _weighted_sum(probabilities, weights, bias):
    return jnp.matmul(probabilities, weights, precision=jax.lax.Precision.HIGHEST) + bias[None, :]
