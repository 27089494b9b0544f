"""Exact thresholds in pieces, against np.quantile."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.solve.quantile import BINS, PASSES, TopShare


def chosen(pieces, share, n_columns):
    found = TopShare(n_columns, share)
    for _ in range(PASSES):
        for values, real in pieces:
            found.add(jnp.asarray(values), real)
        found.close()
    return found.thresholds


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5, 0.9999])
def test_thresholds_are_those_of_numpy(share):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 8)).astype(np.float32)
    x[:, 1] = np.maximum(x[:, 1] - 2.8, 0)  # silent but for a few
    x[:, 2] = -3  # constant
    x[:, 3] = np.round(x[:, 3])  # ties
    x[:, 4] *= 1e30
    x[:, 5] = 1 + 1e-7 * np.arange(900)  # neighbours in float32
    x[:, 6] = np.where(np.arange(900) % 2, -0.0, 0.0)
    x[:, 7] -= 100
    pieces = [(x[start : start + 300], np.ones(300, bool)) for start in (600, 0, 300)]
    exact = np.quantile(x, 1 - share, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(chosen(pieces, share, 8), exact)
    assert ((x > exact).mean(0) <= share).all()


def test_rows_that_do_not_count_do_not():
    x = np.arange(20, dtype=np.float32)[:, None]
    pieces = [(x, x[:, 0] < 10)]
    assert chosen(pieces, 0.3, 1) == 6


def test_what_is_held_does_not_depend_on_the_rows():
    """A histogram a column, whatever was added."""
    found = TopShare(3, 0.005)

    def held():
        return {n: np.shape(v) for n, v in vars(found).items() if np.ndim(v)}

    before = held()
    for _ in range(5):
        found.add(jnp.ones((300, 3)), np.ones(300, bool))
    assert held() == before and max(np.prod(shape) for shape in before.values()) == 3 * BINS


def test_passes_that_differ_are_refused():
    found = TopShare(1, 0.1)
    with pytest.raises(ValueError, match="a pass gave 0 rows"):
        found.close()
    found = TopShare(1, 0.1)
    found.add(jnp.ones((300, 1)), np.ones(300, bool))
    found.close()
    found.add(jnp.ones((300, 1)), np.arange(300) < 299)
    with pytest.raises(ValueError, match="a pass gave 299 rows, the first one 300"):
        found.close()
