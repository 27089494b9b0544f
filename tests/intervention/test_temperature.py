"""The temperature: where Newton's method ends, and what is defined where no temperature is best."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxle.intervention.temperature import LEAST, MOST, fit_temperature


@pytest.fixture
def predictions():
    """Logits three times too sharp for the labels drawn from them."""
    draw = np.random.default_rng(0)
    logits = 2 * draw.standard_normal((4000, 7))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < draw.random((4000, 1))).sum(1)
    return 3 * logits, labels


def loss(logits, labels, temperature):
    z = logits / temperature
    return (
        np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(z)), labels]
    ).mean()


def test_two_classes_in_closed_form():
    """Logits (1, 0), right in 3 of 4 images: σ(1 / T) = 3/4, so T = 1 / log 3."""
    found = fit_temperature(np.tile([[1.0, 0.0]], (4, 1)), np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(found.value, 1 / np.log(3), rtol=1e-12)
    assert not found.capped and found.evaluations < 12


def test_it_is_the_best_of_all_temperatures(predictions):
    found = fit_temperature(*predictions)
    best = minimize_scalar(
        lambda t: loss(*predictions, t),
        bounds=(0.1, 10),
        method="bounded",
        options={"xatol": 1e-10},
    )
    np.testing.assert_allclose(found.value, best.x, rtol=1e-6)
    np.testing.assert_allclose(found.loss, best.fun, rtol=1e-12)
    assert abs(found.value - 3) < 0.15


def test_scale_and_shift_of_the_logits(predictions):
    logits, labels = predictions
    expected = fit_temperature(logits, labels).value
    np.testing.assert_allclose(
        fit_temperature(2 * logits + 100, labels).value, 2 * expected, rtol=1e-9
    )
    assert abs(fit_temperature(logits.astype(np.float32), labels).value - expected) < 1e-5


def test_defined_where_no_temperature_is_best():
    eye = np.eye(3)
    perfect, wrong, flat = (
        fit_temperature(z, np.arange(3)) for z in (9 * eye, -9 * eye, 0 * eye + 2)
    )
    assert (perfect.value, perfect.capped) == (LEAST, True)
    assert (wrong.value, wrong.capped) == (MOST, True)
    assert (flat.value, flat.capped) == (1.0, False)
    assert np.isfinite([perfect.loss, wrong.loss, flat.loss]).all()
    assert fit_temperature(9 * eye[:1], np.zeros(1, int)).capped


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), None, "need labels"),
        (np.zeros((3, 2)), np.zeros(2, int), "must be 3 whole numbers"),
        (np.zeros((3, 2)), np.array([0, 1, 2]), "from 0 to 1; got 0 to 2"),
        (np.zeros((3, 2)), np.zeros(3), "must be 3 whole numbers"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "must be finite"),
        (np.zeros(3), np.zeros(3, int), "logits must be a non-empty array"),
    ],
)
def test_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)
