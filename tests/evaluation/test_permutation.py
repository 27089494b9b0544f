"""Permuted test images: exact by enumeration, uniform where there is nothing to find, and what the
smallest p is where ties leave little to permute."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from scipy.stats import kstest

from jaxle.evaluation import METRICS, Evidence, permutation
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.permutation import permutation_test


def enumerated(s, a):
    """(share of all permutations with ρ at least as large, and with the largest ρ)."""
    sums = np.array([np.dot(s[list(order)], a) for order in permutations(range(len(a)))])
    return (sums >= sums[0] - 1e-9).mean(), (sums >= sums.max() - 1e-9).mean()


def test_it_equals_all_permutations_enumerated():
    rng = np.random.default_rng(0)
    a, s = rng.normal(size=(2, 6, 5))
    s[:, 1] = s[:, 1] > 0  # ties on one side, on both, a single firing image
    s[:, 2], a[:, 2] = rng.permutation([1, 1, 0, 0, 0, 0]), rng.permutation([1, 1, 1, 0, 0, 0])
    a[:, 3] = np.arange(6) == 2
    s[:, 4] += 2 * a[:, 4]
    got = permutation_test(s, a, draws=20_000)
    exact = np.array([enumerated(s[:, k], a[:, k]) for k in range(5)])
    np.testing.assert_allclose(got.p_values, exact[:, 0], atol=0.015)
    np.testing.assert_allclose(got.smallest, exact[:, 1], atol=1e-4)


def test_it_is_uniform_where_there_is_nothing_to_find():
    rng = np.random.default_rng(0)
    noise, fires = rng.normal(size=(400, 300)), rng.random((400, 300))
    activations = np.where(np.arange(300) % 2, noise, np.where(fires < 0.1, np.exp(noise), 0))
    simulated = (rng.random((400, 300)) < 0.2) + 0.1 * rng.normal(size=(400, 300))
    p = permutation_test(simulated, activations, draws=500).p_values
    for kind in range(2):
        assert kstest(p[kind::2], "uniform").pvalue > 0.01
    assert benjamini_hochberg(p).n_found == 0
    simulated[:, :30] += activations[:, :30]
    found = benjamini_hochberg(permutation_test(simulated, activations, draws=2000).p_values)
    assert found.found[:30].mean() > 0.9 and found.found[30:].sum() <= 4


def test_neurons_do_not_depend_on_their_company_nor_on_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 70))
    s = 0.3 * a + rng.normal(size=a.shape)
    whole = permutation_test(s, a, draws=40, seed=3)
    few = permutation_test(s[:, 60:], a[:, 60:], draws=40, seed=3)
    np.testing.assert_array_equal(whole.p_values[60:], few.p_values)
    again, other = (permutation_test(s, a, draws=40, seed=seed).p_values for seed in (3, 4))
    np.testing.assert_array_equal(whole.p_values, again)
    assert not np.array_equal(whole.p_values, other)
    monkeypatch.setattr(permutation, "BLOCK", 64 * 30)  # 64 neurons and 64 permutations at once
    np.testing.assert_array_equal(whole.p_values, permutation_test(s, a, draws=40, seed=3).p_values)
    assert permutation_test(s, a, draws=100).p_values.min() >= 1 / 101


def test_constant_sides_and_no_draws_have_p_1():
    rng = np.random.default_rng(0)
    a, s = rng.normal(size=(2, 20, 3))
    a[:, 0], s[:, 1] = 0, 5
    got = permutation_test(s, a, draws=50)
    assert got.p_values[:2].tolist() == got.smallest[:2].tolist() == [1, 1]
    assert permutation_test(s, a, draws=0).p_values.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="draws must be a whole number of at least 0, got -1"):
        permutation_test(s, a, draws=-1)


def test_where_no_p_value_could_be_small_enough_there_is_no_count():
    """Neurons that fire on one of twelve images, each simulated without error."""
    a = np.eye(12)[:, :4]

    def facts(activations, q):
        empty = np.zeros((0, activations.shape[1]))
        evidence = Evidence(empty, empty, activations, activations, np.ones(4, bool), q=q)
        return METRICS["discoveries"].compute(evidence)[1]

    got = facts(a, 0.05)
    assert got["smallest_p"] == pytest.approx(1 / 12, abs=1e-3) and got["n_explainable"] == 0
    assert "n_explained" not in got
    more = facts(a + np.roll(a, 4, axis=0), 0.05)  # on two of twelve
    assert more["smallest_p"] == pytest.approx(1 / comb(12, 2), abs=1e-3)
    assert more["n_explained"] == more["n_explainable"] == 4
