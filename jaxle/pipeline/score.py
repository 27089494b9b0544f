"""Score: how far each explanation can be trusted (`evaluation.METRICS` and what stands beside it).

simulated, real activations × controls → columns of scores.csv and facts of a layer
ceiling: what the same concepts reach at any length
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation import find_metrics
from jaxle.evaluation.ceiling import ceiling as best
from jaxle.evaluation.scores import Evidence, score
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.explain import Explained
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.inputs import UNTRAINED
from jaxle.pipeline.layers import Columns, Layer
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.simulate import Simulated
from jaxle.references import source_fingerprint

CONTROL, EXPLAINED = ("correlation",), ("discoveries",)  # metrics of controls: always; if asked for


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one layer, method and simulator: columns (neurons,), facts (JSON values)."""

    key: str
    simulated: Simulated
    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    @property
    def about(self) -> dict[str, str]:
        """Tap, method and simulator."""
        explained, simulator = self.simulated.explained, self.simulated.simulator
        tap, method = explained.layer.tap, explained.method
        return {"tap": tap, "method": method, "simulator": simulator.name}

    @property
    def live_correlation(self) -> np.ndarray:
        """(live neurons,) ρ on test."""
        return np.asarray(self.columns["correlation"])[self.simulated.explained.live]


@dataclass(frozen=True)
class Scoring:
    """What a score depends on beside its inputs."""

    draws: int
    permutations: int
    q: float
    seed: int
    metrics: tuple[str, ...]


def score_all(
    cache: Cache, simulated: Sequence[Simulated], partition: Partition, config: Config
) -> list[Scored]:
    """Returns every score, in order; the trained network's beside those of untrained ones.

    Those are scored first.
    """
    found: dict[int, Scored] = {}
    beside: dict[tuple[str, ...], list[Scored]] = {}
    controls_first = sorted(
        enumerate(simulated), key=lambda item: item[1].explained.layer.kind == TRAINED
    )
    for number, entry in controls_first:
        place = (entry.explained.layer.tap, entry.explained.method, entry.simulator.name)
        kind = entry.explained.layer.kind
        controls = beside.get(place, []) if kind == TRAINED else []
        found[number] = score_one(cache, entry, controls, partition, config)
        if kind == UNTRAINED:
            beside.setdefault(place, []).append(found[number])
    return [found[number] for number in range(len(simulated))]


def score_one(
    cache: Cache,
    simulated: Simulated,
    controls: Sequence[Scored],
    partition: Partition,
    config: Config,
) -> Scored:
    """Returns every score of one layer, method and simulator; of a control, those of `CONTROL`.

    Args:
      cache: of the run.
      simulated: the layer's simulated activations.
      controls: scores of the same layer of untrained networks.
      partition: the split.
      config: its evaluation.
    """
    explained, options = simulated.explained, config.evaluation
    metrics = options.metrics
    if explained.layer.kind != TRAINED:
        metrics = (*CONTROL, *(name for name in metrics if name in EXPLAINED))
    scoring = Scoring(options.draws, options.permutations, options.q, config.seed, metrics)
    code = [source_fingerprint(m.compute) for m in find_metrics(metrics).values()]
    inputs = [simulated, Several(controls), partition]
    what = f"{explained.layer}, {explained.method} by {simulated.simulator.name}"
    stored = cache.step(SCORE, what, inputs, (scoring, code))
    return Scored(stored.key, simulated, stored.arrays, stored.facts)


def _score(
    simulated: Simulated, controls, partition: Partition, options: tuple[Scoring, Any], mesh: Any
) -> Made:
    explained, scoring, split = simulated.explained, options[0], partition.split
    values = explained.layer.values
    evidence = Evidence(
        simulated_val=np.asarray(simulated.val),
        activations_val=np.asarray(values[split.val]),
        simulated=np.asarray(simulated.test),
        activations=np.asarray(values[split.test]),
        live=explained.live,
        controls=tuple(control.live_correlation for control in controls),
        permutations=scoring.permutations,
        draws=scoring.draws,
        q=scoring.q,
        seed=scoring.seed,
        mesh=mesh,
    )
    found = score(evidence, find_metrics(scoring.metrics))
    return found.columns, found.facts


def ceiling(
    cache: Cache,
    fitted: Fitted,
    layers: Sequence[Layer],
    explained: Sequence[Explained],
    partition: Partition,
) -> dict[str, np.ndarray]:
    """Returns layer's key → (neurons,) float32: test correlation of the best known fit.

    That is the best on val of ridge, elastic net and all explanations in the same concepts. The
    trained network's layers are fitted together.

    Args:
      cache: of the run.
      fitted: the concepts' moments.
      layers: of the trained network.
      explained: every method's explanations of every layer; those in these concepts count.
      partition: the split.
    """
    trained = Several(tuple(layers))
    keys = {layer.key for layer in trained}
    own = [e for e in explained if e.fitted.key == fitted.key and e.layer.key in keys]
    what = f"{len(fitted.names)} {fitted.concepts.kind} concepts"
    inputs = [fitted, trained, Several(own), partition]
    found = cache.step(CEILING, what, inputs).arrays["ceiling"]
    return {key: found[span] for key, span in Columns(trained).spans.items()}


def _ceiling(
    fitted: Fitted, trained, explained, partition: Partition, options: None, mesh: Any
) -> Made:
    spans = [fitted.spans[layer.key] for layer in trained]
    columns = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    measured, rows = fitted.measured.neurons(columns), fitted.concepts.matrix.rows
    by = {(e.method, e.layer.key): fitted.named(e.explanations) for e in explained}
    methods = dict.fromkeys(entry.method for entry in explained)
    found = [[row for layer in trained for row in by[name, layer.key]] for name in methods]
    test = partition.split.test
    known = best(measured, rows, Columns(trained), test, fitted.names, found, mesh=mesh)
    return {"ceiling": known}, {}


SCORE = Step("score", "score", 4, _score)
CEILING = Step("ceiling", "score", 2, _ceiling)
