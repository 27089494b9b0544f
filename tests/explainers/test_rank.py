"""The order of candidates against NumPy's lexsort, ties included, and blocks of neurons against all
at once."""

import numpy as np

from jaxle.explainers import rank
from jaxle.mesh import make_mesh
from jaxle.solve.moments import second_moments

RNG = np.random.default_rng(0)


def lexsorted(weights, gradient, pool):
    numbers = np.arange(len(weights))
    return np.stack(
        [
            np.lexsort((numbers, -gradient[:, k], -weights[:, k]))[:pool]
            for k in range(weights.shape[1])
        ]
    )


def test_orders_by_weight_then_signed_gradient_then_index():
    weights = RNG.choice([-0.5, -1e-7, 0, 0, 0, 0, 1e-7, 0.25, 0.25, 1], (60, 9)).astype(np.float32)
    gradient = RNG.choice([-0.05, -0.0, 0.0, 0.01, 0.05], (60, 9)).astype(np.float32)
    np.testing.assert_array_equal(
        rank.order(weights.T, gradient.T, 60, 60), lexsorted(weights, gradient + 0.0, 60)
    )
    gradient = np.where(
        weights == 0, gradient, 0.05 * np.sign(weights) + 0.001 * weights
    )  # at an optimum equal weights have equal gradients
    for pool in (25, 3):
        np.testing.assert_array_equal(
            rank.order(weights.T, gradient.T, pool, 60), lexsorted(weights, gradient + 0.0, pool)
        )


def test_a_pool_larger_than_the_set_is_the_whole_set():
    zero = np.zeros((2, 6), np.float32)  # padded
    assert rank.order(zero, zero - np.arange(6) // 4, 4, 4).tolist() == [[0, 1, 2, 3]] * 2


def test_blocks_and_devices_change_nothing():
    features = RNG.random((400, 30)).astype(np.float32)
    targets = (features @ RNG.normal(size=(30, 11)) + RNG.normal(size=(400, 11))).astype(np.float32)
    moments = second_moments(features, targets)
    whole = rank.candidates(moments, 0.05, 0.99, pool=20)
    assert whole.order.shape == (11, 20) and whole.converged.all() and (whole.support > 0).all()
    for other in (
        rank.candidates(moments, 0.05, 0.99, pool=20, block=4),
        rank.candidates(moments, 0.05, 0.99, pool=20, mesh=make_mesh()),
    ):
        np.testing.assert_array_equal(other.support, whole.support)
        for k in range(11):
            np.testing.assert_array_equal(
                other.order[k, : whole.support[k]], whole.order[k, : whole.support[k]]
            )
