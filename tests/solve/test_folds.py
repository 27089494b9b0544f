"""Fold moments against moments of each part from the images, and against NumPy."""

import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import folds
from jaxle.solve.moments import merge, second_moments


def same(got, want):
    assert got.n == want.n
    for a, b in zip(got[1:], want[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_train_val_and_folds_are_the_moments_of_their_images_and_sum_to_the_whole(problems):
    features, targets = problems.similar()
    rows = np.random.default_rng(1).permutation(900)
    train, val = rows[:703], rows[703:800]
    got = folds.fold_moments(features, targets, train, val, seed=3)
    same(got.train, second_moments(features, targets, train))
    same(got.val, second_moments(features, targets, val))
    parts = zip(folds.assign(train, 5, 3), folds.assign(val, 5, 3)[::-1], strict=True)
    for fold, (a, b) in zip(got.folds, parts, strict=True):
        index = np.concatenate([a, b])
        same(fold, second_moments(features, targets, index))
        np.testing.assert_allclose(
            fold.cross, np.cov(features[index].T, targets[index].T, bias=True)[:30, 30:], atol=1e-5
        )
    same(merge(list(got.folds)), second_moments(features, targets, rows[:800]))


def test_every_image_is_read_once(problems):
    features, targets = problems.similar()
    read = []

    def rows(index):
        read.extend(np.unique(index))  # a tile's padding repeats its last image
        return features[index]

    folds.fold_moments(rows, targets, np.arange(500), np.arange(600, 690))
    counts = np.bincount(read, minlength=900)
    counts[0] -= 1  # the first image is asked how many columns there are
    assert (counts[:500] == 1).all() and (counts[600:690] == 1).all() and counts.sum() == 590


@pytest.mark.parametrize("n", [2, 5, 7, 500])
def test_parts_differ_by_one_image_at_most_and_are_drawn_by_the_seed(n):
    rows = np.arange(100, 100 + n)
    parts = folds.assign(rows, 5, 0)
    assert (
        sorted(np.concatenate(parts)) == rows.tolist()
        and np.ptp([len(part) for part in parts]) <= 1
    )
    assert all((np.diff(part) > 0).all() for part in parts)
    assert all(np.array_equal(a, b) for a, b in zip(parts, folds.assign(rows, 5, 0), strict=True))
    if n == 500:
        assert not all(
            np.array_equal(a, b) for a, b in zip(parts, folds.assign(rows, 5, 1), strict=True)
        )


def test_fewer_images_than_folds(problems):
    features, targets = problems.similar()
    got = folds.fold_moments(features, targets, np.arange(1), np.arange(5, 6))
    assert [fold.n for fold in got.folds] == [1, 1] and got.train.n == got.val.n == 1


def test_one_device_equals_eight(problems):
    features, targets = problems.similar()
    one, eight = (
        folds.fold_moments(features, targets, np.arange(700), np.arange(700, 811), mesh=mesh)
        for mesh in (None, make_mesh())
    )
    for a, b in zip(
        (one.train, one.val, *one.folds), (eight.train, eight.val, *eight.folds), strict=True
    ):
        same(a, b)


@pytest.mark.parametrize(
    "train, val, n_folds, words",
    [([0, 1], [2], 1, "at least 2, got 1"), ([], [1], 5, "got 0 and 1")],
)
def test_bad_input_is_one_sentence(problems, train, val, n_folds, words):
    features, targets = problems.similar()
    with pytest.raises(ValueError, match=words):
        folds.fold_moments(features, targets, np.array(train, int), np.array(val, int), n_folds)
