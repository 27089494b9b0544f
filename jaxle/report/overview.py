"""The front page as JSON values: each layer's table of neurons, and what was run.

explanations, scores.csv, activations → columns a layer                 docs/report_data.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxle.explanations import Explanations
from jaxle.report.alike import equal_steps
from jaxle.report.shards import DIGITS, numbers

ABOUT = ("tap", "unit", "method", "simulator", "flag", "length", "val_correlation")
TOP = 3  # pictures beside a neuron in a table
PRESENT = 2000  # images from which a word's probability where it is present is taken


def layer_table(
    explanations: Mapping[str, Explanations],
    scores: Mapping[int, pd.DataFrame],
    activations: Float[np.ndarray, "images neurons"],
    words: Mapping[str, int],
) -> dict[str, Any]:
    """Returns a layer's table: columns of one value a neuron.

    Args:
      explanations: method → the layer's.
      scores: number of a row of the report → its part of scores.csv, in the order of the neurons.
      activations: of the test images.
      words: every concept of every method → its number.
    """
    return {
        "spread": numbers(activations.std(axis=0, dtype=np.float64), DIGITS),
        "mean": numbers(activations.mean(axis=0, dtype=np.float64), DIGITS),
        "methods": {
            method: {
                "words": [[words[name] for name in row.concepts] for row in table],
                "weights": [numbers(np.array(row.weights), DIGITS) for row in table],
                "bias": numbers(np.array([row.bias for row in table]), DIGITS),
                "val": [row.val_correlation for row in table],
                "flag": [row.flag for row in table],
                "kind": [row.kind for row in table],
                "text": {k: str(row) for k, row in enumerate(table) if row.kind != "linear"},
            }
            for method, table in explanations.items()
        },
        "scores": {
            str(number): {
                name: numbers(frame[name].to_numpy(), DIGITS)
                for name in frame.columns
                if name not in ABOUT
            }
            for number, frame in scores.items()
        },
    }


def present(
    rows: Callable[[np.ndarray, np.ndarray], Any],
    index: Int[np.ndarray, " images"],
    columns: Int[np.ndarray, " concepts"],
) -> Float[np.ndarray, " concepts"]:
    """Returns each concept's probability where it is present: Σ p² / Σ p, its mean by its own size.

    1 for a label that some image has; NaN for a concept that none of the images read has.

    Args:
      rows: images, columns → probabilities (`ConceptRows.rows`).
      index: images, of which 2,000 at equal steps are read.
      columns: of the concepts.
    """
    some = index[equal_steps(len(index), PRESENT)]
    values = np.asarray(rows(some, columns), np.float64)
    total, squares = values.sum(axis=0), np.square(values).sum(axis=0)
    return np.where(total > 0, squares / np.where(total > 0, total, 1), np.nan)


def short_source(source: str) -> str:
    """Returns a data source for a title: of a path its last two parts."""
    place = source.partition(":")[2]
    parts = [part for part in place.replace("\\", "/").split("/") if part]
    return "/".join(parts[-2:]) if len(parts) > 1 else source


def used_words(explanations: Sequence[Explanations]) -> dict[str, int]:
    """Returns every name in some explanation → its number, in order of first use."""
    names = (name for table in explanations for row in table for name in row.concepts)
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def reliability(
    name: str, facts: Mapping[str, Any], curve: Mapping[str, Shaped[np.ndarray, " bins"]]
) -> dict[str, Any]:
    """Returns an encoder's calibration: mean prediction and share of labels a bin."""
    some = np.asarray(curve["count"]) > 0
    return {
        "encoder": name,
        "scale": facts["scale"],
        "shift": facts["shift"],
        "ece": facts.get("ece"),
        **{key: numbers(np.asarray(curve[key])[some]) for key in ("predicted", "observed")},
        "count": np.asarray(curve["count"])[some].astype(int).tolist(),
    }
