"""The ceiling: the best that is known to be expressible in a concept set (method.md §8).

    dense    ridge on all concepts, the best of ten strengths
    sparse   elastic net on all concepts, the best of a path of λ
    found    every explanation at hand in the same concepts

Neuron by neuron the best on val is taken, and its correlation on test is the ceiling. None of them
alone is one: with few images a concept a ridge lies far below two concepts that carry a neuron, and
a sparse fit below a ridge where many do. A fit takes the place of one before it only where it is
better on val by more than noise: else the best of several would be the one that val favours by
chance. A search has chosen on val, as the best of many, and must be better by more.

    se² = ((1 − ρ₁²)² + (1 − ρ₂²)² − 2k)/n,   k = c(1 − ρ₁² − ρ₂²) − ½ρ₁ρ₂(1 − ρ₁² − ρ₂² − c²)

of the difference of two correlations with one variable, c that of the two fits.
Source: Olkin & Siotani 1976; Steiger 1980 (https://doi.org/10.1037/0033-2909.87.2.245).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, Int

from jaxle.arrays import Array, Rows
from jaxle.columns import Column
from jaxle.explanations import Explanation
from jaxle.solve import elastic_net, ridge, tiles
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments, correlate
from jaxle.units import Units

COLUMN = Column(
    "ceiling",
    -1.0,
    1.0,
    "",
    "ρ on test of the best, on val, of dense ridge, elastic net and all explanations of the run in "
    "the same concepts",
)
LAMS = (0.3, 0.15, 0.08, 0.04, 0.02)  # of the elastic net, on standardised columns
L1_RATIO = 0.99
ERRORS = 0.5  # standard errors on val by which a fit must be better than the one before
ERRORS_FOUND = 3.5  # what the best of 100, as many as greedy tries, reaches once in 20 times
TOL = 1e-3  # of the objective at zero: far below what val can distinguish


class Fit(NamedTuple):
    """A linear fit of every neuron on raw columns, and its correlation on val."""

    weights: Float[np.ndarray, "concepts neurons"]
    bias: Float[np.ndarray, " neurons"]
    val_correlation: Float[np.ndarray, " neurons"]


def ceiling(
    measured: Measured,
    rows: Callable[..., Array],
    activations: Rows,
    test: Int[np.ndarray, " images"],
    concepts: Sequence[str] = (),
    found: Sequence[Sequence[Explanation]] = (),
    units: Units | None = None,
    mesh: Mesh | None = None,
) -> Float32[np.ndarray, " neurons"]:
    """Returns the correlation on test images of the best fit of each neuron that is known.

    Args:
      measured: the explainer's moments of train and val.
      rows: (row index, column index) → (rows, columns) explainer probabilities.
      activations: (images, neurons).
      test: (images,) rows to score on.
      concepts: names of the moments' concepts; needed for `found` only.
      found: explanations of these neurons, such as `Explanations`, one row a neuron, in order. A
        row with a concept that is not among `concepts` is passed over.
      units: of all columns that `rows` gives, where they are not as the explanations read them.
      mesh: neurons are split over its axis `data` for the elastic nets.
    """
    best = _where_better(measured.val, dense(measured), sparse(measured, mesh), ERRORS)
    for each in found:
        fit = of_explanations(measured, concepts, each, units)
        best = _where_better(measured.val, best, fit, ERRORS_FOUND)

    columns = tiles.repeated(measured.kept)

    def kept(index: np.ndarray) -> Array:
        return rows(index, columns)

    weights = np.pad(best.weights, ((0, len(columns) - len(measured.kept)), (0, 0)))
    return np.asarray(correlate(kept, activations, weights, best.bias, test))


def dense(measured: Measured) -> Fit:
    """Returns ridge on all concepts, of the best strength on val neuron by neuron."""
    weights, bias, _, rho = ridge.solve(measured.train, measured.val)
    return Fit(*(np.asarray(part) for part in (weights, bias, rho)))


def sparse(measured: Measured, mesh: Mesh | None = None) -> Fit:
    """Returns the elastic net on all concepts, of the best λ on val neuron by neuron."""
    train = measured.train
    path = elastic_net.path(train, LAMS, L1_RATIO, tol=TOL, mesh=mesh)
    std_x, std_y = (
        np.sqrt(np.maximum(np.asarray(var), 0)) for var in (np.diagonal(train.gram), train.var_y)
    )
    unit = std_y[None, :] / np.where(std_x > 0, std_x, 1.0)[:, None]
    best, *more = (_fit(measured, np.asarray(solution.weights) * unit) for solution in path)
    for fit in more:
        best = _choose(fit.val_correlation > best.val_correlation, best, fit)
    return best


def of_explanations(
    measured: Measured,
    concepts: Sequence[str],
    rows: Sequence[Explanation],
    units: Units | None = None,
) -> Fit:
    """Returns the explanations as a fit on the moments' columns, each as it is.

    Args:
      measured, concepts, units: as for `ceiling`.
      rows: one a neuron.
    """
    place = {name: j for j, name in enumerate(concepts)}
    weights = np.zeros((len(measured.kept), len(rows)), np.float64)
    for k, row in enumerate(rows):
        if all(name in place for name in row.concepts):
            weights[[place[name] for name in row.concepts], k] = row.weights
    if units is not None:
        weights = weights * units.columns(measured.kept).size[:, None]
    # any scale of a neuron's weights has the same correlation, and float32 holds this one
    largest = np.abs(weights).max(axis=0, initial=0.0)
    weights = weights / np.where(largest > 0, largest, 1.0)
    return _fit(measured, weights.astype(np.float32))


def _where_better(val: Moments, best: Fit, other: Fit, errors: float) -> Fit:
    """The other fit for neurons where it is better on val by so many standard errors."""
    a, b = best.val_correlation, other.val_correlation
    c = _cosine(val, best.weights, other.weights)
    left = 1 - a**2 - b**2
    shared = c * left - 0.5 * a * b * (left - c**2)
    square = ((1 - a**2) ** 2 + (1 - b**2) ** 2 - 2 * shared) / val.n
    return _choose(b - a > errors * np.sqrt(np.maximum(square, 0.0)), best, other)


def _choose(which: np.ndarray, best: Fit, other: Fit) -> Fit:
    return Fit(*(np.where(which, new, old) for old, new in zip(best, other, strict=True)))


def _cosine(val: Moments, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(neurons,) correlations of two predictions."""
    gram = np.asarray(val.gram)
    left, right = gram @ one, gram @ other
    spread = np.sum(one * left, axis=0) * np.sum(other * right, axis=0)
    cov = np.sum(one * right, axis=0)
    return np.where(spread > 0, cov / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def _fit(measured: Measured, weights: np.ndarray) -> Fit:
    bias = np.asarray(measured.train.mean_y) - np.asarray(measured.train.mean_x) @ weights
    return Fit(weights, bias, _correlation(measured.val, weights))


def _correlation(moments: Moments, weights: np.ndarray) -> np.ndarray:
    """(neurons,) of predictions and activations; 0 where one of them does not vary."""
    spread = np.sum(weights * (np.asarray(moments.gram) @ weights), axis=0)
    spread = spread * np.asarray(moments.var_y)
    cov = np.sum(weights * np.asarray(moments.cross), axis=0)
    return np.where(spread > 0, cov / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
