"""Nulls and discoveries: swap by hand, Benjamini and Hochberg's own example, refits."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import false_discovery_control

import jaxle
from jaxle.arrays import Rows
from jaxle.data.splits import make_split, shuffled
from jaxle.evaluation import pairs
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.nulls import (
    STREAM,
    PermutedActivations,
    nonsense_names,
    permuted_rows,
    score_refits,
)
from jaxle.evaluation.swap import swap
from jaxle.solve.measure import measure
from jaxle.solve.moments import second_moments

N_CONCEPTS = 40
NAMES = [f"c{j}" for j in range(N_CONCEPTS)]
OPTIONS = {
    "lam": 0.05,
    "max_concepts": 5,
    "n_candidates": 10,
    "min_gain": 0.02,
    "min_top5": 0.0,
    "dead_threshold": -1e9,
}


# --- swap ---


def test_swap_equals_the_full_matrix_by_hand(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(80, 7)) + rng.normal(size=(80, 1))
    s = a + 6 * rng.normal(size=a.shape)
    c = np.corrcoef(a.T, s.T)[:7, 7:]
    off = (c.sum(1) - np.diag(c)) / 6
    rank = 1 + (c > np.diag(c)[:, None]).sum(1)
    # three neurons a block, the last reaches back
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 7 * 3)
    got = swap(s, a)
    np.testing.assert_allclose(got.correlation, np.diag(c), atol=1e-6)
    np.testing.assert_allclose(got.off_diagonal, off, atol=1e-6)
    np.testing.assert_allclose(got.specificity, np.diag(c) - off, atol=1e-6)
    np.testing.assert_array_equal(got.rank, rank)
    assert len(set(rank.tolist())) > 2
    assert (got.retrieval_at_1, got.mrr) == pytest.approx(((rank == 1).mean(), (1 / rank).mean()))
    assert (got.mean_off_diagonal, got.mean_specificity) == pytest.approx(
        (off.mean(), (np.diag(c) - off).mean()), abs=1e-6
    )


def test_swap_of_one_explanation_for_all_is_chance():
    rng = np.random.default_rng(0)
    same = np.repeat(rng.normal(size=(50, 1)), 4, axis=1) * [1, 2, 3, 4]
    got = swap(same, rng.normal(size=(50, 4)))
    assert got.retrieval_at_1 == 0.25 and got.rank.tolist() == [2.5] * 4
    np.testing.assert_allclose(got.specificity, 0, atol=1e-6)


def test_swap_leaves_dead_neurons_out_and_defines_the_rest():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 4))
    live = np.array([True, False, True, True])
    got, alone = swap(a, a, live), swap(a[:, live], a[:, live])
    assert (got.rank[1], got.specificity[1]) == (0, 0) and got[4:] == alone[4:]
    one = swap(a[:, :1], a[:, :1])
    assert (one.rank.tolist(), one.retrieval_at_1, one.mrr, one.mean_off_diagonal) == ([1], 1, 1, 0)
    assert np.isfinite(np.concatenate(swap(np.ones((1, 3)), np.ones((1, 3)))[:4])).all()
    assert swap(a, a, np.zeros(4, bool))[4:] == (0, 0, 0, 0)


# --- p-values and discoveries ---


def test_benjamini_hochberg_equals_scipy_and_its_paper():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(60), 1e-4 * rng.random(20)])
    got = benjamini_hochberg(p)
    np.testing.assert_allclose(got.q_values, false_discovery_control(p), rtol=1e-12)
    paper = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.324,
            0.4262,
            0.5719,
            0.6528,
            0.759,
            1.0,
        ]
    )
    # Benjamini & Hochberg 1995, section 3.2: the first four
    found = benjamini_hochberg(paper)
    assert (found.n_found, found.threshold, found.found.sum()) == (4, 0.0095, 4) and found.found[
        :4
    ].all()


def test_dead_neurons_are_not_tested():
    p = np.array([0.02, 0.5, 0.001])
    live = np.array([True, False, True])
    got = benjamini_hochberg(p, live=live)
    assert got.found.tolist() == [True, False, True] and got.q_values[1] == 1
    none = benjamini_hochberg(np.ones(3), live=np.zeros(3, bool))
    assert (none.n_found, none.threshold) == (0, 0)
    for bad, words in (
        ((np.array([2.0]),), "p-value from 0 to 1"),
        ((p, 1.5), "q must lie between 0 and 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            benjamini_hochberg(*bad)


# --- permute and refit ---


def problem(seed: int, n_planted: int = 0, n: int = 2000, n_neurons: int = 240):
    """0/1 concepts and noise neurons of three distributions in turn; some with a concept added.

    The distributions are normal, exponential and mostly zero.
    """
    rng = np.random.default_rng(seed)
    probs = (rng.random((n, N_CONCEPTS)) < 0.2).astype(np.float32)
    noise = rng.normal(size=(n, n_neurons))
    kind = np.arange(n_neurons) % 3
    activations = np.where(
        kind == 0,
        noise,
        np.where(kind == 1, rng.exponential(size=noise.shape), np.maximum(noise - 1, 0)),
    )
    activations[:, :n_planted] += 0.8 * probs[:, rng.integers(N_CONCEPTS, size=n_planted)]
    return probs, activations.astype(np.float32), kind, make_split(n, seed)


@pytest.mark.parametrize("number", [0, 3])
def test_permuted_activations_are_read_as_an_array(number):
    """The permutation written out: a common order, then a rotation for each neuron."""
    _, activations, _, split = problem(0, n=50, n_neurons=7)
    view = PermutedActivations(activations, split, 5, number)
    images = np.concatenate([split.train, split.val])
    order = images[shuffled(len(images), 5, STREAM + number)]
    bits = np.random.Philox(key=np.array([5, STREAM + number], np.uint64)).random_raw(7)
    expected = activations.copy()
    for k in range(7):
        rotation = int(bits[k] % len(images))
        expected[images, k] = activations[np.roll(order, -rotation), k]
    assert isinstance(view, Rows) and (view.shape, view.dtype) == ((50, 7), np.float32)
    np.testing.assert_array_equal(view[:], expected)
    np.testing.assert_array_equal(view[split.test], activations[split.test])
    np.testing.assert_array_equal(view[3:20], expected[3:20])
    rows = np.array([4, 4, 49, 0])
    np.testing.assert_array_equal(view[rows], expected[rows])
    view[:][:] = 0  # a copy
    np.testing.assert_array_equal(view[:], expected)
    for k in range(7):  # the same values, in other places
        np.testing.assert_array_equal(np.sort(view[images][:, k]), np.sort(activations[images, k]))
    assert not np.array_equal(expected, activations)
    for kind in (jnp.asarray(activations), activations.astype(np.float16)):
        other = PermutedActivations(kind, split, 5, number)
        assert other.dtype == kind.dtype
        np.testing.assert_allclose(other[:], expected, atol=2e-3)


def test_rows_of_no_part_are_the_real_ones():
    _, activations, _, split = problem(0, n=50, n_neurons=3)
    outside = np.array([split.test[0], split.train[0]])
    split = split._replace(test=split.test[1:], train=split.train[1:])
    view = PermutedActivations(activations, split, 0, 0)
    np.testing.assert_array_equal(view[outside], activations[outside])


def test_moments_of_permuted_activations_equal_a_full_pass():
    probs, activations, _, split = problem(0, n=300, n_neurons=9)
    activations += 1000  # a shift that an unshifted float32 product would not survive
    rows = lambda index, columns=slice(None): probs[index][:, columns]  # noqa: E731
    view = PermutedActivations(activations, split, 0, 0)
    real, got = (
        measure(rows, N_CONCEPTS, x, split.train, split.val, min_top5=0.0, folds=3)
        for x in (activations, view)
    )
    moved = view[:]
    for part, index in ((got.train, split.train), (got.val, split.val)):
        whole = second_moments(probs, moved, index)
        for x, y in zip(part[1:], whole[1:], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
        assert part.n == len(index) and not np.allclose(part.cross, real.train.cross, atol=1e-3)
    np.testing.assert_allclose(got.train.gram, real.train.gram, atol=1e-6)
    # the same activations, in other places
    assert got.total is not None and len(got.folds) == 3
    images = np.concatenate([split.train, split.val])
    np.testing.assert_allclose(got.total.mean_y, activations[images].mean(0), rtol=1e-6)


def test_neurons_that_fire_alike_are_permuted_apart():
    probs, activations, _, split = problem(0, n=300, n_neurons=9)
    alike = np.repeat(activations[:, :1], 9, axis=1)
    cross, again = (
        np.asarray(
            second_moments(probs, PermutedActivations(alike, split, 0, 0), split.train).cross
        )
        for _ in range(2)
    )
    assert np.abs(np.corrcoef(cross.T) - np.eye(9)).max() < 0.6
    np.testing.assert_array_equal(cross, again)


def refits(probs, activations, split, n=2, seed=0, **options):
    """`Refits` of the whole search, and what the real one scores on test."""

    def explain(values):
        return jaxle.explain(values, probs, NAMES, split=split, **OPTIONS | options)

    def simulate(explanations):
        return jaxle.simulate(explanations, probs, NAMES, split.test)

    views = [PermutedActivations(activations, split, seed, number) for number in range(n)]
    got = score_refits(map(explain, views), simulate, activations[split.test])
    return got, jaxle.correlation(simulate(explain(activations)), activations[split.test])


def test_refits_measure_the_optimism_of_the_search():
    probs, activations, _, split = problem(0, n_planted=30, n=600, n_neurons=60)
    got, real = refits(probs, activations, split)
    assert got.val_correlation.shape == got.test_correlation.shape == (2, 60)
    # the best of many by chance: high on the images that chose, and about 0 on others
    assert got.val_correlation.mean() > 0.15 > 5 * abs(got.test_correlation.mean())
    assert real[:30].mean() > 0.3
    again = refits(probs, activations, split, n=1)[0]
    np.testing.assert_array_equal(got.test_correlation[:1], again.test_correlation)
    assert not np.allclose(*got.test_correlation)


def test_refits_of_nothing_or_of_other_neurons():
    _, activations, _, split = problem(0, n=50, n_neurons=3)
    none = score_refits([], lambda _: None, activations[split.test])
    assert none.val_correlation.shape == none.test_correlation.shape == (0, 3)
    with pytest.raises(ValueError, match="a refit gave 0 explanations for 3 neurons"):
        score_refits([jaxle.Explanations(())], lambda _: None, activations[split.test])


# --- random concepts ---


def test_nonsense_names_are_new_seeded_and_pronounceable():
    names = nonsense_names(8438, 0, avoid=())
    assert (
        len(set(names)) == 8438
        and names == nonsense_names(8438, 0)
        and names != nonsense_names(8438, 1)
    )
    assert all(name.isalpha() and name.islower() and 4 <= len(name) <= 12 for name in names)
    avoided = nonsense_names(100, 0, avoid=[name.upper() for name in names[:50]])
    assert not set(avoided) & set(names[:50])


def test_permuted_labels_keep_their_correlations_and_lose_their_images():
    probs, _, _, _ = problem(0, n=400, n_neurons=1)
    rows = permuted_rows(lambda index, columns=slice(None): probs[index][:, columns], 400, 0)
    moved = rows(np.arange(400))
    np.testing.assert_allclose(moved.T @ moved, probs.T @ probs)
    np.testing.assert_array_equal(
        rows(np.array([3, 9]), np.array([1, 4])), moved[[3, 9]][:, [1, 4]]
    )
    assert abs(np.corrcoef(moved.ravel(), probs.ravel())[0, 1]) < 0.05
