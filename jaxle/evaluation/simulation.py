"""Simulation: what an explanation predicts for images that its fit has not read.

    s(x) = Σ_i w_i · Pr_sim(c_i | x) + bias        (paper, section 4)

The concept probabilities come from a simulator that is not the explainer. Only the concepts that
occur in an explanation are read, in blocks of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Real

from jaxle.arrays import Array, check_matrix, checks_input, row_blocks
from jaxle.explanations import Explanations


@checks_input
def simulate(
    explanations: Explanations,
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str],
    index: Int[np.ndarray, " rows"] | None = None,
) -> Float32[np.ndarray, "rows neurons"]:
    """Returns simulated activations of every neuron on a simulator's images.

    Args:
      explanations: one row a neuron.
      concept_probs: (images, concepts), the simulator's probability of each concept in each image,
        0–1; any real dtype, or memory-mapped.
      concepts: the columns' names; they may be more than the explanations use.
      index: (rows,) which images to simulate; None for all.

    Returns:
      (rows, neurons) float32, in units of the activation.

    Raises:
      ValueError: names and columns differ in number, a name occurs twice, a used concept is
        missing, values are not finite.
    """
    check_matrix(concept_probs, "concept_probs", ("images", "concepts"))
    check_columns(concepts, concept_probs.shape[1])
    place = {concept: i for i, concept in enumerate(concepts)}
    used = [place[name] for name in names(explanations) if name in place]
    return simulate_rows(
        explanations,
        lambda rows, columns: concept_probs[rows][:, columns],
        np.arange(concept_probs.shape[0]) if index is None else np.asarray(index),
        np.array(used, np.int64),
        concepts,
    )


def simulate_rows(
    explanations: Explanations,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    index: Int[np.ndarray, " images"],
    columns: Int[np.ndarray, " used"],
    concepts: Sequence[str],
) -> Float32[np.ndarray, "images neurons"]:
    """Returns what `simulate` does, for probabilities that are made where they are read: in a run.

    Args:
      explanations: one row a neuron.
      rows: (row index, column index) → (rows, columns) probabilities.
      index: (images,) which rows to simulate.
      columns: (used,) which columns the explanations use.
      concepts: all column names.
    """
    weights, bias = explanations.weight_matrix([concepts[int(j)] for j in columns])
    weights, bias = jnp.asarray(weights), jnp.asarray(bias)
    out = np.empty((len(index), len(explanations)), np.float32)
    for block in row_blocks(len(index), 4 * (len(columns) + len(explanations))):
        probabilities = jnp.asarray(rows(index[block], columns), jnp.float32)
        out[block] = _weighted_sum(probabilities, weights, bias)
    return out


def names(explanations: Explanations) -> tuple[str, ...]:
    """Returns every name that occurs, once, in order of first use; formulas, too."""
    return tuple(dict.fromkeys(name for row in explanations for name in row.concepts))


@checks_input
def check_columns(concepts: Sequence[str], n_columns: int) -> None:
    """Raises a ValueError unless `concepts` names each column of concept_probs once."""
    if len(concepts) != n_columns or len(set(concepts)) != len(concepts):
        raise ValueError(
            f"concepts must name each of the {n_columns} columns of concept_probs once, "
            f"got {len(concepts)} names, {len(set(concepts))} of them different."
        )


@jax.jit
def _weighted_sum(probabilities, weights, bias):
    return jnp.matmul(probabilities, weights, precision=jax.lax.Precision.HIGHEST) + bias[None, :]
