"""How well a simulation detects the images of large activation: AUPRC, F1 and IoU (method.md §8).

    positive(x) = a(x) is among the top share α of val's activations
    AUPRC = Σ_t (R_t − R_{t−1})·P_t over the distinct values of s, s ranking the positives
    F1 = 2TP/(2TP + FP + FN), IoU = TP/(TP + FP + FN),   predicted: s > threshold

The threshold on s is the one of largest F1 on val (it has the largest IoU, too). Nothing is fitted
on test. These metrics pass the sanity tests of Oikarinen, Yan & Weng 2025 (arXiv 2506.05774), which
`self_test` repeats. All is NumPy on the host: on a CPU its sort is some twenty times faster than
XLA's, and nothing is compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Real

from jaxle.arrays import Array, as_matrix, checks_input
from jaxle.evaluation.pairs import as_pair, check_same_neurons, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.options import number

ALPHA = 0.05


class Detection(NamedTuple):
    """Scores on test, and the thresholds that were chosen on val for them."""

    auprc: Float32[np.ndarray, " neurons"]  # in [0, 1]; 0 where test has no positive image
    f1: Float32[np.ndarray, " neurons"]  # in [0, 1]; 0 where nothing is predicted or positive
    iou: Float32[np.ndarray, " neurons"]  # in [0, 1]; as F1
    activation_threshold: Float[np.ndarray, " neurons"]  # as `top_threshold`
    # predicted: simulation above; +inf where val has no positive image, −inf where predicting all
    # images is best
    simulated_threshold: Float[np.ndarray, " neurons"]


@checks_input
def detection(
    simulated_val: Real[Array, "val_images neurons"],
    activations_val: Real[Array, "val_images neurons"],
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    *,
    alpha: float = ALPHA,
) -> Detection:
    """Returns AUPRC, F1 and IoU of every neuron.

    Args:
      simulated_val, activations_val: (images, neurons), val images: thresholds are chosen there.
      simulated, activations: (images, neurons), test images.
      alpha: as in `top_threshold`.

    Returns:
      Detection; no value is NaN.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, alpha outside (0, 1).
    """
    val = as_pair(simulated_val, activations_val, name="simulated_val")
    test = as_pair(simulated, activations)
    check_same_neurons(val.simulated, test.simulated)
    simulated_val, activations_val, simulated, activations = *val[:2], *test[:2]
    threshold = top_threshold(activations_val, alpha)
    n_images, n_neurons = activations.shape
    out = np.zeros((3, n_neurons), np.float32)
    cuts = np.zeros(n_neurons, _wide(simulated_val, simulated))
    for block in column_blocks(n_neurons, 4 * max(n_images, len(simulated_val))):
        s_val, a_val, s, a = (
            np.ascontiguousarray(np.asarray(x[:, block], _wide(x)).T)
            for x in (simulated_val, activations_val, simulated, activations)
        )
        at = threshold[block, None]
        cuts[block] = cut = _f1_threshold(s_val, a_val > at)
        out[:, block] = _auprc(s, a > at), *_f1_iou(s > cut[:, None], a > at)
    return Detection(*out, threshold, cuts)


@checks_input
def top_threshold(
    activations_val: Real[Array, "val_images neurons"], alpha: float = ALPHA
) -> Float[np.ndarray, " neurons"]:
    """Returns the activation above which an image counts as positive, neuron by neuron.

    Args:
      activations_val: (images, neurons), val images.
      alpha: share of val's images that count as positive, those of largest activation. Where they
        tie with the next (a neuron that is mostly 0) the tied ones are left out, unless nothing
        would remain (a label); then they are all taken.

    Returns:
      (neurons,) float32, of float64 float64; +inf where the activation is constant on val.

    Raises:
      ValueError: values that are not finite, alpha outside (0, 1).
    """
    alpha = number("alpha", alpha, float, above=0, below=1)
    activations_val = as_matrix(activations_val, "activations_val")
    n, n_neurons = activations_val.shape
    dtype = _wide(activations_val)
    place = int(np.clip(n - 1 - np.round(np.float32(alpha) * np.float32(n)), 0, n - 1))
    out = np.zeros(n_neurons, dtype)
    for block in column_blocks(n_neurons, 4 * n):
        a = np.ascontiguousarray(np.asarray(activations_val[:, block], dtype).T)
        at, largest = np.partition(a, place, axis=1)[:, place], a.max(axis=1)
        below_top = np.where(a < largest[:, None], a, -np.inf).max(axis=1)
        value = np.where(at < largest, at, below_top)
        out[block] = np.where(a.min(axis=1) < largest, value, np.inf)
    return out


def _wide(*arrays) -> np.dtype:
    """The dtype in which values are compared: float32, or float64 where one of them needs it."""
    return np.result_type(np.float32, *(x.dtype for x in arrays))


def _auprc(s, positive):
    """Average precision of the ranking by s; images of equal s enter together."""
    _, hits, last = _ranked(s, positive)
    caught = np.cumsum(hits, axis=1, dtype=np.int32)
    precision = np.take_along_axis(caught, last, axis=1) / (last + 1)
    return (hits * precision).sum(axis=1) / np.maximum(caught[:, -1], 1)


def _f1_threshold(s, positive):
    """The value of s above which predicting `positive` has the largest F1.

    It is itself a value of s, the largest one not predicted, as the activation's threshold is of a.
    So a perfect simulation is cut where the activation is, also on images between the two values
    nearest the cut. +inf without positives, −inf for all images.
    """
    values, hits, last = _ranked(s, positive)
    caught = np.cumsum(hits, axis=1, dtype=np.int32)
    total = caught[:, -1]
    both = np.take_along_axis(caught, last, axis=1).astype(np.float32)
    score = 2 * both / (last + 1 + total[:, None]).astype(np.float32)  # predicted + positive
    best = np.take_along_axis(last, score.argmax(axis=1)[:, None], axis=1)
    below = np.concatenate([values[:, 1:], np.full((len(values), 1), -np.inf, np.float32)], axis=1)
    return np.where(total > 0, np.take_along_axis(below, best, axis=1)[:, 0], np.float32(np.inf))


def _f1_iou(predicted, positive):
    """F1 and IoU of two bool (neurons, images); 0 where neither holds of any image."""
    both, either = (predicted & positive).sum(axis=1), (predicted | positive).sum(axis=1)
    return 2 * both / np.maximum(either + both, 1), both / np.maximum(either, 1)


def _ranked(s, positive):
    """By descending s: values and positives (neurons, images), and each place's last of equal s."""
    order = np.argsort(-s, axis=1)
    values, hits = (np.take_along_axis(x, order, axis=1) for x in (s, positive))
    n = s.shape[1]
    ends = np.ones(s.shape, bool)
    ends[:, :-1] = values[:, 1:] != values[:, :-1]
    place = np.where(ends, np.arange(n, dtype=np.int32), np.int32(n))
    last = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return values, hits, last


def _compute(evidence: Evidence) -> Computed:
    if len(evidence.activations_val) == 0:
        return {}, {}
    found = detection(
        evidence.simulated_val,
        evidence.activations_val,
        evidence.simulated,
        evidence.activations,
    )
    return {name: getattr(found, name) for name in ("auprc", "f1", "iou")}, {}


def _compute_base_rate(evidence: Evidence) -> Computed:
    if len(evidence.activations_val) == 0:
        return {}, {}
    positive = np.asarray(evidence.activations) > top_threshold(evidence.activations_val)
    return {"base_rate": positive.mean(axis=0).astype(np.float32)}, {}


METRIC = Metric(
    (
        Column(
            "auprc",
            0.0,
            1.0,
            "higher",
            "average precision with which s ranks the positive images, those of activation above "
            "val's top 5 %; a random s reaches `base_rate`",
        ),
        Column(
            "f1",
            0.0,
            1.0,
            "higher",
            "F1 of the positive images and the images with s above the threshold of largest F1 "
            "on val",
        ),
        Column("iou", 0.0, 1.0, "higher", "intersection over union of the same two sets of images"),
    ),
    _compute,
)
BASE_RATE = Metric(
    (
        Column(
            "base_rate",
            0.0,
            1.0,
            "",
            "share of test images that are positive: what a random s reaches in `auprc`",
        ),
    ),
    _compute_base_rate,
)
