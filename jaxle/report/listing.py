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


def probe_lines(facts: Mapping[str, Any], ends: str = "", verbose: bool = True) -> Iterator[str]:
    """Yields what the probe found: each encoder's calibration, and the target's accuracy.

    Args:
      facts: of summary.json.
      ends: the classes of the first and the last image, in words.
      verbose: with the calibrations.
    """
    for name, own in facts["encoders"].items() if verbose else ():
        yield f"  {name}: σ({own['scale']:.4g}·(cos {own['shift']:+.4g})), {own['source']}"
    if facts["top1_accuracy"] is not None:
        accuracy, n = 100 * facts["top1_accuracy"], facts["n_images"]
        yield f"  {facts['model']}: top-1 accuracy {accuracy:.2f} % on {n} images"
    for tap, own in facts.get("units", {}).items():
        yield f"  {tap}: {unit_line(own)}"
    if ends:
        yield f"  {ends}"


def unit_line(own: Mapping[str, Any]) -> str:
    """Returns what is known of a tap's units, in words."""
    more = f" of {own['file']}" if "file" in own else ""
    if "explained_variance" in own:
        more += f", explained variance {own['explained_variance']:.3f}"
    if "note" in own:
        more += f" ({own['note']})"
    return f"{own['n_units']:,} units, {own['kind']}{more}"


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
            (_ceiling(record), "mean_ceiling"),
            (_untrained(record), "untrained_mean_correlation"),
            ("shuffled network", "shuffled_mean_correlation"),
        )
        if key in record
    ]
    yield (
        f"{entry.tap} · {entry.method} · simulated by {entry.simulator}: "
        f"test correlation {record['mean_correlation']:.3f} ± {record['sem_correlation']:.3f} "
        f"over {record['n_neurons'] - record['n_dead']} live neurons"
        f"{' (' + ', '.join(beside) + ')' if beside else ''}; "
        f"{record['mean_length']:.1f} words on average"
    )
    for headline in _better(record):
        yield f"         {headline}"
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


def _ceiling(record: Mapping[str, Any]) -> str:
    """The ceiling is of the explainer's probabilities, the score of the simulator's."""
    by = record.get("explained_by")
    return "ceiling" if by == record.get("simulated_by") else f"ceiling by {by}"


def _untrained(record: Mapping[str, Any]) -> str:
    n = record.get("n_controls", 1)
    return "untrained network" if n == 1 else f"{n} untrained networks"


def _better(record: Mapping[str, Any]) -> Iterator[str]:
    """The headline: how many neurons are better explained than an untrained network's."""
    if "n_controls" not in record:
        return
    n_live, q = record["n_neurons"] - record["n_dead"], record["better_q"]
    networks = f"{record['n_controls']} network{'s' if record['n_controls'] > 1 else ''}"
    effects = "; ".join(
        f"{name} {record[key]:{form}} [{record[f'{key}_low']:.2f}, {record[f'{key}_high']:.2f}]"
        for name, key, form in (
            ("P(ρ > ρ untrained)", "better_probability", ".2f"),
            ("excess ρ", "excess", "+.2f"),
        )
    )
    if "n_better" in record:
        count = f"{record['n_better']} of {n_live} neurons better explained"
    else:
        least = f"smallest p {record['smallest_control_p']:.2g}"
        count = f"no neuron can be found better explained ({least})"
    yield f"{count} than an untrained network's at q = {q:g} ({networks}; {effects})"


def _explained(record: Mapping[str, Any]) -> Iterator[str]:
    """The footnote: how many have anything to do with their explanation."""
    if "n_explainable" not in record:
        return
    q = f"q = {record['q']:g}"
    if "n_explained" not in record:
        yield (
            "these test images and permutations allow no p-value that would count a neuron as "
            f"explained at {q} (smallest p {record['smallest_p']:.2g})"
        )
        return
    untrained = ""
    if "untrained_n_explained" in record:
        untrained = f" ({record['untrained_n_explained']:.3g} of an untrained network's)"
    yield f"{record['n_explained']} correlate beyond permuted images at {q}{untrained}"


def _trust(record: Mapping[str, Any]) -> Iterator[str]:
    yield from _explained(record)
    if "retrieval_at_1" in record:
        share = 100 * record["retrieval_at_1"]
        yield f"{share:.0f} % distinguished from all others by their explanation"
    if "screened_out_foreign" in record:
        share = 100 * record["screened_out_foreign"]
        yield f"{share:.1f} % of the foreign words screened out"
