"""A table of explanations as a notebook uses it."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxle import Explanation, Explanations

SKI = Explanation(136, ("snowmobile", "ski"), (3.14159265358979, 2.2), -0.04, 0.51)
PLAIN = Explanation(137, (), (), 0.3, 0.0, "unexplained")
NEGATIVE = Explanation(138, ('a "quoted", word', "0", "zwölf"), (0.1, 1e-300, -7e22), 0.0, 0.25)
DOG = Explanation(9, ("a dog",), (1.0,), 0.0, kind="description")
FORMULA = Explanation(10, ("dog AND NOT water",), (1.0,), 0.0, kind="formula")
TABLE = Explanations(
    (SKI, PLAIN, NEGATIVE, DOG, FORMULA),
    {"sim correlation": np.arange(5) / 10},
    layer="layer4",
    split="the split",
    facts={"worst_gap": 1e-7},
)


def test_is_a_sequence():
    assert len(TABLE) == 5 and TABLE[0] is SKI and list(TABLE)[:2] == [SKI, PLAIN]
    assert TABLE[-1] is FORMULA and TABLE[np.int64(1)] is PLAIN and SKI in TABLE
    assert TABLE.units.tolist() == [136, 137, 138, 9, 10]
    assert TABLE.lengths.tolist() == [2, 0, 3, 1, 2] and TABLE.terms.tolist() == [2, 0, 3, 1, 1]
    assert TABLE.flags.tolist() == ["", "unexplained", "", "", ""]


def test_concepts_are_what_a_simulator_must_know():
    used = ("snowmobile", "ski", 'a "quoted", word', "0", "zwölf", "a dog", "dog", "water")
    assert TABLE.concepts == used and FORMULA.concepts[0] not in TABLE.concepts


@pytest.mark.parametrize(
    "index, places",
    [
        (slice(2), [0, 1]),
        (slice(None, None, -2), [4, 2, 0]),
        ([3, 1], [3, 1]),
        ((1, 1, -1), [1, 1, 4]),
        (np.array([2], np.uint8), [2]),
        (jnp.array([0, 4]), [0, 4]),
        (TABLE.flags == "unexplained", [1]),
        (pd.Series([True, False, False, False, True]), [0, 4]),
        ([True, False, True, False, False], [0, 2]),
        ([], []),
        (np.zeros(5, bool), []),
    ],
)
def test_parts_are_tables_with_their_scores(index, places):
    part = TABLE[index]
    assert isinstance(part, Explanations)
    assert part.rows == tuple(TABLE.rows[i] for i in places)
    assert part.scores["sim correlation"].tolist() == [i % 5 / 10 for i in places]
    assert (part.layer, part.split, part.facts) == ("layer4", "the split", {"worst_gap": 1e-7})


@pytest.mark.parametrize(
    "index, error, words",
    [
        (5, IndexError, "no row 5 in a table of 5 explanations; select"),
        ([0, -6], IndexError, "no row -6"),
        ([True, False], ValueError, "integers or 5 bools, got bool of shape"),
        (True, ValueError, "got bool of shape"),
        ("layer4", ValueError, "got <U6 of shape"),
        (1.0, ValueError, "got float64 of shape"),
        (np.zeros((2, 2), int), ValueError, "got int64 of shape"),
        (None, ValueError, "got object of shape"),
    ],
)
def test_other_indices_are_refused(index, error, words):
    with pytest.raises(error, match=words):
        TABLE[index]


def test_select_takes_unit_numbers():
    assert TABLE.select([138, 9]).rows == (NEGATIVE, DOG)
    assert TABLE.select(9).rows == (DOG,) and TABLE.select([]).rows == ()
    assert TABLE.select(TABLE.units[1:3]).scores["sim correlation"].tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match=r"no unit 4, 0; it has 5 units \(9 to 138\)"):
        TABLE.select([4, 9, 0])
    with pytest.raises(ValueError, match="no unit 1, 2, 3, 4, 5, …;"):
        TABLE.select(range(1, 9))
    with pytest.raises(ValueError, match="unit numbers, got bool"):
        TABLE.select(TABLE.flags == "")
    with pytest.raises(ValueError, match=r"no unit 3; it has 0 units \(none\)"):
        TABLE[:0].select(3)


def test_frame():
    frame = TABLE.to_frame()
    assert list(frame) == [
        *("layer", "unit", "explanation", "concepts", "weights", "bias", "val_correlation"),
        *("flag", "kind", "sim correlation"),
    ]
    assert frame["explanation"].tolist() == [str(row) for row in TABLE]
    assert frame["weights"][0] == SKI.weights and frame["concepts"][1] == ()
    assert frame["val_correlation"].isna().tolist() == [False, False, False, True, True]
    assert frame["kind"].tolist()[2:] == ["linear", "description", "formula"]
    assert "layer" not in Explanations((SKI,)).to_frame() and len(TABLE[:0].to_frame()) == 0


def test_repr_is_a_line_and_a_few_rows():
    assert repr(TABLE[:2]) == (
        "Explanations: 2 explanations of layer4, 1.0 words on average, 1 unexplained\n"
        "   136  3.1×snowmobile + 2.2×ski − 0.04\n"
        "   137  0.3  [unexplained]"
    )
    assert repr(TABLE[[0] * 7]).splitlines()[-1] == "     …  2 more"
    assert repr(TABLE[:0]) == "Explanations: 0 explanations of layer4"
    assert repr(Explanations((PLAIN,))).startswith("Explanations: 1 explanation, 0.0 words")


def test_html_shows_the_rows_and_escapes_every_text():
    evil = "<script>alert(1)</script>&"
    table = Explanations(
        (Explanation(0, (evil,), (1.0,), 0.0, None, evil),), {evil: np.array([0.12345])}, layer=evil
    )
    text = table._repr_html_()
    assert "<script" not in text and text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") == 5
    assert "<td>0.123</td>" in text
    assert "… 3 more" in TABLE[[0] * 13]._repr_html_() and "3.1×snowmobile" in TABLE._repr_html_()


def test_scores_are_added_and_replaced():
    more = TABLE.with_scores({"iou": [1, 2, 3, 4, 5], "sim correlation": np.zeros(5, np.float32)})
    assert list(more.scores) == ["sim correlation", "iou"] and more.facts == TABLE.facts
    assert all(values.dtype == np.float64 for values in more.scores.values())
    assert TABLE.scores["sim correlation"][4] == 0.4


@pytest.mark.parametrize(
    "scores, words",
    [
        ({"a": np.array([np.nan])}, "score 'a' must be 1 finite numbers"),
        ({"a": np.zeros(2)}, "score 'a' must be 1 finite numbers"),
        ({"flag": np.ones(1)}, "the name of another column"),
        ({"concept12": np.ones(1)}, "the name of another column"),
        ({"explanation": np.ones(1)}, "the name of another column"),
        ({"a\nb": np.ones(1)}, "the score .* holds a line break"),
    ],
)
def test_no_other_scores_enter_a_table(scores, words):
    with pytest.raises(ValueError, match=words):
        Explanations((SKI,), scores)


def test_weights_as_a_matrix():
    weights, bias = TABLE[:2].weight_matrix(["dog", "ski", "snowmobile"])
    assert weights.tolist() == [[0, 0], [np.float32(2.2), 0], [np.float32(3.14159265358979), 0]]
    assert bias.tolist() == [np.float32(-0.04), np.float32(0.3)]
    twice = Explanations((Explanation(0, ("a", "a"), (1.0, 2.0), 0.0),))
    assert twice.weight_matrix(["a"])[0].tolist() == [[3.0]]


def test_what_cannot_be_simulated_is_named():
    with pytest.raises(ValueError, match=r"lacks 1 concepts .* \['ski'\]"):
        TABLE[:1].weight_matrix(["snowmobile"])
    with pytest.raises(ValueError, match="neuron 10 is explained by the formula 'dog AND NOT wat"):
        TABLE[4:].weight_matrix(["dog", "water"])
    assert TABLE[4:].weight_matrix(["dog AND NOT water"])[0].tolist() == [[1.0]]
    large = Explanations((Explanation(5, ("a",), (1.0,), 1e300),))
    with pytest.raises(ValueError, match="neuron 5 has weights or a bias beyond float32"):
        large.weight_matrix(["a"])
