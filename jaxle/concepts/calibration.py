"""Calibration: the scale and shift that make σ(scale·(cos + shift)) the probability that a concept is in an image (method.md §3).

    min over scale, shift of  −1/n Σ_ij [ L_ij log P_ij + (1 − L_ij) log(1 − P_ij) ],   L = labels: classes and superclasses

A logistic regression of L on cos with slope = scale and intercept = scale·shift, solved by Newton's method in a handful of passes over
tiles, where the paper's code tries 16,281 pairs. Images × concepts is never held. Where there are no labels, constants that are known.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.arrays import row_blocks
from jaxle.solve import logistic

KNOWN = {  # scale, shift; method.md §3: the paper's code, fitted on ImageNet
    "siglip_so400m_14_384": (58.0, -0.13),
    "siglip_l_16_384": (60.0, -0.09),
    "clip_vit_l_14_336": (58.0, -0.25),
}
MAX_SHARE = 0.3
BINS = 15


class Quality(NamedTuple):
    """How well probabilities agree with labels, over all pairs of image and concept."""

    nll: float  # mean binary cross-entropy, nats
    brier: float  # mean squared error
    ece: float  # expected calibration error: mean over pairs of |mean predicted − share observed| in the pair's bin
    predicted: np.ndarray  # (bins,) mean probability in each of 15 bins of equal width; the reliability curve; nan where a bin is empty
    observed: np.ndarray  # (bins,) share of labels that are 1
    count: np.ndarray  # (bins,) int64 pairs


class Calibration(NamedTuple):
    """Scale and shift, where they come from, and how good they are."""

    scale: float
    shift: float
    source: str  # a sentence for the report
    quality: Quality | None = None  # None without labels
    evaluations: int = 0  # passes over the tiles
    converged: bool = True


def calibrate(
    cosines: Callable[[np.ndarray, np.ndarray], jax.Array],
    labels: Callable[[np.ndarray, np.ndarray], np.ndarray],
    index: np.ndarray,
    *,
    max_share: float = MAX_SHARE,
) -> Calibration:
    """Fit scale and shift of one encoder on labelled images; use it once per encoder and data set, on images that are not test.

    Args:
      cosines: (row index, column index) → (rows, columns), as `ContrastiveConcepts.cosines` gives it for the label concepts.
      labels: (row index, column index) → 0/1 (rows, columns) of the same concepts, as `LabelConcepts.rows`; column index None is all.
      index: int (images,), the images to fit on.
      max_share: concepts that hold of more of these images are left out (the paper: 30 %).

    Returns:
      Calibration; `converged` is False where labels can be told apart without error, so that no finite scale is best.

    Raises:
      ValueError: no image, no concept of at most that share, no label that is 1, or cosines that are all alike.
    """
    if len(index) == 0:
        raise ValueError("calibration needs labelled images, got an empty index")
    counts = 0
    for block in row_blocks(len(index), 4 * np.shape(labels(index[:1], None))[1]):
        counts = counts + np.asarray(labels(index[block], None)).sum(axis=0, dtype=np.float64)
    columns = np.flatnonzero(counts <= max_share * len(index))
    if columns.size == 0:
        raise ValueError(
            f"each of the {len(counts)} label concepts holds of more than {max_share:.0%} of the images; expected some rarer"
        )
    if counts[columns].sum() == 0:
        raise ValueError(
            f"none of the {len(columns)} label concepts of at most {max_share:.0%} of the images holds of any image"
        )

    def tiles():
        return _tiles(cosines, labels, index, columns)

    fitted = logistic.fit(tiles)
    if fitted.slope == 0:
        raise ValueError(
            "the cosines of images and label concepts are all alike; expected embeddings that differ"
        )
    scale, shift = fitted.slope, fitted.intercept / fitted.slope
    quality = assess(cosines, labels, index, scale, shift, columns=columns)
    source = f"fitted on {len(index):,} images × {len(columns):,} label concepts by Newton's method"
    if scale < 0:
        source += (
            "; the scale is negative: this encoder's cosines are larger where a concept is absent"
        )
    if not fitted.converged:
        source += "; not converged: the labels can be told apart without error, so no finite scale is best"
    return Calibration(scale, shift, source, quality, fitted.evaluations + 1, fitted.converged)


def known(name: str, trained: tuple[float, float] | None = None) -> Calibration:
    """Constants for data without labels; `source` says which.

    Args:
      name: the encoder's name in the zoo.
      trained: (scale, shift) that the checkpoint was trained with, in place of constants that are not known.

    Raises:
      ValueError: an encoder without known constants, and no trained ones.
    """
    if name in KNOWN:
        return Calibration(
            *KNOWN[name],
            f"known constants of {name}, fitted on ImageNet by the paper's authors; these data have no labels",
        )
    if trained is None:
        raise ValueError(
            f"no calibration is known for {name}; known: {', '.join(KNOWN)}; give labels, or scale and shift"
        )
    return Calibration(
        *map(float, trained),
        f"the scale and shift that {name} was trained with; these data have no labels, and none are known",
    )


def assess(
    cosines: Callable[[np.ndarray, np.ndarray], jax.Array],
    labels: Callable[[np.ndarray, np.ndarray], np.ndarray],
    index: np.ndarray,
    scale: float,
    shift: float,
    columns: np.ndarray | None = None,
) -> Quality:
    """Measure any scale and shift in one pass; use it to compare calibrations, or on other images than they were fitted on.

    Args:
      cosines, labels, index: as in `calibrate`.
      scale, shift: P = σ(scale·(cos + shift)).
      columns: int (concepts,), which; None for all.
    """
    columns = np.arange(np.shape(labels(index[:1], None))[1]) if columns is None else columns
    edges = jnp.arange(BINS, dtype=jnp.float32) / BINS
    loss, squared, binned = 0.0, 0.0, 0.0
    for x, y in _tiles(cosines, labels, index, columns):
        parts = _quality(x, y, jnp.float32(scale), jnp.float32(shift), edges)
        a, b, c = (np.asarray(part, np.float64).sum(axis=-1) for part in parts)
        loss, squared, binned = loss + a, squared + b, binned + c
    above = np.concatenate(
        [binned, np.zeros((1, 3))]
    )  # pairs, their P and their labels from each edge up
    count, predicted, observed = (above[:-1] - above[1:]).T
    n = count.sum()
    ece = np.abs(predicted - observed).sum() / n
    empty = count == 0
    size = np.where(empty, np.nan, count)
    return Quality(
        loss / n,
        squared / n,
        ece,
        predicted / size,
        observed / size,
        np.rint(count).astype(np.int64),
    )


def _tiles(cosines, labels, index, columns):
    for block in row_blocks(len(index), 4 * len(columns)):
        x = cosines(index[block], columns)
        yield (
            x,
            jnp.asarray(
                labels(index[block], columns), jnp.float32, device=getattr(x, "sharding", None)
            ),
        )


@jax.jit
def _quality(x, y, scale, shift, edges):
    z = scale * (x + shift)
    p = jax.nn.sigmoid(z)

    def from_edge(edge):
        inside = (p >= edge).astype(jnp.float32)
        return jnp.stack([jnp.sum(part, axis=1) for part in (inside, inside * p, inside * y)])

    loss = jnp.logaddexp(0.0, jnp.where(y > 0, -z, z))
    return jnp.sum(loss, axis=1), jnp.sum((p - y) ** 2, axis=1), jax.lax.map(from_edge, edges)
