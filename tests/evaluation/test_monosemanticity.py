"""Monosemanticity and clarity against all pairs of images, and what a neuron without pairs gets."""

import numpy as np
import pytest

from jaxle.evaluation import monosemanticity as room
from jaxle.evaluation.monosemanticity import monosemanticity


def by_pairs(weights, unit):
    """Σ_{i≠j} w_i w_j ⟨e_i, e_j⟩ / Σ_{i≠j} w_i w_j, pair by pair, in float64."""
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0)
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0)
    return (pairs * cosines).sum() / pairs.sum()


def test_both_are_means_over_all_pairs(monkeypatch):
    monkeypatch.setattr(room, "_ROWS", 64)  # several tiles, the last one filled
    rng = np.random.default_rng(0)
    q, e = rng.standard_normal((150, 5)) * 3 + 100, rng.standard_normal((150, 6))
    unit = e / np.linalg.norm(e, axis=1, keepdims=True)
    found = monosemanticity(q, e * 7, top=9)
    for k in range(5):
        a = (q[:, k] - q[:, k].min()) / np.ptp(q[:, k])
        top = np.isin(np.arange(150), np.argsort(-q[:, k])[:9]).astype(float)
        np.testing.assert_allclose(found.monosemanticity[k], by_pairs(a, unit), atol=1e-6)
        np.testing.assert_allclose(found.clarity[k], by_pairs(top, unit), atol=1e-6)
    np.testing.assert_allclose(found.of_all_images, by_pairs(np.ones(150), unit), atol=1e-6)


def test_a_neuron_of_one_kind_of_image_scores_above_one_of_two_kinds():
    kinds = np.repeat(np.eye(4), 25, axis=0) + 0.1 * np.random.default_rng(1).random((100, 4))
    one, two = np.repeat([1.0, 0, 0, 0], 25), np.repeat([1.0, 1, 0, 0], 25)
    found = monosemanticity(np.stack([one, two], axis=1), kinds, top=20)
    assert found.monosemanticity[0] > 0.95
    assert 0.3 < found.monosemanticity[1] < 0.7
    assert 0.0 < found.of_all_images < 0.5


@pytest.mark.parametrize("scale, offset", [(1e-30, 0.0), (1e30, 0.0), (1.0, 1e8)])
def test_units_do_not_count(scale, offset):
    rng = np.random.default_rng(2)
    q, e = rng.random((80, 3)), rng.standard_normal((80, 4))
    plain, other = monosemanticity(q, e), monosemanticity(q * scale + offset, e)
    np.testing.assert_allclose(other.monosemanticity, plain.monosemanticity, atol=2e-5)
    np.testing.assert_allclose(other.clarity, plain.clarity, atol=1e-6)


def test_a_constant_neuron_and_one_that_fires_once_have_0():
    q = np.zeros((30, 2))
    q[4, 1] = 1.0
    found = monosemanticity(q, np.random.default_rng(3).standard_normal((30, 4)))
    np.testing.assert_array_equal(found.monosemanticity, 0)
    assert found.clarity[0] == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"embeddings": np.zeros((5, 3))}, "that of image 0 is 0"),
        ({"embeddings": np.ones((4, 3))}, "activations"),
        ({"top": 1}, "top must be a whole number of at least 2, got 1"),
        ({"top": 6}, "top must be at most the number of images, 5, got 6"),
        ({"activations": np.full((5, 2), np.nan)}, "activations must be finite"),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    given = {"activations": np.ones((5, 2)), "embeddings": np.ones((5, 3)), "top": 2, **change}
    with pytest.raises(ValueError, match=message):
        monosemanticity(**given)
