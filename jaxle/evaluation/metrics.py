"""Metrics beside the correlation, all neurons at once: cosine, AUPRC, F1, IoU and R² (method.md §8).

    positive(x) = a(x) is among the top share α of val's activations
    cosine = a·s/(‖a‖‖s‖);  AUPRC = Σ_t (R_t − R_{t−1})·P_t over the distinct values of s, s ranking the positives
    F1 = 2TP/(2TP + FP + FN), IoU = TP/(TP + FP + FN), predicted: s > the threshold of largest F1 on val (the largest IoU too)
    R² = 1 − Σ(a − c·s − d)²/Σ(a − ā)², c and d by least squares on val

Those that pass the sanity tests of Oikarinen, Yan & Weng 2025 (arXiv 2506.05774), which `self_test` repeats. Nothing is fitted on test.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import BLOCK_BYTES, Array
from jaxle.evaluation.intervals import check_pair
from jaxle.stats import CONSTANT, is_constant

ALPHA = 0.05


class Metrics(NamedTuple):
    """Scores on test, and what was chosen on val for them; each (neurons,) float32."""

    cosine: np.ndarray  # in [−1, 1]; 0 where a side is all zero
    auprc: np.ndarray  # in [0, 1]; 0 where test has no positive image
    f1: np.ndarray  # in [0, 1]; 0 where nothing is predicted or nothing is positive
    iou: np.ndarray  # in [0, 1]; as F1
    r2: np.ndarray  # at most 1, negative where val's line does worse than the mean; 0 where the activation is constant on test
    base_rate: (
        np.ndarray
    )  # share of test images that are positive: the AUPRC of a random simulation
    activation_threshold: (
        np.ndarray
    )  # positive: activation above; +inf where the activation is constant on val
    simulated_threshold: np.ndarray  # predicted: simulation above; +inf where val has no positive image, −inf where all are best predicted


def metrics(
    simulated_val: Array,
    activations_val: Array,
    simulated: Array,
    activations: Array,
    *,
    alpha: float = ALPHA,
) -> Metrics:
    """Five more views on how well simulations follow activations; use them beside the correlation.

    Args:
      simulated_val, activations_val: (images, neurons), val images: thresholds and R²'s line are chosen there.
      simulated, activations: (images, neurons), test images.
      alpha: share of val's images that count as positive, those of largest activation. Where they tie with the next (a neuron that is
        mostly 0) the tied ones are left out, unless nothing would remain (a label), when they are all taken.

    Returns:
      Metrics, never NaN.

    Raises:
      ValueError: shapes that do not fit, values that are not finite, alpha outside (0, 1).
    """
    check_pair(simulated_val, activations_val, name="simulated_val")
    check_pair(simulated, activations)
    if simulated_val.shape[1] != simulated.shape[1]:
        raise ValueError(
            f"val and test must describe the same neurons, got {simulated_val.shape[1]} and {simulated.shape[1]} columns."
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}.")
    n_neurons = simulated.shape[1]
    size = min(n_neurons, max(1, BLOCK_BYTES // (4 * max(len(simulated), len(simulated_val)))))
    out = np.zeros((len(Metrics._fields), n_neurons), np.float32)
    for start in range(0, n_neurons, size):
        block = slice(
            min(start, n_neurons - size), min(start, n_neurons - size) + size
        )  # the last reaches back: one shape, one program
        arrays = [
            np.asarray(x[:, block], np.float32)
            for x in (simulated_val, activations_val, simulated, activations)
        ]
        sorted_a = np.sort(arrays[1].T, axis=1)
        orders = (_order(arrays[0]), _order(arrays[2]))
        out[:, block] = np.stack(_all(*arrays, sorted_a, *orders, jnp.float32(alpha)))
    return Metrics(*out)


def _order(s: np.ndarray) -> np.ndarray:
    """(neurons, images) int32: images by descending s. On the host: NumPy's sort is some twenty times faster than XLA's on a CPU."""
    return np.argsort(-np.ascontiguousarray(s.T), axis=1).astype(np.int32)


@jax.jit
def _all(s_val, a_val, s, a, sorted_a, order_val, order, alpha):
    threshold = _top_threshold(sorted_a, alpha)
    positive_val, positive = a_val > threshold[None, :], a > threshold[None, :]
    cut = _f1_threshold(s_val, positive_val, order_val)
    rate = jnp.mean(positive, axis=0)
    scores = (
        cosine(a, s),
        _auprc(s, positive, order),
        *f1_iou(s > cut[None, :], positive),
        r2(s_val, a_val, s, a),
    )
    return Metrics(*scores, rate, threshold, cut)


def cosine(a, s):
    """(neurons,): cosine of columns of a and s, (images, neurons), neither of them centred."""
    a, s = (
        x / jnp.maximum(jnp.max(jnp.abs(x), axis=0), jnp.finfo(jnp.float32).tiny)[None, :]
        for x in (a, s)
    )  # no square overflows
    size = jnp.sum(a * a, axis=0) * jnp.sum(s * s, axis=0)
    return jnp.where(
        size > 0,
        jnp.clip(jnp.sum(a * s, axis=0) / jnp.sqrt(jnp.where(size > 0, size, 1.0)), -1.0, 1.0),
        0.0,
    )


def _top_threshold(ranked, alpha):
    """(neurons,): the value above which the top share alpha of the sorted (neurons, images) lies; +inf for a constant row."""
    n, largest = ranked.shape[1], ranked[:, -1]
    place = jnp.clip(n - 1 - jnp.round(alpha * n).astype(jnp.int32), 0, n - 1)
    at = jax.lax.dynamic_index_in_dim(ranked, place, axis=1, keepdims=False)
    below_top = jnp.max(jnp.where(ranked < largest[:, None], ranked, -jnp.inf), axis=1)
    return jnp.where(ranked[:, 0] < largest, jnp.where(at < largest, at, below_top), jnp.inf)


def _auprc(s, positive, order):
    """(neurons,): average precision of the ranking by s of the bool positive; images of equal s enter together."""
    _, hits, total, last = _ranked(s, positive, order)
    rank = jnp.arange(1, s.shape[0] + 1, dtype=jnp.int32)[None, :]
    precision = jnp.take_along_axis(jnp.cumsum(hits, axis=1) / rank, last, axis=1)
    return jnp.sum(hits * precision, axis=1) / jnp.maximum(total, 1)


def _f1_threshold(s, positive, order):
    """(neurons,): the value of s above which predicting `positive` has the largest F1; +inf without positives, −inf for all images.

    It is itself a value of s, the largest one not predicted, as the activation's threshold is of a: so a perfect simulation is cut where
    the activation is, also on images between the two values nearest the cut.
    """
    values, hits, total, last = _ranked(s, positive, order)
    caught = jnp.take_along_axis(jnp.cumsum(hits, axis=1), last, axis=1)
    score = 2 * caught / (last + 1 + total[:, None])  # predicted + positive
    best = jnp.take_along_axis(last, jnp.argmax(score, axis=1)[:, None], axis=1)
    below = jnp.concatenate([values[:, 1:], jnp.full((len(values), 1), -jnp.inf)], axis=1)
    return jnp.where(total > 0, jnp.take_along_axis(below, best, axis=1)[:, 0], jnp.inf)


def f1_iou(predicted, positive):
    """F1 (neurons,) and IoU (neurons,) of two bool (images, neurons); 0 where neither holds of any image."""
    both = jnp.sum(predicted & positive, axis=0)
    either = jnp.sum(predicted | positive, axis=0)
    return 2 * both / jnp.maximum(either + both, 1), both / jnp.maximum(either, 1)


def r2(s_val, a_val, s, a):
    """(neurons,): share of a's variance that c·s + d explains, the line fitted on val; 0 where a is constant."""
    mean_s, mean_a = jnp.mean(s_val, axis=0), jnp.mean(a_val, axis=0)
    s_val, a_val = s_val - mean_s[None, :], a_val - mean_a[None, :]
    var = jnp.mean(s_val**2, axis=0)
    varies = var > (CONSTANT * jnp.maximum(jnp.abs(mean_s), jnp.max(jnp.abs(s_val), axis=0))) ** 2
    slope = jnp.where(varies, jnp.mean(s_val * a_val, axis=0) / jnp.where(varies, var, 1.0), 0.0)
    rest = a - mean_a[None, :] - slope[None, :] * (s - mean_s[None, :])
    spread = jnp.mean((a - jnp.mean(a, axis=0)[None, :]) ** 2, axis=0)
    constant = is_constant(jnp.sqrt(spread), jnp.max(jnp.abs(a), axis=0))
    return jnp.where(
        constant, 0.0, 1 - jnp.mean(rest**2, axis=0) / jnp.where(constant, 1.0, spread)
    )


def _ranked(s, positive, order):
    """By descending s: values and positives (neurons, images), positives in all (neurons,), and for each place the last of equal s."""
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
