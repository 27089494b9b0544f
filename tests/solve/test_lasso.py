"""The public many-target elastic net against scikit-learn on raw columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.linear_model import ElasticNet

import jaxle


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 20)) * 10.0 ** rng.uniform(-1, 1, 20) + rng.normal(size=20)
    targets = features / features.std(0) @ rng.normal(size=(20, 3)) + rng.normal(size=(200, 3)) + 5
    return features, targets


def excess(features, targets, solution, lam, l1_ratio):
    """Objective above scikit-learn's at tol 1e-12, in float64, per target."""
    result = []
    for k in range(targets.shape[1]):
        best = ElasticNet(alpha=lam, l1_ratio=l1_ratio, tol=1e-10, max_iter=500_000).fit(
            features, targets[:, k]
        )

        def value(w, b, k=k):
            w = np.asarray(w, np.float64)
            penalty = l1_ratio * np.abs(w).sum() + 0.5 * (1 - l1_ratio) * w @ w
            return 0.5 * np.mean((targets[:, k] - features @ w - float(b)) ** 2) + lam * penalty

        result.append(
            value(solution.weights[:, k], solution.bias[k]) - value(best.coef_, best.intercept_)
        )
    return np.array(result)


@pytest.mark.parametrize("lam", [0.05, 0.5])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.9, 0.3])
def test_equals_scikit_learn_on_raw_columns_with_intercept(data, lam, l1_ratio):
    solution = jaxle.elastic_net(*data, lam=lam, l1_ratio=l1_ratio)
    assert solution.converged.all()
    difference = excess(*data, solution, lam, l1_ratio)
    half_variance = 0.5 * data[1].var(0)
    assert (np.abs(difference) < 1e-6 * half_variance).all()
    assert (np.asarray(solution.gap) >= difference).all()
    assert (
        np.asarray(solution.gap) <= 4e-6 * half_variance
    ).all()  # tol, or what float32 leaves uncertain under a weak penalty


def test_scaling_targets_and_lam_together_scales_the_solution(data):
    features, targets = data
    base = jaxle.elastic_net(features, targets, lam=0.1, l1_ratio=1.0)
    for scale in (1e-6, 1e6):
        scaled = jaxle.elastic_net(features, scale * targets, lam=0.1 * scale, l1_ratio=1.0)
        assert scaled.converged.all()
        np.testing.assert_allclose(scaled.weights / scale, base.weights, rtol=1e-3, atol=1e-5)


def test_columns_of_scales_from_1e_6_to_1e6_are_solved_and_the_gap_says_how_far_that_is_certain(
    data,
):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 20)) * 10.0 ** rng.uniform(-6, 6, 20)
    targets = features / features.std(0) @ rng.normal(size=(20, 3)) + rng.normal(size=(200, 3))
    solution = jaxle.elastic_net(features, targets, lam=0.05, l1_ratio=0.99)
    difference = excess(features, targets, solution, 0.05, 0.99)
    assert (np.abs(difference) < 1e-6 * targets.var(0)).all() and (
        np.asarray(solution.gap) >= difference
    ).all()


def test_a_decreasing_sequence_is_a_path(data):
    path = jaxle.elastic_net(*data, lam=[0.5, 0.05], l1_ratio=0.9)
    np.testing.assert_allclose(
        path[1].weights, jaxle.elastic_net(*data, lam=0.05, l1_ratio=0.9).weights, atol=1e-4
    )
    assert len(path) == 2


def test_bad_input_is_named(data):
    features, targets = data
    for change, message in (
        ({"lam": 0.0}, "lam must be greater than 0"),
        ({"l1_ratio": 0.0}, "l1_ratio must be in"),
        ({"tol": 0.0}, "tol must be in"),
        ({"lam": [0.1, 0.2]}, "decreasing"),
        ({"targets": targets[:50]}, "200 and 50 rows"),
        ({"features": np.where(features > 2, np.nan, features)}, "features must be finite"),
    ):
        arguments = {"features": features, "targets": targets, "lam": 0.1, "l1_ratio": 0.9} | change
        with pytest.raises(ValueError, match=message):
            jaxle.elastic_net(arguments.pop("features"), arguments.pop("targets"), **arguments)


# --- offsets and scales ---

N, M, K = 200, 20, 3
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, M))
Y = X @ np.where(RNG.random((M, K)) < 0.3, RNG.normal(size=(M, K)), 0) + RNG.normal(size=(N, K))


def value(features, targets, weights, bias, lam, l1_ratio):
    """The objective of every target, in 80-bit arithmetic."""
    x, y, w, b = (np.asarray(z, np.longdouble) for z in (features, targets, weights, bias))
    penalty = l1_ratio * abs(w).sum(0) + 0.5 * (1 - l1_ratio) * (w**2).sum(0)
    return 0.5 * ((y - x @ w - b) ** 2).mean(0) + np.longdouble(lam) * penalty


def above(features, targets, solution, lam, l1_ratio):
    """Objective above scikit-learn's on centred columns of scale 1, of half the variance."""
    x, y = (np.asarray(z, np.longdouble) for z in (features, targets))
    mean_x, mean_y = x.mean(0), y.mean(0)
    size = float(x.std(0).max()), float(y.std(0).max())
    x, y = ((x - mean_x) / size[0]).astype(float), ((y - mean_y) / size[1]).astype(float)
    # η = 1: λ is the only penalty, and scales with both
    net = ElasticNet(
        alpha=lam / size[0] / size[1], l1_ratio=1, tol=1e-13, max_iter=10**5, fit_intercept=False
    )
    best = np.stack([net.fit(x, y[:, k]).coef_ for k in range(y.shape[1])], 1)
    best = best.astype(np.longdouble) * size[1] / size[0]
    got = value(features, targets, solution.weights, solution.bias, lam, l1_ratio)
    want = value(features, targets, best, mean_y - mean_x @ best, lam, l1_ratio)
    return (got - want) / (0.5 * np.asarray(targets, np.longdouble).var(0))


@pytest.mark.parametrize("scale_x", [1e-30, 1e-10, 1.0, 1e30])
@pytest.mark.parametrize("scale_y", [1e-30, 1.0, 1e10, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_offsets_and_scales_of_float64_reach_the_float64_optimum(scale_x, scale_y, offset):
    """Cast to float32 first, X + 10⁶ ended far above the optimum and called itself converged."""
    features = X * scale_x + offset * scale_x
    targets = Y * scale_y - offset * scale_y
    lam = 0.1 * scale_x * scale_y
    solution = jaxle.elastic_net(features, targets, lam=lam, l1_ratio=1.0)
    assert solution.converged.all()
    difference = above(features, targets, solution, lam, 1.0)
    assert (np.abs(difference) < 1e-6).all()
    assert (np.asarray(solution.gap) / (0.5 * targets.var(0)) >= difference).all()


@pytest.mark.parametrize("scale_x, scale_y", [(1e-30, 1e30), (1e30, 1e30), (1e-20, 1e-10)])
def test_extreme_scales_of_float32_reach_the_optimum(scale_x, scale_y):
    features, targets = ((z * s).astype(np.float32) for z, s in ((X, scale_x), (Y, scale_y)))
    solution = jaxle.elastic_net(features, targets, lam=0.1 * scale_x * scale_y, l1_ratio=1.0)
    wide = features.astype(np.float64), targets.astype(np.float64)
    assert solution.converged.all()
    assert (np.abs(above(*wide, solution, 0.1 * scale_x * scale_y, 1.0)) < 1e-6).all()


def test_columns_of_every_scale_beside_each_other():
    """A ridge penalty that a tiny column meets leaves it nothing to explain."""
    scales = 10.0 ** RNG.integers(-30, 1, M)
    scales[:5] = 1.0
    features, targets = X * scales + 10 * scales, Y * [1.0, 1e-12, 30.0]
    solution = jaxle.elastic_net(features, targets, lam=0.05, l1_ratio=0.5)
    assert np.isfinite(solution.weights).all() and np.isfinite(solution.gap).all()
    for k in range(K):
        net = ElasticNet(alpha=0.05, l1_ratio=0.5, tol=1e-12, max_iter=10**5)
        centred = features - features.mean(0)
        best = net.fit(centred, targets[:, k]).coef_
        bias = targets[:, k].mean() - features.mean(0) @ best
        pair = [
            value(features, targets[:, [k]], w[:, None], [b], 0.05, 0.5)[0]
            for w, b in ((solution.weights[:, k], solution.bias[k]), (best, bias))
        ]
        assert pair[0] - pair[1] < 1e-6 * 0.5 * targets[:, k].var()


def test_the_result_is_wide_where_an_input_is_or_float32_could_not_hold_it():
    narrow = [z.astype(np.float32) for z in (X, Y)]
    plain = jaxle.elastic_net(*narrow, lam=0.1, l1_ratio=0.9)
    assert isinstance(plain.weights, jax.Array) and plain.bias.dtype == np.float32
    for features, targets in ((X, narrow[1]), (narrow[0], Y), (narrow[0] * 1e-30, narrow[1])):
        found = jaxle.elastic_net(features, targets, lam=0.1, l1_ratio=0.9)
        assert {part.dtype.name for part in found[:4]} == {"float64"}
    both = jaxle.elastic_net(
        X.astype(np.float32).astype(np.float64), narrow[1], lam=0.1, l1_ratio=0.9
    )
    for a, b in zip(plain, both, strict=True):
        np.testing.assert_array_equal(a, b)
    tiny = jaxle.elastic_net(narrow[0] * np.float32(1e30), narrow[1] * np.float32(1e-30),
                             lam=1e-3, l1_ratio=1.0)  # fmt: skip
    assert (np.abs(tiny.weights).max(0) < 1e-55).all()  # float32 would say 0


def test_constants_are_constant_at_any_offset_and_variation_is_none_of_them():
    features = np.column_stack([X[:, :5], np.full(N, 0.1), np.full(N, 1e30), X[:, 5] * 1e-7 + 3e5])
    solution = jaxle.elastic_net(features, features[:, [7]], lam=1e-18, l1_ratio=1.0)
    assert solution.weights[5, 0] == solution.weights[6, 0] == 0
    assert solution.weights[7, 0] == pytest.approx(1, abs=1e-3)
    still = jaxle.elastic_net(X, np.full((N, 2), [0.1, -3e20]), lam=0.1, l1_ratio=1.0)
    assert not still.weights.any() and still.converged.all()
    np.testing.assert_allclose(still.bias, [0.1, -3e20])


def test_integers_are_the_numbers_they_are():
    counts = (10 * X).astype(int)
    want = jaxle.elastic_net(counts.astype(float), Y, lam=0.1, l1_ratio=1.0)
    offset = counts.astype(np.int32) + 2**30
    for wide, scale in ((counts + 2**40, 1.0), (counts * 2**36, 2.0**36), (offset, 1.0)):
        found = jaxle.elastic_net(wide, Y, lam=0.1 * scale, l1_ratio=1.0)
        np.testing.assert_allclose(found.weights * scale, want.weights, rtol=1e-4, atol=1e-6)


def test_a_result_beyond_float64_is_refused():
    with pytest.raises(ValueError, match="of target 0 must be numbers that float64 holds: divide"):
        jaxle.elastic_net(X * 1e-300, Y * 1e300, lam=1e-3, l1_ratio=1.0)


def test_every_kind_of_array_gives_what_the_native_one_does():
    x, y = (np.round(8 * z).astype(np.float32) / 8 for z in (X, Y))
    want = jaxle.elastic_net(x, y, lam=0.1, l1_ratio=0.9)
    kinds = (
        lambda z: z.astype(">f4"),
        lambda z: z.astype(np.longdouble),
        lambda z: z.tolist(),
        lambda z: z.astype(np.float16),
        pd.DataFrame,
        scipy.sparse.csr_array,
        jnp.asarray,
    )
    for make in kinds:
        found = jaxle.elastic_net(make(x), make(y), lam=np.float32(0.1), l1_ratio=np.array(0.9))
        np.testing.assert_allclose(found.weights, want.weights, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.bias, want.bias, rtol=1e-5, atol=1e-6)
