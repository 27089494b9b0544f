"""Concept vectors: the directions into which the images of a polysemantic neuron fall.

    the 100 images that activate neuron k most
    → Ward's clustering of their values, cut at a distance
    → k-means from there → without images far from their centre, and without small clusters
    → the mean of each cluster, of length 1

A unit is the projection on such a vector. Source: O'Mahony, Andrearczyk, Müller & Graziani,
CVPR-W 2023 (arXiv 2304.09707); method.md §9. Their distance is 15, for Inception's Mixed_7b: it is
the dial that says how finely to split, in the units of the tap's values.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from jaxle.arrays import Rows
from jaxle.models.units.linear import directions_map
from jaxle.models.units.unit_map import UnitMap
from jaxle.options import option
from jaxle.solve.clustering import k_means, ward

_BLOCK_BYTES = 128 << 20  # of neurons × images × columns
_STEPS = 100  # of k-means, at most


@dataclass(frozen=True)
class ConceptVectors:
    """Options of `concept_vectors`."""

    images: int = option(100, "how many of the most activating images", low=2)
    distance: float = option(15.0, "clusters at least so far apart stay apart", above=0)
    spread: float = option(15.0, "largest squared distance of an image to its centre", above=0)
    min_images: int = option(5, "of a cluster that counts", low=1)


class Split(NamedTuple):
    """Concept vectors of some neurons, those of one neuron together, the largest cluster first."""

    directions: Float32[np.ndarray, "units width"]  # of length 1
    neurons: Int[np.ndarray, " units"]  # whose images they were made from
    n_images: Int[np.ndarray, " units"]  # in the cluster


def concept_vectors(
    values: Rows,
    rows: Int[np.ndarray, " images"],
    options: ConceptVectors,
    neurons: Int[np.ndarray, " some"] | None = None,
) -> Split:
    """Returns the concept vectors of the neurons of a layer.

    Args:
      values: (images, width), pooled values of the layer.
      rows: the images that count.
      options: see `ConceptVectors`.
      neurons: which; None for all.
    """
    x = np.asarray(values[np.sort(rows)], np.float32)
    neurons = np.arange(x.shape[1]) if neurons is None else np.asarray(neurons)
    neurons = neurons[np.ptp(x[:, neurons], axis=0) > 0]
    n = min(options.images, len(x))
    most = max(1, n // options.min_images)
    block = max(1, min(64, _BLOCK_BYTES // (4 * n * x.shape[1]), len(neurons)))
    numbers = options.distance, options.spread, float(options.min_images)
    placed, found = jnp.asarray(x), []
    for start in range(0, len(neurons), block):
        some = neurons[start : start + block]
        vectors, counts = _block(placed, np.resize(some, block), numbers, n=n, most=most)
        unit, cluster = np.nonzero(np.asarray(counts)[: len(some)] >= options.min_images)
        found.append(
            (np.asarray(vectors)[unit, cluster], some[unit], np.asarray(counts)[unit, cluster])
        )
    if not found:
        return Split(np.zeros((0, x.shape[1]), np.float32), neurons, neurons)
    directions, owners, sizes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Split(directions, owners.astype(np.int64), sizes.astype(np.int64))


def concept_units(values: Rows, rows: np.ndarray, options: ConceptVectors) -> UnitMap:
    """Returns the concept vectors of a layer as units; `facts` say whose they are.

    Raises:
      ValueError: no neuron has any.
    """
    found = concept_vectors(values, rows, options)
    if not len(found.directions):
        raise ValueError(
            "target.units=concept_vectors found no cluster: expected a larger "
            f"target.unit_options.spread than {options.spread:g}, or fewer min_images than "
            f"{options.min_images}."
        )
    own = found.directions[np.arange(len(found.neurons)), found.neurons]
    table = [
        ("neuron", found.neurons.tolist()),
        ("n_images", found.n_images.tolist()),
        ("cosine_to_neuron", [round(float(c), 6) for c in own]),
    ]
    facts = {"n_neurons_split": len(np.unique(found.neurons)), "table": table}
    return directions_map("concept_vectors", found.directions, found.directions, facts=facts)


@functools.partial(jax.jit, static_argnames=("n", "most"))
def _block(
    x: Float[jax.Array, "images width"], neurons, numbers, *, n: int, most: int
) -> tuple[jax.Array, jax.Array]:
    """(neurons, clusters, width) means of length 1, and (neurons, clusters) images; 0 of none."""
    distance, spread, least = numbers

    def one(neuron):
        # the largest n, the earlier image first among equal ones
        order = jnp.argsort(-x[:, neuron], stable=True)[:n]
        own = x[order]
        labels = ward(own, distance)
        one_hot = jax.nn.one_hot(labels, n)
        centres = _means(one_hot, own)
        there = jnp.sum(one_hot, axis=0) > 0
        labels = k_means(own, jnp.where(there[:, None], centres, jnp.inf), steps=_STEPS)
        one_hot = jax.nn.one_hot(labels, n)
        far = jnp.sum((own - _means(one_hot, own)[labels]) ** 2, axis=1)
        kept = one_hot * (far <= spread)[:, None]
        counts = jnp.sum(kept, axis=0)
        counts, chosen = jax.lax.top_k(jnp.where(counts >= least, counts, 0.0), most)
        means = _means(kept[:, chosen], own)
        lengths = jnp.linalg.norm(means, axis=1, keepdims=True)
        counts = jnp.where(lengths[:, 0] > 0, counts, 0.0)
        return means / jnp.where(lengths > 0, lengths, 1.0), counts

    return jax.vmap(one)(neurons)


def _means(one_hot, x):
    count = jnp.maximum(jnp.sum(one_hot, axis=0), 1)
    return jnp.matmul(one_hot.T, x, precision="highest") / count[:, None]
