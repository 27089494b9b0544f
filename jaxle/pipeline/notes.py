"""Notes: what a reader of a run's scores must know before believing them, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxle.pipeline.config import Config
from jaxle.pipeline.reading import GIVEN, LABELS
from jaxle.pipeline.tables import Row
from jaxle.report.listing import unit_line

LEAST_CONTROLS = 5
LEAST_IMAGES = {"train": 100, "val": 30, "test": 50}


def notes(config: Config, facts: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Returns what a reader of the scores must know; `facts` are those of the run."""
    own = (
        _skipped(facts),
        _units(config, facts),
        _few_images(facts),
        _duplicates(facts),
        _few_controls(config),
    )
    every = (*own, _unnamed(rows), _notes(config, rows))
    return [sentence for some in every for sentence in some]


def _skipped(facts: Mapping[str, Any]) -> Iterator[str]:
    if n := facts["n_skipped"]:
        yield (
            f"{n} image{'s' if n > 1 else ''} of {facts['n_images'] + n} could not be decoded and "
            f"{'are' if n > 1 else 'is'} left out; skipped.csv names {'them' if n > 1 else 'it'}."
        )


def _units(config: Config, facts: Mapping[str, Any]) -> Iterator[str]:
    controls = config.evaluation.controls or config.evaluation.shuffled
    more = "; controls have the same map of their own values" if controls else ""
    for tap, own in facts.get("units", {}).items():
        yield f"Neurons of {tap} are {unit_line(own)}{more}."


def _few_images(facts: Mapping[str, Any]) -> Iterator[str]:
    few = [
        f"{facts[f'n_{part}']} {part} images ({least} are the least that bear a conclusion)"
        for part, least in LEAST_IMAGES.items()
        if facts[f"n_{part}"] < least
    ]
    if few:
        yield (
            f"This run has only {', '.join(few)}: correlations are high or low by chance, and the "
            "best ones mean nothing. Use more images."
        )


def _few_controls(config: Config) -> Iterator[str]:
    n = config.evaluation.controls
    if n == 0:
        yield (
            "No untrained network stands beside this one: how high its correlations would be "
            f"without training is not known. Set evaluation.controls to {LEAST_CONTROLS}."
        )
    elif n < LEAST_CONTROLS:
        yield (
            f"Only {n} untrained network{'s' if n > 1 else ''}: how such networks vary is hardly "
            f"known, and few neurons can be found better explained. Use {LEAST_CONTROLS} or more "
            "(evaluation.controls)."
        )


def _duplicates(facts: Mapping[str, Any]) -> Iterator[str]:
    parts = [
        f"{facts[f'n_duplicate_{part}']} of the {facts[f'n_{part}']} {part} images"
        for part in ("test", "val")
        if facts[f"n_duplicate_{part}"]
    ]
    if parts:
        image, other = facts["duplicate"]
        yield (
            f"{' and '.join(parts)} are pictures that train or val hold as well "
            f"({image} is {other}): what was fitted on is scored on, and scores are too high. "
            "Remove the copies."
        )


def _unnamed(rows: Sequence[Row]) -> Iterator[str]:
    for explained in {row.explained.key: row.explained for row in rows}.values():
        lacking = int((explained.explanations.flags == "unnamed").sum())
        if lacking:
            n = len(explained.explanations)
            yield (
                f"The file of method {explained.method!r} names {n - lacking} of the {n} neurons "
                f"of {explained.layer.tap}: the other {lacking} count as 0 in its means."
            )


def _notes(config: Config, rows: Sequence[Row]) -> Iterator[str]:
    for name, entry in config.simulators.items():
        if entry == LABELS:
            yield (
                f"Simulator {name!r} is the ground-truth labels themselves, not a second encoder: "
                "its scores say how well labels explain a neuron, and no error of an encoder "
                "enters them."
            )
        if entry == GIVEN:
            yield (
                f"Simulator {name!r} is the probabilities that lie beside the images: where a "
                "method explains with them, their errors are simulated as if they were truth."
            )
    for method, simulator in dict.fromkeys(
        (row.explained.method, row.simulator)
        for row in rows
        if row.scored.simulated.simulator.is_encoder_of(row.explained.fitted.concepts)
    ):
        yield (
            f"Simulator {simulator!r} is the encoder that method {method!r} explains with: its "
            "errors are simulated as if they were truth, and these scores are too high. Simulate "
            "with another encoder."
        )
