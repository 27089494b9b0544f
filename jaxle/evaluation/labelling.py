"""A person's check for few clicks: which images to label, and ρ with an interval from the answers.

ρ is Pearson's correlation, over all images, of a neuron's activation a and the simulated activation
s = Σ_j w_j c_j, where a person says whether concept j is in the image (c_j = 1) or not (0). Only n
images are labelled, and they are not drawn uniformly, since most images say little about ρ:

    draw:      P(i is drawn) ∝ (1 − UNIFORM)·√(Σ_k Var e_ik) + UNIFORM, n images, no image twice
    estimate:  T = Σ_all m_i + Σ_drawn (y_i − m_i)/P(i)   for y = s, s², âs, hence ρ
    interval:  tanh(atanh ρ ± t·√V/(1 − ρ²))

e is an image's influence on ρ, and Var e what a guide, such as an encoder's probabilities of the
concepts, leaves open about it (`jaxle.evaluation.guide`). m is a regression of y on what is known
of every image: 1, â, â², and what the guide, recalibrated by the answers, expects of s, s² and âs.
The activation's own mean and variance are exact. T is right whatever the guide is worth, since it
is the drawing that makes it so.

V is the variance of the linearised totals under the drawing (Deville's approximation for samples of
fixed size). Where few images decide it comes out too small, so its logarithm is averaged with that
of the variance which the guide expects, which counts as MODEL_IMAGES degrees of freedom.

Sources: Oikarinen, Yan, Kulkarni & Weng 2025 (https://arxiv.org/abs/2506.07985) for importance
sampling of images to label; Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling,
chapters 6 and 7, for the estimate; Deville 1999 for its variance. Coverage and errors:
benchmarks/labelling.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, Real, Shaped
from scipy.special import stdtrit

from jaxle.arrays import Array, as_matrix, check_equal_rows, checks_input
from jaxle.evaluation.guide import (
    Expected,
    doubted,
    expect,
    influence_variance,
    recalibrate,
)
from jaxle.stats import is_constant
from jaxle.units import in_units

UNIFORM = 0.25  # share of the drawing that does not listen to the guide: bounds every weight
MODEL_IMAGES = 2.0  # weight of the guide's variance, in degrees of freedom
LEAST_SHARE = 1 / 30  # of the guide's variance, below which no sample's variance is believed
RIDGE = 0.02  # of the regression on what is known, relative to its mean square
LEAST_ANSWERS = 10  # images below which nothing is estimated
FEW = 5  # images with a concept, or without it, below which the row says few_positives
MOST = 0.999  # a correlation beyond is as good as 1 for few labels

FLAGS = {
    "too_few_answers": f"fewer than {LEAST_ANSWERS} images are answered: nothing is estimated",
    "constant": "the person's answers give every image the same simulated activation",
    "few_positives": f"a concept was found, or not found, in fewer than {FEW} of the images",
}


class Sample(NamedTuple):
    """Images to label, in random order, and how likely each was to be drawn."""

    images: Int64[np.ndarray, " rows"]
    probability: Float64[np.ndarray, " rows"]


class Estimate(NamedTuple):
    """A person's correlation scores of some neurons."""

    correlation: Float64[np.ndarray, " neurons"]
    low: Float64[np.ndarray, " neurons"]
    high: Float64[np.ndarray, " neurons"]
    effective_n: Float64[np.ndarray, " neurons"]  # images drawn uniformly that would do the same
    answered: Int64[np.ndarray, " neurons"]  # images in which every concept was answered
    flag: Shaped[np.ndarray, " neurons"]  # str, "" or one of FLAGS


@checks_input
def draw_sample(
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    weights: Float[Array, "concepts neurons"],
    n: int,
    seed: int = 0,
) -> Sample:
    """Returns which images a person should label, to learn most about these neurons.

    All neurons share the images.

    Args:
      activations: (images, neurons), of the images on which the score is wanted: test; it and the
        next two are whatever `jaxle.arrays.as_matrix` takes.
      concept_probs: (images, concepts), how likely a person is to find each concept there, 0–1, by
        an encoder or by labels: what is known before anyone looks.
      weights: (concepts, neurons) of the explanations, 0 where a neuron's has no such concept.
      n: images to label; all of them where there are no more.
      seed: integer from 0.

    Raises:
      ValueError: shapes differ, values are not finite, a probability is outside 0–1, a neuron or
        its explanation is constant, or n is smaller than 10.
    """
    targets, probs, weights = _checked(activations, concept_probs, weights)
    if not isinstance(n, (int, np.integer)) or n < LEAST_ANSWERS:
        raise ValueError(f"n must be a whole number of at least {LEAST_ANSWERS}, got {n!r}.")
    rng = np.random.default_rng(seed)
    probs = doubted(probs)
    open_question = np.zeros(len(targets))
    for k in range(targets.shape[1]):
        expected = expect(probs, weights[:, k])
        rho = float(np.mean(targets[:, k] * expected.z))
        variance = influence_variance(expected, targets[:, k], rho)
        open_question += variance / max(np.mean(np.sqrt(variance)) ** 2, 1e-300)
    size = np.sqrt(open_question)
    chance = inclusion((1 - UNIFORM) * size / size.mean() + UNIFORM, n)
    images = _systematic(chance, rng)
    return Sample(images, chance[images])


def inclusion(size: Float64[np.ndarray, " images"], n: int) -> Float64[np.ndarray, " images"]:
    """Returns probabilities of being drawn, proportional to `size` below 1, with sum n."""
    if n >= len(size):
        return np.ones(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        rest = np.where(certain, 0.0, size)
        chance = np.where(certain, 1.0, rest * (n - certain.sum()) / rest.sum())
        over = (chance >= 1) & ~certain
        if not over.any():
            return chance
        certain |= over


def _systematic(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws images without replacement, each with exactly its chance, in random order."""
    certain, order = np.flatnonzero(chance >= 1), rng.permutation(np.flatnonzero(chance < 1))
    n = round(float(chance[order].sum()))
    marks = np.cumsum(chance[order])
    marks *= n / marks[-1] if n else 1.0
    places = np.searchsorted(marks, rng.random() + np.arange(n), side="right")
    drawn = order[np.minimum(places, len(order) - 1)] if n else order[:0]
    return rng.permutation(np.concatenate([certain, drawn])).astype(np.int64)


@checks_input
def estimate(
    sample: Sample,
    answers: Float[np.ndarray, "rows concepts"],
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    weights: Float[Array, "concepts neurons"],
    *,
    level: float = 0.95,
) -> Estimate:
    """Returns the correlation that labelling every image would give, with confidence intervals.

    Rows that are not answered are left out. As the rows stand in random order, those that a person
    answered before stopping are a random part of them; whoever skips the difficult ones biases the
    estimate.

    Args:
      sample: of `draw_sample`.
      answers: (rows, concepts), 1 where the person finds the concept in that row's image, 0 where
        not, NaN where there is no answer.
      activations, concept_probs, weights: as given to `draw_sample`.
      level: share of intervals that are to hold the true value.

    Returns:
      Estimate. Where nothing can be said (see FLAGS), the correlation is 0 and the interval −1 to
      1.

    Raises:
      ValueError: as `draw_sample`; or answers of another shape, or other than 0, 1 and NaN.
    """
    targets, probs, weights = _checked(activations, concept_probs, weights)
    answers = np.asarray(answers, np.float64)
    expected_shape = (len(sample.images), len(weights))
    if answers.shape != expected_shape or not (np.isnan(answers) | np.isin(answers, (0, 1))).all():
        raise ValueError(
            f"answers must be 0, 1 or NaN of shape {expected_shape} (rows, concepts), "
            f"got shape {answers.shape} with values {np.unique(answers)[:5]}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}.")
    probs = doubted(probs)
    found = []
    for k in range(targets.shape[1]):
        used = np.flatnonzero(weights[:, k])
        rows = np.flatnonzero(~np.isnan(answers[:, used]).any(axis=1))
        part = Sample(sample.images[rows], sample.probability[rows] * len(rows) / len(answers))
        found.append(
            _one(
                part, answers[rows][:, used], targets[:, k], probs[:, used], weights[used, k], level
            )
        )
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Estimate(*columns)


def _one(sample: Sample, answers, target, probs, weights, level) -> tuple:
    """One neuron's row of an Estimate, from the answered part of a sample."""
    answered = len(sample.images)
    nothing = (0.0, -1.0, 1.0, 0.0, answered)
    if answered < LEAST_ANSWERS:
        return *nothing, "too_few_answers"
    simulated = answers @ weights
    if np.ptp(simulated) == 0:
        return *nothing, "constant"
    corrected = [
        recalibrate(probs[:, j], target, sample.images, answers[:, j] == 1)
        for j in range(len(weights))
    ]
    expected = expect(np.stack(corrected, axis=1), weights)
    fit = _regress(sample, simulated, target, expected)
    variance, freedom = _variance(sample, fit, target, expected)
    half = (
        stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance) / (1 - min(abs(fit.rho), MOST) ** 2)
    )
    centre = np.arctanh(np.clip(fit.rho, -MOST, MOST))
    low = min(fit.rho, np.tanh(centre - half)) if half > 0 else fit.rho
    high = max(fit.rho, np.tanh(centre + half)) if half > 0 else fit.rho
    # the variance of e under uniform drawing, which the activation's own mean and variance enter
    unit, a = fit.unit, target[sample.images]
    e = a * unit - fit.rho / 2 * (a * a + unit * unit)
    uniform = (e**2 / sample.probability).sum() / (1 / sample.probability).sum()
    effective = 1 / (variance / max(uniform, 1e-12) + 1 / len(target))
    ones = answers.sum(axis=0)
    few = np.minimum(ones, answered - ones).min() < FEW and (sample.probability < 1).any()
    return fit.rho, low, high, effective, answered, "few_positives" if few else ""


class _Fit(NamedTuple):
    rho: float
    mean: float  # of z
    std: float
    unit: np.ndarray  # (answered,) z standardised by them
    residual: np.ndarray  # (answered,) what an image's influence differs from the regression's
    weight: np.ndarray  # (answered,) how many images an image stands for after the regression
    leverage: np.ndarray  # (answered,)


def _regress(sample: Sample, simulated, target, expected: Expected) -> _Fit:
    """ρ from totals of z, z² and âz, each the guide's, corrected by a regression and the sample."""
    images, chance = sample
    n_images, z, a = len(target), (simulated - expected.mean) / expected.std, target[images]
    known = [np.ones(n_images), target, target**2, expected.z, target * expected.z, expected.square]
    known = np.linalg.qr(np.stack(known, axis=1))[0] * np.sqrt(n_images)
    guided = np.stack([expected.z, expected.square, target * expected.z], axis=1)
    beyond = np.stack([z, z * z, a * z], axis=1) - guided[images]
    x, importance = known[images], (1 - chance) / chance**2
    square = (x * importance[:, None]).T @ x
    ridge = max(RIDGE * np.trace(square) / len(square), 1e-9)
    solve = np.linalg.solve(square + ridge * np.eye(len(square)), (x * importance[:, None]).T)
    left = beyond - x @ (solve @ beyond)
    total = guided.sum(0) + known.sum(0) @ (solve @ beyond) + (left / chance[:, None]).sum(0)
    mean, mean_square, product = (float(value) for value in total / n_images)
    # under a poor guide the variance of z may come out near 0: not below a tenth of the sample's
    share = 1 / chance / (1 / chance).sum()
    least = 0.1 * float(share @ z**2 - (share @ z) ** 2)
    std = float(np.sqrt(max(mean_square - mean**2, least)))
    rho = float(np.clip(product / std, -1.0, 1.0))
    slopes = np.array([rho * mean / std**2, -rho / 2 / std**2, 1 / std])  # of ρ in the three means
    weight = 1 / chance + (known.sum(0) - (x / chance[:, None]).sum(0)) @ solve
    leverage = np.clip((x * solve.T).sum(1), 0.0, 0.8)
    return _Fit(rho, mean, std, (z - mean) / std, left @ slopes, weight, leverage)


def _variance(sample: Sample, fit: _Fit, target, expected: Expected) -> tuple[float, float]:
    """The variance of ρ, and its degrees of freedom."""
    images, chance = sample
    n_images, left_out = len(target), 1 - chance
    centre = (left_out * fit.residual / chance).sum() / max(left_out.sum(), 1e-9)
    parts = fit.weight * fit.residual - centre
    parts = parts * np.sqrt(left_out / (1 - fit.leverage)) / n_images
    drawn = float((parts**2).sum())
    freedom = max(2.0, 2 * drawn**2 / max(float((parts**4).sum()), 1e-300))
    open_question = influence_variance(expected, target, fit.rho, fit.mean, fit.std)[images]
    modelled = float((left_out / chance**2 * open_question).sum()) / n_images**2
    if modelled == 0:
        return drawn, freedom
    drawn = max(drawn, LEAST_SHARE * modelled)
    logs = freedom * np.log(drawn) + MODEL_IMAGES * np.log(modelled)
    return float(np.exp(logs / (freedom + MODEL_IMAGES))), freedom


def _checked(activations, concept_probs, weights):
    """Returns standardised activations, probabilities and weights, float64."""
    activations = as_matrix(activations, "activations")
    concept_probs = as_matrix(concept_probs, "concept_probs", ("images", "concepts"))
    weights = as_matrix(weights, "weights", ("concepts", "neurons"))
    check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
    units = in_units(activations)  # standardised, they are the same
    a, p, w = (np.asarray(x, np.float64) for x in (units, concept_probs, weights))
    if w.shape != (p.shape[1], a.shape[1]):
        raise ValueError(
            f"weights must be (concepts, neurons) = {(p.shape[1], a.shape[1])}, got {w.shape}."
        )
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"concept_probs must lie in 0–1, got {p.min():g} to {p.max():g}.")
    mean, std = a.mean(0), a.std(0)
    constant = is_constant(std, mean) | (w == 0).all(axis=0)
    if constant.any():
        raise ValueError(
            f"neuron {np.flatnonzero(constant)[0]} or its explanation is constant: "
            "its correlation is 0 whatever a person answers."
        )
    return (a - mean) / std, p, w
