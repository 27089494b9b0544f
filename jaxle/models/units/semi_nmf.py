"""Semi-NMF of a tap's pooled values on train images: values as non-negative sums of K directions.

    v ≈ Σ g_k f_k,  g ≥ 0  →  units: the least-squares coefficients of v, (FᵀF)⁻¹ Fᵀ v

The coefficients of a new image are taken by least squares, without the sign's constraint, so that
units are a linear map of the tap's values; d_k = f_k, of length 1. Source: `solve.semi_nmf`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxle.arrays import Rows
from jaxle.models.units.linear import directions_map
from jaxle.models.units.unit_map import UnitMap
from jaxle.options import option
from jaxle.solve.semi_nmf import semi_nmf


@dataclass(frozen=True)
class SemiNmf:
    """Options of `semi_nmf`."""

    steps: int = option(200, "updates of both factors", low=1)
    images: int = option(20_000, "at most so many train images, drawn by seed", low=2)


def factor_directions(
    values: Rows, rows: np.ndarray, count: int, seed: int, options: SemiNmf
) -> UnitMap:
    """Returns K directions.

    Args:
      values: (images, width), pooled values of a tap.
      rows: the images that count.
      count: K.
      seed: of the draw and of the first centres.
      options: see `SemiNmf`.

    Raises:
      ValueError: K above the columns or the images, or directions that depend on each other.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[: options.images])
    if count > (most := min(values.shape[1], len(rows))):
        raise ValueError(
            f"target.units=semi_nmf:{count} asks for {count} directions, and {len(rows)} train "
            f"images of {values.shape[1]} columns have {most}: expected at most so many."
        )
    x = np.asarray(values[rows], np.float32)
    scale = float(np.abs(x).max()) or 1.0
    found = semi_nmf(x / scale, seed % 2**32, k=count, steps=options.steps)
    f = np.asarray(found.f, np.float64)
    lengths = np.linalg.norm(f, axis=0)
    f = f / np.where(lengths > 0, lengths, 1.0)
    if np.linalg.matrix_rank(f, 1e-4) < count:
        raise ValueError(
            f"target.units=semi_nmf:{count}: the {count} directions found depend on each other; "
            "expected fewer."
        )
    error = float(found.error[-1])
    facts = {"relative_error": error, "steps": options.steps, "n_images": len(rows)}
    return directions_map("semi_nmf", np.linalg.pinv(f), f.T, facts=facts)
