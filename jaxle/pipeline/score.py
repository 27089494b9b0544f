"""Score: how far each explanation can be trusted (`evaluation.METRICS` and what stands beside it).

simulated, real activations × nulls → columns of scores.csv and facts of a layer
ceiling: what the same concepts reach at any length
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation import find_metrics
from jaxle.evaluation.ceiling import dense_correlation
from jaxle.evaluation.scores import Evidence, score
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.inputs import Partition
from jaxle.pipeline.layers import Columns, Layers
from jaxle.pipeline.null import Null
from jaxle.pipeline.simulate import Simulated
from jaxle.references import source_fingerprint


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


@dataclass(frozen=True)
class Scoring:
    """What a score depends on beside its inputs."""

    draws: int
    q: float
    seed: int
    metrics: tuple[str, ...]


def score_one(
    cache: Cache,
    simulated: Simulated,
    null: Null | None,
    partition: Partition,
    config: Config,
) -> Scored:
    """Returns every score of one layer, method and simulator."""
    explained, options = simulated.explained, config.evaluation
    scoring = Scoring(options.draws, options.q, config.seed, options.metrics)
    code = [source_fingerprint(m.compute) for m in find_metrics(options.metrics).values()]
    inputs = [simulated, *([] if null is None else [null]), partition]
    what = f"{explained.layer}, {explained.method} by {simulated.simulator.name}"
    stored = cache.step(SCORE, what, inputs, (scoring, code))
    return Scored(stored.key, simulated, stored.arrays, stored.facts)


def _score(simulated: Simulated, *more: Any, options: tuple[Scoring, Any], mesh: Any) -> Made:
    *nulls, partition = more
    null, scoring = (nulls[0] if nulls else None), options[0]
    explained, name = simulated.explained, simulated.simulator.name
    values, split = explained.layer.values, partition.split
    evidence = Evidence(
        simulated_val=np.asarray(simulated.val),
        activations_val=np.asarray(values[split.val]),
        simulated=np.asarray(simulated.test),
        activations=np.asarray(values[split.test]),
        live=explained.live,
        null=None if null is None else np.asarray(null.test[name]),
        null_val=None if null is None else np.asarray(null.val),
        draws=scoring.draws,
        q=scoring.q,
        seed=scoring.seed,
    )
    found = score(evidence, find_metrics(scoring.metrics))
    return found.columns, found.facts


def ceiling(
    cache: Cache, fitted: Fitted, layers: Layers, partition: Partition
) -> dict[str, np.ndarray]:
    """Returns layer's key → (neurons,) float32: test correlation of a dense ridge on all concepts.

    Its strength is chosen on val. The trained network's layers are fitted together.
    """
    trained = Several(layers.trained)
    what = f"{len(fitted.names)} {fitted.concepts.kind} concepts"
    found = cache.step(CEILING, what, [fitted, trained, partition]).arrays["ceiling"]
    return {key: found[span] for key, span in Columns(trained).spans.items()}


def _ceiling(fitted: Fitted, trained, partition: Partition, options: None, mesh: Any) -> Made:
    spans = [fitted.spans[layer.key] for layer in trained]
    columns = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    measured, rows = fitted.measured.neurons(columns), fitted.concepts.matrix.rows
    rho = dense_correlation(measured, rows, Columns(trained), partition.split.test)
    return {"ceiling": rho}, {}


SCORE = Step("score", "score", 1, _score)
CEILING = Step("ceiling", "score", 1, _ceiling)
