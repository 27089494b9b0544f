"""How well a simulation detects the images of large activation: AUPRC, F1 and IoU (method.md §8).

    positive(x) = a(x) is among the top share α of val's activations
    AUPRC = Σ_t (R_t − R_{t−1})·P_t over the distinct values of s, s ranking the positives
    F1 = 2TP/(2TP + FP + FN), IoU = TP/(TP + FP + FN),   predicted: s > threshold

The threshold on s is the one of largest F1 on val (it has the largest IoU, too). Nothing is fitted
on test. These metrics pass the sanity tests of Oikarinen, Yan & Weng 2025 (arXiv 2506.05774), which
`self_test` repeats.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, check_matrix, checks_input
from jaxle.evaluation.pairs import check_pair, check_same_neurons, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric

ALPHA = 0.05


class Detection(NamedTuple):
    """Scores on test, and the thresholds that were chosen on val for them."""

    auprc: Float32[np.ndarray, " neurons"]  # in [0, 1]; 0 where test has no positive image
    f1: Float32[np.ndarray, " neurons"]  # in [0, 1]; 0 where nothing is predicted or positive
    iou: Float32[np.ndarray, " neurons"]  # in [0, 1]; as F1
    activation_threshold: Float32[np.ndarray, " neurons"]  # as `top_threshold`
    # predicted: simulation above; +inf where val has no positive image, −inf where predicting all
    # images is best
    simulated_threshold: Float32[np.ndarray, " neurons"]


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
    check_pair(simulated_val, activations_val, name="simulated_val")
    check_pair(simulated, activations)
    check_same_neurons(simulated_val, simulated)
    threshold = top_threshold(activations_val, alpha)
    n_images, n_neurons = activations.shape
    out = np.zeros((4, n_neurons), np.float32)
    for block in column_blocks(n_neurons, 4 * max(n_images, len(simulated_val))):
        s_val, a_val, s, a = (
            np.asarray(x[:, block], np.float32)
            for x in (simulated_val, activations_val, simulated, activations)
        )
        at = threshold[block]
        found = _detect(s_val, a_val > at, _order(s_val), s, a > at, _order(s))
        out[:, block] = np.stack(found)
    auprc, f1, iou, cut = out
    return Detection(auprc, f1, iou, threshold, cut)


@checks_input
def top_threshold(
    activations_val: Real[Array, "val_images neurons"], alpha: float = ALPHA
) -> Float32[np.ndarray, " neurons"]:
    """Returns the activation above which an image counts as positive, neuron by neuron.

    Args:
      activations_val: (images, neurons), val images.
      alpha: share of val's images that count as positive, those of largest activation. Where they
        tie with the next (a neuron that is mostly 0) the tied ones are left out, unless nothing
        would remain (a label); then they are all taken.

    Returns:
      (neurons,) float32; +inf where the activation is constant on val.

    Raises:
      ValueError: values that are not finite, alpha outside (0, 1).
    """
    check_matrix(activations_val, "activations_val")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}.")
    n, n_neurons = activations_val.shape
    place = int(np.clip(n - 1 - np.round(np.float32(alpha) * np.float32(n)), 0, n - 1))
    out = np.zeros(n_neurons, np.float32)
    for block in column_blocks(n_neurons, 4 * n):
        a = np.ascontiguousarray(np.asarray(activations_val[:, block], np.float32).T)
        at, largest = np.partition(a, place, axis=1)[:, place], a.max(axis=1)
        below_top = np.where(a < largest[:, None], a, -np.inf).max(axis=1)
        value = np.where(at < largest, at, below_top)
        out[block] = np.where(a.min(axis=1) < largest, value, np.inf)
    return out


def _order(s: np.ndarray) -> np.ndarray:
    """(neurons, images) int32: images by descending s, sorted by NumPy.

    On a CPU NumPy's sort is some twenty times faster than XLA's.
    """
    return np.argsort(-np.ascontiguousarray(s.T), axis=1).astype(np.int32)


@jax.jit
def _detect(s_val, positive_val, order_val, s, positive, order):
    cut = _f1_threshold(s_val, positive_val, order_val)
    return _auprc(s, positive, order), *_f1_iou(s > cut[None, :], positive), cut


def _auprc(s, positive, order):
    """Average precision of the ranking by s; images of equal s enter together."""
    _, hits, total, last = _ranked(s, positive, order)
    rank = jnp.arange(1, s.shape[0] + 1, dtype=jnp.int32)[None, :]
    precision = jnp.take_along_axis(jnp.cumsum(hits, axis=1) / rank, last, axis=1)
    return jnp.sum(hits * precision, axis=1) / jnp.maximum(total, 1)


def _f1_threshold(s, positive, order):
    """The value of s above which predicting `positive` has the largest F1.

    It is itself a value of s, the largest one not predicted, as the activation's threshold is of a.
    So a perfect simulation is cut where the activation is, also on images between the two values
    nearest the cut. +inf without positives, −inf for all images.
    """
    values, hits, total, last = _ranked(s, positive, order)
    caught = jnp.take_along_axis(jnp.cumsum(hits, axis=1), last, axis=1)
    score = 2 * caught / (last + 1 + total[:, None])  # predicted + positive
    best = jnp.take_along_axis(last, jnp.argmax(score, axis=1)[:, None], axis=1)
    below = jnp.concatenate([values[:, 1:], jnp.full((len(values), 1), -jnp.inf)], axis=1)
    return jnp.where(total > 0, jnp.take_along_axis(below, best, axis=1)[:, 0], jnp.inf)


def _f1_iou(predicted, positive):
    """F1 and IoU of two bool (images, neurons); 0 where neither holds of any image."""
    both = jnp.sum(predicted & positive, axis=0)
    either = jnp.sum(predicted | positive, axis=0)
    return 2 * both / jnp.maximum(either + both, 1), both / jnp.maximum(either, 1)


def _ranked(s, positive, order):
    """By descending s: values and positives (neurons, images), the number of positives, and for
    each place the last one of equal s."""
    values, hits = (
        jnp.take_along_axis(x.T, order, axis=1) for x in (s, positive.astype(jnp.int32))
    )
    n = s.shape[0]
    ends = jnp.concatenate(
        [values[:, 1:] != values[:, :-1], jnp.ones((len(values), 1), bool)], axis=1
    )
    place = jnp.arange(n, dtype=jnp.int32)[None, :]
    last = jax.lax.cummin(jnp.where(ends, place, n), axis=1, reverse=True)
    return values, hits, jnp.sum(hits, axis=1), last


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
    positive = np.asarray(evidence.activations, np.float32) > top_threshold(
        evidence.activations_val
    )
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
