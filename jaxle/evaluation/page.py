"""The tables of docs/scores.md, made from the table of metrics; the rest of that page is written.

python -m jaxle.evaluation.page docs/scores.md \
    jaxle.intervention:COLUMNS jaxle.evaluation.monosemanticity:COLUMNS \
    jaxle.evaluation.counterfactual:COLUMNS
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxle.columns import Column
from jaxle.evaluation import CEILING, METRICS
from jaxle.references import load_reference

BEGIN = "<!-- columns: made by jaxle.evaluation.page from the table of metrics -->"
END = "<!-- end of columns -->"
HEAD = ("column", "meaning", "range", "better", "made by")


def page(text: str, extra: Mapping[str, Sequence[Column]] | None = None) -> str:
    """Returns the page with its table of columns made anew.

    Args:
      text: the page; what lies between `BEGIN` and `END` is replaced.
      extra: what makes them → columns of scores.csv of other rooms.

    Raises:
      ValueError: a page without the two marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the line {END if begin else BEGIN!r}.")
    return f"{before}{BEGIN}\n\n{table(extra or {})}\n{END}{after}"


def table(extra: Mapping[str, Sequence[Column]]) -> str:
    """Returns the table of all columns of metrics and of other rooms, in Markdown."""
    groups = {f"metric `{name}`": metric.columns for name, metric in METRICS.items()}
    groups |= dict(extra) | {"`evaluation.ceiling`": (CEILING,)}
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for maker, columns in groups.items():
        for column in columns:
            meaning = column.meaning.replace("|", "\\|")
            cells = (f"`{column.name}`", meaning, span(column), column.better, maker)
            lines.append(_line(cells))
    return "".join(lines)


def span(column: Column) -> str:
    """Returns a column's range in words."""
    low, high = (f"{end:g}".replace("-", "−") for end in (column.low, column.high))
    if column.low == -float("inf"):
        return "" if column.high == float("inf") else f"at most {high}"
    return f"at least {low}" if column.high == float("inf") else f"{low} to {high}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main(path: str, *references: str) -> None:
    """Writes the page anew; references name tuples of columns, "package.module:NAME"."""
    extra = {
        f"`{reference.partition(':')[0].removeprefix('jaxle.')}`": load_reference(
            reference, "columns"
        )
        for reference in references
    }
    file = Path(path)
    file.write_text(page(file.read_text(encoding="utf-8"), extra), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
