"""What pure noise would gain: the correlation that the best of many unrelated concepts reaches.

    t*  = t_{n−2−L}((1 − α)^{1/M})  +  γ (z² − 1)/6,   r* = t*/√(t*² + n − 2 − L)

is the 1 − α quantile of the largest of M correlations, of either sign if M counts both, of n images
beside L concepts: Student's t if the values were normal, with Cornish and Fisher's correction for
their skewness. Under permutation of the images the skewness of a correlation is γ = γ_x γ_y/√n, so
that a rare concept and a sparse neuron, which meet by chance in a few images, need more. Only where
γ has the correlation's sign: on the other side the tail is lighter.
Sources: Šidák 1967 (https://doi.org/10.1080/01621459.1967.10482935); Cornish & Fisher 1938
(https://doi.org/10.2307/1400905).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy import special

from jaxle.arrays import Rows, host_blocks
from jaxle.stats import is_constant

ALPHA = 0.05  # share of pure noise that passes
PART_BYTES = 1 << 19  # of activations that are raised to powers at a time, in the cache
PART_ROWS = 1024  # at most: float32 sums of more lose what is small beside an outlier


def quantile(n: int, tried: int, chosen: int) -> tuple[float, int]:
    """Returns t of normal values that the best of `tried` exceeds with probability `ALPHA`.

    Args:
      n: images.
      tried: M, concepts that are compared, twice where either sign counts.
      chosen: L, concepts beside which they are.

    Returns:
      t, and its degrees of freedom n − 2 − L, at least 1.
    """
    freedom = max(n - 2 - chosen, 1)
    upper = -np.expm1(np.log1p(-ALPHA) / max(tried, 1))  # 1 − (1 − α)^{1/M}
    return float(-special.stdtrit(freedom, upper)), freedom


def least_correlation(t: Any, freedom: Any, skewness: Any) -> Any:
    """Returns r*, what a correlation must exceed; arrays that fit each other, NumPy or JAX.

    Args:
      t, freedom: from `quantile`.
      skewness: γ in the direction of the correlation; below 0 counts as 0.
    """
    t = t + (skewness > 0) * skewness * (t * t - 1) / 6
    return t / (t * t + freedom) ** 0.5


def skewness(
    activations: Rows, index: Int[np.ndarray, " images"]
) -> Float64[np.ndarray, " neurons"]:
    """Returns the skewness of each neuron over some images, 0 where it is constant.

    Args:
      activations: (images, neurons), an array or what is indexed like one.
      index: (images,) rows; read twice.
    """
    # about the first image: round-off of a large mean would exceed what varies
    origin = next(_parts(activations, index[:1]))
    mean, (least, most) = np.zeros(origin.shape[1]), (np.inf, -np.inf)
    for part in _parts(activations, index):
        mean += np.full(len(part), 1 / len(index), part.dtype) @ (part - origin)
        least, most = np.minimum(least, part.min(axis=0)), np.maximum(most, part.max(axis=0))
    least, most = np.asarray(least, np.float64), np.asarray(most, np.float64)
    mean += origin[0]
    size = np.maximum(most - mean, mean - least)
    varies = ~is_constant(size, mean)
    # powers of what is at most 1 do not overflow; a subnormal number's inverse would be infinite
    inverse = 1 / np.maximum(np.where(varies, size, 1.0), 1e-38)
    powers = np.zeros((3, len(mean)))
    for part in _parts(activations, index):
        # in float32, whose round-off the means make up for
        values = (part - mean.astype(part.dtype)) * inverse.astype(part.dtype)
        values = values.astype(np.float32, copy=False)
        ones, power = np.ones(len(part), np.float32), values.copy()
        for total in powers:
            total += ones @ power
            power *= values
    first, second, third = powers / len(index)
    third, second = third - 3 * first * second + 2 * first**3, second - first**2
    varies &= second > 0
    return np.where(varies, third / np.where(varies, second, 1.0) ** 1.5, 0.0)


def _parts(activations: Rows, index: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in parts that the cache holds, float32 or, of what that does not hold, float64."""
    dtype = np.result_type(activations.dtype, np.float32)
    step = int(np.clip(PART_BYTES // (dtype.itemsize * activations.shape[1]), 1, PART_ROWS))
    for _, block in host_blocks(activations, index):
        for start in range(0, len(block), step):
            yield np.asarray(block[start : start + step], dtype)


def skewness_of_probabilities(mean: Any, var: Any, xp: Any = np) -> Any:
    """Returns the largest skewness of a column of probabilities, from its first two moments.

    That of two values of which one is 1, exact for labels. 0 where no probabilities have these
    moments: nothing is known of the column.

    Args:
      mean, var: of the columns, arrays of one shape, NumPy or JAX.
      xp: numpy or jax.numpy.
    """
    known = (var > 0) & (mean > 0) & (mean < 1) & (var <= 1.001 * mean * (1 - mean))
    p = xp.where(known, var / xp.where(known, var + (1 - mean) ** 2, 1.0), 0.5)
    return xp.where(known, (1 - 2 * p) / xp.sqrt(p * (1 - p)), 0.0)
