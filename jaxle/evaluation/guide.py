"""A guide to a person's answers: how a model expects them, and how much it leaves open.

The guide is a probability P_ij that a person finds concept j in image i. With independent answers
of these probabilities, the simulated activation s = Σ_j w_j c_j of an image has the cumulants

    κ₁ = Σ w_j P_j,  κ₂ = Σ w_j² V_j,  κ₃ = Σ w_j³ V_j (1 − 2P_j),  κ₄ = Σ w_j⁴ V_j (1 − 6V_j),
    V_j = P_j (1 − P_j),

and the image's influence on the correlation, e = â·z − ρ z²/2 with z = (s − mean)/std, the variance

    Var e = â² Var z − âρ Cov(z, z²) + ρ²/4 Var z².

That variance says which images are worth a person's time. Nothing of this has to be true for an
estimate to be right (`jaxle.evaluation.labelling`): a poor guide costs precision.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.special import expit, logit, ndtri

WRONG = 0.03  # of a concept's rarer answer, the share that a guide may miss where it is certain
SLOPE, INTERCEPT, FOLLOWS = 0.3, 1.0, 0.5  # prior standard deviations of a recalibration
STEPS = 30  # of Newton's method, at most


class Expected(NamedTuple):
    """What a guide expects of a neuron's simulated activation, standardised over all images.

    `mean` and `std` are those of s; the others are of z = (s − mean)/std, image by image.
    """

    mean: float
    std: float
    z: Float64[np.ndarray, " images"]  # E z
    square: Float64[np.ndarray, " images"]  # E z²
    variance: Float64[np.ndarray, " images"]  # Var z
    with_square: Float64[np.ndarray, " images"]  # Cov(z, z²)
    of_square: Float64[np.ndarray, " images"]  # Var z²


def doubted(
    probs: Float64[np.ndarray, "images concepts"],
) -> Float64[np.ndarray, "images concepts"]:
    """Returns the probabilities moved away from 0 and 1, as no guide is ever certain.

    Relative to how often the concept is expected: a guide to a rare concept that says 0 everywhere
    may miss a few of the few.
    """
    rate = probs.mean(axis=0)
    least = np.clip(WRONG * np.minimum(rate, 1 - rate), 1e-9, 0.5)
    return np.clip(probs, least, 1 - least)


def expect(
    probs: Float64[np.ndarray, "images concepts"], weights: Float64[np.ndarray, " concepts"]
) -> Expected:
    """Returns what independent answers with these probabilities make of a weighted sum.

    Args:
      probs: (images, concepts), strictly between 0 and 1.
      weights: (concepts,), at least one of them not 0.
    """
    spread = probs * (1 - probs)
    mean = probs @ weights
    centre = mean.mean()
    std = np.sqrt(mean.var() + (spread @ weights**2).mean())
    z, w = (mean - centre) / std, weights / std
    second = spread @ w**2
    third = (spread * (1 - 2 * probs)) @ w**3
    fourth = (spread * (1 - 6 * spread)) @ w**4
    with_square = 2 * z * second + third
    of_square = 4 * z * z * second + 4 * z * third + fourth + 2 * second**2
    square = z * z + second
    return Expected(float(centre), float(std), z, square, second, with_square, of_square)


def influence_variance(
    expected: Expected,
    activation: Float64[np.ndarray, " images"],
    correlation: float,
    mean: float = 0.0,
    std: float = 1.0,
) -> Float64[np.ndarray, " images"]:
    """Returns how uncertain each image's influence on the correlation is, Var e.

    Args:
      expected: of `expect`.
      activation: (images,) standardised over all images.
      correlation: ρ.
      mean, std: of z, where they are known better than by the guide: e is taken of (z − mean)/std.
    """
    with_square = expected.with_square - 2 * mean * expected.variance
    of_square = expected.of_square - 4 * mean * expected.with_square
    of_square = of_square + 4 * mean**2 * expected.variance
    return np.maximum(
        0.0,
        activation**2 * expected.variance / std**2
        - activation * correlation * with_square / std**3
        + correlation**2 / 4 * of_square / std**4,
    )


def recalibrate(
    probs: Float64[np.ndarray, " images"],
    activation: Float64[np.ndarray, " images"],
    images: Int[np.ndarray, " answered"],
    answers: Bool[np.ndarray, " answered"],
) -> Float64[np.ndarray, " images"]:
    """Returns one concept's probabilities, corrected by what a person answered on some images.

    A logistic regression on the guide's logit and on the activation (its normal scores and itself),
    since a neuron that follows the concept says something of it, too. Its prior is the guide as it
    is; with few answers little changes. The parameters' uncertainty is taken into the probabilities
    (MacKay 1992, https://doi.org/10.1162/neco.1992.4.5.720).

    Args:
      probs: (images,) strictly between 0 and 1.
      activation: (images,) standardised.
      images: (answered,) the answered images.
      answers: (answered,) whether the person found the concept there.
    """
    from scipy.stats import rankdata  # half a second to load, and few runs need it

    offset = logit(probs)
    scores = ndtri((rankdata(activation) - 0.5) / len(activation))
    scores = scores / max(scores.std(), 1e-9)
    columns = [
        np.ones_like(offset),
        (offset - offset[images].mean()) / 2,
        scores,
        np.clip(activation, -4, 4) / 2,
    ]
    x = np.stack(columns, axis=1)
    prior = np.diag(1 / np.array([INTERCEPT, SLOPE, FOLLOWS, FOLLOWS]) ** 2)
    seen, beta = x[images], np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = expit(offset[images] + seen @ beta)
        slope = seen.T @ (answers - p) - prior @ beta
        curvature = (seen * (p * (1 - p))[:, None]).T @ seen + prior
        step = np.linalg.solve(curvature, slope)
        size = np.abs(step).max()
        beta = beta + step * min(1.0, 2 / max(size, 1e-12))
        if size < 1e-9:
            break
    uncertain = np.einsum("ij,ij->i", x, np.linalg.solve(curvature, x.T).T)
    return expit((offset + x @ beta) / np.sqrt(1 + np.pi * uncertain / 8))
