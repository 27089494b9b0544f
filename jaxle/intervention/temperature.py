"""The temperature of a classifier: Newton's method on the likelihood of held-out labels.

    min_T  f(1/T) = mean over images of  logsumexp(logits / T) − logits_y / T

f is convex in u = 1/T, with f' = mean(E_p[logit] − logit_y) and f'' = mean(Var_p[logit]),
p = softmax(u · logits). Newton's method therefore finds the optimum. A step that leaves the bracket
in which f' changes its sign is replaced by the bracket's middle. All is float64 on the host, in
blocks of images. Source: method.md §6; Guo, Pleiss, Sun & Weinberger, On Calibration of Modern
Neural Networks, ICML 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Real

from jaxle.arrays import Array, as_matrix, checks_input, row_blocks
from jaxle.options import number

LEAST, MOST = 0.05, 20.0  # temperatures; outside them the labels hardly change the loss


class Temperature(NamedTuple):
    """A calibrated temperature: softmax(logits / value) has the least mean loss."""

    value: float
    loss: float  # f at the end, nats an image
    evaluations: int  # passes over the logits
    capped: bool  # the optimum lies outside [LEAST, MOST], and `value` is the nearer end


@checks_input
def fit_temperature(
    logits: Real[Array, "images classes"], labels: Int[Array, " images"], tol: float = 1e-10
) -> Temperature:
    """Calibrates a classifier's temperature; give it images that the classifier was not fitted to.

    Args:
      logits: (images, classes), whatever `jaxle.arrays.as_matrix` takes.
      labels: (images,) class numbers.
      tol: stop when a step changes 1/T by less than this share.

    Returns:
      Temperature, within [0.05, 20]. Where every prediction is right with certainty the optimum is
      T → 0 and `value` is 0.05; where the logits are worse than none it is 20; where all logits of
      every image are equal it is 1.

    Raises:
      ValueError: labels missing, not class numbers, or of another length than the logits; `tol`
        outside (0, 1).
    """
    tol = number("tol", tol, float, above=0, below=1)
    logits = as_matrix(logits, "logits", ("images", "classes"))
    labels = check_labels(labels, logits.shape[0], logits.shape[1])
    low, high = 1 / MOST, 1 / LEAST
    passes = 0

    def evaluate(u):
        nonlocal passes
        passes += 1
        return _evaluate(logits, labels, u)

    for end, outside in ((high, lambda slope: slope <= 0), (low, lambda slope: slope >= 0)):
        loss, slope, curvature = evaluate(end)
        if curvature == 0 and slope == 0 and _flat(logits):
            return Temperature(1.0, loss, passes, False)
        if outside(slope):
            return Temperature(1 / end, loss, passes, True)
    u = 1.0
    while True:
        loss, slope, curvature = evaluate(u)
        low, high = (u, high) if slope < 0 else (low, u)
        wanted = u - slope / curvature if curvature > 0 else high
        wanted = wanted if low < wanted < high else (low + high) / 2
        if abs(wanted - u) <= tol * u or passes >= 200:
            return Temperature(1 / u, loss, passes, False)
        u = wanted


@checks_input
def check_labels(
    labels: Int[Array, " images"] | None, n_images: int, n_classes: int
) -> Int32[np.ndarray, " images"]:
    """Returns the labels as int32 (images,).

    Raises:
      ValueError: not one class number, 0 to `n_classes` − 1, for each image.
    """
    if labels is None:
        raise ValueError("losses need labels, one class number an image; got none.")
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != n_images:
        raise ValueError(
            f"labels must be {n_images} whole numbers, one an image; "
            f"got {found.dtype} of shape {found.shape}."
        )
    if found.size and not (0 <= found.min() and found.max() < n_classes):
        raise ValueError(
            f"labels must be class numbers from 0 to {n_classes - 1}; "
            f"got {found.min()} to {found.max()}."
        )
    return found.astype(np.int32)


def _evaluate(logits, labels, u):
    """f, its first and its second derivative by u, as float."""
    total = np.zeros(3)
    for block in row_blocks(len(labels), 8 * logits.shape[1]):
        z = np.asarray(logits[block]).astype(np.float64)
        z = z - z.max(axis=1, keepdims=True)
        right = np.take_along_axis(z, labels[block][:, None].astype(np.int64), 1)[:, 0]
        e = np.exp(u * z)
        partition = e.sum(axis=1)
        p = e / partition[:, None]
        mean = (p * z).sum(axis=1)
        total += (
            (np.log(partition) - u * right).sum(),
            (mean - right).sum(),
            (p * (z - mean[:, None]) ** 2).sum(),
        )
    return (total / len(labels)).tolist()


def _flat(logits) -> bool:
    return all(
        np.ptp(np.asarray(logits[block]), axis=1).max() == 0
        for block in row_blocks(len(logits), 8 * logits.shape[1])
    )
