"""`jaxle.evaluate`: what a run computes for one layer, method and simulator, from arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Real

from jaxle.arrays import (
    Array,
    as_matrix,
    as_probabilities,
    check_equal_rows,
    check_same_order,
    checks_input,
    take_names,
)
from jaxle.compilation import use_compilation_cache
from jaxle.data.splits import Split, check_split
from jaxle.evaluation import CEILING, METRICS, find_metrics
from jaxle.evaluation.ceiling import ceiling as best_known
from jaxle.evaluation.controls import control_correlations
from jaxle.evaluation.scores import DRAWS, Evidence, Metric, Scores, live, score
from jaxle.evaluation.simulation import check_columns, check_kind, simulate
from jaxle.explanations import Explanations
from jaxle.options import number
from jaxle.options import seed as read_seed
from jaxle.solve.measure import measure
from jaxle.units import InUnits, find_units

MIN_TOP5 = 0.5  # `jaxle.explain`'s default


@checks_input
def evaluate(
    explanations: Explanations,
    activations: Real[Array, "images neurons"],
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str] | None = None,
    *,
    split: Split | Mapping[str, Any] | None = None,
    explainer_probs: Real[Array, "images concepts"] | None = None,
    controls: Sequence[Scores | Real[Array, " _"]] = (),
    permutations: int = DRAWS,
    draws: int = 1000,
    q: float = 0.05,
    seed: int = 0,
    metrics: Sequence[str] | Mapping[str, Metric] | None = None,
    ceiling: bool = True,
    min_top5: float = MIN_TOP5,
    raw_features: bool = False,
) -> Scores:
    """Scores the explanations of a layer on test images, as a run does.

    Simulates every neuron by the probabilities of a simulator, which should not be the encoder that
    the explanations were found with, and compares with its real activation.

    Args:
      explanations: one row a neuron, in order.
      activations: (images, neurons), whatever `jaxle.arrays.as_matrix` takes.
      concept_probs: (images, concepts), the simulator's probability (0–1) of each concept.
      concepts: the columns' names; they may be more than the explanations use; None takes those of
        a frame.
      split: which images train, choose and score, as in `jaxle.explain`; None takes
        `explanations.split`.
      explainer_probs: (images, concepts), the probabilities of the same concepts that the
        explanations were found with, for the ceiling; None takes `concept_probs`.
      controls: of the same layer of untrained networks, explained by the same method: what
        `evaluate` gave for each, or the correlations of its live neurons. With five or more,
        `n_better` counts the neurons better explained than an untrained network's.
      permutations: of the test images, for the p-value that a neuron and its explanation have
        anything to do with each other; 0 for none.
      draws: bootstrap draws of the images; 0 for no intervals.
      q: false discovery rate.
      seed: of every draw, an integer from 0 to 2⁶⁴ − 1.
      metrics: names of `jaxle.evaluation.METRICS` or "package.module:NAME", or a table name →
        `Metric`; None for all of the table.
      ceiling: whether to compute the ceiling, the best that is known of the same concepts.
      min_top5: screening of the ceiling's concepts, as in `jaxle.explain`; 0 turns the rule off.
      raw_features: as in `jaxle.explain`, of which the explanations are.

    Returns:
      Scores: `.columns` (a value a neuron, as in scores.csv), `.facts`, `.to_frame(explanations)`.

    Raises:
      ValueError: arrays that do not fit, values that are not finite or, without `raw_features`,
        no probabilities; no split, a concept that is missing, a bad option, or a metric that
        `find_metrics` or `score` refuses.
    """
    permutations, draws = (
        number(name, value, int, low=0)
        for name, value in (("permutations", permutations), ("draws", draws))
    )
    q, seed = number("q", q, float, above=0, below=1), read_seed(seed)
    min_top5 = number("min_top5", min_top5, float, low=0, high=1)
    ceiling, raw = number("ceiling", ceiling, bool), number("raw_features", raw_features, bool)
    check_kind(explanations)
    beside = control_correlations(controls)
    concepts = take_names(concepts, concept_probs)
    given, activations = activations, as_matrix(activations, "activations")
    n_images, n_neurons = activations.shape
    check_explanations(explanations, n_neurons)
    checked = []
    for name, probs in (("concept_probs", concept_probs), ("explainer_probs", explainer_probs)):
        if probs is not None:
            check_same_order(given, probs, ("activations", name))
            take_names(concepts, probs, name)
            probs = as_probabilities(probs, name, raw=raw)
            check_equal_rows(activations, probs, ("activations", name))
            check_columns(concepts, probs.shape[1])
        checked.append(probs)
    concept_probs, explainer_probs = checked
    split = find_split(split, explanations.split, n_images)
    use_compilation_cache()
    if metrics is None:
        metrics = METRICS
    table = metrics if isinstance(metrics, Mapping) else find_metrics(metrics)

    def simulated(index: np.ndarray) -> np.ndarray:
        return simulate(explanations, concept_probs, concepts, index, raw_features=raw)

    evidence = Evidence(
        simulated_val=simulated(split.val),
        activations_val=np.asarray(activations[split.val]),
        simulated=simulated(split.test),
        activations=np.asarray(activations[split.test]),
        live=live(explanations),
        controls=beside,
        permutations=permutations,
        draws=draws,
        q=q,
        seed=seed,
    )
    found = score(evidence, table)
    if not ceiling:
        return found
    probs = concept_probs if explainer_probs is None else explainer_probs
    seen = np.concatenate([split.train, split.val])
    units, units_y = find_units(probs, seen), find_units(activations, rows=seen)
    probs = probs if units is None else InUnits(probs, units)
    activations = activations if units_y is None else InUnits(activations, units_y)

    def rows(index: np.ndarray, columns: np.ndarray | slice = slice(None)) -> Array:
        return probs[index][:, columns]

    measured = measure(
        rows,
        len(concepts),
        activations,
        split.train,
        split.val,
        min_top5=0.0 if raw else min_top5,
        units=units,
    )
    kept = [concepts[j] for j in measured.kept]
    best = best_known(measured, rows, activations, split.test, kept, [explanations], units)
    return dataclasses.replace(found, columns={**found.columns, CEILING.name: best})


@checks_input
def check_explanations(explanations: Explanations, n_neurons: int) -> None:
    """Raises a ValueError unless there is one explanation for each column of activations."""
    if len(explanations) != n_neurons:
        raise ValueError(
            f"activations must have {len(explanations)} columns, one an explanation, "
            f"got {n_neurons}: give activations[:, explanations.units], or all explanations."
        )


@checks_input
def find_split(split: Split | None, made_with: Split | None, n_images: int) -> Split:
    """Returns the split that is given, or else the one that explanations were made with, checked.

    Raises:
      ValueError: there is neither, or it does not fit the images.
    """
    split = made_with if split is None else split
    if split is None:
        raise ValueError(
            "these explanations hold no split: give split=jaxle.Split(train, val, test), the one "
            "they were made with, since scores count on images that no fit has read."
        )
    return check_split(split, n_images)
