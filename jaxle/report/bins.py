"""One neuron by activation: images in equal bins of its range and at ranks; a concept's shares.

    activations (images,) ─> edges (bins + 1,) ─> bin of each image ─> images a bin, concepts a bin
                          └> images in descending order ─> those at ranks 5, 50, 500, 5,000

The numbers of the paper's Figure 3 (eight bins from zero to the maximum) and the choice of images
of its Figures 4 and 6–15. Oikarinen & Weng, ICML 2024, https://arxiv.org/abs/2405.06855.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Real

from jaxle.arrays import (
    ROUND_OFF,
    Array,
    as_matrix,
    check_equal_rows,
    check_matrix,
    checks_input,
)
from jaxle.options import number

BINS = 8  # the paper's Figure 3
RANKS = (5, 50, 500, 5000)
NO_IMAGE = -1


class Bins(NamedTuple):
    """A neuron's images by activation, and what share of them each concept holds of.

    Attributes:
      edges: (bins + 1,) ascending; the last one is the maximum.
      counts: (bins,) images.
      shares: (bins, concepts) in [0, 1], the mean value of each concept over the images of a bin;
        0 where a bin has no image.
      parts: (bins, concepts) in [0, 1], as `shares`, of values that are divided by their sum in
        every image where it exceeds 1: what may be stacked, since a bin's parts sum to at most 1.
      members: (images,) the bin of each image.
    """

    edges: Float64[np.ndarray, " edges"]
    counts: Int64[np.ndarray, " bins"]
    shares: Float64[np.ndarray, "bins concepts"]
    parts: Float64[np.ndarray, "bins concepts"]
    members: Int64[np.ndarray, " images"]


@checks_input
def activation_bins(
    activations: Real[Array, " images"],
    concept_values: Real[Array, "images concepts"] | None = None,
    n_bins: int = BINS,
) -> Bins:
    """Returns a neuron's images in bins of equal width, and each concept's share of every bin.

    The bins reach from 0, or from the minimum where that is negative, to the maximum; where all
    activations are negative, from the minimum to the maximum. A bin holds its lower edge, the last
    one both. Where all activations are 0, or one and the same negative number, all edges are equal
    and all images are in the last bin; one positive number is the maximum of bins that start at 0.

    Args:
      activations: (images,) of one neuron.
      concept_values: (images, concepts), labels of 0 and 1 or probabilities, of the same images;
        None for no concept.
      n_bins: how many.

    Raises:
      ValueError: no image; a value that is not finite; concept values outside [0, 1] or of other
        images; fewer than one bin.
    """
    values = as_column(activations, "activations")
    n_bins = number("n_bins", n_bins, int, low=1)
    low, high = min(0.0, values.min()), values.max()
    t = np.linspace(0.0, 1.0, n_bins + 1)
    edges = np.clip(low * (1 - t) + high * t, low, high)  # high − low could overflow
    members = np.searchsorted(edges, values, side="right") - 1
    members = np.minimum(members, n_bins - 1).astype(np.int64)
    counts = np.bincount(members, minlength=n_bins).astype(np.int64)
    if concept_values is None:
        none = np.zeros((n_bins, 0))
        return Bins(edges, counts, none, none, members)
    found = _as_values(concept_values)
    check_equal_rows(values, found, ("activations", "concept_values"))
    divided = found / np.maximum(found.sum(axis=1, keepdims=True), 1.0)
    shares, parts = (_means(members, x, counts) for x in (found, divided))
    return Bins(edges, counts, shares, parts, members)


def _as_values(x: Any) -> np.ndarray:
    found = np.asarray(as_matrix(x, "concept_values", ("images", "concepts")), np.float64)
    outside = (found < -ROUND_OFF) | (found > 1 + ROUND_OFF)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ValueError(
            "concept_values must be labels or probabilities from 0 to 1, "
            f"got {found[row, column]:g} at image {row}, concept {column}."
        )
    return np.clip(found, 0.0, 1.0)


def _means(members: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(bins, concepts): means of (images, concepts) over the images of each bin; 0 of no image."""
    n = values.shape[1]
    cells = (members[:, None] * n + np.arange(n)).ravel()
    sums = np.bincount(cells, values.ravel(), len(counts) * n).reshape(len(counts), n)
    return np.clip(sums / np.maximum(counts, 1)[:, None], 0.0, 1.0)


@checks_input
def images_of_bins(
    activations: Real[Array, " images"], bins: Bins, n: int
) -> Int64[np.ndarray, "bins n"]:
    """Returns images of every bin, at equal steps of rank within it, the most active first.

    Args:
      activations: (images,), of which `bins` was made.
      bins: of `activation_bins`.
      n: images a bin.

    Returns:
      (bins, n) image numbers; NO_IMAGE (−1) behind those of a bin that has fewer than `n`.

    Raises:
      ValueError: `n` below 1, or bins of other images.
    """
    n, order = number("n", n, int, low=1), descending(activations)
    check_equal_rows(order, bins.members, ("activations", "bins.members"))
    found = np.full((len(bins.counts), n), NO_IMAGE, np.int64)
    for i in range(len(bins.counts)):
        own = order[bins.members[order] == i]
        if len(own) > n:  # the middles of n equal parts
            own = own[((np.arange(n) + 0.5) * len(own) / n).astype(np.int64)]
        found[i, : len(own)] = own
    return found


@checks_input
def images_of_ranks(
    activations: Real[Array, " images"], ranks: Sequence[int] = RANKS, n: int = 1
) -> Int64[np.ndarray, "ranks n"]:
    """Returns the images at some ranks of activation, each with those just above it.

    Args:
      activations: (images,) of one neuron.
      ranks: from 1, the most active image, to the number of images.
      n: images a rank: those of rank r − n + 1 to r.

    Returns:
      (ranks, n) image numbers, the most active first; NO_IMAGE (−1) where a rank is below 1 or
      beyond the number of images.

    Raises:
      ValueError: a rank below 1, or no rank; `n` below 1.
    """
    n, order = number("n", n, int, low=1), descending(activations)
    last = np.asarray(ranks)
    if last.ndim != 1 or last.size == 0 or last.dtype.kind not in "iu" or last.min() < 1:
        raise ValueError(f"ranks must be integers of at least 1, such as {RANKS}, got {ranks!r}.")
    place = last.astype(np.int64)[:, None] + np.arange(-n, 0)
    inside = (place >= 0) & (place < len(order))
    return np.where(inside, order[np.where(inside, place, 0)], NO_IMAGE)


def descending(activations: Any) -> Int64[np.ndarray, " images"]:
    """Returns image numbers, the most active first, equal ones in order of their number."""
    values = as_column(activations, "activations")
    return np.argsort(-values, kind="stable").astype(np.int64)


@checks_input
def as_column(x: Any, name: str, axis: str = "images") -> Float64[np.ndarray, " values"]:
    """Returns one number an image (or neuron, by `axis`) as float64, of any array or list.

    Raises:
      ValueError: another shape, no number, or one that is not finite.
    """
    values = np.asarray(x)
    if values.ndim != 1 or values.size == 0:
        one = f": give one neuron's column, such as {name}[:, 3]" if axis == "images" else ""
        raise ValueError(
            f"{name} must be a non-empty array of shape ({axis},), got shape {values.shape}{one}."
        )
    return check_matrix(values[:, None], name, (axis, "columns"))[:, 0].astype(np.float64)
