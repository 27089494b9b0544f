"""Neurons that are explained alike: exact nearest ones, a map that holds groups together."""

import numpy as np
import pytest

from jaxle.report.alike import BLOCK, NEAREST, equal_steps, find_alike

RNG = np.random.default_rng(0)


def groups(n_groups=4, each=12, images=200):
    """Simulated activations of neurons in groups that predict nearly the same."""
    centres = RNG.standard_normal((images, n_groups))
    return np.repeat(centres, each, axis=1) + 0.2 * RNG.standard_normal((images, n_groups * each))


def test_nearest_are_those_of_largest_correlation():
    simulated = groups().astype(np.float32)
    found = find_alike(simulated)
    wanted = np.corrcoef(simulated.T.astype(np.float64))
    np.fill_diagonal(wanted, -2)
    order = np.argsort(-wanted, axis=1)[:, :NEAREST]
    np.testing.assert_array_equal(found.nearest, order)
    np.testing.assert_allclose(
        found.correlation, np.take_along_axis(wanted, order, axis=1), atol=1e-5
    )


def test_blocks_change_nothing(monkeypatch):
    simulated = groups()
    whole = find_alike(simulated)
    monkeypatch.setattr("jaxle.report.alike.BLOCK", 7)
    assert BLOCK != 7
    np.testing.assert_array_equal(find_alike(simulated).nearest, whole.nearest)


def test_the_map_keeps_a_group_together_and_is_the_same_each_time():
    simulated = groups()
    found = find_alike(simulated, seed=3)
    assert np.array_equal(found.place, find_alike(simulated, seed=3).place)
    assert found.place.min() >= 0 and found.place.max() <= 1
    group = np.repeat(np.arange(4), 12)
    away = np.linalg.norm(found.place[:, None] - found.place[None], axis=2)
    np.fill_diagonal(away, np.inf)
    assert np.mean(group[away.argmin(axis=1)] == group) > 0.9


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_neurons(n):
    found = find_alike(groups(1, n))
    assert found.place.shape == (n, 2) and np.isfinite(found.place).all()
    assert (found.nearest[:, n - 1 :] == -1).all()
    assert all(k not in found.nearest[k] for k in range(n))


def test_a_constant_prediction_is_like_nothing():
    simulated = groups(1, 4)
    simulated[:, 2] = 1e6
    found = find_alike(simulated)
    assert np.isnan(found.place[2]).all() and (found.nearest[2] == -1).all()
    assert 2 not in found.nearest and np.isfinite(found.place[[0, 1, 3]]).all()
    nothing = find_alike(np.ones((5, 3)))
    assert np.isnan(nothing.place).all() and (nothing.nearest == -1).all()


@pytest.mark.parametrize("n", [1001, 1500, 1999, 4000])
def test_images_are_drawn_from_all_of_them(n):
    simulated = np.zeros((n, 3))
    simulated[n - n // 4 :] = RNG.standard_normal((n // 4, 3))
    assert np.isfinite(find_alike(simulated).place).all()
    some = equal_steps(n, 1000)
    assert len(some) == 1000 and some[0] == 0 and some[-1] == n - 1
    assert len(equal_steps(7, 1000)) == 7 and len(equal_steps(0, 5)) <= 1
