"""The table of metrics: what a run computes, in the order of scores.csv; and what is refused."""

import sys
import types

import numpy as np
import pytest

import jaxle
from jaxle import Explanation, Explanations
from jaxle.evaluation import (
    CEILING,
    METRICS,
    Column,
    Evidence,
    Metric,
    find_metrics,
    influence,
    live,
    score,
)
from jaxle.evaluation import swap as swap_room
from jaxle.evaluation.controls import better_than_controls
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.intervals import bootstrap
from jaxle.evaluation.permutation import permutation_test
from jaxle.evaluation.swap import swap

NAMES = [
    *("correlation", "correlation_low", "correlation_high", "few_positives"),
    *("specificity", "retrieval_rank"),
    *(
        "control_p_value",
        "control_q_value",
        "p_value",
        "q_value",
        "cosine",
        "auprc",
        "f1",
        "iou",
        "r2",
        "base_rate",
    ),
]
CONTROL = ("control_p_value", "control_q_value")
PERMUTED = ("p_value", "q_value")
FACTS = [
    *("mean_correlation_low", "mean_correlation_high", "retrieval_at_1", "mrr"),
    *("mean_off_diagonal", "n_controls", "n_control_neurons", "control_correlations"),
    *("smallest_control_p", "better_q", "n_better", "better_probability", "better_probability_low"),
    *("better_probability_high", "excess", "excess_low", "excess_high"),
    *("q", "n_explainable", "smallest_p", "n_explained"),
]


def test_columns_and_facts_are_those_of_the_functions(evidence):
    given = evidence()
    got = score(given, METRICS)
    assert list(got.columns) == NAMES and list(got.facts) == FACTS
    s, a, alive = given.simulated, given.activations, given.live
    rho = jaxle.correlation(s, a)
    np.testing.assert_array_equal(got.columns["correlation"], rho)
    interval = bootstrap(s, a, draws=50, seed=2, live=alive)
    np.testing.assert_array_equal(got.columns["correlation_low"], interval.low)
    assert got.facts["mean_correlation_high"] == interval.mean_high
    own = swap(s, a, alive)
    np.testing.assert_array_equal(got.columns["retrieval_rank"], own.rank)
    assert got.facts["mrr"] == own.mrr
    p = np.where(alive, permutation_test(s, a, draws=200, seed=2).p_values, 1)
    found = benjamini_hochberg(p, 0.1, alive)
    np.testing.assert_array_equal(got.columns["p_value"], p)
    np.testing.assert_array_equal(got.columns["q_value"], found.q_values)
    assert (got.facts["n_explained"], got.facts["q"]) == (found.n_found, 0.1)
    better = better_than_controls(rho, given.controls, q=0.1, live=alive)
    np.testing.assert_array_equal(got.columns["control_p_value"], better.p_values)
    assert got.facts["n_better"] == better.n_found == 4
    np.testing.assert_array_equal(got.live, alive)


def test_values_stay_in_the_range_that_is_declared(evidence):
    got = score(evidence(), METRICS).columns
    for metric in METRICS.values():
        for column in metric.columns:
            assert column.low <= got[column.name].min() and got[column.name].max() <= column.high
            assert column.better in ("higher", "lower", "") and column.meaning


def test_a_row_gives_nothing_where_the_evidence_does_not_suffice(evidence):
    got = score(evidence(draws=0), METRICS)
    assert list(got.columns) == [name for name in NAMES if name not in NAMES[1:4]]
    for options in ({"controls": ()}, {"controls": (np.zeros(0, np.float32),)}):
        got = score(evidence(**options), METRICS)
        assert list(got.columns) == [name for name in NAMES if name not in CONTROL]
        assert "n_better" not in got.facts
    got = score(evidence(permutations=0), METRICS)
    assert list(got.columns) == [name for name in NAMES if name not in PERMUTED]
    assert "n_explained" not in got.facts
    got = score(evidence(n_val=0), METRICS)
    assert list(got.columns) == [*NAMES[:10], "cosine"]


def test_a_layer_of_dead_neurons_is_defined(evidence):
    got = score(evidence(live=np.zeros(5, bool)), METRICS)
    assert got.facts["n_explainable"] == got.facts["mrr"] == got.facts["n_better"] == 0
    assert got.facts["smallest_p"] == 1 and "n_explained" not in got.facts


def test_frame_has_a_row_a_neuron(evidence):
    got = score(evidence(), find_metrics(["cosine", "correlation"]))
    assert list(got.to_frame()) == ["cosine", "correlation"]
    rows = tuple(Explanation(7 + k, ("dog",), (1.0,), 0.0, 0.5, "dead" * k) for k in range(2))
    both = score(evidence_of_two(evidence), find_metrics(["correlation"]))
    frame = both.to_frame(Explanations(rows))
    columns = ["unit", "explanation", "val_correlation", "flag", "correlation"]
    assert list(frame) == columns and frame["unit"].tolist() == [7, 8]
    assert live(Explanations(rows)).tolist() == [True, False]
    assert repr(both).startswith("Scores of 2 neurons: correlation")
    with pytest.raises(ValueError, match="scores of 5 neurons do not fit 2 explanations"):
        got.to_frame(Explanations(rows))


def evidence_of_two(evidence) -> Evidence:
    given = evidence()
    arrays = (given.simulated_val, given.activations_val, given.simulated, given.activations)
    return Evidence(*(x[:, :2] for x in arrays), live=np.ones(2, bool))


def test_a_neuron_scores_the_same_in_a_layer_of_any_width(evidence):
    """Layers are padded to one of few widths; what is added must not count."""
    given = evidence()
    own = ("correlation", "bootstrap", "cosine", "detection", "r2", "base_rate")
    arrays = (given.simulated_val, given.activations_val, given.simulated, given.activations)
    wide = [np.tile(x, (1, 14)) for x in arrays]
    options = {"draws": given.draws, "seed": given.seed}
    narrow = score(given, find_metrics(own)).columns
    got = score(Evidence(*wide, live=np.ones(70, bool), **options), find_metrics(own)).columns
    for name, values in narrow.items():
        np.testing.assert_allclose(got[name].reshape(14, 5), np.tile(values, (14, 1)), atol=2e-6)
    # dead neurons, like padding, compete with none
    s, a = arrays[2:]
    assert swap(s[:, :4], a[:, :4])[4:] == swap(s, a, given.live)[4:]


def test_layers_of_other_widths_share_programs(evidence):
    # the other scores are computed on the host
    programs = [influence._contributions, influence.draw, swap_room._compare]
    given = evidence()
    score(given, METRICS)
    compiled = [program._cache_size() for program in programs]
    arrays = (given.simulated_val, given.activations_val, given.simulated, given.activations)
    wide = [np.tile(x, (1, 9)) for x in arrays]
    score(Evidence(*wide, live=np.ones(45, bool), draws=given.draws, seed=given.seed), METRICS)
    assert [program._cache_size() for program in programs] == compiled


# --- metrics of your own ---


def spearman(evidence):
    ranks = (np.argsort(np.argsort(x, axis=0), axis=0) for x in
             (evidence.simulated, evidence.activations))  # fmt: skip
    return {"spearman": jaxle.correlation(*(r.astype(np.float32) for r in ranks))}, {}


def column(name: str) -> Column:
    return Column(name, -1.0, 1.0, "higher", "a test")


@pytest.fixture
def outside(monkeypatch):
    """A module of metrics outside the package."""
    module = types.ModuleType("their_metrics")
    module.SPEARMAN = Metric((column("spearman"),), spearman)
    module.SAME = Metric((column("spearman"),), spearman)
    module.TAKEN = Metric((column("val_correlation"),), spearman)
    module.NUMBER = 3
    monkeypatch.setitem(sys.modules, "their_metrics", module)
    return module


def test_a_metric_from_outside_is_one_object(outside, evidence):
    found = find_metrics(["correlation", "their_metrics:SPEARMAN"])
    assert list(found) == ["correlation", "their_metrics:SPEARMAN"]
    got = score(evidence(), found)
    assert list(got.columns) == ["correlation", "spearman"]
    assert got.columns["spearman"].shape == (5,) and got.columns["spearman"][0] > 0.5


@pytest.mark.parametrize(
    "names, message",
    [
        (["correlaton"], "unknown metric 'correlaton': did you mean 'correlation'?"),
        (["their_metrics:NUMBER"], "'their_metrics:NUMBER' is int; expected a jaxle.evaluation."),
        (["their_metrics:NONE"], "module 'their_metrics' has no 'NONE'"),
        (["no_such_module:A"], "cannot import 'no_such_module'"),
        (
            ["their_metrics:SPEARMAN", "their_metrics:SAME"],
            "'their_metrics:SAME' gives the column 'spearman', which metric 'their_metrics:SPEARM",
        ),
        (["their_metrics:TAKEN"], "the column 'val_correlation', which the table scores.csv"),
        (["swap", "swap"], "metric 'swap' is named twice"),
    ],
)
def test_names_that_do_not_work_are_refused(names, message, outside):
    with pytest.raises(ValueError, match=message):
        find_metrics(names)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"b": np.zeros(5)}, "metric 'mine' declares the columns a and gave b"),
        ({"a": np.zeros(5), "b": np.zeros(5)}, "declares the columns a and gave a, b"),
        ({"a": np.zeros(4)}, r"column 'a' in shape \(4,\): expected one value a neuron, \(5,\)"),
        ({"a": np.zeros((5, 1))}, r"column 'a' in shape \(5, 1\)"),
        ({"a": [0, 0, np.nan, 0, 0]}, "gave nan in the column 'a' at neuron 2"),
        ({"a": ["x"] * 5}, "gave the column 'a' as <U1: expected numbers"),
    ],
)
def test_values_that_break_the_table_are_refused(columns, message, evidence):
    metric = Metric((column("a"),), lambda evidence: (columns, {}))
    with pytest.raises(ValueError, match=message):
        score(evidence(), {"mine": metric})


def test_facts_that_break_the_summary_are_refused(evidence):
    for fact, message in ((np.float32(1), "the fact 'x' as"), (float("nan"), "expected a JSON")):
        metric = Metric((), lambda evidence, fact=fact: ({}, {"x": fact}))
        with pytest.raises(ValueError, match=message):
            score(evidence(), {"mine": metric})
    twice = Metric((), lambda evidence: ({}, {"x": 1}))
    with pytest.raises(ValueError, match="metric 'b' gives the fact 'x' of another metric"):
        score(evidence(), {"a": twice, "b": twice})
    one = Metric((column("a"),), lambda evidence: ({"a": np.zeros(5)}, {}))
    with pytest.raises(ValueError, match="metric 'b' gives the column 'a' of another metric"):
        score(evidence(), {"a": one, "b": one})


def test_means_say_something_of_these_columns_only():
    averaged = {c.name for m in METRICS.values() for c in m.columns if c.averaged}
    not_averaged = {*NAMES[1:4], "retrieval_rank", *CONTROL, *PERMUTED}
    assert set(NAMES) - averaged == not_averaged and CEILING.averaged
