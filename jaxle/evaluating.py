"""How far the explanations of a run can be trusted, as artifacts: per variant of the target, tap, method and simulator.

simulated        what the explanations foresee of val and test images
permuted         what the whole search scores on permuted activations
scored           correlation with intervals, own against others' explanations, p- and q-values, further metrics
ceiling          what the same concepts reach at any length
contributed      what each concept of an explanation adds, and how often it is chosen again
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxle.evaluation import discoveries, intervals, metrics, nulls
from jaxle.evaluation.contributions import contributions, selection_frequency
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.resampling import resampled
from jaxle.evaluation.simulation import simulate_rows
from jaxle.explainers.linear import Measured
from jaxle.explaining import activations, choose, explained, length_limit, measured, unpacked
from jaxle.explanations import Explanations
from jaxle.matrices import can_simulate, method_concepts, simulator_concepts, simulator_fields
from jaxle.run import TRAINED, Made, Run, once, split_key, where
from jaxle.solve import ridge
from jaxle.solve.moments import correlate, second_moments

METRICS = ("cosine", "auprc", "f1", "iou", "r2", "base_rate")


def simulators(x: Run, method: str) -> list[str]:
    """The simulators that can foresee a method's explanations."""
    return [simulator for simulator in x.config["simulators"] if can_simulate(x, method, simulator)]


def live(explanations: Explanations) -> np.ndarray:
    """(neurons,) bool: not dead; what means are over."""
    return explanations.flags != "dead"


def simulated(x: Run, variant: str, tap: str, method: str, simulator: str) -> Made:
    """Arrays `val` and `test` (images, neurons) float32."""
    found, explanations = explained(x, variant, tap, method)

    def make(_):
        rows = _rows(x, simulator, explanations, _vocabulary(x, variant, tap, method))
        return {
            part: _simulate(explanations, rows, getattr(x.split, part)) for part in ("val", "test")
        }, {}

    fields = {
        "search": found.key,
        "simulator": simulator_fields(x, simulator),
        "split": split_key(x.split),
    }
    return once(x, "simulate", f"{where(variant, tap, method)} by {simulator}", fields, make)


def _vocabulary(x: Run, variant: str, tap: str, method: str) -> list[str]:
    """The concepts that explanations choose from."""
    return measured(x, variant, tap, method).artifact.facts["concepts"]


def _rows(
    x: Run,
    simulator: str,
    explanations: Explanations,
    vocabulary: list[str],
    stage: str = "simulate",
) -> Callable[[np.ndarray], np.ndarray]:
    """Row index → (rows, concepts that occur) probabilities, in the order of `explanations.concepts`."""
    concepts = simulator_concepts(x, simulator, explanations.concepts, vocabulary, stage)
    place = {concept: j for j, concept in enumerate(concepts.concepts)}
    columns = np.array([place[concept] for concept in explanations.concepts], np.int64)
    return lambda index: concepts.rows(index, columns)


def _simulate(
    explanations: Explanations, rows: Callable[[np.ndarray], np.ndarray], index: np.ndarray
) -> np.ndarray:
    every = np.arange(len(explanations.concepts))
    return simulate_rows(explanations, lambda i, _: rows(i), index, every, explanations.concepts)


def permuted(x: Run, variant: str, tap: str, method: str, simulator: str) -> Made:
    """Arrays `val` and `test` (permutations, neurons) float32: correlations of explanations that were fitted to permuted activations."""
    moments, (found, _) = measured(x, variant, tap, method), explained(x, variant, tap, method)
    options = {"permutations": x.config["evaluation"]["permutations"], "seed": x.config["seed"]}
    vocabulary = moments.artifact.facts["concepts"]

    def make(_):
        def simulate(explanations):
            return _simulate(
                explanations, _rows(x, simulator, explanations, vocabulary, "score"), x.split.test
            )

        concepts, _ = method_concepts(x, method)
        got = nulls.permute_and_refit(
            unpacked(moments),
            concepts.rows,
            activations(x, variant, tap),
            x.split,
            _refit(x, variant, tap, method),
            simulate,
            **options,
        )
        return {"val": got.val_correlation, "test": got.test_correlation}, {}

    fields = {"search": found.key, "simulator": simulator_fields(x, simulator), **options}
    return once(
        x, "score-permuted", f"{where(variant, tap, method)} by {simulator}, permuted", fields, make
    )


def _refit(x: Run, variant: str, tap: str, method: str) -> Callable[[Measured], Explanations]:
    """Moments → explanations, with the run's options; where a mean length is wanted, that one."""
    moments, limit = (
        measured(x, variant, tap, method).artifact,
        length_limit(x, variant, tap, method),
    )
    return lambda got: choose(
        x, method, got, None, moments.facts["concepts"], moments.arrays["maxima"], limit
    )


def scored(x: Run, variant: str, tap: str, method: str, simulator: str) -> Made:
    """Arrays: columns of scores.csv, (neurons,) each. Facts: the run-level figures beside them, as `docs/scores.md` describes them."""
    options, (_, explanations) = x.config["evaluation"], explained(x, variant, tap, method)
    made, alive = simulated(x, variant, tap, method, simulator), live(explanations)
    null = permuted(x, variant, tap, method, simulator) if options["permutations"] else None

    def make(_):
        real = {
            part: np.asarray(activations(x, variant, tap)[getattr(x.split, part)])
            for part in ("val", "test")
        }
        foreseen = {part: np.asarray(made.artifact.arrays[part]) for part in ("val", "test")}
        columns, facts = {"correlation": correlation(foreseen["test"], real["test"])}, {}
        if options["draws"]:
            got = intervals.bootstrap(
                foreseen["test"],
                real["test"],
                draws=options["draws"],
                seed=x.config["seed"],
                live=alive,
            )
            columns |= {"correlation_low": got.low, "correlation_high": got.high}
            facts |= {"mean_correlation_low": got.mean_low, "mean_correlation_high": got.mean_high}
        own = nulls.swap(foreseen["test"], real["test"], alive)
        columns |= {"specificity": own.specificity, "retrieval_rank": own.rank}
        facts |= {
            "retrieval_at_1": own.retrieval_at_1,
            "mrr": own.mrr,
            "mean_off_diagonal": own.mean_off_diagonal,
        }
        if null is not None:
            chance = {
                part: np.asarray(null.artifact.arrays[part])[:, alive] for part in ("val", "test")
            }
            p = discoveries.p_values(columns["correlation"], chance["test"], alive)
            found = discoveries.benjamini_hochberg(p, options["q"], alive)
            columns |= {"p_value": p, "q_value": found.q_values}
            facts |= {"n_explained": found.n_found, "q": options["q"]} | _permuted_facts(chance)
        if options["metrics"] and variant == TRAINED and len(x.split.val):
            got = metrics.metrics(foreseen["val"], real["val"], foreseen["test"], real["test"])
            columns |= {name: getattr(got, name) for name in METRICS}
        return columns, facts

    read = {name: options[name] for name in ("draws", "q", "metrics")} | {"seed": x.config["seed"]}
    fields = {"simulate": made.key, "permuted": None if null is None else null.key, **read}
    return once(x, "score", f"{where(variant, tap, method)} by {simulator}", fields, make)


def _permuted_facts(chance: dict[str, np.ndarray]) -> dict[str, float]:
    """What permuted activations score by the choice of the best on val, and what is left of it on test."""
    if chance["test"].size == 0:
        return {"permuted_val_correlation": 0.0, "permuted_correlation": 0.0}
    return {
        "permuted_val_correlation": float(chance["val"].mean()),
        "permuted_correlation": float(chance["test"].mean()),
    }


def compared(x: Run, tap: str, method: str, other: str, simulator: str) -> Made:
    """Facts: the paired difference of two methods' correlations by one simulator, neuron by neuron and on the same bootstrap images."""
    options, parts = (
        x.config["evaluation"],
        [simulated(x, TRAINED, tap, name, simulator) for name in (method, other)],
    )
    alive = live(explained(x, TRAINED, tap, method)[1])

    def make(_):
        foreseen = [np.asarray(part.artifact.arrays["test"]) for part in parts]
        real = np.asarray(activations(x, TRAINED, tap)[x.split.test])
        got = intervals.paired(
            *foreseen, real, draws=options["draws"], seed=x.config["seed"], live=alive
        )
        names = (
            "mean",
            "mean_low",
            "mean_high",
            "share_a_better",
            "share_a_clear",
            "share_b_clear",
        )
        return {name: getattr(got, name) for name in ("difference", "low", "high")}, {
            name: getattr(got, name) for name in names
        }

    fields = {
        "simulate": [part.key for part in parts],
        "draws": options["draws"],
        "seed": x.config["seed"],
    }
    return once(x, "score-paired", f"{tap}, {method} against {other} by {simulator}", fields, make)


def ceiling(x: Run, tap: str, method: str) -> Made:
    """Array `ceiling` (neurons,) float32: test correlation of a dense ridge on all concepts, its strength chosen on val."""
    moments = measured(x, TRAINED, tap, method)

    def make(_):
        concepts, _ = method_concepts(x, method)
        got = unpacked(moments)
        dense = ridge.solve(got.train, got.val)
        rho = correlate(
            lambda i: concepts.rows(i, got.kept),
            activations(x, TRAINED, tap),
            dense.weights,
            dense.bias,
            x.split.test,
        )
        return {"ceiling": np.asarray(rho)}, {}

    return once(
        x,
        "score-ceiling",
        f"{where(TRAINED, tap, method)}, dense ceiling",
        {"moments": moments.key},
        make,
    )


def contributed(x: Run, tap: str, method: str, simulator: str) -> Made:
    """Arrays `share` and `leave_one_out` (neurons, most), in each explanation's own order."""
    found, explanations = explained(x, TRAINED, tap, method)

    def make(_):
        if not explanations.concepts:
            return {
                name: np.zeros((len(explanations), 1)) for name in ("share", "leave_one_out")
            }, {}
        rows = _rows(x, simulator, explanations, _vocabulary(x, TRAINED, tap, method), "score")
        moments = second_moments(rows, activations(x, TRAINED, tap), x.split.test, mesh=x.mesh)
        got = contributions(explanations, explanations.concepts, moments)
        return {"share": got.share, "leave_one_out": got.leave_one_out}, {}

    fields = {
        "search": found.key,
        "simulator": simulator_fields(x, simulator),
        "split": split_key(x.split),
    }
    return once(
        x,
        "score-contributions",
        f"{where(TRAINED, tap, method)} by {simulator}, concept by concept",
        fields,
        make,
    )


def selected_again(x: Run, tap: str, method: str) -> Made:
    """Array `frequency` (neurons, most): how often a refit on resampled images chooses each concept again; fact `mean_overlap`."""
    moments, (found, explanations) = (
        measured(x, TRAINED, tap, method),
        explained(x, TRAINED, tap, method),
    )
    draws, seed = x.config["evaluation"]["selection_draws"], x.config["seed"]

    def make(_):
        concepts, _ = method_concepts(x, method)
        got, values = unpacked(moments), activations(x, TRAINED, tap)

        def resample(draw: int) -> Measured:
            return resampled(got, concepts.rows, values, x.split, draw, seed=seed, mesh=x.mesh)

        stable = selection_frequency(
            explanations, resample, _refit(x, TRAINED, tap, method), draws=draws
        )
        alive = live(explanations)
        return {"frequency": stable.frequency}, {
            "mean_overlap": float(stable.overlap[alive].mean()) if alive.any() else 0.0
        }

    fields: dict[str, Any] = {"search": found.key, "draws": draws, "seed": seed}
    return once(x, "score-selection", f"{where(TRAINED, tap, method)}, chosen again", fields, make)
