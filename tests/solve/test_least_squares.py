"""The recursion against lstsq on the images: every candidate's correlation, dependence, refit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.solve import least_squares
from jaxle.solve.moments import second_moments


@pytest.fixture(scope="module")
def halves(problems):
    features, targets = problems.one_hot(n=700)
    return (
        features,
        targets,
        second_moments(features[:500], targets[:500]),
        second_moments(features[500:], targets[500:]),
    )


def by_images(features, targets, columns, k):
    """Weights, bias and validation correlation by lstsq in float64."""
    x, y = np.asarray(features, np.float64)[:, columns], np.asarray(targets, np.float64)[:, k]
    beta = np.linalg.lstsq(np.column_stack([x[:500], np.ones(500)]), y[:500], rcond=None)[0]
    s = x[500:] @ beta[:-1]
    return beta[:-1], beta[-1], np.corrcoef(s, y[500:])[0, 1] if s.std() > 0 else 0.0


def test_every_step_gives_each_candidates_validation_correlation(halves):
    features, targets, train, val = halves
    index = jnp.tile(jnp.arange(30, dtype=jnp.int32)[None], (7, 1))
    pool = least_squares.start(train, val, jnp.arange(7, dtype=jnp.int32), index, 4)
    chosen = [[] for _ in range(7)]
    for step in range(4):
        rho = np.asarray(least_squares.val_correlations(pool))
        for k in range(7):
            for j in set(range(30)) - set(chosen[k]):
                if np.isfinite(rho[k, j]):
                    assert (
                        abs(rho[k, j] - by_images(features, targets, [*chosen[k], j], k)[2]) < 1e-5
                    )
        place = jnp.asarray([(5 * k + 7 * step) % 20 for k in range(7)], jnp.int32)
        for k in range(7):
            chosen[k].append(int(place[k]))
        pool = least_squares.choose(pool, train.gram, val.gram, place, step, jnp.ones(7, bool))


def test_a_concept_that_is_the_sum_of_those_chosen_is_dependent_and_an_inactive_neuron_stays(
    halves,
):
    _, _, train, val = halves
    index = jnp.tile(
        jnp.asarray([[0, 1, 20, 2]], jnp.int32), (7, 1)
    )  # concept 20 is the sum of 0 and 1
    pool = least_squares.start(train, val, jnp.arange(7, dtype=jnp.int32), index, 2)
    active = jnp.arange(7) != 3
    for step in range(2):
        pool = least_squares.choose(
            pool, train.gram, val.gram, jnp.full(7, step, jnp.int32), step, active
        )
    rho = np.asarray(least_squares.val_correlations(pool))
    assert np.isneginf(rho[active][:, [0, 1, 2]]).all() and np.isfinite(rho[:, 3]).all()
    np.testing.assert_array_equal(pool.var[3], 1.0)


def test_the_refit_equals_lstsq_and_nothing_chosen_predicts_the_mean(halves):
    features, targets, train, val = halves
    selected = np.array(
        [[0, 25, 7], [3, -1, -1], [-1, -1, -1], [9, 2, -1], [1, 0, 21], [28, 29, 5], [4, 5, 6]],
        np.int32,
    )
    weights, bias, rho = least_squares.refit(train, val, selected)
    assert weights.dtype == np.float64
    for k, row in enumerate(selected):
        used = row >= 0
        want = by_images(features, targets, row[used], k)
        np.testing.assert_allclose(weights[k, used], want[0], rtol=1e-4, atol=1e-5)
        assert not weights[k, ~used].any()
        assert abs(bias[k] - want[1]) < 1e-5 and abs(rho[k] - want[2]) < 1e-5
