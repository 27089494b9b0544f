"""`jaxle.compare`: two methods, or two simulators, on the same neurons and the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int64, Real

from jaxle.arrays import (
    Array,
    as_matrix,
    as_probabilities,
    check_equal_rows,
    check_same_order,
    checks_input,
    take_names,
)
from jaxle.data.splits import Split, check_split
from jaxle.evaluation.evaluate import check_explanations, find_split
from jaxle.evaluation.intervals import paired
from jaxle.evaluation.scores import live
from jaxle.evaluation.simulation import check_columns, simulate
from jaxle.explanations import Explanations
from jaxle.options import number


@dataclass(frozen=True, eq=False)
class Comparison:
    """Correlations of a minus correlations of b, with 95 % confidence intervals over images.

    Attributes:
      difference: ρ_a − ρ_b.
      low, high: ends of its interval.
      mean, mean_low, mean_high: the same of the mean over live neurons.
      share_a_better: share of live neurons on which a scores higher; a tie counts half.
      share_a_clear, share_b_clear: share of live neurons on which the interval lies above 0, below
        0, and enough images decide.
      few_positives: neurons of which too few images decide (`evaluation.sparse`).
      units: the neurons' numbers.
    """

    difference: Float32[np.ndarray, " neurons"]
    low: Float32[np.ndarray, " neurons"]
    high: Float32[np.ndarray, " neurons"]
    mean: float
    mean_low: float
    mean_high: float
    share_a_better: float
    share_a_clear: float
    share_b_clear: float
    few_positives: Bool[np.ndarray, " neurons"]
    units: Int64[np.ndarray, " neurons"]

    def to_frame(self) -> pd.DataFrame:
        """Returns a table with one row a neuron: unit, difference, low, high, few_positives."""
        names = ("difference", "low", "high", "few_positives")
        return pd.DataFrame({"unit": self.units} | {name: getattr(self, name) for name in names})

    def __repr__(self) -> str:
        return (
            f"Comparison of {len(self.difference)} neurons: mean difference {self.mean:.4f} "
            f"({self.mean_low:.4f} to {self.mean_high:.4f}); a is better on "
            f"{self.share_a_better:.0%}, clearly on {self.share_a_clear:.0%}; "
            f"b clearly on {self.share_b_clear:.0%}"
        )


@checks_input
def compare(
    a: Explanations | Real[Array, "images neurons"],
    b: Explanations | Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"] | None = None,
    concepts: Sequence[str] | None = None,
    *,
    split: Split | Mapping[str, Any] | None = None,
    draws: int = 1000,
    seed: int = 0,
    raw_features: bool = False,
) -> Comparison:
    """Compares two methods by their correlations on test images, neuron by neuron and on average.

    Both are scored on the same resamples of the images, so that what the images have in common
    cancels: two intervals of separate scores may overlap where this one does not hold 0.

    Args:
      a, b: two tables of explanations of the same neurons, which are simulated by `concept_probs`;
        or two simulations, (images, neurons).
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      concept_probs: (images, concepts), the simulator's probabilities (0–1), for explanations.
      concepts: its columns' names; None takes those of a frame.
      split: scores are of `split.test`. None takes the split that both tables were made with; for
        two simulations None takes all images, so give those of test images.
      draws: bootstrap draws of the images, at least 2.
      seed: integer from 0 to 2⁶⁴ − 1.
      raw_features: as in `jaxle.explain`, of which the explanations are.

    Raises:
      ValueError: arrays that do not fit, values that are not finite or, without `raw_features`,
        no probabilities, a table and an array, two
        tables of different splits, or a concept that is missing.
    """
    raw = number("raw_features", raw_features, bool)
    given, activations = activations, as_matrix(activations, "activations")
    n_images, n_neurons = activations.shape
    tables = [isinstance(x, Explanations) for x in (a, b)]
    if tables[0] != tables[1]:
        kinds = " and ".join(type(x).__name__ for x in (a, b))
        raise ValueError(
            "compare takes two Explanations or two arrays of simulated activations, "
            f"got {kinds}: simulate the explanations first (jaxle.simulate)."
        )
    if tables[0]:
        if concept_probs is None:
            raise ValueError(
                "comparing explanations needs a simulator's concept_probs and their concepts."
            )
        check_same_order(given, concept_probs, ("activations", "concept_probs"))
        concepts = take_names(concepts, concept_probs)
        concept_probs = as_probabilities(concept_probs, "concept_probs", raw=raw)
        check_equal_rows(activations, concept_probs, ("activations", "concept_probs"))
        check_columns(concepts, concept_probs.shape[1])
        for table in (a, b):
            check_explanations(table, n_neurons)
        if not np.array_equal(a.units, b.units):
            raise ValueError(
                f"a and b must explain the same neurons, got units {a.units[:5].tolist()}… "
                f"and {b.units[:5].tolist()}…."
            )
        index = _shared_split(a, b, split, n_images).test
        sides = [
            simulate(table, concept_probs, concepts, index, raw_features=raw) for table in (a, b)
        ]
        alive, units = live(a) & live(b), a.units
    else:
        for name, side in (("a", a), ("b", b)):
            check_same_order(side, given, (name, "activations"))
        a, b = as_matrix(a, "a"), as_matrix(b, "b")
        for name, side in (("a", a), ("b", b)):
            check_equal_rows(side, activations, (name, "activations"))
        index = np.arange(n_images) if split is None else check_split(split, n_images).test
        sides = [np.asarray(side[index]) for side in (a, b)]
        alive, units = None, np.arange(n_neurons)
    got = paired(*sides, np.asarray(activations[index]), draws=draws, seed=seed, live=alive)
    return Comparison(**got._asdict(), units=units)


def _shared_split(a: Explanations, b: Explanations, split: Split | None, n_images: int) -> Split:
    """The split that is given, or else the one of both tables."""
    if split is None and a.split is not None and b.split is not None:
        one, other = (check_split(table.split, n_images) for table in (a, b))
        if not all(np.array_equal(x, y) for x, y in zip(one, other, strict=True)):
            raise ValueError(
                "a and b were made with different splits: give split, whose test images no fit of "
                "either has read."
            )
    return find_split(split, b.split if a.split is None else a.split, n_images)
