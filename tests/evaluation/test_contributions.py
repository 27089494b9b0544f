"""Contributions of single concepts against the definition on images; how stable their choice is."""

import dataclasses

import numpy as np
import pytest

import jaxle
from jaxle import Explanation, Explanations
from jaxle.data.splits import make_split
from jaxle.evaluation.contributions import contributions, contributions_of, selection_frequency
from jaxle.evaluation.resampling import fold_rows, resampled
from jaxle.explainers.linear import TopK, top_k
from jaxle.explainers.protocol import ArrayRows, Problem
from jaxle.solve import ridge
from jaxle.solve.measure import measure
from jaxle.solve.moments import merge, second_moments

NAMES = ["cat", "dog", "ski", "sky", "sea"]


def table(*rows) -> Explanations:
    return Explanations(
        tuple(Explanation(k, tuple(w), tuple(w.values()), 0.3) for k, w in enumerate(rows))
    )


def test_equals_the_definition_on_images():
    rng = np.random.default_rng(0)
    probs = (rng.random((300, 5)) ** 2).astype(np.float32)
    probs[:, 1] = 0.5 * probs[:, 0] + 0.5 * probs[:, 1]  # concepts that overlap
    explanations = table(
        {"dog": 3.0, "cat": -1.0, "sea": 0.5}, {"ski": 2.0}, {"sky": 1.0, "sea": -1.0}
    )
    simulated = jaxle.simulate(explanations, probs, NAMES)
    activations = (simulated + 0.3 * rng.normal(size=simulated.shape)).astype(np.float32)
    got = contributions(explanations, NAMES, second_moments(probs, activations))
    for k, row in enumerate(explanations):
        terms = np.stack(
            [w * probs[:, NAMES.index(c)] for c, w in zip(row.concepts, row.weights, strict=True)]
        )
        s, a = terms.sum(0), activations[:, k]
        rho = np.corrcoef(s, a)[0, 1]
        assert got.correlation[k] == pytest.approx(rho, abs=1e-5)
        for j, term in enumerate(terms):
            assert got.share[k, j] == pytest.approx(
                np.cov(term, s, bias=True)[0, 1] / s.var(), abs=1e-5
            )
            without = np.corrcoef(s - term, a)[0, 1] if len(terms) > 1 else 0.0
            assert got.leave_one_out[k, j] == pytest.approx(rho - without, abs=1e-5)
        assert (got.share[k, len(terms) :] == 0).all() and (
            got.leave_one_out[k, len(terms) :] == 0
        ).all()
    np.testing.assert_allclose(got.share.sum(1), 1, atol=1e-12)


def test_arrays_give_the_same_as_moments():
    rng = np.random.default_rng(0)
    probs = rng.random((80, 5)).astype(np.float32)
    explanations = table({"dog": 3.0, "sea": -1.0}, {"ski": 2.0})
    activations = rng.normal(size=(80, 2)) + jaxle.simulate(explanations, probs, NAMES)
    index = np.arange(30, 80)
    used = [NAMES.index(c) for c in explanations.concepts]
    moments = second_moments(probs[:, used], activations, index)
    expected = contributions(explanations, explanations.concepts, moments)
    got = contributions_of(explanations, activations, probs, NAMES, index)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    every = contributions_of(explanations, activations, probs, NAMES)
    assert not np.allclose(every.correlation, got.correlation, atol=1e-3)
    none = contributions_of(table({}, {}), activations, probs, NAMES, index)
    assert not np.any(none.share) and none.correlation.tolist() == [0, 0]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"concepts": NAMES[1:]}, "each of the 5 columns of concept_probs once, got 4 names"),
        ({"concepts": ["tree", *NAMES[1:]]}, "the concepts lack 1 concepts .* such as .'cat'"),
        ({"activations": np.ones((7, 1))}, "the same images, got 7 and 8 rows"),
        ({"activations": np.ones((8, 2))}, "do not fit 1 concepts and 1 neurons"),
        ({"concept_probs": np.full((8, 5), np.nan)}, "concept_probs must be finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    given = {"activations": np.ones((8, 1)), "concept_probs": np.ones((8, 5)), "concepts": NAMES}
    with pytest.raises(ValueError, match=message):
        contributions_of(table({"cat": 1.0}), **given | change)


def test_unexplained_dead_and_constant_are_zero():
    probs = np.random.default_rng(0).random((40, 5)).astype(np.float32)
    probs[:, 4] = 1
    explanations = table({}, {"sea": 2.0}, {"cat": 1.0}, {"cat": 1.0, "sea": 1.0})
    activations = np.stack([probs[:, 0], probs[:, 0], np.zeros(40), probs[:, 0]], 1).astype(
        np.float32
    )
    got = contributions(explanations, NAMES, second_moments(probs, activations))
    np.testing.assert_allclose(got.share, [[0, 0], [0, 0], [1, 0], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(got.leave_one_out, [[0, 0], [0, 0], [0, 0], [1, 0]], atol=1e-6)
    one_image = second_moments(probs[:1], activations[:1])
    one = contributions(explanations, NAMES, one_image)
    assert not np.any(one.share) and not np.any(one.leave_one_out)
    with pytest.raises(
        ValueError, match="lack 1 concepts that the explanations use, such as .'cat'"
    ):
        contributions(explanations, ["tree", *NAMES[1:]], second_moments(probs, activations))
    with pytest.raises(ValueError, match="do not fit 4 concepts and 4 neurons"):
        contributions(explanations, NAMES[1:], second_moments(probs, activations))


def test_strong_concepts_are_chosen_again_and_weak_ones_less():
    rng = np.random.default_rng(0)
    n, names = 1000, [f"c{j}" for j in range(12)]
    probs = (rng.random((n, 12)) < 0.2).astype(np.float32)
    activations = np.stack([probs[:, 0] + 0.2 * probs[:, 1], np.zeros(n)], 1) + [
        0.7,
        0,
    ] * rng.normal(size=(n, 2))
    activations, split = activations.astype(np.float32), make_split(n, 0)
    rows = lambda index, columns=slice(None): probs[index][:, columns]  # noqa: E731

    def refit(measured):
        problem = Problem(activations, tuple(names), ArrayRows(probs, names), split, measured)
        return top_k(problem, TopK(lam=0.05, max_concepts=3))

    measured = measure(rows, 12, activations, split.train, split.val, min_top5=0.0)
    explanations = refit(measured)
    got = selection_frequency(
        explanations,
        lambda draw: resampled(measured, rows, activations, split, draw),
        refit,
        draws=10,
    )
    frequency = dict(zip(explanations[0].concepts, got.frequency[0], strict=True))
    assert frequency["c0"] == 1 and min(frequency.values()) < 0.9
    assert (
        0.3 < got.overlap[0] < 1
        and got.overlap[1] == 1
        and not got.frequency[1].any()
        and got.draws == 10
    )
    same = selection_frequency(explanations, lambda draw: measured, refit, draws=1)
    assert same.frequency[0].tolist() == [1, 1, 1] and same.overlap.tolist() == [1, 1]
    names_now = {"c0": "twin", "c1": "other"}

    def renamed(measured):
        rows = (
            dataclasses.replace(row, concepts=tuple(names_now.get(c, c) for c in row.concepts))
            for row in refit(measured)
        )
        return Explanations(tuple(rows))

    alike = [[["twin"] if c == "c0" else [] for c in row.concepts] for row in explanations]
    one = selection_frequency(
        explanations, lambda draw: measured, renamed, draws=1, equivalents=alike
    )
    again = dict(zip(explanations[0].concepts, one.frequency[0], strict=True))
    assert again["c0"] == 1 and again["c1"] == 0  # a reworded concept is the same, another is not
    assert one.overlap[0] == pytest.approx(2 / 4)  # c0 and a third of c0, c1, a third, other
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        selection_frequency(explanations, lambda draw: measured, refit, draws=0)


def test_resampling_stays_within_folds():
    rng = np.random.default_rng(0)
    probs, activations, split = (
        rng.random((60, 4), np.float32),
        np.arange(60, dtype=np.float32)[:, None],
        make_split(60, 0),
    )
    seen = []

    def rows(index, columns=slice(None)):
        seen.append(np.unique(index))
        return probs[index][:, columns]

    measured = measure(rows, 4, activations, split.train, split.val, min_top5=0.0, folds=3)
    seen.clear()
    got = resampled(measured, rows, activations, split, 0)
    parts = [part for pair in fold_rows(split, 3) for part in pair]
    assert all(any(set(index) <= set(part) for part in parts) for index in seen)
    assert (got.train.n, got.val.n, sum(fold.n for fold in got.folds)) == (
        measured.train.n,
        measured.val.n,
        48,
    )
    again, other = (resampled(measured, rows, activations, split, draw) for draw in (0, 1))
    np.testing.assert_array_equal(got.train.cross, again.train.cross)
    assert not np.allclose(got.train.cross, other.train.cross)
    # the total and its spectrum are of the draw
    total = merge([got.train, got.val])
    np.testing.assert_allclose(got.total.gram, total.gram)
    for one, expected in zip(got.spectrum, ridge.spectrum(total), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)
    assert not np.allclose(got.spectrum.values, measured.spectrum.values, atol=1e-4)
    plain = resampled(
        measure(rows, 4, activations, split.train, split.val, min_top5=0.0),
        rows,
        activations,
        split,
        0,
    )
    assert (plain.folds, plain.total, plain.spectrum) == ((), None, None)
    # the folds that the explainer cut
    for fold, parts in zip(measured.folds, fold_rows(split, 3), strict=True):
        assert float(fold.mean_y[0]) == pytest.approx(np.concatenate(parts).mean(), rel=1e-5)
