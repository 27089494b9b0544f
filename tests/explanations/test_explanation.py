import dataclasses

import numpy as np
import pytest

from jaxle import Explanation
from jaxle.explanations import check_names

SKI = Explanation(136, ("snowmobile", "ski"), (3.14159265358979, 2.2), -0.04, 0.51)


def test_reads_as_a_sum_of_words():
    assert str(SKI) == "3.1×snowmobile + 2.2×ski − 0.04"
    assert str(Explanation(0, (), (), 0.3, 0.0, "unexplained")) == "0.3"
    assert str(Explanation(0, ("a", "b"), (-1.0, 2.0), 0.5)) == "−1×a + 2×b + 0.5"


def test_another_method_s_text_reads_as_it_is():
    formula = "(dog OR cat) AND NOT water"
    assert str(Explanation(0, ("red things",), (1.0,), 0.0, kind="description")) == "red things"
    assert str(Explanation(0, (formula,), (1.0,), 0.0, kind="formula")) == formula
    scaled = Explanation(0, (formula,), (2.5,), 0.1, kind="formula")
    assert str(scaled) == f"2.5×[{formula}] + 0.1" and not scaled.is_bare


def test_numbers_become_python_s_own():
    row = Explanation(np.int32(3), ["a"], np.float32([0.1]), np.float64(1), np.float16(0.5))
    assert row == Explanation(3, ("a",), (float(np.float32(0.1)),), 1.0, 0.5)
    assert {type(row.unit), type(row.bias), type(row.weights[0])} == {int, float}


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"weights": (float("inf"),)}, "finite numbers, got weights .inf"),
        ({"bias": float("nan")}, "finite numbers"),
        ({"val_correlation": float("nan")}, "finite numbers"),
        ({"weights": (1.0, 2.0)}, "1 concepts and 2 weights"),
        ({"kind": "sentence"}, "kind 'sentence'; expected one of linear, description, formula"),
        ({"kind": "description", "concepts": (), "weights": ()}, "must be one text"),
        ({"kind": "formula", "concepts": (), "weights": ()}, "must be one text"),
        ({"unit": 1.5}, "whole number from 0, got 1.5"),
        ({"unit": -1}, "whole number from 0, got -1"),
        ({"concepts": (None,)}, "named by text, got None"),
        ({"concepts": ("a\nb",)}, r"concept 'a\\nb' holds a line break"),
        ({"flag": "a\rb"}, "the flag .* holds a line break"),
    ],
)
def test_what_no_table_could_hold_is_refused(fields, words):
    good = {"unit": 7, "concepts": ("a",), "weights": (1.0,), "bias": 0.0}
    Explanation(**good)
    with pytest.raises(ValueError, match=words):
        Explanation(**{**good, **fields})


@pytest.mark.parametrize("character", [*"\n\r\v\f\0", "\x1c", "\x85", "\u2028", "\ud800"])
def test_line_breaks_nul_and_half_characters_are_named(character):
    check_names(["t-shirt", "", "crane (bird)", '"', "zwölf", "\t", "🐕"])
    with pytest.raises(ValueError, match="holds a line break, NUL or half a surrogate pair"):
        check_names(["a", f"b{character}c"])


def test_rows_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKI.bias = 1.0
