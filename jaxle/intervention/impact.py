"""Top Impact: how much of what a neuron does happens on the images that activate it most.

    I_k(x, y) = (ΔAcc − ΔL) / 2
    ΔAcc = ([f right] − [f_{∼k} right]) / Σ [f right],   ΔL = (L(f) − L(f_{∼k})) / Σ L(f)
    TI_k(β) = Σ over the β·N images of largest q_k of |I_k|  /  Σ over all N of |I_k|

f_{∼k} is the network with neuron k at zero, L the cross-entropy of logits / T. β·N is rounded to
the nearest whole number and is at least one image. Among equal activations the earlier image comes
first. TI_k(1) = 1 exactly. Images are streamed; kept are, per image and neuron, the activation, the
change of the loss, and whether the answer is still right. Source: method.md §7; Oikarinen & Weng
2024, section 2 (whose code's index is off by one image).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Real

from jaxle.arrays import Array, checks_input
from jaxle.intervention.replacement import Images, Tail, change, open_tail, record
from jaxle.models.recorded import AnyClassifier
from jaxle.options import number

BETAS = (0.0003, 0.002, 0.02, 0.1, 0.5)  # the paper's
CURVE_POINTS = 50


class Impact(NamedTuple):
    """One tap."""

    betas: Float[np.ndarray, " betas"]  # as asked
    table: Float32[np.ndarray, "neurons betas"]  # TI_k(β); 0 for a neuron without effect
    mean: Float64[np.ndarray, " betas"]  # over the neurons that have an effect; 0 where none has
    curve_at: Float64[np.ndarray, " points"]  # shares of the images, log-spaced, one image to all
    curve: Float64[np.ndarray, " points"]  # the mean there
    total: Float32[np.ndarray, " neurons"]  # Σ |I_k|
    accuracy_lost: Float32[np.ndarray, " neurons"]  # share right with the neuron, less without it
    loss_gained: Float32[np.ndarray, " neurons"]  # mean loss without it, less with it, nats
    n_images: int
    n_without_effect: int  # neurons that change nothing when they are set to zero
    path: str  # "linear" or "suffix"


@checks_input
def top_impact(
    model: AnyClassifier,
    pools: Mapping[str, str],
    images: Images,
    labels: Int[Array, " all_images"],
    index: Int[np.ndarray, " images"],
    *,
    temperature: float,
    betas: Sequence[float | int] = BETAS,
    memory: int | None = None,
) -> dict[str, Impact]:
    """Computes Top Impact of every neuron of some taps.

    Args:
      model: a classifier.
      pools: tap → pool.
      images: row index → uint8 images, fitted.
      labels: class numbers (all images,), by row.
      index: (images,) rows to use, distinct.
      temperature: T > 0, calibrated on held-out images (`fit_temperature`).
      betas: shares of the images, 0 to 1.
      memory: as for `open_tail`.

    Returns:
      Tap → Impact.

    Raises:
      ValueError: labels missing, no images, a share outside (0, 1], an unknown tap or pool.
    """
    if labels is None:
        raise ValueError("Top Impact needs labels, one class number an image; got none.")
    index = np.asarray(index)
    if len(index) == 0:
        raise ValueError("Top Impact needs at least one image, got none.")
    temperature = number("temperature", temperature, float, above=0)
    if not all(0 < beta <= 1 for beta in betas):
        raise ValueError(f"betas must be shares above 0 and at most 1, got {betas}.")
    first = np.asarray(images(index[:4]))
    tails = {tap: open_tail(model, tap, pool, first, memory=memory) for tap, pool in pools.items()}
    return {
        tap: _impact(tail, images, labels, index, temperature, betas) for tap, tail in tails.items()
    }


def impact_share(
    impact: Real[np.ndarray, "images neurons"],
    activations: Real[np.ndarray, "images neurons"],
    betas: Sequence[float | int] | Float[np.ndarray, " betas"],
) -> Float64[np.ndarray, "neurons betas"]:
    """Returns TI_k(β) from impacts.

    Args:
      impact: I_k (images, neurons), of either sign.
      activations: q_k (images, neurons).
      betas: (betas,) in (0, 1].

    Returns:
      (neurons, betas) float64 in [0, 1]; 0 where a neuron's impact is 0 everywhere.
    """
    order = np.argsort(-np.asarray(activations), axis=0, kind="stable")
    running = np.cumsum(np.abs(np.take_along_axis(impact, order, 0)), axis=0, dtype=np.float64)
    n = len(running)
    taken = np.clip(np.floor(np.asarray(betas) * n + 0.5).astype(int), 1, n) - 1
    whole = running[-1]
    return np.where(whole > 0, running[taken] / np.where(whole > 0, whole, 1.0), 0.0).T


def mean_over_taps(
    tables: Sequence[Real[np.ndarray, "_ betas"]], totals: Sequence[Real[np.ndarray, " _"]]
) -> Float64[np.ndarray, " betas"]:
    """Returns the mean over the neurons of several taps that have an effect: the paper's table.

    Args:
      tables: every tap's `Impact.table` (neurons, betas).
      totals: every tap's `Impact.total` (neurons,).

    Returns:
      (betas,) float64; 0 where no neuron has an effect.
    """
    return _mean(np.concatenate(tables), np.concatenate(totals) > 0)


def _impact(tail: Tail, images: Images, labels, index, temperature, betas) -> Impact:
    n, k = len(index), tail.n_neurons
    activations, delta = np.empty((n, k), np.float32), np.empty((n, k), np.float32)
    still = np.empty((n, k), bool)
    loss, right = np.empty(n), np.empty(n, bool)
    zero, neurons = None, np.arange(k)
    for rows, recorded in record(tail, images, labels, index):
        zero = np.zeros(recorded.activations.shape, np.float32) if zero is None else zero
        change_of_loss, right_after = change(tail, recorded, zero, neurons, temperature, "right")
        real = rows.stop - rows.start
        activations[rows], delta[rows], still[rows] = (
            np.asarray(x)[:real] for x in (recorded.activations, change_of_loss, right_after)
        )
        logits = np.asarray(recorded.logits, np.float64)[:real]
        y = np.asarray(recorded.labels)[:real]
        scaled = logits / temperature
        top = scaled.max(axis=1)
        partition = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        loss[rows] = partition - scaled[np.arange(real), y]
        right[rows] = logits.argmax(axis=1) == y
    sums = max(int(right.sum()), 1), max(float(loss.sum()), np.finfo(np.float64).tiny)
    curve_at = np.unique(np.append(np.geomspace(1 / n, 1, CURVE_POINTS), 1.0))
    table, total = np.empty((k, len(betas) + len(curve_at))), np.empty(k)
    for start in range(0, k, 64):  # float64 for some neurons at a time
        part = slice(start, start + 64)
        accuracy = (right[:, None] * 1.0 - still[:, part]) / sums[0]
        impact = (accuracy + delta[:, part].astype(np.float64) / sums[1]) / 2
        table[part] = impact_share(impact, activations[:, part], np.append(betas, curve_at))
        total[part] = np.abs(impact).sum(axis=0)
    means = _mean(table, total > 0)
    return Impact(
        betas=np.asarray(betas),
        table=table[:, : len(betas)].astype(np.float32),
        mean=means[: len(betas)],
        curve_at=curve_at,
        curve=means[len(betas) :],
        total=total.astype(np.float32),
        accuracy_lost=(right.mean() - still.mean(axis=0)).astype(np.float32),
        loss_gained=delta.mean(axis=0, dtype=np.float64).astype(np.float32),
        n_images=n,
        n_without_effect=int((total == 0).sum()),
        path=tail.path,
    )


def _mean(table, with_effect):
    if not with_effect.any():
        return np.zeros(table.shape[1])
    return table[with_effect].mean(axis=0, dtype=np.float64)
