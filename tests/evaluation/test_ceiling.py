"""The ceiling: above ridge where few concepts carry a neuron, and no search above it."""

import functools

import numpy as np
import pytest

import jaxle
import jaxle.evaluation.ceiling as room
from jaxle.data.splits import make_split
from jaxle.evaluation.ceiling import ceiling, dense
from jaxle.explanations import Explanation
from jaxle.solve.measure import measure

NAMES = [f"c{j}" for j in range(200)]


@pytest.fixture(scope="module", autouse=True)
def solved_once():
    """The two fits of the same moments, which no explanation enters, are made once."""
    made = {}

    def once(name, fit, measured, *mesh):
        if (name, id(measured)) not in made:
            made[name, id(measured)] = measured, fit(measured, *mesh)
        return made[name, id(measured)][1]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("dense", "sparse"):
            patch.setattr(room, name, functools.partial(once, name, getattr(room, name)))
        yield


@pytest.fixture(scope="module")
def planted():
    """Two concepts of 200 carry each of 20 neurons, half of the variance; the last is constant."""
    rng = np.random.default_rng(0)
    x = (rng.random((1500, 200)) < 0.3).astype(np.float32)
    pairs = np.stack([rng.choice(200, 2, replace=False) for _ in range(20)])
    y = x[:, pairs].sum(axis=2)
    y = (y + y.std() * rng.normal(size=y.shape)).astype(np.float32)
    y[:, 19] = 1.0
    split = make_split(1500, 0)
    measured = measure(rows_of(x), 200, y, split.train, split.val, min_top5=0)
    return x, y, pairs, split, measured


def rows_of(x):
    return lambda index, columns=slice(None): x[index][:, columns]


def on_test(explanations, x, y, split):
    return jaxle.correlation(jaxle.simulate(explanations, x, NAMES)[split.test], y[split.test])


def test_reaches_the_planted_optimum_where_ridge_does_not(planted):
    x, y, pairs, split, measured = planted
    found = ceiling(measured, rows_of(x), y, split.test)
    ridge = dense(measured)
    rho = jaxle.correlation(x[split.test] @ ridge.weights, y[split.test])
    optimum = jaxle.correlation(x[split.test][:, pairs].sum(axis=2), y[split.test])
    assert found[19] == 0 and rho[:19].mean() < optimum[:19].mean() - 0.08
    assert found[:19].mean() > optimum[:19].mean() - 0.03
    greedy = jaxle.explain(y, x, NAMES, split=split, min_top5=0)
    error = (1 - found**2) / np.sqrt(len(split.test))
    assert (on_test(greedy, x, y, split) < found + 2.5 * error)[:19].all()


def test_explanations_count_where_they_are_better_by_more_than_noise(planted):
    x, y, pairs, split, measured = planted
    truth = [
        Explanation(k, (NAMES[i], NAMES[j]), (1.0, 1.0), 0.0) for k, (i, j) in enumerate(pairs)
    ]
    wrong = [Explanation(k, ("c0", "c1"), (1.0, 1.0), 0.0) for k in range(20)]
    unknown = [Explanation(k, ("nowhere",), (1.0,), 0.0) for k in range(20)]
    args = measured, rows_of(x), y, split.test, NAMES
    alone, some, none = (ceiling(*args, found) for found in ([], [truth], [wrong, unknown]))
    np.testing.assert_array_equal(alone, none)
    # the elastic net is near the truth already: few explanations are better beyond noise
    assert (some >= alone - 1e-6).mean() > 0.9
