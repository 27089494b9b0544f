"""What counts as a dead neuron: it depends on whether the layer lies behind a rectifier."""

import numpy as np
import pytest

import jaxle

NAMES = [f"c{j}" for j in range(8)]
RNG = np.random.default_rng(0)
PROBS = (RNG.random((600, 8)) < 0.3).astype(np.float32)


def flags(activations):
    return jaxle.explain(activations.astype(np.float32), PROBS, NAMES).flags.tolist()


def test_behind_a_rectifier_a_neuron_below_the_threshold_is_dead():
    fires = np.maximum(PROBS[:, 0] + 0.2 * RNG.normal(size=600), 0)
    assert flags(np.stack([fires, 0.009 * PROBS[:, 1], 0 * fires], 1)) == ["", "dead", "dead"]


@pytest.mark.parametrize("function, least", [("gelu", -0.17), ("silu", -0.28)])
def test_smooth_rectifiers_are_rectifiers(function, least):
    x = 4 * PROBS[:, :1] - 2 + RNG.normal(size=(600, 3))
    x[:, 1] -= 30  # never on
    y = x / (1 + np.exp(-x)) if function == "silu" else x * _normal(x)
    assert least - 0.01 < y.min() < least + 0.01
    assert flags(y) == ["", "dead", ""]


def test_before_a_rectifier_a_neuron_of_negative_activations_is_explained():
    """Such channels of a convolution or a residual stream were called dead by their sign."""
    always_negative = -3 + PROBS[:, 0] + 0.1 * RNG.normal(size=600)
    signed = PROBS[:, 1] - 0.5 + 0.1 * RNG.normal(size=600)
    constant = np.full(600, -2.0)
    found = jaxle.explain(
        np.stack([always_negative, signed, constant], 1).astype(np.float32), PROBS, NAMES
    )
    assert found.flags.tolist() == ["", "", "dead"]
    assert found[0].concepts == ("c0",) and found[0].val_correlation > 0.9


def test_small_activations_of_both_signs_are_not_dead():
    small = 0.004 * (PROBS[:, 0] - 0.5)
    assert flags(np.stack([small, -small], 1)) == ["", ""]


def _normal(x):
    from scipy.special import ndtr

    return ndtr(x)
