"""Pairs as candidate columns: which, against counting; and searches that count words."""

import numpy as np
import pytest

import jaxle
from jaxle.data.splits import make_split
from jaxle.explainers.formula_columns import LEAST_IMAGES, find_pairs, with_pairs
from jaxle.explainers.protocol import ArrayRows
from jaxle.explanations.formula import parse, words
from tests.explanations.test_formula import plain

N = 600
RNG = np.random.default_rng(0)
NAMES = ["a", "b", "c", "part of a", "a AND b", "rare", "rest of a"]
A, B, C = (RNG.random((3, N)) < [[0.4], [0.5], [0.3]]).astype(np.uint8)
PART = A & (RNG.random(N) < 0.5)
RARE = np.arange(N) < 12  # half of them are in train
LABELS = np.stack([A, B, C, PART, A & B, RARE, A & ~PART & 1], axis=1).astype(np.uint8)
SPLIT = make_split(N, 0)
TRAIN = SPLIT.train


def columns_of(labels=LABELS, names=tuple(NAMES), most=2000):
    matrix = ArrayRows(labels, names)
    pairs = find_pairs(matrix, TRAIN, min_top5=0.5, most=most)
    return matrix, pairs, with_pairs(matrix, pairs)


def test_pairs_are_those_of_enough_images_and_no_column_is_there_twice():
    matrix, pairs, columns = columns_of()
    texts = columns.concepts[len(NAMES) :]
    # as a concept it exists, called like the formula
    assert "a AND b" not in texts and '"a AND b"' in columns.concepts[: len(NAMES)]
    assert "b AND NOT c" in texts and "b AND c" in texts and "c AND NOT b" in texts
    # part of a, without a: of no image; a without its part: the concept "rest of a"
    assert not any(text.startswith("part of a AND NOT a") for text in texts)
    assert "a AND NOT part of a" not in texts and "a AND part of a" not in texts
    tile = np.asarray(columns.rows(TRAIN))
    assert np.isin(tile, (0, 1)).all()
    assert tile[:, len(NAMES) :].sum(axis=0).min() >= LEAST_IMAGES
    assert len(np.unique(tile, axis=1).T) == tile.shape[1]
    for text, column in zip(texts, tile.T[len(NAMES) :], strict=True):
        np.testing.assert_array_equal(column, plain(parse(text), LABELS, NAMES)[TRAIN])
    assert 'a AND NOT "a AND b"' not in texts  # a − "a AND b"
    # every formula that was left out is rare, a sum of its parts, or a column that is there
    there = {column.tobytes() for column in tile.T}
    for i, j in np.ndindex(7, 7):
        for other in (LABELS[TRAIN, j], 1 - LABELS[TRAIN, j]):
            column = (LABELS[TRAIN, i] & other).astype(np.float32)
            enough = min(column.sum(), (LABELS[TRAIN, i] - column).sum()) >= LEAST_IMAGES
            negated = (other != LABELS[TRAIN, j]).all()
            enough &= negated or (LABELS[TRAIN, j] - column).sum() >= LEAST_IMAGES
            parts = np.stack([np.ones(len(TRAIN)), *LABELS[TRAIN][:, [i, j]].T], axis=1)
            rest = np.linalg.lstsq(parts, column)[0] @ parts.T - column
            enough &= np.abs(rest).max() > 1e-3  # else a sum of its parts
            assert i == j or not enough or column.tobytes() in there
    assert pairs.n_found > len(texts)


def test_what_is_no_sum_of_its_parts_comes_first_and_few_are_kept():
    _, _, columns = columns_of()
    _, _, few = columns_of(most=3)
    assert len(few.concepts) <= len(NAMES) + 3
    assert few.concepts == columns.concepts[: len(few.concepts)]
    tile = np.asarray(columns.rows(TRAIN), np.float64)
    left = []
    for text, column in list(zip(columns.concepts, tile.T, strict=True))[len(NAMES) :]:
        i, j = (NAMES.index(name) for name in dict.fromkeys(words(parse(text))))
        x = np.stack([np.ones(len(TRAIN)), *LABELS[TRAIN][:, [i, j]].T], axis=1)
        left.append(np.linalg.lstsq(x, column)[1].sum() / len(TRAIN))
    assert (np.diff(left) <= 1e-5).all()
    one = find_pairs(ArrayRows(LABELS[:, :1], ["a"]), TRAIN, min_top5=0.5)
    assert len(one.first) == 0 == one.n_found


def explained(search, **more):
    """Neurons: a formula, a formula and a concept, a concept, noise, a constant."""
    values = np.stack([B & (1 - C), 2.0 * (B & C) + A, C, RNG.normal(size=N), np.ones(N)], axis=1)
    values[:, :3] += 0.1 * RNG.normal(size=(N, 3))
    table = jaxle.explain(values, LABELS, NAMES, split=SPLIT, search=search, **more)
    return values, table


@pytest.mark.parametrize("search", ["greedy", "preconditioned"])
def test_planted_formulas_are_found_and_count_as_their_words(search):
    values, table = explained(search, formulas=2, min_gain=0.02)
    assert table[0].concepts == ("b AND NOT c",) and table[0].kind == "formula"
    assert set(table[1].concepts) == {"b AND c", "a"} and table[1].weights[0] > 1.8
    assert table[2].kind == "linear" and table[2].concepts == ("c",)
    assert table.lengths[:3].tolist() == [2, 3, 1] and table[4].flag == "dead"
    simulated = jaxle.simulate(table, LABELS, NAMES, SPLIT.test)
    assert jaxle.correlation(simulated, values[SPLIT.test])[:3].min() > 0.9


def test_the_limit_of_length_counts_words():
    _, free = explained("preconditioned", formulas=2)
    for wanted in (2.0, 1.0, 0.5):
        _, table = explained("preconditioned", formulas=2, mean_length=wanted)
        assert table.lengths[:4].mean() <= wanted + 1e-9
        assert table.facts["mean_length"] <= wanted + 1e-9
    assert free.facts["mean_length"] == pytest.approx(free.lengths[:4].mean())


def test_a_concept_that_reads_like_a_formula_stays_a_concept():
    values = (A & B)[:, None] + 0.1 * RNG.normal(size=(N, 1))
    table = jaxle.explain(values, LABELS, NAMES, split=SPLIT, search="greedy", formulas=2)
    assert table[0].kind == "linear" and table[0].concepts == ("a AND b",)
    assert table.lengths.tolist() == [1]


def test_probabilities_of_an_encoder_make_products():
    probs = np.clip(LABELS + RNG.normal(scale=0.05, size=LABELS.shape), 0, 1).astype(np.float32)
    _, _, columns = columns_of(probs)
    j = columns.concepts.index("b AND NOT c")
    got = np.asarray(columns.rows(TRAIN, np.array([j])))[:, 0]
    np.testing.assert_allclose(got, probs[TRAIN, 1] * (1 - probs[TRAIN, 2]), rtol=1e-5)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"formulas": 3}, "formulas must be a whole number in .1, 2., got 3"),
        ({"formulas": 0}, "formulas must be a whole number in .1, 2., got 0"),
        ({"formulas": True}, "formulas must be a whole number in .1, 2., got True"),
        (
            {"formulas": 2, "search": "top_k"},
            r"formulas=2 needs .* \(greedy, preconditioned\), got",
        ),
        ({"formulas": 2, "search": "invert"}, "formulas=2 needs a search that counts words"),
        ({"formulas": 2, "raw_features": True}, "formulas=2 are of probabilities: leave out raw"),
    ],
)
def test_bad_input_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        jaxle.explain(np.ones((N, 2)), LABELS, NAMES, split=SPLIT, **more)
