"""What the best of unrelated concepts reaches, against simulation and permutation."""

import numpy as np
import pytest
import scipy.stats

from jaxle.solve import noise


def test_the_best_of_many_normal_correlations_passes_once_in_twenty_times():
    rng = np.random.default_rng(0)
    n, tried = 40, 30
    x, y = rng.normal(size=(n, tried, 2000)), rng.normal(size=(n, 2000))
    x, y = ((z - z.mean(0)) / z.std(0) for z in (x, y))
    best = np.einsum("nmk,nk->mk", x, y).max(axis=0) / n
    least = noise.least_correlation(*noise.quantile(n, tried, 0), 0.0)
    assert 0.035 < (best > least).mean() < 0.065


def test_a_rare_concept_and_a_sparse_neuron_need_more():
    """Under permutation their correlation is skewed: normal quantiles let too many pass."""
    rng = np.random.default_rng(0)
    n = 400
    x = (np.arange(n) < 20).astype(np.float64)
    y = np.where(np.arange(n) < 20, rng.exponential(size=n), 0.0)
    orders = rng.permuted(np.tile(np.arange(n), (20_000, 1)), axis=1)
    rho = (y[orders] @ (x - x.mean())) / (n * x.std() * y.std())
    t, freedom = noise.quantile(n, 10, 0)
    gamma = noise.skewness_of_probabilities(x.mean(), x.var()) * scipy.stats.skew(y) / np.sqrt(n)
    assert scipy.stats.skew(rho) == pytest.approx(gamma, rel=0.1)
    alone = 1 - 0.95 ** (1 / 10)
    assert (rho > noise.least_correlation(t, freedom, 0.0)).mean() > 2 * alone
    assert (rho > noise.least_correlation(t, freedom, gamma)).mean() < 1.5 * alone
    # the other tail is the lighter one
    assert noise.least_correlation(t, freedom, -1.0) == noise.least_correlation(t, freedom, 0.0)


def test_skewness_is_that_of_the_images_named_and_0_where_nothing_varies():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(500, 3)) * [1.0, 1e30, 1e-30] + [0.0, 0.0, 0.0]
    values[:, 2] = 7.0
    index = np.arange(0, 500, 2)
    found = noise.skewness(values, index)
    np.testing.assert_allclose(found[:2], scipy.stats.skew(values[index, :2]), rtol=1e-6)
    assert found[2] == 0


def test_skewness_of_what_hardly_varies_about_a_large_mean_and_of_one_outlier():
    rng = np.random.default_rng(0)
    values = np.full((100_003, 3), 0.1, np.float32)
    values[5, 1] = 0.1001
    values[:, 2] = 1000 + rng.normal(size=len(values))
    values[5, 2] = 1e4
    found = noise.skewness(values, np.arange(len(values)))
    assert found[0] == 0
    want = scipy.stats.skew(values[:, 1:].astype(np.float64))
    np.testing.assert_allclose(found[1:], want, rtol=2e-5)
    # the mean of equal values is that value
    assert not noise.skewness(np.full((100_003, 1), 1e-30, np.float32), np.arange(100_003)).any()


def test_skewness_of_probabilities_is_exact_for_labels_and_0_for_what_is_none():
    p = np.array([0.01, 0.5, 0.9])
    found = noise.skewness_of_probabilities(p, p * (1 - p))
    np.testing.assert_allclose(found, (1 - 2 * p) / np.sqrt(p * (1 - p)))
    assert not noise.skewness_of_probabilities(np.array([0.5, 3.0]), np.array([0.0, 1.0])).any()
