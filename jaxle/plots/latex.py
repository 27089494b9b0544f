r"""A table of scores in LaTeX: methods × metrics with their intervals, as papers print it.

    \begin{tabular}{llrr} … \multicolumn{4}{l}{layer4} … label & siglip & 0.566 [0.544, 0.587] & 4.2

The numbers are those of summary.json's `results`. The table needs the package booktabs. Names that
are not Latin need LuaLaTeX or XeLaTeX with a font that has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from jaxle.options import suggest

# of a record of summary.json, where it has them: its mean over neurons, and the column's title
METRICS = {
    "correlation": "correlation",
    "ceiling": "ceiling",
    "ablation_excess": "ablation, excess",
    "ablation_optim": "ablation, optim",
    "ablation_norm": "ablation, norm",
    "length": "length",
}
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after \\ it would open an argument
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",  # two of them would be a dash
}


def score_table(
    run: Any, metrics: Sequence[str] | None = None, *, taps: Sequence[str] | None = None
) -> str:
    """Returns a LaTeX table (booktabs) of methods × metrics, a group of rows a tap.

    A mean stands with its interval where the run computed one, `0.566 [0.544, 0.587]`, else with
    its standard error, `0.566 ± 0.026`.

    Args:
      run: of `jaxle.load_run`; or the records themselves: summary["results"], or a frame of them.
      metrics: names whose `mean_…` the records hold, such as `correlation` or `auprc`; None takes
        those of `METRICS` that they hold.
      taps: which, in this order; None for all.

    Raises:
      ValueError: no record; a metric or a tap that none of them has.
    """
    records = _records(run)
    have = [name.removeprefix("mean_") for record in records for name in record]
    have = list(dict.fromkeys(name for name in have if any(f"mean_{name}" in r for r in records)))
    metrics = [name for name in METRICS if name in have] if metrics is None else list(metrics)
    known = list(dict.fromkeys(str(record["tap"]) for record in records))
    for wanted, valid, what in ((metrics, have, "metric"), (taps or (), known, "tap")):
        for name in wanted:
            if name not in valid:
                raise ValueError(f"the records have no {what} {name!r}: {suggest(name, valid)}.")
    head = ["method", "simulator", *(METRICS.get(name, name) for name in metrics)]
    lines = [rf"\begin{{tabular}}{{ll{'r' * len(metrics)}}}", r"\toprule", _row(map(escape, head))]
    for tap in known if taps is None else taps:
        lines += [r"\midrule", rf"\multicolumn{{{len(head)}}}{{l}}{{{escape(tap)}}} \\"]
        for record in records:
            if str(record["tap"]) == tap:
                names = (escape(str(record[key])) for key in ("method", "simulator"))
                lines.append(_row([*names, *(_value(record, name) for name in metrics)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Returns any text as LaTeX that prints it: no character of it is a command."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return "".join(_TEX.get(c, c) for c in plain)


def _records(run: Any) -> list[Mapping[str, Any]]:
    if hasattr(run, "summary"):
        run = run.summary["results"]
    records = run.to_dict("records") if isinstance(run, pd.DataFrame) else run
    if not isinstance(records, (list, tuple)) or not records:
        raise ValueError(
            "a score table needs a run of jaxle.load_run, the list summary['results'] or a frame "
            f"of it; got {type(run).__name__}{'' if records else ' without a record'}."
        )
    for record in records:
        lacking = [key for key in ("tap", "method", "simulator") if key not in record]
        if lacking:
            raise ValueError(f"a record of scores lacks {lacking[0]!r}: got {sorted(record)[:5]}.")
    return list(records)


def _value(record: Mapping[str, Any], name: str) -> str:
    mean, low, high, error = (
        record.get(key, math.nan)
        for key in (f"mean_{name}", f"mean_{name}_low", f"mean_{name}_high", f"sem_{name}")
    )
    if not math.isfinite(mean):
        return "--"
    if name == "length":
        return _number(mean, 1)
    if math.isfinite(low) and math.isfinite(high):
        return f"{_number(mean)} {{[}}{_number(low)}, {_number(high)}{{]}}"
    return f"{_number(mean)} $\\pm$ {_number(error)}" if math.isfinite(error) else _number(mean)


def _number(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return f"$-${text[1:]}" if text.startswith("-") else text


def _row(cells: Any) -> str:
    return rf"{' & '.join(cells)} \\"
