import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.stats import is_constant, pearson, standardise


def test_closed_form():
    a = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    b = jnp.array([[2.0, 3.0], [4.0, 2.0], [6.0, 1.0]])
    np.testing.assert_allclose(pearson(a, b), [1.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1e-6, 0.0), (1e6, 0.0), (-3.0, 100.0)])
def test_agrees_with_numpy_at_any_scale(scale, shift):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 5))
    b = 0.5 * a + rng.normal(size=(500, 5))
    expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] * np.sign(scale) for k in range(5)]
    got = pearson(jnp.asarray(a * scale + shift, jnp.float32), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -7.3])
def test_constant_columns_score_zero(value):
    a = jnp.full((999, 1), value, jnp.float32)
    b = jnp.arange(999, dtype=jnp.float32)[:, None]
    assert pearson(a, b)[0] == 0 and pearson(b, a)[0] == 0
    z, _, std = standardise(a)
    assert std[0] == 0 and not z.any()


def test_one_row_scores_zero():
    assert pearson(jnp.ones((1, 3)), jnp.ones((1, 3))).tolist() == [0, 0, 0]


def test_standardise_near_constant_column_keeps_its_sign_and_unit_variance():
    x = jnp.asarray(1000 + 0.01 * np.random.default_rng(0).normal(size=(4096, 1)), jnp.float32)
    z, mean, std = standardise(x)
    np.testing.assert_allclose(np.std(np.asarray(z), axis=0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(mean, 1000, rtol=1e-5)


def test_one_definition_of_a_constant_column_is_free_of_scale_and_of_the_kind_of_array():
    """Constant is meant relative to the mean, not to a unit or to the largest value."""
    std, mean = np.array([0.0, 2e-7, 2e-7, 1e-5, 1e-30]), np.array([0.0, 0.5, 0.1, -3.0, 0.0])
    for scale in (1e-6, 1.0, 1e6):
        for array in (np.asarray, jnp.asarray):
            got = is_constant(array(std * scale), array(mean * scale))
            assert got.tolist() == [True, True, False, False, False]


def test_a_single_spike_on_a_constant_counts_as_variation():
    x = np.full((4096, 1), 0.5, np.float32)
    x[7] = 0.51
    assert standardise(jnp.asarray(x))[2][0] == pytest.approx(x.astype(np.float64).std(), rel=1e-3)
