"""The metrics' own test: halving or doubling a concept's labels must lower a metric (method.md §8).

    neuron j = label j + noise
    M(label) against M(half of its 1s dropped) and M(as many 1s again, on random images)
    passes: lowered by more than ε of its value, for at least 90 % of the concepts, in both tests

A metric that does not change cannot distinguish an explanation that is too narrow, or too wide,
from the right one. AUC over the most activating and some random images is an example: a concept's
extra images are rarely among the random ones. It serves here only; nothing is scored with it.
Source: Oikarinen, Yan & Weng 2025, Evaluating Neuron Explanations (arXiv 2506.05774), missing and
extra labels test, ε = 0.001.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Real

from jaxle.arrays import Array, as_matrix, check_equal_rows, checks_input
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.cosine import cosine
from jaxle.evaluation.detection import ALPHA, detection
from jaxle.options import number
from jaxle.options import seed as read_seed

EPSILON, SHARE = 0.001, 0.9
TOP_AND_RANDOM = 10  # images of either kind
AUC = "auc_top_and_random"


class Verdict(NamedTuple):
    """How one metric did: means over concepts, the share of concepts for which it fell, whether it
    passes."""

    full: float
    halved: float
    doubled: float
    share_halved: float
    share_doubled: float
    passes: bool


@checks_input
def self_test(
    activations: Real[Array, "images concepts"],
    labels: Real[Array, "images concepts"],
    *,
    seed: int = 0,
    alpha: float = ALPHA,
) -> dict[str, Verdict]:
    """Tests whether the metrics change with labels that are missing or too many.

    No run calls it. Call it before a metric is trusted on concepts of other frequencies, with
    labels that are known exactly and `known_neurons` of them.

    Args:
      activations: (images, concepts): neuron j is known to respond to concept j, as `known_neurons`
        makes them.
      labels: (images, concepts) of 0 and 1. Concepts of no image, or of more than half of the
        images, cannot be doubled and are left out.
      seed: draws the labels that change and the random images.
      alpha: as in `detection`.

    Returns:
      metric → Verdict, for correlation, cosine, auprc, f1, iou and auc_top_and_random. Images of
      even number serve as val, the others as test.

    Raises:
      ValueError: shapes differ, fewer than four images, labels that are not 0 or 1, or no concept
        left.
    """
    seed, alpha = read_seed(seed), number("alpha", alpha, float, above=0, below=1)
    activations = as_matrix(activations, "activations", ("images", "concepts"))
    labels = as_matrix(labels, "labels", ("images", "concepts"))
    check_equal_rows(activations, labels, ("activations", "labels"))
    labels = np.asarray(labels)
    if activations.shape != labels.shape or len(labels) < 4:
        raise ValueError(
            "activations and labels must be of one shape, with four images or more, "
            f"got {activations.shape}, {labels.shape}."
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {labels[(labels != 0) & (labels != 1)][0]}.")
    usable = (labels.sum(0) > 0) & (2 * labels.sum(0) <= len(labels))
    if not usable.any():
        raise ValueError(
            f"none of the {labels.shape[1]} concepts is in some image and in at most half of "
            "them: expected rarer concepts, or more images."
        )
    dtype = np.result_type(np.float32, activations.dtype)
    labels, activations = labels[:, usable] > 0, np.asarray(activations)[:, usable].astype(dtype)
    half, double = _changed(labels, seed)
    full, halved, doubled = (
        _score(activations, x.astype(np.float32), seed, alpha) for x in (labels, half, double)
    )
    return {name: _verdict(full[name], halved[name], doubled[name]) for name in full}


@checks_input
def known_neurons(
    labels: Real[Array, "images concepts"], *, noise: float = 0.5, seed: int = 0
) -> Float32[np.ndarray, "images concepts"]:
    """Returns a neuron for each concept, for `self_test`: its label plus normal noise."""
    labels = as_matrix(labels, "labels", ("images", "concepts"))
    normal = np.random.default_rng(read_seed(seed)).normal(size=labels.shape)
    return (np.asarray(labels) + noise * normal).astype(np.float32)


def auc_top_and_random(
    simulated: Real[np.ndarray, "images neurons"],
    activations: Real[np.ndarray, "images neurons"],
    seed: int,
    n_images: int = TOP_AND_RANDOM,
) -> Float[np.ndarray, " neurons"]:
    """Returns how well s ranks the most activating images above as many random others.

    Ties count half.
    """
    n_images = min(n_images, len(activations) // 2)
    order = np.argsort(-activations, axis=0, kind="stable")
    drawn = np.random.default_rng(seed).permutation(len(activations) - n_images)[:n_images]
    top, random = (
        np.take_along_axis(simulated, order[place], axis=0)
        for place in (np.arange(n_images), drawn + n_images)
    )
    return (np.sign(top[:, None] - random[None]) / 2 + 0.5).mean((0, 1))


def _changed(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Per concept, half of its images dropped; as many as it has added; both at random."""
    noise, count = np.random.default_rng(seed).random(labels.shape), labels.sum(0)
    # own images first, then the others, at random
    place = np.argsort(np.argsort(np.where(labels, noise, 1 + noise), axis=0), axis=0)
    return place < count - count // 2, place < 2 * count


def _score(
    activations: np.ndarray, simulated: np.ndarray, seed: int, alpha: float
) -> dict[str, np.ndarray]:
    (a_val, a), (s_val, s) = ((x[::2], x[1::2]) for x in (activations, simulated))
    found = detection(s_val, a_val, s, a, alpha=alpha)
    return {
        "correlation": correlation(s, a),
        "cosine": cosine(s, a),
        **{name: getattr(found, name) for name in ("auprc", "f1", "iou")},
        AUC: auc_top_and_random(s, a, seed),
    }


def _verdict(full: np.ndarray, halved: np.ndarray, doubled: np.ndarray) -> Verdict:
    halves, doubles = (float((full - x > EPSILON * np.abs(full)).mean()) for x in (halved, doubled))
    means = float(full.mean()), float(halved.mean()), float(doubled.mean())
    return Verdict(*means, halves, doubles, min(halves, doubles) >= SHARE)
