"""Principal components of a tap's pooled values on train images.

    f = C (v − v̄),   rows of C the K eigenvectors of largest variance, of length 1

The largest number of each row is positive, so that signs do not depend on the computer.
"""

from __future__ import annotations

import numpy as np

from jaxle.arrays import Rows, host_blocks
from jaxle.models.units.linear import directions_map
from jaxle.models.units.unit_map import UnitMap


def principal_components(values: Rows, rows: np.ndarray, count: int) -> UnitMap:
    """Returns the first `count` components.

    Args:
      values: (images, width), pooled values of a tap.
      rows: the images that count.
      count: how many, at most width and one less than there are images.

    Raises:
      ValueError: more than that.
    """
    width = values.shape[1]
    if count > (most := min(width, len(rows) - 1)):
        raise ValueError(
            f"target.units=pca:{count} asks for {count} components, and {len(rows)} train images "
            f"of {width} columns have {most}: expected at most so many."
        )
    rows, n = np.sort(rows), len(rows)
    blocks = (block.astype(np.float64).sum(axis=0) for _, block in host_blocks(values, rows))
    mean = np.sum(list(blocks), axis=0) / n
    spread = np.zeros((width, width))
    for _, block in host_blocks(values, rows):
        off = block.astype(np.float64) - mean
        spread += off.T @ off
    variance, vectors = np.linalg.eigh(spread / n)
    chosen = vectors[:, ::-1][:, :count].T
    largest = np.take_along_axis(chosen, np.argmax(np.abs(chosen), axis=1)[:, None], axis=1)
    total = max(float(variance.sum()), np.finfo(np.float64).tiny)
    share = float(np.maximum(variance[::-1][:count], 0).sum() / total)
    return directions_map(
        "pca",
        chosen * np.where(largest < 0, -1.0, 1.0),
        mean=mean,
        facts={"variance_share": share},
    )
