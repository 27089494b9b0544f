"""The readable end of a run: a line of figures per layer, then its best, median and worst neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxle.report.tables import Scored


def lines(entry: Scored, summary: Mapping[str, Any], n: int) -> Iterator[str]:
    """Text lines for one tap × method × simulator.

    Args:
      entry: explanations with a score column `correlation`.
      summary: its record; a `ceiling` or `untrained` figure is shown beside the score where it is there.
      n: how many neurons to list of each kind; 0 lists none.
    """
    beside = [
        f"{word} {summary[key]:.3f}"
        for word, key in (
            ("dense ceiling", "mean_ceiling"),
            ("untrained network", "untrained_mean_correlation"),
        )
        if key in summary
    ]
    yield (
        f"{entry.tap} · {entry.method} · simulated by {entry.simulator}: test correlation {summary['mean_correlation']:.3f} "
        f"± {summary['sem_correlation']:.3f} over {summary['n_neurons'] - summary['n_dead']} live neurons"
        f"{' (' + ', '.join(beside) + ')' if beside else ''}; {summary['mean_length']:.1f} concepts on average"
    )
    if trust := list(_trust(summary)):
        yield f"         {'; '.join(trust)}"
    correlation = np.asarray(entry.columns["correlation"])
    live = np.flatnonzero(entry.explanations.flags != "dead")
    ranked = live[np.argsort(-correlation[live], kind="stable")]
    if n == 0 or len(ranked) == 0:
        return
    middle = max(0, (len(ranked) - n) // 2)
    shown: set[int] = set()
    for word, units in (
        ("best", ranked[:n]),
        ("median", ranked[middle : middle + n]),
        ("worst", ranked[-n:]),
    ):
        for unit in units:
            if unit not in shown:
                shown.add(unit)
                row = entry.explanations[unit]
                flag = f"  [{row.flag}]" if row.flag else ""
                yield f"  {word:>6}  ρ {correlation[unit]:5.2f}  neuron {row.unit:>4}  {row}{flag}"


def _trust(summary: Mapping[str, Any]) -> Iterator[str]:
    if "n_explained" in summary:
        untrained = (
            f" ({summary['untrained_n_explained']} of the untrained network's)"
            if "untrained_n_explained" in summary
            else ""
        )
        yield f"{summary['n_explained']} neurons explained at q = {summary['q']:g}{untrained}"
    if "retrieval_at_1" in summary:
        yield f"{100 * summary['retrieval_at_1']:.0f} % told from all others by their explanation"
    if "screened_out_foreign" in summary:
        yield f"{100 * summary['screened_out_foreign']:.1f} % of the foreign words screened out"


def comparison_lines(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for every two methods: the mean paired difference of their correlations, with its interval."""
    for record in comparisons:
        yield (
            f"{record['tap']} · {record['method']} against {record['against']} · simulated by {record['simulator']}: "
            f"{record['mean']:+.3f} ({record['mean_low']:+.3f} to {record['mean_high']:+.3f}); "
            f"better for {100 * record['share_a_better']:.0f} % of the neurons"
        )
