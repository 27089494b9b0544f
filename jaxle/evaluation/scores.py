"""Scores of a layer: columns of scores.csv and facts of summary.json, each from one metric.

    Evidence (simulated and real activations, controls) × metrics → Scores (a value a neuron, facts)

A run and `jaxle.evaluate` call the same `score` with the same `Evidence`. A metric of your own is
one `Metric` object, named "package.module:NAME" in a config.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Real

from jaxle.arrays import Array
from jaxle.columns import Column
from jaxle.explanations import Explanations

__all__ = ["Column", "Evidence", "Metric", "Scores", "live", "score"]

DRAWS = 2000  # permutations of the test images: counts stay within one neuron over seeds
# columns of scores.csv that name a row, before those of metrics
LEADING = ("tap", "unit", "method", "simulator", "flag", "length", "val_correlation")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a metric may look at: one layer by one method and one simulator.

    Attributes:
      simulated_val, activations_val: on the val images, where thresholds and lines are chosen;
        without images where there are none.
      simulated, activations: on the test images, where everything is scored.
      live: which neurons are not dead; means and competitions are over these.
      controls: test correlations of the live neurons of each untrained network.
      permutations: of the test images, for p-values; 0 for none.
      draws: bootstrap draws; 0 for no intervals.
      q: false discovery rate.
      seed: of every draw.
      mesh: neurons may be split over its axis `data`.
    """

    simulated_val: Real[Array, "val_images neurons"]
    activations_val: Real[Array, "val_images neurons"]
    simulated: Real[Array, "images neurons"]
    activations: Real[Array, "images neurons"]
    live: Bool[np.ndarray, " neurons"]
    controls: tuple[Real[np.ndarray, " _"], ...] = ()
    permutations: int = DRAWS
    draws: int = 1000
    q: float = 0.05
    seed: int = 0
    mesh: Mesh | None = None


Computed = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]  # columns (neurons,), facts


@dataclass(frozen=True)
class Metric:
    """A row of the table of metrics.

    Attributes:
      columns: what it gives.
      compute: evidence → a value a neuron for every column, and facts of the layer (JSON values).
        No columns at all where the evidence does not suffice.
    """

    columns: tuple[Column, ...]
    compute: Callable[[Evidence], Computed]


@dataclass(frozen=True, eq=False)
class Scores:
    """What `score` gives.

    Attributes:
      columns: name → a value a neuron, in the order of scores.csv.
      facts: name → JSON value, of the layer.
      live: which neurons are not dead; None where that is not known.
    """

    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)
    live: Bool[np.ndarray, " neurons"] | None = None

    @property
    def correlation(self) -> Float[np.ndarray, " neurons"]:
        """Each neuron's correlation of simulated and real activations on test images."""
        return self.columns["correlation"]

    def to_frame(self, explanations: Explanations | None = None) -> pd.DataFrame:
        """Returns a table with one row a neuron and one column a score.

        Args:
          explanations: of the same neurons; their unit, text, validation correlation and flag come
            first.

        Raises:
          ValueError: another number of explanations than of neurons.
        """
        scores = pd.DataFrame(dict(self.columns))
        if explanations is None:
            return scores
        if len(explanations) != len(scores):
            raise ValueError(
                f"scores of {len(scores)} neurons do not fit {len(explanations)} explanations."
            )
        about = explanations.to_frame()[["unit", "explanation", "val_correlation", "flag"]]
        return about.join(scores)

    def __repr__(self) -> str:
        n_neurons = len(next(iter(self.columns.values()), ()))
        facts = "".join(f", {name} {_short(value)}" for name, value in self.facts.items())
        return f"Scores of {n_neurons} neurons: {', '.join(self.columns)}{facts}"


def score(evidence: Evidence, metrics: Mapping[str, Metric]) -> Scores:
    """Returns the columns and facts of all metrics, in their order.

    Args:
      evidence: of one layer by one method and one simulator.
      metrics: name → metric, as `evaluation.find_metrics` gives them.

    Raises:
      ValueError: a metric that gives other columns than it declares, another shape, values that are
        not finite or no numbers, facts that are not JSON, or a column or fact of another metric;
        the metric and the column are named.
    """
    n_neurons = evidence.activations.shape[1]
    columns: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    for name, metric in metrics.items():
        found, stated = metric.compute(evidence)
        declared = [column.name for column in metric.columns]
        if found and set(found) != set(declared):
            raise ValueError(
                f"metric {name!r} declares the columns {', '.join(declared)} "
                f"and gave {', '.join(map(str, found))}: expected all of them, or none."
            )
        for column in declared if found else ():
            if column in columns:
                raise ValueError(f"metric {name!r} gives the column {column!r} of another metric.")
            columns[column] = _check_values(name, column, found[column], n_neurons)
        for fact, value in stated.items():
            if fact in facts:
                raise ValueError(f"metric {name!r} gives the fact {fact!r} of another metric.")
            facts[fact] = _check_fact(name, fact, value)
    return Scores(columns, facts, evidence.live)


def live(explanations: Explanations) -> Bool[np.ndarray, " neurons"]:
    """Returns which neurons are not flagged dead: those that means are over."""
    return explanations.flags != "dead"


def _check_values(metric: str, column: str, values: Any, n_neurons: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (n_neurons,):
        raise ValueError(
            f"metric {metric!r} gave the column {column!r} in shape {values.shape}: "
            f"expected one value a neuron, ({n_neurons},)."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"metric {metric!r} gave the column {column!r} as {values.dtype}: expected numbers."
        )
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise ValueError(
            f"metric {metric!r} gave {values[wrong[0]]} in the column {column!r} at neuron "
            f"{wrong[0]}: expected finite values, such as 0 where the metric is not defined."
        )
    return values


def _check_fact(metric: str, fact: str, value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric {metric!r} gave the fact {fact!r} as {value!r}: "
            f"expected a JSON value ({error})."
        ) from None
    return value


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
