"""How alike the images are that drive a neuron, judged by an encoder: no explanation is needed.

    a = (q − min q) / (max q − min q),   E unit rows
    monosemanticity = Σ_{i≠j} a_i a_j ⟨e_i, e_j⟩ / Σ_{i≠j} a_i a_j
                    = (‖Aᵀ E‖² − Σa²) / ((Σa)² − Σa²)
    clarity         = the same with a = 1 on the images of largest activation, 0 elsewhere

The pairs of images are never made: one product of activations and embeddings holds them all. Both
are means of cosines, whose zero is not 0: any two images of a data set are alike to some degree,
`of_all_images`. Source: Pach et al., NeurIPS 2025 (https://arxiv.org/abs/2504.02821) for
monosemanticity; Dreyer et al. 2025 (https://arxiv.org/abs/2501.05398) for clarity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Float64, Real

from jaxle.arrays import Array, as_matrix, check_equal_rows, checks_input
from jaxle.columns import Column
from jaxle.evaluation.pairs import column_blocks
from jaxle.options import number
from jaxle.solve.tiles import bucket, pad_columns
from jaxle.stats import is_constant
from jaxle.units import InUnits, find_units

TOP = 20  # images of largest activation, for clarity
_ROWS = 1024  # images a tile

COLUMNS = (
    Column(
        "monosemanticity",
        -1.0,
        1.0,
        "higher",
        "how alike the images are that drive the neuron: the mean cosine of their embeddings by "
        "the simulator, each pair weighted by both activations scaled to 0–1; compare with "
        "`monosemanticity_of_all_images`; 0: the neuron is constant",
    ),
    Column(
        "clarity",
        -1.0,
        1.0,
        "higher",
        f"the same over the {TOP} images of largest activation, all pairs alike",
    ),
)


class Monosemanticity(NamedTuple):
    """Mean cosines between the images that drive each neuron; 0 for a constant neuron."""

    monosemanticity: Float32[np.ndarray, " neurons"]
    clarity: Float32[np.ndarray, " neurons"]
    of_all_images: float  # the mean cosine between two different images: what chance reaches


@checks_input
def monosemanticity(
    activations: Real[Array, "images neurons"],
    embeddings: Real[Array, "images numbers"],
    *,
    top: int = TOP,
) -> Monosemanticity:
    """Computes how alike the images are that drive each neuron of a layer.

    Args:
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes, such as all probe
        images.
      embeddings: (images, numbers) of the same images by an encoder; rows are brought to unit
        length.
      top: images of largest activation that clarity is over, from 2 to all; of equal activations
        the earlier images come first.

    Raises:
      ValueError: arrays that do not fit, values that are not finite, an embedding of length 0,
        fewer than two images, `top` out of range.
    """
    activations = as_matrix(activations, "activations")
    embeddings = as_matrix(embeddings, "embeddings", ("images", "numbers"))
    check_equal_rows(activations, embeddings, ("activations", "embeddings"))
    n_images, n_neurons = activations.shape
    top = number("top", top, int, low=2)
    if n_images < 2:
        raise ValueError(f"monosemanticity needs at least two images, got {n_images}.")
    if top > n_images:
        raise ValueError(f"top must be at most the number of images, {n_images}, got {top}.")
    unit = np.asarray(embeddings).astype(np.float64)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    if not (length > 0).all():
        raise ValueError(
            f"embeddings must have a direction: that of image {int(np.argmin(length))} is 0."
        )
    unit = (unit / length).astype(np.float32)
    units = find_units(activations)
    if units is not None:  # offsets and scales that hide what varies
        activations = InUnits(activations, units)[:]
    found = np.zeros((2, n_neurons), np.float32)
    for block in column_blocks(n_neurons, 8 * n_images):
        a = np.asarray(activations[:, block]).astype(np.float64)
        for place, weights in enumerate((_scaled(a), _largest(a, top))):
            found[place, block] = _mean_cosine(weights, unit)
    all_images = _mean_cosine(np.ones((n_images, 1)), unit)
    return Monosemanticity(*found, float(all_images[0]))


def _scaled(a: Float64[np.ndarray, "images neurons"]) -> np.ndarray:
    """Every column from 0 to 1; zeros where it is constant."""
    low, high = a.min(axis=0), a.max(axis=0)
    still = is_constant(high - low, np.maximum(np.abs(low), np.abs(high)))
    return np.where(still, 0.0, (a - low) / np.where(still, 1.0, high - low))


def _largest(a: Float64[np.ndarray, "images neurons"], top: int) -> np.ndarray:
    """1 on the images of largest activation; zeros where the column is constant."""
    least = np.partition(a, len(a) - top, axis=0)[len(a) - top]
    above, equal = a > least, a == least
    first = np.cumsum(equal, axis=0) <= top - above.sum(axis=0)
    return (above | (equal & first)) * (_scaled(a).max(axis=0) > 0).astype(np.float64)


def _mean_cosine(weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Σ_{i≠j} w_i w_j ⟨e_i, e_j⟩ / Σ_{i≠j} w_i w_j of every column; 0 where it weighs no pair."""
    n_neurons = weights.shape[1]
    total = np.zeros((n_neurons, unit.shape[1]))
    for w, e in _tiles(weights.astype(np.float32), unit):
        total += np.asarray(_product(w, e))[:n_neurons]
    squares, sums = (weights**2).sum(axis=0), weights.sum(axis=0)
    pairs = sums**2 - squares
    some = pairs > 1e-12 * np.maximum(squares, 1e-300)
    mean = ((total**2).sum(axis=1) - squares) / np.where(some, pairs, 1.0)
    return np.clip(np.where(some, mean, 0.0), -1.0, 1.0)


def _tiles(weights: np.ndarray, unit: np.ndarray) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Tiles of one number of images, the last one filled with zeros, neurons padded."""
    for start in range(0, len(unit), _ROWS):
        w, e = (x[start : start + _ROWS] for x in (weights, unit))
        fill = ((0, _ROWS - len(e)), (0, 0))
        padded = pad_columns(np.pad(w, fill), bucket(w.shape[1]))
        yield jax.device_put(padded), jax.device_put(np.pad(e, fill))


@jax.jit
def _product(weights, unit):
    return jnp.matmul(weights.T, unit, precision=jax.lax.Precision.HIGHEST)
