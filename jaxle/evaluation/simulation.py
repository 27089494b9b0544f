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

from jaxle.arrays import Array, check_matrix, checks_input
from jaxle.explanations import Explanations
from jaxle.mesh import round_up
from jaxle.solve.tiles import bucket, tile_index, tile_rows

COLUMNS = 64  # concepts are padded to a multiple, so that nearly equal numbers share a program


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
    # few sizes for many counts, so that they share programs: what is added has weight 0
    used, n_neurons, n_images = len(columns), len(explanations), len(index)
    more = min(round_up(max(used, 1), COLUMNS), len(concepts)) - used
    columns = np.concatenate([columns, np.setdiff1d(np.arange(len(concepts)), columns)[:more]])
    weights = np.pad(weights, ((0, more), (0, bucket(n_neurons) - n_neurons)))
    bias = np.pad(bias, (0, bucket(n_neurons) - n_neurons))
    height = tile_rows([n_images], len(columns) + len(bias))
    out = np.empty((n_images, n_neurons), np.float32)
    for start in range(0, n_images, height):
        stop = min(start + height, n_images)
        numbers = np.asarray(tile_index(index, start, height, n_images))
        tile = jnp.asarray(rows(numbers, columns), jnp.float32)
        simulated = np.asarray(_weighted_sum(tile, weights, bias))
        out[start:stop] = simulated[: stop - start, :n_neurons]
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
