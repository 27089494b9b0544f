"""How far active pixels and labelled pixels overlap, counted over images by matrix products.

    M  (pixels, neurons)   a map, upsampled bilinearly, above the neuron's threshold
    L  (pixels, concepts)  1 where a pixel bears a concept
    |M ∩ L| = MᵀL,   |M ∪ L| = |M| + |L| − |M ∩ L|,   IoU = Σ|M ∩ L| / Σ|M ∪ L| over images

An image counts for a concept where it has a pixel of the concept's category: in data that are
labelled in parts (Broden), the others say nothing of it. Source: Bau, Zhou, Khosla, Oliva &
Torralba, Network Dissection, CVPR 2017 (arXiv 1704.05796), section 2.3.

All numbers are whole: products of 0 and 1 are exact in every precision.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from jaxle.arrays import Array

DETECTOR = 0.04  # IoU above which the paper calls a neuron a detector


class Counts(NamedTuple):
    """Pixels of a layer's neurons and of concepts, summed over images.

    Attributes:
      both: (neurons, concepts) active and labelled.
      active: (neurons, categories) active, in images that are labelled in the category.
      labelled: (concepts,) labelled.
    """

    both: Int[Array, "neurons concepts"]
    active: Int[Array, "neurons categories"]
    labelled: Int[Array, " concepts"]

    def __add__(self, other: Counts) -> Counts:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def iou(self, category: Int[np.ndarray, " concepts"]) -> Float[np.ndarray, "neurons concepts"]:
        """Returns intersection over union, 0 where the union is empty.

        Args:
          category: (concepts,) of each concept, a column of `active`.
        """
        union = self.active[:, category] + self.labelled - self.both
        return np.where(union > 0, self.both / np.maximum(union, 1), 0.0)


@functools.partial(jax.jit, static_argnames=("n_concepts", "n_categories"))
def tally(
    maps: Mapping[str, Float[jax.Array, "images _ _ _"]],
    thresholds: Mapping[str, Float[jax.Array, "_"]],
    labels: Int[jax.Array, "images layers height width"],
    category: Int[jax.Array, " concepts"],
    *,
    n_concepts: int,
    n_categories: int,
) -> dict[str, Counts]:
    """Returns layer → counts over some images, int32; at most 2³¹ pixels at a time.

    Args:
      maps: layer → (images, rows, columns, neurons).
      thresholds: layer → (neurons,); a pixel is active where it is larger.
      labels: (images, layers, height, width), several labels a pixel: 0 for none, else a concept's
        number + 1; an image of zeros counts for nothing.
      category: (concepts,) of each concept, 0 to n_categories − 1.
      n_concepts, n_categories: how many.
    """
    height, width = labels.shape[2:]
    of_category = category[:, None] == jnp.arange(n_categories)[None]

    def add(total, image):
        values, numbers = image
        flat = numbers.reshape(numbers.shape[0], -1)
        bears = jnp.zeros((height * width, n_concepts + 1), jnp.float32)
        bears = bears.at[jnp.arange(height * width)[None], flat].set(1)[:, 1:]
        labelled = bears.sum(0).astype(jnp.int32)
        present = ((labelled > 0)[:, None] & of_category).any(0)
        found = {}
        for name, value in values.items():
            active = upsampled(value, height, width) > thresholds[name][None, None]
            active = active.reshape(height * width, -1).astype(jnp.float32)
            both = (active.T @ bears).astype(jnp.int32)
            pixels = active.sum(0).astype(jnp.int32)[:, None] * present[None]
            found[name] = Counts(both, pixels, labelled)
        return jax.tree.map(jnp.add, total, found), None

    def zeros(value):
        n = value.shape[-1]
        shapes = ((n, n_concepts), (n, n_categories), (n_concepts,))
        return Counts(*(jnp.zeros(shape, jnp.int32) for shape in shapes))

    start = {name: zeros(value) for name, value in maps.items()}
    return jax.lax.scan(add, start, (dict(maps), labels))[0]


def upsampled(
    value: Float[jax.Array, "rows columns neurons"], height: int, width: int
) -> Float[jax.Array, "height width neurons"]:
    """Returns a map at another size: bilinear between the centres of its cells."""
    shape = (height, width, value.shape[2])
    full = jax.lax.Precision.HIGHEST
    scaled = jax.image.resize(value, shape, "linear", antialias=False, precision=full)
    return scaled.astype(jnp.float32)


def best(
    iou: Float[np.ndarray, "neurons concepts"],
) -> tuple[Int64[np.ndarray, " neurons"], Float[np.ndarray, " neurons"], Bool[np.ndarray, "_"]]:
    """Returns each neuron's concept of largest IoU (of equal ones the first), it, and `detector`.

    Args:
      iou: (neurons, concepts), at least one concept.
    """
    chosen = np.argmax(iou, axis=1)
    score = np.take_along_axis(iou, chosen[:, None], axis=1)[:, 0]
    return chosen, score, score > DETECTOR
