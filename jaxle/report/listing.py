"""The readable end of a run: a line of figures a layer, then its best, median and worst neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxle.explanations import Explanations


@dataclass(frozen=True, eq=False)
class Listed:
    """What is listed of one tap, method and simulator."""

    tap: str
    method: str
    simulator: str
    explanations: Explanations
    live: Bool[np.ndarray, " neurons"]
    correlation: Float[np.ndarray, " neurons"]


def probe_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the probe found: each encoder's calibration, and the target's accuracy."""
    for name, own in facts["encoders"].items():
        yield f"  {name}: σ({own['scale']:.4g}·(cos {own['shift']:+.4g})), {own['source']}"
    if facts["top1_accuracy"] is not None:
        accuracy, n = 100 * facts["top1_accuracy"], facts["n_images"]
        yield f"  {facts['model']}: top-1 accuracy {accuracy:.2f} % on {n} images"


def lines(entries: Sequence[Listed], summary: Mapping[str, Any], n: int) -> Iterator[str]:
    """Yields the listing of a run.

    Args:
      entries: in the order of the summary's records.
      summary: of the run.
      n: how many neurons to list of each kind; 0 lists none. Those of a layer and method are
        listed once, by its last simulator.
    """
    last = {(entry.tap, entry.method): entry.simulator for entry in entries}
    for entry, record in zip(entries, summary["results"], strict=True):
        shown = n if last[entry.tap, entry.method] == entry.simulator else 0
        yield from layer_lines(entry, record, shown)
    for record in summary["comparisons"]:
        yield comparison_line(record)
    for note in summary["notes"]:
        yield f"Note: {note}"


def layer_lines(entry: Listed, record: Mapping[str, Any], n: int) -> Iterator[str]:
    """Yields the lines of one tap, method and simulator; arguments as in `lines`."""
    beside = [
        f"{word} {record[key]:.3f}"
        for word, key in (
            ("dense ceiling", "mean_ceiling"),
            ("untrained network", "untrained_mean_correlation"),
        )
        if key in record
    ]
    yield (
        f"{entry.tap} · {entry.method} · simulated by {entry.simulator}: "
        f"test correlation {record['mean_correlation']:.3f} ± {record['sem_correlation']:.3f} "
        f"over {record['n_neurons'] - record['n_dead']} live neurons"
        f"{' (' + ', '.join(beside) + ')' if beside else ''}; "
        f"{record['mean_length']:.1f} concepts on average"
    )
    if trust := list(_trust(record)):
        yield f"         {'; '.join(trust)}"
    correlation, live = np.asarray(entry.correlation), np.flatnonzero(entry.live)
    ranked = live[np.argsort(-correlation[live], kind="stable")]
    if n == 0 or len(ranked) == 0:
        return
    middle = max(0, (len(ranked) - n) // 2)
    kinds = (("best", ranked[:n]), ("median", ranked[middle : middle + n]), ("worst", ranked[-n:]))
    shown: set[int] = set()
    for word, units in kinds:
        for unit in (int(unit) for unit in units if int(unit) not in shown):
            shown.add(unit)
            row = entry.explanations.rows[unit]
            flag = f"  [{row.flag}]" if row.flag else ""
            yield f"  {word:>6}  ρ {correlation[unit]:5.2f}  neuron {row.unit:>4}  {row}{flag}"


def comparison_line(record: Mapping[str, Any]) -> str:
    """Returns a line for two methods: their mean paired difference with its interval."""
    return (
        f"{record['tap']} · {record['method']} against {record['against']} · "
        f"simulated by {record['simulator']}: {record['mean']:+.3f} "
        f"({record['mean_low']:+.3f} to {record['mean_high']:+.3f}); "
        f"better for {100 * record['share_a_better']:.0f} % of the neurons"
    )


def _trust(record: Mapping[str, Any]) -> Iterator[str]:
    if "n_explained" in record:
        untrained = ""
        if "untrained_n_explained" in record:
            untrained = f" ({record['untrained_n_explained']} of the untrained network's)"
        yield f"{record['n_explained']} neurons explained at q = {record['q']:g}{untrained}"
    if "retrieval_at_1" in record:
        share = 100 * record["retrieval_at_1"]
        yield f"{share:.0f} % distinguished from all others by their explanation"
    if "screened_out_foreign" in record:
        share = 100 * record["screened_out_foreign"]
        yield f"{share:.1f} % of the foreign words screened out"
