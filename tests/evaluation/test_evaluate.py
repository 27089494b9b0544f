"""`jaxle.evaluate` and `jaxle.compare`: a run's numbers, from arrays alone."""

import sys
import types

import numpy as np
import pytest

import jaxle
from jaxle.data.splits import make_split
from jaxle.evaluation import METRICS, Column, Metric
from jaxle.evaluation.ceiling import ceiling
from jaxle.evaluation.compare import compare
from jaxle.evaluation.controls import better_than_controls
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.evaluate import evaluate
from jaxle.evaluation.intervals import bootstrap, paired
from jaxle.evaluation.permutation import permutation_test
from jaxle.explainers.protocol import ArrayRows
from jaxle.solve.measure import measure

N, CONCEPTS = 600, [f"c{j}" for j in range(12)]
OPTIONS = {"max_concepts": 3, "min_top5": 0.0, "dead_threshold": 0.01}


@pytest.fixture(scope="module")
def layer():
    """0/1 concepts, a simulator that errs, eight neurons of which one is dead, and a split."""
    rng = np.random.default_rng(0)
    probs = (rng.random((N, 12)) < 0.25).astype(np.float32)
    simulator = np.abs(probs - 0.3 * rng.random(probs.shape)).astype(np.float32)
    activations = rng.normal(size=(N, 8)).astype(np.float32)
    activations[:, :5] += 1.5 * probs[:, :5] + probs[:, 5:10]
    activations[:, 7] = 0
    return activations, probs, simulator, make_split(N, 1)


@pytest.fixture(scope="module")
def explanations(layer):
    activations, probs, _, split = layer
    return jaxle.explain(activations, probs, CONCEPTS, split=split, **OPTIONS)


def test_evaluate_gives_what_its_parts_give(layer, explanations):
    activations, probs, simulator, split = layer
    controls = [0.1 + 0.02 * np.arange(n, dtype=np.float32) for n in (4, 5, 6)]
    got = evaluate(
        explanations,
        activations,
        simulator,
        CONCEPTS,
        explainer_probs=probs,
        controls=controls,
        permutations=300,
        draws=40,
        q=0.1,
        seed=3,
        min_top5=0.0,
    )
    declared = [column.name for metric in METRICS.values() for column in metric.columns]
    assert list(got.columns) == [*declared, "ceiling"]
    s, a = jaxle.simulate(explanations, simulator, CONCEPTS)[split.test], activations[split.test]
    alive = explanations.flags != "dead"
    assert alive.tolist() == [True] * 7 + [False]
    interval = bootstrap(s, a, draws=40, seed=3, live=alive)
    np.testing.assert_array_equal(got.columns["correlation"], jaxle.correlation(s, a))
    np.testing.assert_array_equal(got.columns["correlation_high"], interval.high)
    p = np.where(alive, permutation_test(s, a, draws=300, seed=3).p_values, 1)
    np.testing.assert_array_equal(got.columns["p_value"], p)
    assert got.facts["n_explained"] == benjamini_hochberg(p, 0.1, alive).n_found >= 5
    better = better_than_controls(got.columns["correlation"], controls, q=0.1, live=alive)
    np.testing.assert_array_equal(got.columns["control_p_value"], better.p_values)
    assert got.facts["n_better"] == better.n_found >= 5
    again = evaluate(
        explanations, activations, simulator, CONCEPTS, controls=[got] * 2, draws=0, ceiling=False
    )
    assert again.facts["n_control_neurons"] == 14 and again.facts["better_probability"] == 0.5
    own = ArrayRows(probs, CONCEPTS)
    measured = measure(own.rows, 12, activations, split.train, split.val, min_top5=0.0)
    best = ceiling(measured, own.rows, activations, split.test, CONCEPTS, [explanations])
    np.testing.assert_allclose(got.columns["ceiling"], best, atol=1e-5)
    frame = got.to_frame(explanations)
    assert len(frame) == 8 and frame["explanation"].iloc[0] == str(explanations[0])
    assert (got.columns["ceiling"][:5] > 0.5).all() and (got.columns["correlation"][:5] > 0.4).all()


def test_what_is_not_asked_for_is_not_computed(layer, explanations):
    activations, _, simulator, _ = layer
    asked = ["correlation", "bootstrap"]
    got = evaluate(
        explanations, activations, simulator, CONCEPTS, draws=0, metrics=asked, ceiling=False
    )
    assert list(got.columns) == ["correlation"] and got.facts == {}
    table = {"mine": METRICS["cosine"]}
    got = evaluate(explanations, activations, simulator, CONCEPTS, metrics=table, ceiling=False)
    assert list(got.columns) == ["cosine"]


def test_a_metric_from_outside_and_a_memory_map(layer, explanations, monkeypatch, tmp_path):
    activations, _, simulator, split = layer

    def compute(evidence):
        return {"hits": (evidence.simulated > 0).mean(0)}, {"images": len(evidence.simulated)}

    module = types.ModuleType("their_room")
    module.HITS = Metric((Column("hits", 0.0, 1.0, "", "a test"),), compute)
    monkeypatch.setitem(sys.modules, "their_room", module)
    np.save(tmp_path / "a.npy", activations)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    got = evaluate(
        explanations, mapped, simulator, CONCEPTS, metrics=["their_room:HITS"], ceiling=False
    )
    assert got.facts == {"images": len(split.test)} and got.columns["hits"].shape == (8,)


def test_a_table_without_split_needs_one(layer, explanations, tmp_path):
    activations, _, simulator, split = layer
    explanations.to_csv(tmp_path / "e.csv")
    read = jaxle.Explanations.from_csv(tmp_path / "e.csv")
    with pytest.raises(ValueError, match="hold no split: give split=jaxle.Split"):
        evaluate(read, activations, simulator, CONCEPTS)
    given = evaluate(read, activations, simulator, CONCEPTS, split=split, ceiling=False, draws=0)
    kept = evaluate(explanations, activations, simulator, CONCEPTS, ceiling=False, draws=0)
    for name, values in kept.columns.items():
        np.testing.assert_allclose(given.columns[name], values, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"activations": np.ones((N, 3))}, "must have 8 columns, one an explanation, got 3"),
        ({"activations": np.full((N, 8), np.nan)}, "activations must be finite"),
        ({"concept_probs": np.ones((5, 12))}, "the same images, got 600 and 5 rows"),
        ({"explainer_probs": np.ones((N, 4))}, "each of the 4 columns of concept_probs once"),
        ({"concepts": CONCEPTS[1:]}, "each of the 12 columns of concept_probs once, got 11"),
        ({"concepts": list("abcdefghijkl")}, "the simulator lacks"),
        (
            {"split": jaxle.Split(*map(np.array, ([0], [1], [1])))},
            "image 1 is in split.val and in split.test",
        ),
        ({"draws": -1}, "draws must be a whole number of at least 0, got -1"),
        ({"draws": 1}, "draws must be a whole number of at least 2, got 1"),
        ({"permutations": 1.5}, "permutations must be a whole number of at least 0, got 1.5"),
        ({"q": 0}, "q must be a number in \\(0, 1\\), got 0"),
        ({"metrics": ["f2"]}, "unknown metric 'f2'"),
        ({"explainer_probs": np.zeros((N, 12), np.float32)}, "none of the 12 concepts passes"),
    ],
)
def test_bad_input_is_refused(change, message, layer, explanations):
    activations, _, simulator, _ = layer
    given = {"activations": activations, "concept_probs": simulator, "concepts": CONCEPTS}
    with pytest.raises(ValueError, match=message):
        evaluate(explanations, **given | change)


# --- compare ---


@pytest.fixture(scope="module")
def other(layer):
    activations, probs, _, split = layer
    return jaxle.explain(
        activations, probs, CONCEPTS, split=split, search="top_k", **OPTIONS | {"max_concepts": 1}
    )


def test_compare_is_the_paired_interval(layer, explanations, other):
    activations, _, simulator, split = layer
    got = compare(explanations, other, activations, simulator, CONCEPTS, draws=50, seed=4)
    a, b = (jaxle.simulate(x, simulator, CONCEPTS)[split.test] for x in (explanations, other))
    real, alive = activations[split.test], explanations.flags != "dead"
    expected = paired(a, b, real, draws=50, seed=4, live=alive)
    for name, value in expected._asdict().items():
        np.testing.assert_array_equal(getattr(got, name), value)
    assert got.mean > 0 and got.share_a_better > 0.5
    frame = got.to_frame()
    assert list(frame) == ["unit", "difference", "low", "high", "few_positives"]
    assert frame["unit"].tolist() == list(range(8))
    assert "8 neurons: mean difference 0." in repr(got)
    from_arrays = compare(a, b, real, draws=50, seed=4)
    np.testing.assert_array_equal(from_arrays.difference, got.difference)
    whole = [jaxle.simulate(x, simulator, CONCEPTS) for x in (explanations, other)]
    by_split = compare(*whole, activations, split=split, draws=50, seed=4)
    np.testing.assert_array_equal(by_split.low, got.low)
    backwards = compare(other, explanations, activations, simulator, CONCEPTS, draws=50, seed=4)
    np.testing.assert_allclose(backwards.difference, -got.difference)


def test_comparing_what_cannot_be_compared_is_refused(layer, explanations, other):
    activations, _, simulator, split = layer
    full = activations, simulator, CONCEPTS
    s = np.ones((N, 8), np.float32)
    cases = [
        ((explanations, s, *full), {}, "two Explanations or two arrays .* got Explanations and nd"),
        ((explanations, other, activations), {}, "needs a simulator's concept_probs"),
        ((explanations[:3], other, *full), {}, "must have 3 columns, one an explanation, got 8"),
        ((explanations, other[::-1], *full), {}, "must explain the same neurons, got units"),
        ((s, s[:, :3], activations), {}, "b and activations must describe the same|got 3 and 8"),
        ((s[:9], s[:9], activations), {}, "got 9 and 600 rows"),
        ((s, s, activations), {"draws": 1}, "draws must be a whole number of at least 2"),
    ]
    for given, options, message in cases:
        with pytest.raises(ValueError, match=message):
            compare(*given, **options)
    elsewhere = jaxle.explain(activations, simulator, CONCEPTS, split=make_split(N, 2), **OPTIONS)
    with pytest.raises(ValueError, match="different splits"):
        compare(explanations, elsewhere, *full)
    assert compare(explanations, elsewhere, *full, split=split, draws=20).mean_low < 1
