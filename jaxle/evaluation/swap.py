"""Own explanation against those of the other neurons (method.md §8).

C = ÂᵀŜ/n (neurons × neurons): what each neuron's explanation scores on each neuron

Images and neurons are padded to few numbers, so that other counts compile nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.correlation import standardise
from jaxle.evaluation.pairs import as_pair, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.mesh import round_up
from jaxle.solve.tiles import bucket
from jaxle.units import in_units

HIGHEST = jax.lax.Precision.HIGHEST
TIE = 1e-5  # correlations this close are equal: round-off of float32 over some 10,000 images


class Swap(NamedTuple):
    """Own explanation against the others'; dead neurons neither score nor compete."""

    correlation: Float32[np.ndarray, " neurons"]  # of a neuron with its own explanation
    off_diagonal: Float32[np.ndarray, " neurons"]  # its mean with those of the other live neurons
    specificity: Float32[np.ndarray, " neurons"]  # correlation − off_diagonal; 0 where dead
    # place of the own explanation among those of live neurons, 1 = best, ties count half; 0: dead
    rank: Float32[np.ndarray, " neurons"]
    mean_off_diagonal: float
    mean_specificity: float
    retrieval_at_1: float  # share of live neurons whose own is best; one of t that tie counts 1/t
    mrr: float  # mean of 1/rank


@checks_input
def swap(
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Swap:
    """Computes whether an explanation is about its own neuron rather than about any.

    Args:
      simulated: (images, neurons), whatever `jaxle.arrays.as_matrix` takes; test images.
      activations: (images, neurons), the same images and neurons.
      live: (neurons,) bool; None for all.

    Returns:
      Swap; with a single live neuron nothing is off the diagonal: 0, and rank 1.

    Raises:
      ValueError: shapes differ, or a value is not finite.
    """
    simulated, activations, live = as_pair(simulated, activations, live)
    n_images, n_neurons = activations.shape
    a, s = _standard(activations), jax.device_put(_standard(simulated))
    width = a.shape[1]
    rivals = np.pad(live, (0, width - n_neurons))
    found = np.zeros((4, width))
    for block in column_blocks(width, 4 * width):
        own = np.arange(block.start, block.stop, dtype=np.int32)
        found[:, block] = np.stack(_compare(a[:, block], s, rivals, own, np.float32(n_images)))
    diagonal, off, greater, ties = found[:, :n_neurons]
    rank = np.where(live, 1.0 + greater + 0.5 * ties, 0.0)
    specificity = np.where(live, diagonal - off, 0.0)
    first = np.where(greater == 0, 1.0 / (1.0 + ties), 0.0)
    means = [
        float(values[live].mean()) if live.any() else 0.0
        for values in (off, specificity, first, 1.0 / np.maximum(rank, 1.0))
    ]
    arrays = (np.asarray(values, np.float32) for values in (diagonal, off, specificity, rank))
    return Swap(*arrays, *means)


def _standard(x: Array) -> np.ndarray:
    """Standardised columns, float32, with rows and columns of zeros up to one of few sizes.

    Rows are a multiple of a power of two, at most a quarter more than there are from 256 on.
    """
    x = in_units(x)
    n_images, n_neurons = x.shape
    rows = round_up(n_images, max(64, 1 << max(0, (n_images - 1).bit_length() - 3)))
    padded = np.zeros((rows, bucket(n_neurons)), np.float32)
    for block in column_blocks(n_neurons, 8 * n_images):
        padded[:n_images, block] = standardise(np.asarray(x[:, block]).astype(np.float64))
    return padded


@jax.jit
def _compare(a, s, live, own, n_images):
    """A block of neurons against all explanations.

    Args:
      a: (rows, block) standardised activations, rows of zeros after those of the images.
      s: (rows, neurons) standardised simulated activations, the same rows.
      live: (neurons,) bool, False where padded.
      own: (block,) each neuron's own column of `s`.
      n_images: how many rows are images.

    Returns:
      own correlation, mean of the others', how many of them are better, how many tie.
    """
    c = jnp.matmul(a.T, s, precision=HIGHEST) / n_images
    diagonal = jnp.take_along_axis(c, own[:, None], axis=1)
    other = live[None, :] & (jnp.arange(s.shape[1], dtype=jnp.int32)[None, :] != own[:, None])
    off = jnp.sum(jnp.where(other, c, 0.0), axis=1) / jnp.maximum(1, jnp.sum(other, axis=1))
    greater = jnp.sum(other & (c > diagonal + TIE), axis=1)
    ties = jnp.sum(other & (jnp.abs(c - diagonal) <= TIE), axis=1)
    return jnp.clip(diagonal[:, 0], -1.0, 1.0), off, greater, ties


def _compute(evidence: Evidence) -> Computed:
    own = swap(evidence.simulated, evidence.activations, evidence.live)
    facts = {
        "retrieval_at_1": own.retrieval_at_1,
        "mrr": own.mrr,
        "mean_off_diagonal": own.mean_off_diagonal,
    }
    return {"specificity": own.specificity, "retrieval_rank": own.rank}, facts


METRIC = Metric(
    (
        Column(
            "specificity",
            -2.0,
            2.0,
            "higher",
            "ρ minus the mean ρ of this neuron with the other live neurons' explanations; "
            "0 or less: another explanation would do as well",
        ),
        Column(
            "retrieval_rank",
            0.0,
            float("inf"),
            "lower",
            "place of the own explanation among those of all K live neurons by ρ with this "
            "neuron, 1 to K; ties count half; 0: dead",
            averaged=False,
        ),
    ),
    _compute,
)
