"""Formulas: every name survives, and a column is what a plain reading of the formula gives."""

from tempfile import TemporaryDirectory

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxle
from jaxle import Explanation, Explanations
from jaxle.evaluation.contributions import contributions_of
from jaxle.explanations import FormulaRows
from jaxle.explanations.formula import And, Name, Not, Or, find_formula, parse, words, write

HARD = (
    *("dog", "AND", "OR", "NOT", "salt AND pepper", "NOT a dog", "a OR", "red apple", "a  b", ""),
    *(" ", " a", "a ", "(", ")", "a (b)", '"', '""', 'a "b" c', "null", "0", "'null'", "a,b", "or"),
    *("dog AND cat", "cat", "AND cat", "犬", "a\u00a0b", "\\", "C++ / C#", "[dog]", "×", "NOT"),
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=6)
LEAVES = (st.sampled_from(HARD) | TEXT).map(Name)


def nested(parts):
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return parts.map(Not) | several.map(And) | several.map(Or)


FORMULAS = st.recursive(LEAVES, nested, max_leaves=6)


@given(FORMULAS)
def test_what_is_written_is_read_back(formula):
    assert parse(write(formula)) == formula


@given(FORMULAS, FORMULAS)
def test_different_formulas_have_different_texts(one, other):
    assert (write(one) == write(other)) == (one == other)


@settings(max_examples=40, deadline=None)
@given(st.lists(FORMULAS, min_size=1, max_size=3))
def test_a_table_of_formulas_survives_csv_pandas_and_the_cache(formulas):
    texts = tuple(write(formula) for formula in formulas)
    rows = tuple(
        Explanation(k, (text,), (1.0,), 0.0, kind="formula") for k, text in enumerate(texts)
    )
    rows += (Explanation(len(texts), texts, (0.5,) * len(texts), 0.25, 0.5, kind="formula"),)
    table = Explanations(rows)
    assert Explanations.from_arrays(table.to_arrays()).rows == rows
    with TemporaryDirectory() as folder:
        table.to_csv(f"{folder}/a.csv")
        assert Explanations.from_csv(f"{folder}/a.csv").rows == rows
        frame = pd.read_csv(f"{folder}/a.csv")
        frame.to_csv(f"{folder}/b.csv", index=False, float_format="%.17g")
        back = Explanations.from_csv(f"{folder}/b.csv")
    assert [find_formula(row.concepts[0]) for row in back][: len(texts)] == formulas


def test_how_formulas_look():
    dog, cat, water = map(Name, ("dog", "cat", "AND water"))
    assert write(And((Or((dog, cat)), Not(water)))) == '(dog OR cat) AND NOT "AND water"'
    for text in ("((dog OR cat) AND (NOT fish))", "( dog  OR cat )AND NOT(fish)"):
        assert parse(text) == And((Or((dog, cat)), Not(Name("fish"))))
    assert parse("a AND b AND c") == And((Name("a"), Name("b"), Name("c")))
    assert parse("red apple OR NOT NOT salt and pepper") == Or(
        (Name("red apple"), Not(Not(Name("salt and pepper"))))
    )
    row = Explanation(0, ("dog AND NOT cat", "fish"), (2.0, -1.0), 0.5, kind="formula")
    assert str(row) == "2×[dog AND NOT cat] − 1×fish + 0.5"
    assert row.length == 3 and row.words == ("dog", "cat", "fish")
    table = Explanations((row, Explanation(1, ("dog AND cat", "a"), (1.0, 1.0), 0.0)))
    assert table.lengths.tolist() == [3, 2] and table.terms.tolist() == [2, 2]
    assert table.as_formulas()[1].concepts == ('"dog AND cat"', "a")


BAD = [
    ("", "ends where a name is expected"),
    ("dog AND", "ends where a name is expected"),
    ("AND dog", "has 'AND' in a name's place"),
    ("dog AND OR cat", "has 'OR' in a name's place"),
    ("dog AND cat OR fish", "mixes AND and OR: expected parentheses"),
    ("(dog", "lacks a closing parenthesis"),
    ("dog)", "goes on after its end"),
    ("dog NOT cat", "goes on after its end"),
    ('"dog', "cannot be read from character 0 on"),
    ('the "dog" barks', "goes on after its end"),
    ("(" * 2_000 + "dog", "nests deeper than 64"),
    ("NOT " * 2_000 + "dog", "nests deeper than 64"),
]


@pytest.mark.parametrize("text, message", BAD)
def test_what_is_no_formula_says_so_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith("the formula ") and "\n" not in str(caught.value)
    assert find_formula(text) is None


def test_a_formula_is_parts():
    with pytest.raises(ValueError, match="And must have two parts or more, got 1"):
        And((Name("a"),))


def plain(formula, probs, names):
    """A formula's probability as its three rules say, one after the other."""
    if isinstance(formula, Name):
        return probs[:, names.index(formula.name)].astype(np.float64)
    if isinstance(formula, Not):
        return 1 - plain(formula.part, probs, names)
    parts = [plain(part, probs, names) for part in formula.parts]
    if isinstance(formula, And):
        return np.prod(parts, axis=0)
    return 1 - np.prod([1 - part for part in parts], axis=0)


NAMES = ("a", "b", "c", "d AND e", "f")
OVER = st.recursive(st.sampled_from(NAMES).map(Name), nested, max_leaves=7)
PROBS = np.random.default_rng(0).random((9, 5)).astype(np.float32)


class Held:
    concepts = NAMES

    def __init__(self, probs):
        self.probs = probs

    def rows(self, index, columns=None):
        return self.probs[index][:, slice(None) if columns is None else columns]


@settings(max_examples=60, deadline=None)
@given(st.lists(OVER, min_size=1, max_size=5, unique=True))
def test_columns_are_what_the_rules_say(formulas):
    matrix = FormulaRows(Held(PROBS), formulas)
    expected = np.stack([plain(formula, PROBS, NAMES) for formula in formulas], axis=1)
    np.testing.assert_allclose(matrix.rows(np.arange(9)), expected, atol=1e-6)
    last = np.array([len(formulas) - 1])
    np.testing.assert_allclose(matrix.rows(np.arange(4), last), expected[:4, last], atol=1e-6)
    assert matrix.lengths.tolist() == [len(list(words(formula))) for formula in formulas]


def test_columns_on_the_device_are_those_on_the_host_and_labels_are_exact():
    formulas = [
        parse(t)
        for t in ("a", "NOT a", "a AND b", "a OR b", "(a AND NOT b) OR c", "(a OR b) AND (c OR f)",
                  'NOT ("d AND e" AND a AND b)', "(a OR NOT c) AND NOT f")
    ]  # fmt: skip
    for some in (formulas, formulas[:5], formulas[4:5], formulas[:1]):
        device = FormulaRows(Held(jnp.asarray(PROBS)), some).rows(np.arange(9))
        host = FormulaRows(Held(PROBS), some).rows(np.arange(9))
        assert isinstance(host, np.ndarray) and not isinstance(device, np.ndarray)
        np.testing.assert_allclose(device, host, rtol=1e-6)
    labels = (PROBS > 0.5).astype(np.uint8)
    got = FormulaRows(Held(labels), formulas).rows(np.arange(9))
    expected = np.stack([plain(formula, labels, NAMES) for formula in formulas], axis=1)
    np.testing.assert_array_equal(got, expected)


def test_a_name_that_is_a_formula_and_the_formula_are_two_things():
    """In a linear explanation a name is a concept, whatever it reads like."""
    probs = np.array([[0.5, 0.5, 1.0], [1.0, 0.25, 0.0]], np.float32)
    names = ["dog", "cat", "dog AND cat"]
    rows = (
        Explanation(0, ("dog AND cat",), (1.0,), 0.0),
        Explanation(1, ("dog AND cat",), (1.0,), 0.0, kind="formula"),
        Explanation(2, ('NOT "dog AND cat"', "dog"), (1.0, 2.0), 0.5, kind="formula"),
    )
    expected = [[1.0, 0.25, 1.5], [0.0, 0.25, 3.5]]
    np.testing.assert_allclose(jaxle.simulate(Explanations(rows), probs, names), expected)


def test_a_text_that_is_no_formula_takes_a_column_of_its_name():
    row = Explanation(0, ("dog + cat",), (1.0,), 0.0, kind="formula")
    other = Explanation(1, ("dog AND wolf",), (1.0,), 0.0, kind="formula")
    probs = np.array([[0.25, 0.5, 0.75]], np.float32)
    names = ["dog", "dog + cat", "dog AND wolf"]
    got = jaxle.simulate(Explanations((row, other)), probs, names)
    np.testing.assert_allclose(got, [[0.5, 0.75]])
    assert other.words == ("dog", "wolf")


@pytest.mark.parametrize(
    "text, raw, message",
    [
        ("dog AND wolf", False, r"neuron 7 .*'dog AND wolf': the simulator lacks 1 .*\['wolf'\]"),
        ("dog AND cat OR dog", False, "neuron 7 .* has no column, and the formula .* mixes AND"),
        ("dog", True, "neuron 7 .* arithmetic is that of probabilities: leave out raw_features"),
    ],
)
def test_a_formula_that_cannot_be_simulated_is_refused(text, raw, message):
    table = Explanations((Explanation(7, (text,), (1.0,), 0.0, kind="formula"),))
    with pytest.raises(ValueError, match=message):
        jaxle.simulate(table, np.ones((4, 2), np.float32), ["dog", "cat"], raw_features=raw)


def test_contributions_and_scores_of_a_formula_are_those_of_its_column():
    rng = np.random.default_rng(1)
    probs = rng.integers(0, 2, (300, 3)).astype(np.float32)
    column = probs[:, :1] * (1 - probs[:, 1:2])
    activations = column + probs[:, 2:] + 0.1 * rng.normal(size=(300, 1))
    row = Explanation(0, ("a AND NOT b", "c"), (1.0, 0.5), 0.0, kind="formula")
    other = Explanation(0, ("x", "c"), (1.0, 0.5), 0.0)
    beside, names = np.concatenate([probs, column], axis=1), ["a", "b", "c", "x"]
    split = {"train": range(100), "val": range(100, 200), "test": range(200, 300)}
    how = {"split": split, "draws": 20, "permutations": 20, "ceiling": False}
    one, two = (
        (
            contributions_of(Explanations((r,)), activations, p, n),
            jaxle.evaluate(Explanations((r,)), activations, p, n, **how),
        )
        for r, p, n in ((row, probs, names[:3]), (other, beside, names))
    )
    for a, b in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert set(one[1].columns) == set(two[1].columns)
    for name in one[1].columns:
        np.testing.assert_allclose(one[1].columns[name], two[1].columns[name], rtol=1e-5)
    assert all(np.isfinite(values).all() for values in one[1].columns.values())
