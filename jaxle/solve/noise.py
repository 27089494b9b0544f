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

from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy import special

from jaxle.arrays import Rows, host_blocks
from jaxle.stats import is_constant

ALPHA = 0.05  # share of pure noise that passes
PART_BYTES = 1 << 20  # of float64 activations that are raised to powers at a time, in the cache


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
    parts = [
        (values.sum(axis=0, dtype=np.float64), values.min(axis=0), values.max(axis=0))
        for _, values in host_blocks(activations, index)
    ]
    total, low, high = (np.stack(part).astype(np.float64) for part in zip(*parts, strict=True))
    mean = total.sum(axis=0) / len(index)
    size = np.maximum(high.max(axis=0) - mean, mean - low.min(axis=0))
    varies = ~is_constant(size, mean)
    size = np.where(varies, size, 1.0)  # powers of what is at most 1 do not overflow
    inverse = 1 / np.maximum(size, 1e-300)  # no subnormal number's, which would be infinite
    second, third = np.zeros((2, len(mean)))
    step = max(1, PART_BYTES // (8 * len(mean)))
    for _, block in host_blocks(activations, index):
        for start in range(0, len(block), step):
            values = (block[start : start + step] - mean) * inverse
            square = values * values
            second += np.sum(square, axis=0)
            third += np.einsum("ik,ik->k", square, values)
    second, third = second / len(index), third / len(index)
    varies &= second > 0
    return np.where(varies, third / np.where(varies, second, 1.0) ** 1.5, 0.0)


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
