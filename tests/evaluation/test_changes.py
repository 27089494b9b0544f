"""Measures of predicted and real changes: by hand, their intervals, and what cannot be said."""

import numpy as np
import pytest
import scipy.stats

from jaxle.evaluation.changes import (
    Changes,
    agreement,
    compare_changes,
    correlation,
    following,
    mean_interval,
    resampled_means,
    standardised_change,
)
from jaxle.evaluation.intervals import resamples


def made(predicted, real, negligible=0.1) -> Changes:
    sides = np.asarray(predicted, float), np.asarray(real, float)
    return compare_changes(*sides, negligible, negligible)


def test_counts_by_hand():
    predicted = np.array([[1.0, 0.05, -2.0, -2.0, 0.0, 0.3]]).T
    real = np.array([[0.5, 3.0, 0.2, -0.2, 1.0, 0.1]]).T
    changes = made(predicted, real)
    # as predicted; nothing predicted; the other way; as predicted; nothing; predicted, no change
    assert changes.outcome[:, 0].tolist() == [1, 0, -1, 1, 0, 0]
    assert changes.n_predicted.tolist() == [4] and changes.n_decided.tolist() == [3]
    assert changes.n_decided.dtype == np.int64


def test_a_change_is_free_of_units_and_zero_where_nothing_varies():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 3))
    a[:, 2] = b[:, 2] = 7.0
    change = standardised_change(a, b)
    both = np.concatenate([a, b])
    np.testing.assert_allclose(change[:, :2], (b - a)[:, :2] / both.std(0)[:2], atol=2e-7)
    assert not change[:, 2].any()
    scale, shift = np.array([1e-6, 3e5, 2.0]), np.array([0.0, 1e3, 5.0])
    np.testing.assert_allclose(standardised_change(a * scale + shift, b * scale + shift), change,
                               rtol=2e-6, atol=2e-7)  # fmt: skip


def test_the_first_and_the_second_picture_may_be_exchanged():
    rng = np.random.default_rng(1)
    predicted, real = rng.normal(size=(2, 60, 4))
    real += predicted
    turn = np.where(rng.random((60, 1)) < 0.5, -1.0, 1.0)
    one, other = made(predicted, real), made(turn * predicted, turn * real)
    np.testing.assert_array_equal(one.outcome, other.outcome)
    for left, right in zip(correlation(one), correlation(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


def test_correlation_is_pearsons_over_pairs_taken_both_ways():
    rng = np.random.default_rng(2)
    predicted, real = rng.normal(size=(2, 50, 3)) + 0.7
    real += predicted
    found = correlation(made(predicted, real)).value
    both = [np.concatenate([x, -x]) for x in (predicted, real)]
    expected = [np.corrcoef(both[0][:, k], both[1][:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("n, k", [(1, 0), (1, 1), (7, 3), (20, 20), (200, 31)])
def test_agreement_has_scipys_exact_interval(n, k):
    found = agreement(np.array([k]), np.array([n - k]))
    exact = scipy.stats.binomtest(k, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(np.ravel(found), [k / n, exact.low, exact.high], atol=1e-12)


SHARES = ((0.05, 0.05), (0.5, 0.5), (0.3, 0.1), (0.6, 0.05), (0.9, 0.02), (0.97, 0.03))


def test_following_covers_for_ten_pairs_and_more():
    """All outcomes are enumerated: the shares of changes as predicted and of the other way."""
    for n in (10, 25, 60):
        up, down = (x.ravel() for x in np.meshgrid(range(n + 1), range(n + 1)))
        up, down = up[up + down <= n], down[up + down <= n]
        _, low, high = following(up, down, np.full(len(up), n))
        for share_up, share_down in SHARES:
            left = 1 - share_up - share_down
            chance = scipy.stats.multinomial.pmf(
                np.stack([up, down, n - up - down], 1), n, [share_up, share_down, left]
            )
            true = share_up - share_down
            inside = (low <= true + 1e-12) & (true <= high + 1e-12)
            assert chance.sum() == pytest.approx(1)
            assert chance[inside].sum() > 0.925, (n, share_up, share_down)


def draw(n, neurons, density, noise, rho, rng):
    """Predicted signs on a share of pairs, and real changes of that true correlation."""
    predicted = (rng.random((n, neurons)) < density) * rng.choice([-1.0, 1.0], (n, neurons))
    other = rng.normal(size=(n, neurons))
    if noise == "sparse":
        fires = rng.random((n, neurons)) < 0.05
        other = fires * rng.exponential(size=(n, neurons)) * rng.choice([-1.0, 1.0], other.shape)
        other /= np.sqrt(0.1)
    return predicted, rho * predicted / np.sqrt(density) + np.sqrt(1 - rho**2) * other


@pytest.mark.parametrize("noise", ["normal", "sparse"])
@pytest.mark.parametrize("density", [0.05, 0.4])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.9])
def test_correlation_covers(noise, density, rho):
    changes = made(*draw(400, 2000, density, noise, rho, np.random.default_rng(3)))
    _, low, high = correlation(changes)
    assert 0.93 <= ((low <= rho) & (rho <= high)).mean()
    assert np.all((low >= -1) & (high <= 1))


def test_what_cannot_be_said_has_the_interval_of_ignorance():
    nothing, something = np.zeros((30, 1)), np.ones((30, 1))
    for predicted, real in ((nothing, something), (something, nothing), (nothing, nothing)):
        changes = made(predicted, real)
        assert np.ravel(correlation(changes)).tolist() == [0, -1, 1]
        for_, against = ((changes.outcome == side).sum(0) for side in (1, -1))
        assert np.ravel(agreement(for_, against)).tolist() == [0.5, 0, 1]
    assert np.ravel(following(np.zeros(1), np.zeros(1), np.zeros(1))).tolist() == [0, -1, 1]
    few = correlation(made(np.ones((3, 1)), np.ones((3, 1))))
    assert np.ravel(few).tolist() == [1, -1, 1]


def test_means_of_draws_equal_resampling_pairs_by_hand():
    rng = np.random.default_rng(4)
    predicted, real = rng.normal(size=(2, 25, 4)) * (rng.random((2, 25, 4)) < 0.7)
    changes = made(real + predicted, real)
    judged, live = np.array([True, True, False, True]), np.array([True, False, True, True])
    got = resampled_means(changes, judged, live, 6, 3)
    for d, weights in enumerate([np.ones(25, int), *resamples(6, 25, 3)]):
        rows = np.repeat(np.arange(25), weights)
        outcome, asked = changes.outcome[rows][:, judged], changes.is_predicted[rows][:, judged]
        decided = np.abs(outcome).sum(0)
        np.testing.assert_allclose(got["agreement"][d], ((outcome > 0).sum(0) / decided).mean())
        np.testing.assert_allclose(got["following"][d], (outcome.sum(0) / asked.sum(0)).mean())
        p, r = changes.predicted[rows][:, live], changes.real[rows][:, live]
        rho = (p * r).sum(0) / np.sqrt((p * p).sum(0) * (r * r).sum(0))
        np.testing.assert_allclose(got["correlation"][d], rho.mean())


def test_means_of_no_neuron_are_chance_with_the_whole_range():
    changes = made(np.zeros((20, 2)), np.ones((20, 2)))
    nobody = np.zeros(2, bool)
    means = resampled_means(changes, nobody, nobody, 10, 0)
    found = {name: mean_interval(name, draws, changes, nobody) for name, draws in means.items()}
    assert found == {"agreement": (0.5, 0, 1), "following": (0, -1, 1), "correlation": (0, -1, 1)}


def test_a_mean_without_any_dissent_is_not_certain():
    changes = made(np.ones((40, 3)), np.ones((40, 3)))
    every = np.ones(3, bool)
    means = resampled_means(changes, every, every, 10, 0)
    value, low, high = mean_interval("agreement", means["agreement"], changes, every)
    assert (value, high) == (1, 1) and low == pytest.approx(0.025 ** (1 / 40))
    value, low, _ = mean_interval("following", means["following"], changes, every)
    assert value == 1 and 0.8 < low < 1
