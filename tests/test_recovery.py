"""The measure of recovery: marks of a perfect and a near explanation; method.md §9's prototype."""

import numpy as np
import pytest

import jaxle
from benchmarks import forward, recovery
from jaxle.explanations import Explanation, Explanations


@pytest.fixture(scope="module")
def cifar():
    return recovery.cifar_labels()


def test_cifar_keeps_superclasses_and_what_they_do_not_determine(cifar):
    assert len(cifar.concepts) == 9 and cifar.of == 19
    assert "animal" in cifar.concepts and "vehicle" not in cifar.concepts
    above = dict(zip(cifar.concepts, cifar.implies, strict=True))
    assert [cifar.concepts[j] for j in np.flatnonzero(above["cat"])] == [
        "cat",
        "animal",
        "four-legged animal",
        "mammal",
    ]
    assert np.linalg.matrix_rank(cifar.probs - cifar.probs.mean(axis=0)) == 9


def test_the_truth_gets_full_marks_and_reaches_its_ceiling(cifar):
    planted = recovery.world(cifar, 0, repeats=1)
    rows = []
    for k in range(len(planted.size)):
        of = np.flatnonzero(planted.weights[:, k])
        design = np.column_stack([cifar.probs[:, of], np.ones(len(cifar.probs))])
        *weights, bias = np.linalg.lstsq(design, planted.activations[:, k], rcond=None)[0]
        rows.append(
            Explanation(
                k, tuple(cifar.concepts[j] for j in of), tuple(map(float, weights)), float(bias)
            )
        )
    marks = recovery.marks(Explanations(tuple(rows)), cifar, planted)
    for name in ("precision", "recall", "F1", "F1 up to hierarchy"):
        np.testing.assert_array_equal(marks[name], 1)
    np.testing.assert_allclose(marks["ρ / ceiling"], 1, atol=1e-4)
    np.testing.assert_array_equal(marks["length"], planted.size)
    empty = recovery.marks(
        Explanations(tuple(Explanation(k, (), (), 0.0) for k in range(len(rows)))), cifar, planted
    )
    assert not any(
        empty[name].any()
        for name in ("precision", "recall", "F1", "F1 up to hierarchy", "ρ", "length")
    )


def test_up_to_hierarchy_a_true_concept_is_paired_once(cifar):
    def columns(*names):
        return np.isin(cifar.concepts, names)[:, None]

    def count(found, true):
        return recovery.matched(columns(*found), columns(*true), cifar.implies).tolist()

    assert count(["animal"], ["cat"]) == [1]
    assert count(["cat"], ["mammal", "automobile"]) == [1]
    assert count(["animal", "mammal"], ["cat"]) == [1]
    assert count(["animal", "cat"], ["cat", "deer"]) == [
        2
    ]  # the animal pairs with the deer, since the cat has its own
    assert count(["automobile"], ["cat"]) == [0]


def test_intervals_shrink_as_the_root_of_the_number():
    values = np.arange(100.0)
    mean, half = recovery.interval(values)
    assert mean == 49.5 and half == pytest.approx(1.96 * values.std(ddof=1) / 10)


def test_the_prototype_selects_as_exhaustive_least_squares_does_and_judges_as_held_out_images_do():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 7)) @ rng.normal(size=(7, 7))
    y = x[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(200, 4))
    part = np.arange(200) % forward.FOLDS
    folds = [forward.moments(x[part == f], y[part == f]) for f in range(forward.FOLDS)]
    total, whole = forward.merge(folds), forward.moments(x, y)
    for a, b in zip(total, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)

    def fit(columns, k, rows):
        design = np.column_stack([np.ones(rows.sum()), x[np.ix_(rows, columns)]])
        return np.linalg.lstsq(design, y[rows, k], rcond=None)

    order = forward.forward(whole.gram, whole.cross, most=3)
    rho = forward.judge(folds, order)
    for k in range(4):
        chosen: list[int] = []
        for step in range(3):
            left = {j: fit([*chosen, j], k, part >= 0)[1][0] for j in range(7) if j not in chosen}
            chosen.append(min(left, key=left.get))
            assert order[k, step] == chosen[-1]
            for f in range(forward.FOLDS):
                bias, *weights = fit(chosen, k, part != f)[0]
                held = part == f
                assert rho[k, step, f] == pytest.approx(
                    np.corrcoef(x[np.ix_(held, chosen)] @ weights + bias, y[held, k])[0, 1]
                )


def test_the_prototype_is_the_librarys_preconditioned_search(cifar):
    planted = recovery.world(cifar, 0, repeats=1)
    split = recovery.make_split(2000, 0)
    rows = np.concatenate([split.train, split.val])
    x, y = cifar.probs[rows].astype(np.float64), planted.activations[rows].astype(np.float64)
    part = np.arange(len(x)) % forward.FOLDS
    base = forward.path([forward.moments(x[part == f], y[part == f]) for f in range(forward.FOLDS)])
    order = forward.cut(base.order, forward.lengths(base.rho))
    ours = [{cifar.concepts[j] for j in row if j >= 0} for row in order]
    theirs = jaxle.explain(
        planted.activations[:2000],
        cifar.probs[:2000],
        cifar.concepts,
        split=split,
        search="preconditioned",
    )
    same = [mine == set(row.concepts) for mine, row in zip(ours, theirs, strict=True)]
    assert (
        np.mean(same) >= 0.85
    )  # folds and the strength's rule differ: a length on the edge may fall either way
