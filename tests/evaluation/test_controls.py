"""Against untrained networks: by hand, valid where networks vary, and what cannot be said."""

import json

import numpy as np
import pytest
from scipy.stats import rankdata, t

import jaxle
from jaxle.evaluation import METRICS, Evidence, Scores
from jaxle.evaluation.controls import better_than_controls, control_correlations


def networks(rng, n, n_neurons, between):
    """Correlations of networks whose means vary as well as their neurons."""
    z = 0.25 + between * rng.normal(size=(n, 1)) + 0.12 * rng.normal(size=(n, n_neurons))
    return np.tanh(z)


def test_p_values_and_effects_by_hand():
    rng = np.random.default_rng(0)
    rho, controls = np.tanh(rng.normal(0.4, 0.3, 7)), networks(rng, 3, 5, 0.1)
    got = better_than_controls(rho, list(controls))
    z, others = np.arctanh(rho), np.arctanh(controls)
    means = others.mean(axis=1)
    scale = means.std(ddof=1) * np.sqrt(4 / 3)
    for k in range(7):
        above = [
            t.sf((z[k] - means.mean() - (others[j, i] - means[j])) / scale, 2)
            for j in range(3)
            for i in range(5)
        ]
        assert got.p_values[k] == pytest.approx((1 + sum(above)) / 16)
    pairs = rho[None, :, None] > controls[:, None, :]
    assert got.probability.value == pytest.approx(pairs.mean())
    assert got.excess.value == pytest.approx(rho.mean() - controls.mean())
    parts = (rho.var(ddof=1) / 7, controls.mean(axis=1).var(ddof=1) * 4 / 3)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 6 + parts[1] ** 2 / 2)
    half = t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert got.excess.high - got.excess.value == pytest.approx(half)
    assert got.means == pytest.approx(controls.mean(axis=1)) and got.n_neurons == 15
    assert got.probability.low < got.probability.value < got.probability.high <= 1


def test_without_differences_between_networks_it_is_the_rank_among_all_neurons():
    control = np.array([0.1, 0.2, 0.3])
    got = better_than_controls(np.array([0.35, 0.2, 0.0]), [control, control])
    np.testing.assert_allclose(got.p_values, [1 / 7, 5 / 7, 1])
    assert got.smallest_p == pytest.approx(1 / 7)


@pytest.mark.parametrize("between", [0.03, 0.2])
def test_an_untrained_network_beside_others_gets_less_than_its_share(between):
    """Pooled ranks would give it 7 % where networks vary by more than their neurons."""
    rng, shares, trained = np.random.default_rng(0), [], []
    for _ in range(120):
        *controls, held_out = networks(rng, 6, 64, between)
        shares.append(better_than_controls(held_out, controls).n_found / 64)
        trained.append(better_than_controls(np.tanh(held_out + 1.0), controls).n_found / 64)
    assert np.mean(shares) <= 0.05
    assert np.mean(trained) > 0.5


def test_intervals_count_networks_as_units():
    rng, covered = np.random.default_rng(0), []
    wide = networks(rng, 2000, 50, 0.1)
    top = np.tanh(rng.normal(0.45, 0.2, 100_000))
    true_excess = top.mean() - wide.mean()
    ranks = rankdata(np.concatenate([top, wide.ravel()[: len(top)]]))[: len(top)]
    true_share = (ranks.mean() - (len(top) + 1) / 2) / len(top)
    for _ in range(300):
        rho = rng.choice(top, 40)
        got = better_than_controls(rho, list(networks(rng, 5, 40, 0.1)))
        pairs = ((got.excess, true_excess), (got.probability, true_share))
        untrained, *others = networks(rng, 6, 40, 0.1)  # of which nothing may be said
        same = better_than_controls(untrained, others)
        pairs += ((same.excess, 0.0), (same.probability, 0.5))
        covered.append([one.low <= true <= one.high for one, true in pairs])
    assert (np.mean(covered, axis=0) >= 0.9).all(), np.mean(covered, axis=0)


def test_all_above_has_an_interval_that_is_not_certainty():
    got = better_than_controls(np.full(20, 0.9), [np.full(9, x) for x in (0.1, 0.2, 0.3)])
    assert got.probability.value == got.probability.high == 1 and 0.5 < got.probability.low < 0.95


def test_what_cannot_be_said_is_not_said():
    rho = np.array([0.9, 0.8, 0.5])
    one = better_than_controls(rho, [np.array([0.1, 0.2])])
    assert one.p_values.tolist() == [1, 1, 1] and one.smallest_p == 1
    assert one.probability[1:] == (0, 1) and one.excess[1:] == (-2, 2)
    assert "n_better" not in one.facts and "no neuron can be found" in str(one)
    dead = better_than_controls(rho, [np.array([0.1, 0.2])] * 2, live=np.zeros(3, bool))
    assert dead.n_found == 0 and json.dumps(dead.facts, allow_nan=False)
    for wrong, words in (
        ([], "expected at least one untrained network with a live neuron, got none"),
        ([np.array([1.5])], r"controls\[0\] must hold one correlation from −1 to 1 a neuron"),
        ([Scores({"cosine": rho})], r"controls\[0\] has no correlation, but cosine"),
    ):
        with pytest.raises(ValueError, match=words):
            better_than_controls(rho, wrong)


def test_dead_neurons_of_controls_are_left_out_and_evaluate_takes_scores():
    rho = np.array([0.5, 0.0, 0.25])
    scores = Scores({"correlation": rho}, {}, np.array([True, False, True]))
    for got in control_correlations([scores, rho[[0, 2]]]):
        np.testing.assert_array_equal(got, [0.5, 0.25])
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 6))
    s = a + 0.2 * rng.normal(size=a.shape)
    empty = np.zeros((0, 6))
    controls = tuple(networks(rng, 5, 20, 0.03))
    evidence = Evidence(empty, empty, s, a, np.ones(6, bool), controls=controls)
    columns, facts = METRICS["controls"].compute(evidence)
    got = better_than_controls(jaxle.correlation(s, a), controls)
    np.testing.assert_array_equal(columns["control_q_value"], got.q_values)
    assert facts["n_better"] == 6 and facts["n_controls"] == 5
    assert "6 of 6 neurons better explained than an untrained network's at q = 0.05" in str(got)
    assert METRICS["controls"].compute(Evidence(empty, empty, s, a, np.ones(6, bool))) == ({}, {})
