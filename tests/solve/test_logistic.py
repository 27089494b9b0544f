import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxle.solve import logistic


def tiles_of(x, y, rows=37):
    def tiles():
        for start in range(0, len(x), rows):
            yield (
                jnp.asarray(x[start : start + rows], jnp.float32),
                jnp.asarray(y[start : start + rows], jnp.float32),
            )

    return tiles


def draw(slope, intercept, mean=0.1, std=0.05, shape=(500, 20), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, std, shape).astype(np.float32)
    y = rng.random(shape) < 1 / (1 + np.exp(-(slope * x.astype(np.float64) + intercept)))
    return x, y


def loss(x, y, slope, intercept):
    z = slope * x.astype(np.float64) + intercept
    return np.mean(np.logaddexp(0, np.where(y, -z, z)))


CASES = {
    "siglip": dict(slope=60.0, intercept=-8.0),
    "clip": dict(slope=58.0, intercept=-14.5, mean=0.2, std=0.03),
    "cosines a hundredth": dict(slope=6000.0, intercept=-12.0, mean=0.001, std=0.0005),
    "cosines of thousands": dict(slope=0.001, intercept=-4.0, mean=2000.0, std=900.0),
    "negative slope": dict(slope=-40.0, intercept=1.0),
    "noise": dict(slope=0.0, intercept=-2.0),
    "rare and strong": dict(slope=150.0, intercept=-35.0, mean=0.05, std=0.06),
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_scikit_learn(case):
    x, y = draw(**CASES[case])
    fitted = logistic.fit(tiles_of(x, y))
    assert fitted.converged and fitted.evaluations <= 12
    unit, mean = x.std(), x.mean()
    other = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(
        ((x - mean) / unit).reshape(-1, 1).astype(np.float64), y.ravel()
    )
    slope = other.coef_[0, 0] / unit
    intercept = other.intercept_[0] - slope * mean
    assert loss(x, y, fitted.slope, fitted.intercept) <= loss(x, y, slope, intercept) * (1 + 1e-6)
    spread = 1 / (unit * np.sqrt(x.size))
    np.testing.assert_allclose(
        [fitted.slope, fitted.intercept], [slope, intercept], rtol=2e-3, atol=2e-2 * spread
    )
    np.testing.assert_allclose(fitted.loss, loss(x, y, fitted.slope, fitted.intercept), rtol=1e-5)
    np.testing.assert_allclose(
        logistic.loss(tiles_of(x, y), fitted.slope, fitted.intercept), fitted.loss, rtol=1e-5
    )


def test_the_gradient_is_zero_at_the_end():
    x, y = draw(**CASES["siglip"])
    fitted = logistic.fit(tiles_of(x, y))
    residual = 1 / (1 + np.exp(-(fitted.slope * x.astype(np.float64) + fitted.intercept))) - y
    assert abs(residual.mean()) < 1e-5 and abs((residual * (x - x.mean()) / x.std()).mean()) < 1e-5


def test_tiles_may_be_cut_anywhere():
    x, y = draw(**CASES["siglip"])
    one, other = logistic.fit(tiles_of(x, y, 500)), logistic.fit(tiles_of(x, y, 7))
    np.testing.assert_allclose(
        [one.slope, one.intercept], [other.slope, other.intercept], rtol=1e-4
    )


def test_a_start_that_overshoots_falls_back():
    """Labels almost all alike, one far outlier: the linear discriminant is worse than slope 0."""
    x = np.concatenate([np.full((200, 5), 0.1), np.full((1, 5), 50.0)]).astype(np.float32)
    x += np.random.default_rng(0).normal(0, 0.01, x.shape).astype(np.float32)
    y = np.zeros(x.shape, bool)
    y[-1], y[:20, 0] = True, True
    fitted = logistic.fit(tiles_of(x, y))
    assert fitted.loss <= loss(x, y, 0, np.log(y.mean() / (1 - y.mean())))


def test_separated_groups_are_reported():
    x = np.linspace(-1, 1, 200).reshape(20, 10)
    fitted = logistic.fit(tiles_of(x, x > 0))
    assert (
        not fitted.converged
        and fitted.loss < 1e-3
        and np.isfinite([fitted.slope, fitted.intercept]).all()
    )


def test_a_constant_gets_slope_zero():
    y = np.arange(40).reshape(8, 5) % 4 == 0
    fitted = logistic.fit(tiles_of(np.full((8, 5), 0.3), y))
    assert fitted.slope == 0 and fitted.converged
    np.testing.assert_allclose(fitted.intercept, np.log(0.25 / 0.75), rtol=1e-5)


def test_one_label_only_is_refused():
    with pytest.raises(ValueError, match="needs both labels, got 0 ones among 40 pairs"):
        logistic.fit(tiles_of(np.zeros((8, 5)), np.zeros((8, 5))))
    with pytest.raises(ValueError, match="at least one pair, got none"):
        logistic.fit(lambda: iter(()))
