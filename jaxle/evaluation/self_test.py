"""The metrics' own test: halving or doubling a concept's labels at random must lower a metric (method.md §8).

    neuron j = label j + noise;   M(label) against M(half of its 1s dropped) and M(as many 1s again, on random images)
    passes: lowered by more than ε of its value, for at least 90 % of the concepts, in both tests

A metric that does not notice cannot tell an explanation that is too narrow, or too wide, from the right one. AUC over the most activating
and some random images is the warning: a concept's extra images are rarely among the random ones. It serves here only, nothing is scored
with it. Source: Oikarinen, Yan & Weng 2025, Evaluating Neuron Explanations (arXiv 2506.05774), missing and extra labels test, ε = 0.001.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxle.arrays import Array, check_equal_rows, check_matrix
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.metrics import ALPHA, metrics

EPSILON, SHARE = 0.001, 0.9
TOP_AND_RANDOM = 10  # images of either kind
AUC = "auc_top_and_random"


class Verdict(NamedTuple):
    """How one metric fared: means over concepts, the share of concepts for which it fell, and whether it passes."""

    full: float
    halved: float
    doubled: float
    share_halved: float
    share_doubled: float
    passes: bool


def self_test(
    activations: Array, labels: Array, *, seed: int = 0, alpha: float = ALPHA
) -> dict[str, Verdict]:
    """Do the metrics notice labels that are missing or too many? Use it before a metric is trusted on concepts of other frequencies.

    No run calls it; give it labels that are known exactly, and `known_neurons` of them.

    Args:
      activations: (images, concepts): neuron j is known to respond to concept j, as `known_neurons` makes them.
      labels: (images, concepts) of 0 and 1. Concepts of no image, or of more than half of the images, cannot be doubled and are left out.
      seed: draws the labels that change and the random images.
      alpha: as in `metrics`.

    Returns:
      metric → Verdict, for correlation, cosine, auprc, f1, iou and auc_top_and_random. Images of even number serve as val, the others as
      test.

    Raises:
      ValueError: shapes differ, fewer than four images, labels that are not 0 or 1, or no concept left.
    """
    check_matrix(activations, "activations", ("images", "concepts"))
    check_matrix(labels, "labels", ("images", "concepts"))
    check_equal_rows(activations, labels, ("activations", "labels"))
    labels = np.asarray(labels)
    if activations.shape != labels.shape or len(labels) < 4:
        raise ValueError(
            f"activations and labels must be of one shape, with four images or more, got {activations.shape}, {labels.shape}."
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {labels[(labels != 0) & (labels != 1)][0]}.")
    usable = (labels.sum(0) > 0) & (2 * labels.sum(0) <= len(labels))
    if not usable.any():
        raise ValueError(
            f"none of the {labels.shape[1]} concepts is in some image and in at most half of them."
        )
    labels, activations = labels[:, usable] > 0, np.asarray(activations, np.float32)[:, usable]
    half, double = _changed(labels, seed)
    full, halved, doubled = (
        _score(activations, x.astype(np.float32), seed, alpha) for x in (labels, half, double)
    )
    return {name: _verdict(full[name], halved[name], doubled[name]) for name in full}


def known_neurons(labels: Array, *, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    """A neuron for each concept, for `self_test`: its label plus normal noise; (images, concepts) float32."""
    return (
        np.asarray(labels) + noise * np.random.default_rng(seed).normal(size=labels.shape)
    ).astype(np.float32)


def auc_top_and_random(
    simulated: np.ndarray, activations: np.ndarray, seed: int, n_images: int = TOP_AND_RANDOM
) -> np.ndarray:
    """(neurons,): how well s (images, neurons) tells the most activating images from as many random others; ties count half."""
    n_images = min(n_images, len(activations) // 2)
    order = np.argsort(-activations, axis=0, kind="stable")
    rest = (
        np.random.default_rng(seed).permutation(len(activations) - n_images)[:n_images] + n_images
    )
    top, random = (
        np.take_along_axis(simulated, order[place], axis=0) for place in (np.arange(n_images), rest)
    )
    return (np.sign(top[:, None] - random[None]) / 2 + 0.5).mean((0, 1))


def _changed(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Per concept, half of its images dropped; as many as it has added; both at random."""
    noise, count = np.random.default_rng(seed).random(labels.shape), labels.sum(0)
    place = np.argsort(
        np.argsort(np.where(labels, noise, 1 + noise), axis=0), axis=0
    )  # own images first, then the others, at random
    return place < count - count // 2, place < 2 * count


def _score(
    activations: np.ndarray, simulated: np.ndarray, seed: int, alpha: float
) -> dict[str, np.ndarray]:
    (a_val, a), (s_val, s) = ((x[::2], x[1::2]) for x in (activations, simulated))
    found = metrics(s_val, a_val, s, a, alpha=alpha)
    return {
        "correlation": correlation(s, a),
        **{name: getattr(found, name) for name in ("cosine", "auprc", "f1", "iou")},
        AUC: auc_top_and_random(s, a, seed),
    }


def _verdict(full: np.ndarray, halved: np.ndarray, doubled: np.ndarray) -> Verdict:
    shares = [float((full - x > EPSILON * np.abs(full)).mean()) for x in (halved, doubled)]
    return Verdict(
        *(float(x.mean()) for x in (full, halved, doubled)), *shares, min(shares) >= SHARE
    )
