"""Bootstrap intervals: the numbers of resampled rows, the stated coverage, and awkward inputs."""

import numpy as np
import pytest
import scipy.stats

from jaxle.evaluation import intervals
from jaxle.evaluation.intervals import bootstrap, paired, resamples


def pairs(kind: str, rho: float, n: int, k: int, seed: int):
    """(simulated, activations) of k neurons with true correlation rho."""
    rng = np.random.default_rng(seed)
    first, noise = {
        "normal": lambda: (rng.normal(size=(n, k)), rng.normal(size=(n, k))),
        "heavy": lambda: (rng.standard_t(8, size=(n, k)), rng.standard_t(8, size=(n, k))),
        "skewed": lambda: (rng.exponential(size=(n, k)), rng.exponential(size=(n, k))),
        "label": lambda: ((rng.random((n, k)) < 0.2) / 0.4, rng.exponential(size=(n, k))),
    }[kind]()
    return first.astype(np.float32), (rho * first + np.sqrt(1 - rho**2) * noise).astype(np.float32)


def test_equals_resampling_rows_by_hand():
    simulated, activations = pairs("normal", 0.6, 50, 3, 0)
    other = simulated + np.random.default_rng(1).normal(size=simulated.shape)
    rho, rho_b = [], []
    for weights in resamples(40, 50, 7):
        rows = np.repeat(np.arange(50), weights)
        rho.append([np.corrcoef(simulated[rows, k], activations[rows, k])[0, 1] for k in range(3)])
        rho_b.append([np.corrcoef(other[rows, k], activations[rows, k])[0, 1] for k in range(3)])
    rho, rho_b = np.array(rho), np.array(rho_b)
    got = bootstrap(simulated, activations, draws=40, seed=7)
    standard = [scipy.stats.zscore(x, axis=0) for x in (activations, simulated, other)]
    u, u_b = (
        standard[0] * s - (standard[0] * s).mean(0) * (standard[0] ** 2 + s**2) / 2
        for s in standard[1:]
    )

    def quantile(u):
        freedom = 2 * 50 / (scipy.stats.moment(u, 4) / scipy.stats.moment(u, 2) ** 2 - 1)
        return np.sqrt(1 + 1 / freedom) * scipy.stats.t.ppf(0.975, freedom)

    half, centre = quantile(u) * np.arctanh(rho).std(0, ddof=1), np.arctanh(got.correlation)
    np.testing.assert_allclose(
        [got.low, got.high], np.tanh([centre - half, centre + half]), atol=5e-6
    )
    np.testing.assert_allclose(
        got.mean_high - got.mean, quantile(u.mean(1)) * rho.mean(1).std(ddof=1), atol=5e-6
    )
    both = paired(simulated, other, activations, draws=40, seed=7)
    np.testing.assert_allclose(
        both.high - both.difference, quantile(u - u_b) * (rho - rho_b).std(0, ddof=1), atol=5e-6
    )


@pytest.mark.parametrize("draws, n", [(300, 17), (2, 1000), (5, 1)])
def test_resamples_are_multinomial(draws, n):
    weights = resamples(draws, n, 3)
    assert weights.shape == (draws, n) and (weights.sum(1) == n).all()
    np.testing.assert_array_equal(weights, resamples(draws, n, 3))
    if draws > 100:  # each count is Binomial(n, 1/n)
        np.testing.assert_allclose([weights.mean(), weights.var()], [1, 1 - 1 / n], atol=0.05)
        assert not (weights == resamples(draws, n, 4)).all()


@pytest.mark.parametrize(
    "kind, rho, n",
    [
        *(("normal", rho, n) for rho in (0.0, 0.6, 0.9) for n in (200, 1000)),
        *((kind, rho, 300) for kind in ("heavy", "skewed", "label") for rho in (0.4, 0.9)),
    ],
)
def test_covers_the_true_correlation(kind, rho, n):
    simulated, activations = pairs(kind, rho, n, 2500, seed=n)
    got = bootstrap(simulated, activations, draws=300)
    assert 0.93 <= np.mean((got.low <= rho) & (rho <= got.high)) <= 0.97


def test_paired_intervals_cover_the_true_difference():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 2500))
    shared = rng.normal(size=a.shape)
    better, worse = (
        r * a + np.sqrt(1 - r**2) * (0.8 * shared + 0.6 * rng.normal(size=a.shape))
        for r in (0.6, 0.5)
    )
    got = paired(better, worse, a, draws=300)
    assert 0.93 <= np.mean((got.low <= 0.1) & (0.1 <= got.high)) <= 0.97
    alone = bootstrap(better, a, draws=300)
    assert np.mean(got.high - got.low) < np.mean(alone.high - alone.low)  # what both share cancels
    assert got.share_a_better > 0.9 and got.share_a_clear > 0.4 and got.share_b_clear < 0.01


def test_the_mean_of_neurons_that_share_their_images_is_covered():
    """Neurons with a common factor: the spread over neurons alone would be far too narrow."""
    rng, hits, times = np.random.default_rng(0), 0, 400
    for seed in range(times):
        a, e = (rng.normal(size=(200, 1)) + rng.normal(size=(200, 12)) for _ in range(2))
        got = bootstrap(0.6 * a + 0.8 * e, a, draws=150, seed=seed)
        hits += got.mean_low <= 0.6 <= got.mean_high
    assert 0.92 <= hits / times <= 0.98


def test_blocks_change_nothing(monkeypatch):
    simulated, activations = pairs("skewed", 0.5, 60, 11, 0)
    live = np.arange(11) % 3 > 0
    whole = (
        bootstrap(simulated, activations, draws=50, live=live),
        paired(simulated, -activations, activations, draws=50, live=live),
    )
    monkeypatch.setattr(intervals, "BLOCK_BYTES", 60 * 4 * 16)  # four neurons, sixteen draws
    parts = (
        bootstrap(simulated, activations, draws=50, live=live),
        paired(simulated, -activations, activations, draws=50, live=live),
    )
    for one, other in zip(whole, parts, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-5)


def test_scale_and_shift_of_the_simulation_do_not_matter():
    simulated, activations = pairs("normal", 0.6, 100, 4, 0)
    one, other = (
        bootstrap(simulated, activations, draws=60),
        bootstrap(1000 * simulated + 5, 0.01 * activations - 3, draws=60),
    )
    np.testing.assert_allclose(one.low, other.low, atol=1e-4)


def test_means_are_over_live_neurons():
    simulated, activations = pairs("normal", 0.8, 200, 4, 0)
    activations[:, 0] = 0
    got = bootstrap(simulated, activations, draws=50, live=np.array([False, True, True, True]))
    assert [got.correlation[0], got.low[0], got.high[0]] == [0, 0, 0]
    assert got.mean == pytest.approx(got.correlation[1:].mean(), abs=1e-6)
    none = bootstrap(simulated, activations, draws=50, live=np.zeros(4, bool))
    assert (none.mean, none.mean_low, none.mean_high) == (0, 0, 0)


def test_awkward_inputs_have_defined_values():
    rng = np.random.default_rng(0)
    one_image = bootstrap(rng.normal(size=(1, 2)), rng.normal(size=(1, 2)), draws=20)
    assert (
        one_image.correlation.tolist()
        == one_image.low.tolist()
        == one_image.high.tolist()
        == [0, 0]
    )
    constant = bootstrap(np.ones((30, 1)), rng.normal(size=(30, 1)), draws=20)
    assert (constant.mean, constant.mean_low, constant.mean_high) == (0, 0, 0)
    a = rng.normal(size=(30, 1))
    perfect = bootstrap(2 * a, a, draws=20)
    np.testing.assert_allclose([perfect.low, perfect.correlation, perfect.high], 1, atol=1e-5)
    spike = np.zeros((30, 1))
    spike[3] = 1  # a third of the draws misses the only image on which it fires
    got = bootstrap(spike, spike + 0.01 * a, draws=50)
    assert (
        np.isfinite(np.concatenate(got[:3])).all()
        and got.low[0] < got.correlation[0] <= got.high[0] <= 1
    )
    two = paired(a, a, a, draws=20)
    assert two.share_a_better == 0.5 and (two.mean, two.mean_low, two.mean_high) == (0, 0, 0)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"draws": 1}, "draws must be a whole number of at least 2, got 1"),
        ({"level": 1.0}, "level must be a number in \\(0, 1\\), got 1.0"),
        ({"live": np.ones(3, bool)}, "live must be bool of shape"),
        ({"activations": np.ones((4, 3))}, "got 2 and 3 columns"),
        ({"activations": np.full((4, 2), np.inf)}, "activations must be finite"),
    ],
)
def test_bad_input_is_refused(change, words):
    arguments = {"simulated": np.ones((4, 2)), "activations": np.ones((4, 2))} | change
    with pytest.raises(ValueError, match=words):
        bootstrap(**arguments)
