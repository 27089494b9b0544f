"""Evaluation: how far an explanation can be trusted; each metric one row of a table."""

from collections.abc import Sequence

from jaxle.columns import Column
from jaxle.evaluation import (
    ceiling,
    controls,
    correlation,
    cosine,
    detection,
    discoveries,
    intervals,
    r2,
    swap,
)
from jaxle.evaluation.scores import LEADING, Evidence, Metric, Scores, live, score
from jaxle.options import suggest
from jaxle.references import is_reference, load_reference

__all__ = [
    "CEILING",
    "METRICS",
    "Column",
    "Evidence",
    "Metric",
    "Scores",
    "find_metrics",
    "live",
    "score",
]

# in the order of scores.csv
METRICS: dict[str, Metric] = {
    "correlation": correlation.METRIC,
    "bootstrap": intervals.METRIC,
    "swap": swap.METRIC,
    "controls": controls.METRIC,
    "discoveries": discoveries.METRIC,
    "cosine": cosine.METRIC,
    "detection": detection.METRIC,
    "r2": r2.METRIC,
    "base_rate": detection.BASE_RATE,
}
CEILING = ceiling.COLUMN


def find_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Returns the metrics of these names, of the table or "package.module:NAME" from outside.

    Args:
      names: in the order in which their columns are to come.

    Raises:
      ValueError: an unknown name, a reference to something that is no `Metric`, a name given twice,
        or two metrics that give the same column.
    """
    found: dict[str, Metric] = {}
    owner = dict.fromkeys((*LEADING, CEILING.name), "the table scores.csv itself")
    for name in names:
        if name in found:
            raise ValueError(f"metric {name!r} is named twice: expected each name once.")
        found[name] = _find(name)
        for column in found[name].columns:
            if column.name in owner:
                raise ValueError(
                    f"metric {name!r} gives the column {column.name!r}, "
                    f"which {owner[column.name]} gives, too: expected different names."
                )
            owner[column.name] = f"metric {name!r}"
    return found


def _find(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    if not is_reference(name):
        raise ValueError(f"unknown metric {name!r}: {suggest(name, METRICS)}.")
    metric = load_reference(name, "metric")
    if not isinstance(metric, Metric):
        raise ValueError(
            f"{name!r} is {type(metric).__name__}; expected a jaxle.evaluation.Metric."
        )
    return metric
