"""The public many-target elastic net against scikit-learn on raw columns."""

import numpy as np
import pytest
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
