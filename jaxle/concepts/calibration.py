"""Calibration: scale and shift with which P_ij = σ(scale·(cos_ij + shift)) is the probability that
concept j is in image i (method.md §3).

    min over scale, shift of  −1/n Σ_ij [ L_ij log P_ij + (1 − L_ij) log(1 − P_ij) ]

L are labels: classes and superclasses. It is a logistic regression of L on cos with slope = scale
and intercept = scale·shift, solved by Newton's method in a handful of passes over tiles, where the
paper's code tries 16,281 pairs. Images × concepts is never held. Where there are no labels, known
constants are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int64, Real, Shaped

from jaxle.arrays import Array, as_matrix, check_equal_rows, checks_input, row_blocks
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.solve import logistic

Cosines = Callable[[np.ndarray, np.ndarray], Any]  # rows, columns → float (rows, columns)
Labels = Callable[[np.ndarray, "np.ndarray | None"], Any]  # the same of 0 and 1; None for all

KNOWN = {  # scale, shift; method.md §3: the paper's code, fitted on ImageNet
    "siglip_so400m_14_384": (58.0, -0.13),
    "siglip_l_16_384": (60.0, -0.09),
    "clip_vit_l_14_336": (58.0, -0.25),
}
MAX_SHARE = 0.3
BINS = 15


class Quality(NamedTuple):
    """How well probabilities agree with labels, over all pairs of image and concept.

    Attributes:
      nll: mean binary cross-entropy, nats.
      brier: mean squared error.
      ece: expected calibration error: mean over pairs of |mean predicted − share observed| in the
        pair's bin.
      predicted: float64 (bins,), mean probability in each of 15 bins of equal width: the
        reliability curve; nan where a bin is empty.
      observed: float64 (bins,), share of labels that are 1.
      count: int64 (bins,), pairs.
    """

    nll: float
    brier: float
    ece: float
    predicted: Float[np.ndarray, "bins"]
    observed: Float[np.ndarray, "bins"]
    count: Int64[np.ndarray, "bins"]


class Calibration(NamedTuple):
    """Scale and shift, where they come from, and how good they are."""

    scale: float
    shift: float
    source: str  # a sentence for the report
    quality: Quality | None = None  # None without labels
    evaluations: int = 0  # passes over the tiles
    converged: bool = True


@checks_input
def calibrate(
    cosines: Cosines,
    labels: Labels,
    index: Int[np.ndarray, "images"],
    *,
    max_share: float = MAX_SHARE,
) -> Calibration:
    """Returns scale and shift of one encoder, fitted on labelled images that are not test.

    Args:
      cosines: (row index, column index) → (rows, columns), as `ContrastiveConcepts.cosines` gives
        it for the label concepts.
      labels: (row index, column index) → 0/1 (rows, columns) of the same concepts, as
        `LabelConcepts.rows`; column index None is all.
      index: int (images,), the images to fit on.
      max_share: concepts that hold of more of these images are left out (the paper: 30 %).

    Returns:
      Calibration; `converged` is False where cosines separate the labels without error, so that no
      finite scale is best.

    Raises:
      ValueError: no image, no concept of at most that share, no label that is 1, or cosines that
        are all alike.
    """
    if len(index) == 0:
        raise ValueError("calibration needs labelled images, got an empty index")
    n_concepts = np.shape(labels(index[:1], None))[1]
    counts = np.zeros(n_concepts)
    for block in row_blocks(len(index), 4 * n_concepts):
        counts += np.asarray(labels(index[block], None)).sum(axis=0, dtype=np.float64)
    columns = np.flatnonzero(counts <= max_share * len(index))
    if columns.size == 0:
        raise ValueError(
            f"each of the {len(counts)} label concepts holds of more than {max_share:.0%} of the "
            "images; expected some rarer, or --config.concepts.calibration=trained (or known)"
        )
    if counts[columns].sum() == 0:
        raise ValueError(
            f"none of the {len(columns)} label concepts of at most {max_share:.0%} of the images "
            "holds of any image"
        )

    def tiles():
        return _tiles(cosines, labels, index, columns)

    fitted = logistic.fit(tiles)
    if fitted.slope == 0:
        raise ValueError(
            "the cosines of images and label concepts are all alike; "
            "expected embeddings that differ"
        )
    scale, shift = fitted.slope, fitted.intercept / fitted.slope
    quality = assess(cosines, labels, index, scale, shift, columns=columns)
    source = f"fitted on {len(index):,} images × {len(columns):,} label concepts by Newton's method"
    if scale < 0:
        source += (
            "; the scale is negative: this encoder's cosines are larger where a concept is absent"
        )
    if not fitted.converged:
        source += (
            "; not converged: the cosines separate the labels without error, "
            "so no finite scale is best"
        )
    return Calibration(scale, shift, source, quality, fitted.evaluations + 1, fitted.converged)


@checks_input
def calibrate_embeddings(
    image_embeddings: Real[Array, "images numbers"],
    text_embeddings: Real[Array, "concepts numbers"],
    labels: Shaped[Array, "images concepts"],
    index: Int[Array, "rows"] | None = None,
    *,
    max_share: float = MAX_SHARE,
) -> Calibration:
    """Returns scale and shift fitted on arrays alone: embeddings, and which image shows what.

    σ(scale·(cos + shift)) of the same encoder is then the probability of a concept in an image.
    Rows are read in blocks, so that arrays may be memory maps; images × concepts is held as it is
    given and never copied whole.

    Args:
      image_embeddings: (images, numbers), rows of length 1, such as `embed_images` gives.
      text_embeddings: (concepts, numbers), rows of length 1, such as `embed_texts` gives.
      labels: (images, concepts), 0 or 1 in any real dtype or bool; all three are whatever
        `jaxle.arrays.as_matrix` takes, a sparse matrix of labels included.
      index: int (rows,), the images to fit on, none of which should be test; None for all.
      max_share: concepts that hold of more of these images are left out (the paper: 30 %).

    Returns:
      Calibration, as `calibrate`.

    Raises:
      ValueError: arrays that do not fit or are not finite, embeddings that are not of length 1,
        labels other than 0 and 1, an index out of range, or what `calibrate` refuses.
    """
    image_embeddings = as_matrix(image_embeddings, "image embeddings", ("images", "numbers"))
    text_embeddings = as_matrix(text_embeddings, "text embeddings", ("concepts", "numbers"))
    labels = as_matrix(labels, "labels", ("images", "concepts"))
    check_equal_rows(image_embeddings, labels, ("image embeddings", "labels"))
    if labels.shape[1] != text_embeddings.shape[0]:
        raise ValueError(
            f"labels have {labels.shape[1]} columns for {text_embeddings.shape[0]} text "
            "embeddings; expected one column a concept"
        )
    for block in row_blocks(labels.shape[0], 8 * labels.shape[1]):
        values = np.asarray(labels[block])
        wrong = np.argwhere((values != 0) & (values != 1))
        if len(wrong):
            row, column = wrong[0]
            raise ValueError(
                f"labels must be 0 or 1, got {values[row, column]} at image "
                f"{block.start + row}, concept {column}"
            )
    names = [str(column) for column in range(labels.shape[1])]
    concepts = ContrastiveConcepts.make(names, image_embeddings, text_embeddings, 1.0, 0.0)

    def rows(images: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
        tile = np.asarray(labels[images])
        return tile if columns is None else tile[:, columns]

    chosen = _checked_index(index, labels.shape[0])
    return calibrate(concepts.cosines, rows, chosen, max_share=max_share)


def _checked_index(index: Any, n: int) -> np.ndarray:
    if index is None:
        return np.arange(n)
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(
            f"index is {index.dtype} of shape {index.shape}; expected whole numbers (images,)"
        )
    wrong = index[(index < 0) | (index >= n)]
    if wrong.size:
        raise ValueError(f"index holds {wrong[0]}; expected 0 to {n - 1}, as there are {n} images")
    return index


def known(name: str, trained: tuple[float, float] | None = None) -> Calibration:
    """Returns constants for data without labels; `source` states where they come from.

    Args:
      name: the encoder's name in the zoo.
      trained: (scale, shift) that the checkpoint was trained with, in place of constants that are
        not known.

    Raises:
      ValueError: an encoder without known constants, and no trained ones.
    """
    if name in KNOWN:
        return Calibration(
            *KNOWN[name],
            source=f"known constants of {name}, fitted on ImageNet by the paper's authors; "
            "these data have no labels",
        )
    if trained is None:
        raise ValueError(
            f"no calibration is known for {name}; known: {', '.join(KNOWN)}; "
            "give labels, or scale and shift"
        )
    scale, shift = trained
    return Calibration(
        float(scale),
        float(shift),
        f"the scale and shift that {name} was trained with; "
        "these data have no labels, and none are known",
    )


def assess(
    cosines: Cosines,
    labels: Labels,
    index: Int[np.ndarray, "images"],
    scale: float,
    shift: float,
    columns: Int[np.ndarray, "concepts"] | None = None,
) -> Quality:
    """Returns how good any scale and shift are, in one pass over any labelled images.

    Args:
      cosines, labels, index: as in `calibrate`.
      scale, shift: P = σ(scale·(cos + shift)).
      columns: int (concepts,), which; None for all.
    """
    columns = np.arange(np.shape(labels(index[:1], None))[1]) if columns is None else columns
    edges = np.arange(BINS, dtype=np.float32) / np.float32(BINS)
    loss, squared, binned = np.zeros(()), np.zeros(()), np.zeros((BINS, 3))
    for x, y in _tiles(cosines, labels, index, columns):
        parts = _quality(x, y, np.float32(scale), np.float32(shift), edges)
        a, b, c = (np.asarray(part, np.float64).sum(axis=-1) for part in parts)
        loss, squared, binned = loss + a, squared + b, binned + c
    # pairs, their P and their labels from each edge up
    above = np.concatenate([binned, np.zeros((1, 3))])
    count, predicted, observed = (above[:-1] - above[1:]).T
    n = count.sum()
    ece = np.abs(predicted - observed).sum() / n
    empty = count == 0
    size = np.where(empty, np.nan, count)
    return Quality(
        float(loss / n),
        float(squared / n),
        float(ece),
        predicted / size,
        observed / size,
        np.rint(count).astype(np.int64),
    )


def _tiles(cosines, labels, index, columns) -> Iterator[tuple[Any, jax.Array]]:
    for block in row_blocks(len(index), 4 * len(columns)):
        x = cosines(index[block], columns)
        y = np.asarray(labels(index[block], columns), np.float32)
        yield x, jax.device_put(y, getattr(x, "sharding", None))


@jax.jit
def _quality(x, y, scale, shift, edges):
    z = scale * (x + shift)
    p = jax.nn.sigmoid(z)

    def from_edge(edge):
        inside = (p >= edge).astype(jnp.float32)
        return jnp.stack([jnp.sum(part, axis=1) for part in (inside, inside * p, inside * y)])

    loss = jnp.logaddexp(0.0, jnp.where(y > 0, -z, z))
    return jnp.sum(loss, axis=1), jnp.sum((p - y) ** 2, axis=1), jax.lax.map(from_edge, edges)
