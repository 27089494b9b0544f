"""Counted moments against float64 NumPy and the dense path: rare, empty and whole classes."""

import jax
import numpy as np
import pytest

from jaxle.concepts.labels import LabelConcepts
from jaxle.mesh import make_mesh
from jaxle.solve import counted
from jaxle.solve.counted import ByClass
from jaxle.solve.folds import fold_moments
from jaxle.solve.measure import measure
from jaxle.solve.moments import second_moments

RNG = np.random.default_rng(0)
N, CLASSES = 300, 9  # the last class has no image
MEMBERS = np.concatenate(
    [np.eye(CLASSES, dtype=np.uint8), RNG.integers(0, 2, (CLASSES, 4), np.uint8)], axis=1
)
LABELS = RNG.integers(0, CLASSES - 1, N)
BY_CLASS = ByClass(LABELS, MEMBERS)
Y = (RNG.normal(size=(N, 5)) * [1, 3, 1e-3, 1, 0] + [0, 100, 5, 0, 2]).astype(np.float32)


def expected(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a, b = x - x.mean(0), y - y.mean(0)
    return len(x), x.mean(0), y.mean(0), a.T @ a / len(x), a.T @ b / len(x), (b**2).mean(0)


def assert_equal(got, want, tolerance=1e-6):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
def test_equal_float64_whatever_the_blocks(monkeypatch, dtype):
    monkeypatch.setattr(counted, "BLOCK_BYTES", 0)  # 16 rows at a time
    monkeypatch.setattr(counted, "COLUMNS", 2)
    index = RNG.permutation(N)[:211]
    y = np.abs(Y).astype(dtype)
    got = second_moments(BY_CLASS, y, index)
    assert_equal(got, expected(MEMBERS[LABELS[index]], y[index]))
    assert all(part.dtype == np.float32 for part in got[1:])
    assert np.asarray(got.gram)[8].max() == 0 and np.asarray(got.cross)[8].max() == 0


def test_every_source_of_targets_counts_alike(tmp_path):
    np.save(tmp_path / "y.npy", Y)

    class Made:
        shape, dtype = Y.shape, Y.dtype

        def __getitem__(self, rows):
            return Y[rows]

    want = expected(MEMBERS[LABELS], Y)
    memory_map = np.load(tmp_path / "y.npy", mmap_mode="r")
    for targets in (Y, memory_map, jax.numpy.asarray(Y), Made()):
        assert_equal(second_moments(BY_CLASS, targets), want)


def test_one_class_alone_is_constant():
    got = second_moments(ByClass(np.zeros(N, np.int32), MEMBERS), Y)
    assert not np.asarray(got.gram).any()
    np.testing.assert_allclose(got.cross, 0, atol=1e-6)
    np.testing.assert_allclose(got.var_y, Y.astype(np.float64).var(0), rtol=1e-5)


def test_superclasses_stay_exact_sums_of_their_classes():
    labels = np.repeat([0, 1, 2], [99_990, 7, 3])  # a superclass of nearly all images
    members = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    y = RNG.normal(size=(len(labels), 2)).astype(np.float32)
    gram = np.asarray(second_moments(ByClass(labels, members), y).gram, np.float64)
    np.testing.assert_allclose(gram[3, 3], 3e-5 * (1 - 3e-5), rtol=1e-6)
    np.testing.assert_allclose(gram[3], -gram[2], rtol=1e-6)


def test_equal_the_dense_path_on_a_mesh_and_in_folds():
    train, val = np.arange(200), np.arange(200, N)
    for mesh in (None, make_mesh()):
        both = (
            fold_moments(features, Y, train, val, 3, mesh=mesh)
            for features in (BY_CLASS, BY_CLASS(np.arange(N)))
        )
        for got, want in zip(*map(jax.tree.leaves, both), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_label_concepts_are_measured_by_class():
    names = [f"class {k}" for k in range(CLASSES)]
    above = {"few": names[:2], "more": names[1:5]}
    matrix = LabelConcepts.make(LABELS.astype(np.int32), names, above)
    train, val = np.arange(200), np.arange(200, N)
    dense, by_class = (
        measure(matrix.rows, len(matrix.concepts), Y, train, val, min_top5=0.5, by_class=how)
        for how in (None, matrix.by_class)
    )
    assert dense.kept.tolist() == by_class.kept.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    for got, want in zip(*map(jax.tree.leaves, (by_class, dense)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    annotated = (["a"], np.ones((N, 1), np.uint8))
    assert LabelConcepts.make(None, (), annotations=annotated).by_class is None


def test_images_are_counted_once():
    with pytest.raises(ValueError, match="300 and 299 rows"):
        second_moments(BY_CLASS, Y[:-1])
    with pytest.raises(ValueError, match="at least one image"):
        second_moments(BY_CLASS, Y, np.array([], int))
