"""What is measured once for all layers: each layer's share equals what it would measure alone."""

import jax
import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import ridge
from jaxle.solve.measure import extremes, measure

TRAIN, VAL = np.arange(0, 600), np.arange(600, 750)


def measured(features, targets, **options):
    def rows(index, columns=slice(None)):
        return features[index][:, columns]

    options = {"min_top5": 0.0, "folds": 4} | options
    return measure(rows, features.shape[1], targets, TRAIN, VAL, **options)


@pytest.fixture(scope="module")
def layers(problems):
    """Concepts, one of them constant, and three layers side by side."""
    features, targets = problems.similar(n_neurons=20)
    features = features.copy()
    features[:, 4] = 0.25
    return features, targets


def test_some_neurons_are_what_they_would_measure_alone(layers):
    features, targets = layers
    everyone = measured(features, targets)
    assert everyone.kept.tolist() == [j for j in range(30) if j != 4]
    for index in (slice(0, 7), slice(7, 20), np.array([19, 3])):
        some, alone = everyone.neurons(index), measured(features, targets[:, index])
        assert some.train.cross.shape == (29, len(np.arange(20)[index]))
        for a, b in zip(jax.tree.leaves(some[1:5]), jax.tree.leaves(alone[1:5]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        assert some.spectrum is everyone.spectrum and some.train.gram is everyone.train.gram
    assert everyone.neurons(slice(0, 20)).train is everyone.train


def test_without_folds_there_are_two_image_sets_only(layers):
    got = measured(*layers, folds=0)
    assert got.folds == () and got.total is None and got.spectrum is None
    assert (got.train.n, got.val.n) == (600, 150)
    part = got.neurons(slice(3, 5))
    np.testing.assert_array_equal(part.val.cross, np.asarray(got.val.cross)[:, 3:5])
    assert part.total is None


def test_folds_sum_to_the_total_whose_spectrum_it_is(layers):
    got = measured(*layers)
    assert sum(fold.n for fold in got.folds) == got.total.n == 750 and len(got.folds) == 4
    inverse = 1 / np.sqrt(np.diagonal(got.total.gram))
    gram = np.asarray(got.total.gram, np.float64) * inverse[:, None] * inverse[None, :]
    values, vectors = got.spectrum[:2]
    np.testing.assert_allclose(vectors * values @ vectors.T, gram, atol=1e-5)


def test_a_teacher_with_the_spectrum_at_hand_equals_one_without(layers):
    got = measured(*layers).neurons(slice(2, 9))
    known, alone = ridge.teach(got.total, known=got.spectrum), ridge.teach(got.total)
    for a, b in zip(*map(jax.tree.leaves, (known, alone)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_from_a_file_and_on_a_mesh_it_is_the_same(layers):
    got = measured(*layers)
    arrays = jax.tree.map(lambda x: x if isinstance(x, int) else np.asarray(x), got)
    again = arrays.on_device()
    assert isinstance(again.folds[0].gram, jax.Array) and again.folds[0].n == got.folds[0].n
    for other in (again, measured(*layers, mesh=make_mesh())):
        for a, b in zip(jax.tree.leaves(got[:5]), jax.tree.leaves(other[:5]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_concept_left_is_one_sentence(layers):
    features, targets = layers
    with pytest.raises(ValueError, match="none of the 30 concepts passes screening on 600 train"):
        measured(features, targets, min_top5=1.0)
    with pytest.raises(ValueError, match="on .* train images: none varies there"):
        measured(np.full_like(features, 0.5), targets)


def test_the_extremes_is_over_all_images_whatever_their_kind(layers, monkeypatch):
    monkeypatch.setattr("jaxle.arrays.READ_BYTES", 4 * 20 * 100)
    _, targets = layers
    for kind in (np.float32, np.float16):
        values = targets.astype(kind)
        np.testing.assert_array_equal(extremes(values), [values.min(0), values.max(0)])
