"""Dense ridge against its normal equations, scikit-learn, and its two limits."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxle.mesh import make_mesh
from jaxle.solve import ridge, spectrum
from jaxle.solve.moments import correlate, second_moments


def test_equals_scikit_learn_at_the_strength_of_best_validation_correlation(problems):
    features, targets = problems.similar()
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    train, val = np.arange(600), np.arange(600, 900)
    dense = ridge.solve(
        second_moments(features, targets, train), second_moments(features, targets, val)
    )
    mean, std = features[train].mean(0), features[train].std(0)
    for k in range(7):
        rho = {}
        for strength in ridge.STRENGTHS:
            model = Ridge(alpha=strength * len(train)).fit(
                (features[train] - mean) / std, targets[train, k]
            )
            rho[strength] = np.corrcoef(
                model.predict((features[val] - mean) / std), targets[val, k]
            )[0, 1]
        assert abs(max(rho.values()) - dense.val_correlation[k]) < 1e-5
        assert (
            rho[max(rho, key=lambda s: -abs(s - float(dense.strength[k])))]
            > max(rho.values()) - 1e-5
        )
    streamed = correlate(features, targets, dense.weights, dense.bias, val, tile_rows=70)
    np.testing.assert_allclose(streamed, dense.val_correlation, atol=1e-5)


def test_limits_are_least_squares_and_the_mean(problems):
    features, targets = problems.similar()
    moments = second_moments(features, targets)
    free, bound = ridge.solve(moments, moments, (1e-4,)), ridge.solve(moments, moments, (1e6,))
    design = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    fitted = design @ np.linalg.lstsq(design, targets.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(
        features @ np.asarray(free.weights) + np.asarray(free.bias), fitted, atol=2e-2
    )
    np.testing.assert_allclose(bound.bias, targets.mean(0), atol=1e-4)


def test_constant_columns_and_dead_neurons_have_weight_zero(problems):
    features, targets = problems.one_hot()
    features[:, 3], targets[:, 2] = 0.1, 4.0
    dense = ridge.solve(
        second_moments(features[:600], targets[:600]), second_moments(features[600:], targets[600:])
    )
    assert not np.asarray(dense.weights)[3].any() and not np.asarray(dense.weights)[:, 2].any()
    assert dense.val_correlation[2] == 0 and np.isfinite(dense.weights).all()


@pytest.mark.parametrize("strengths", [(), (0.0, 1.0)])
def test_strengths_must_be_positive(problems, strengths):
    moments = second_moments(*problems.similar())
    with pytest.raises(ValueError, match="positive"):
        ridge.solve(moments, moments, strengths)


def test_the_teacher_is_ridge_at_the_strength_of_least_gcv(problems):
    features, targets = problems.similar()
    x, y = problems.standardised(features, targets)
    teacher = ridge.teach(second_moments(features, targets))
    fits, traces, gcv = [], [], []
    for strength in ridge.STRENGTHS:
        hat = x @ np.linalg.solve(x.T @ x / 900 + strength * np.eye(30), x.T) / 900
        fits.append(hat @ y)
        traces.append(np.trace(hat))
        error = np.mean((y - fits[-1]) ** 2, axis=0)
        gcv.append(error / (1 - (1 + traces[-1]) / 900) ** 2)
    for k, best in enumerate(np.argmin(gcv, axis=0)):
        assert teacher.strength[k] == pytest.approx(ridge.STRENGTHS[best])
        assert teacher.freedom[k] == pytest.approx(traces[best], rel=1e-4)
        cross, var = np.asarray(teacher.aim.cross)[:, k], float(teacher.aim.var[k])
        fit, size = fits[best][:, k], targets[:, k].std()
        expected = (features - features.mean(axis=0)).T @ fit / 900 * size
        np.testing.assert_allclose(cross, expected, atol=1e-5 * size)
        assert var == pytest.approx(np.var(fit) * size**2, rel=1e-4)


def test_the_teacher_with_more_concepts_than_images_constant_columns_and_dead_neurons(problems):
    features, targets = problems.one_hot(n=21)
    features[:, 3], targets[:, 2] = 0.1, 4.0
    teacher = ridge.teach(second_moments(features, targets))
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(teacher))
    cross = np.asarray(teacher.aim.cross)
    assert not cross[3].any() and not cross[:, 2].any() and teacher.aim.var[2] == 0
    assert (np.asarray(teacher.freedom) + 1 <= ridge.MOST_FREEDOM * 21).all()
    few = ridge.teach(
        second_moments(features[:2], targets[:2])
    )  # no strength qualifies: the largest
    assert np.isfinite(few.aim.cross).all() and np.allclose(few.strength, ridge.STRENGTHS[-1])


def test_the_teacher_on_one_device_equals_eight_and_blocks(problems):
    moments = second_moments(*problems.similar(n_neurons=11))
    one, eight, blocks = (
        ridge.teach(moments),
        ridge.teach(moments, mesh=make_mesh()),
        ridge.teach(moments, block=4),
    )
    for a, b, c in zip(*map(jax.tree.leaves, (one, eight, blocks)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)


def test_at_the_strengths_of_the_teacher_it_is_the_teacher(problems):
    moments = second_moments(*problems.similar())
    known = ridge.spectrum(moments)
    teacher = ridge.teach(moments, known=known)
    for a, b in zip(ridge.smooth(moments, teacher.strength, known), teacher.aim, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_of_many_concepts_the_leading_directions_are_enough(problems, monkeypatch):
    """Against all directions: strengths, predictions, and degrees of freedom."""
    moments = second_moments(*problems.similar(n_concepts=198))
    whole = ridge.spectrum(moments)
    monkeypatch.setattr(spectrum, "FULL", 100)
    monkeypatch.setattr(spectrum, "RANK", 60)
    known = ridge.spectrum(moments)
    assert known.vectors.shape == (198, 60) and known.counts.sum() == pytest.approx(138)
    np.testing.assert_allclose(known.values[-20:], whole.values[-20:], rtol=1e-3)
    grid = np.asarray(ridge.STRENGTHS)
    np.testing.assert_allclose(known.freedom(grid), whole.freedom(grid), rtol=0.02)
    exact, mine = ridge.teach(moments, known=whole), ridge.teach(moments, known=known)
    # in a grid of half powers of ten, and never less ridge
    assert np.log10(mine.strength / exact.strength).max() < 0.6
    assert (mine.strength >= exact.strength).all()
    both = (ridge.smooth(moments, exact.strength, one) for one in (whole, known))
    for a, b, tol in zip(*both, (0.01, 0.03), strict=True):
        assert np.linalg.norm(a - b) < tol * np.linalg.norm(a)


def test_concepts_that_depend_on_one_another_have_no_tail(problems, monkeypatch):
    features, targets = problems.similar()
    moments = second_moments(np.tile(features, (1, 5)), targets)
    whole = ridge.spectrum(moments)
    monkeypatch.setattr(spectrum, "FULL", 100)
    monkeypatch.setattr(spectrum, "RANK", 60)
    known = ridge.spectrum(moments)
    assert known.vectors.shape == (150, 30) and not len(known.tail) and known.rest == 0
    exact, mine = ridge.teach(moments, known=whole), ridge.teach(moments, known=known)
    np.testing.assert_array_equal(exact.strength, mine.strength)
    np.testing.assert_allclose(exact.aim.cross, mine.aim.cross, atol=1e-5)
