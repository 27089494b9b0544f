"""Concept vectors: the directions into which the images of a polysemantic neuron fall.

    the 100 images that activate neuron k most
    → Ward's clustering of their values, cut at a distance
    → k-means from there → without images far from their centre, and without small clusters
    → the mean of each cluster, of length 1

A unit is the projection on such a vector. Source: O'Mahony, Andrearczyk, Müller & Graziani,
CVPR-W 2023 (arXiv 2304.09707). Their distance and spread are 15, for Inception's Mixed_7b; in other
layers values have another scale, so that jaxle takes it from the images themselves
(`typical_spread`). The distance is the dial that says how finely to split.
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
_TYPICAL = 64  # neurons from which a scale is taken
_ROOTS = 7  # the distance, in roots of the typical spread


@dataclass(frozen=True)
class ConceptVectors:
    """Options of `concept_vectors`."""

    images: int = option(100, "how many of the most activating images", low=2)
    distance: float = option(
        0.0,
        "clusters at least so far apart stay apart; 0 = 7 times the root of the typical spread",
        low=0,
    )
    spread: float = option(
        0.0, "largest squared distance of an image to its centre; 0 = the typical spread", low=0
    )
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
    typical = typical_spread(values, rows, options.images)
    x = np.asarray(values[np.sort(rows)], np.float32)
    neurons = np.arange(x.shape[1]) if neurons is None else np.asarray(neurons)
    neurons = neurons[np.ptp(x[:, neurons], axis=0) > 0]
    n = min(options.images, len(x))
    most = max(1, n // options.min_images)
    block = max(1, min(64, _BLOCK_BYTES // (4 * n * x.shape[1]), len(neurons)))
    distance = options.distance or _ROOTS * typical**0.5
    numbers = distance, options.spread or typical, float(options.min_images)
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
    typical = typical_spread(values, rows, options.images)
    if not len(found.directions):
        raise ValueError(
            "target.units=concept_vectors found no cluster: expected a larger "
            f"target.unit_options.spread than {options.spread or typical:.3g} (images lie at a "
            f"squared distance of {typical:.3g} from their mean), or fewer min_images than "
            f"{options.min_images}."
        )
    own = found.directions[np.arange(len(found.neurons)), found.neurons]
    table = [
        ("neuron", found.neurons.tolist()),
        ("n_images", found.n_images.tolist()),
        ("cosine_to_neuron", [round(float(c), 6) for c in own]),
    ]
    facts = {"n_neurons_split": len(np.unique(found.neurons)), "typical_spread": typical}
    facts |= {"table": table}
    return directions_map("concept_vectors", found.directions, found.directions, facts=facts)


def typical_spread(values: Rows, rows: Int[np.ndarray, " images"], images: int) -> float:
    """Returns the median, over some neurons, of the mean squared distance of a neuron's most
    activating images to their mean: the scale of `spread`, and the square of that of `distance`.

    Args:
      values, rows: as of `concept_vectors`.
      images: how many of the most activating ones.
    """
    x = np.asarray(values[np.sort(rows)], np.float32)
    some = np.unique(np.linspace(0, x.shape[1] - 1, _TYPICAL).astype(int))
    top = np.argsort(-x[:, some], axis=0, kind="stable")[:images]
    own = [x[index] - x[index].mean(axis=0) for index in top.T]
    return float(np.median([np.sum(part**2, axis=1).mean() for part in own]))


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
