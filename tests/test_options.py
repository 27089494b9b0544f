"""Options as dataclasses: what they say of themselves, and what they let in."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from jaxle.options import convert, describe, option, read, suggest


@dataclasses.dataclass(frozen=True)
class Every:
    number: float = option(0.5, "a share", low=0, high=1)
    above: float = option(1.0, "positive", above=0)
    between: float = option(0.5, "inside", above=0, below=1)
    count: int = option(3, "how many", low=1)
    perhaps: float | None = option(None, "a length", low=1)
    word: str = option("a", "which", choices=("", "a", "b"))
    text: str = option("", "anything")
    switch: bool = option(True, "on or off")
    names: tuple[str, ...] = option((), "some")
    table: dict[str, Any] = option({"a": 1}, "a mapping")
    plain: int = 7  # no option: not described


def test_each_field_says_its_kind_default_and_range():
    fields = describe(Every)
    assert list(fields) == [f.name for f in dataclasses.fields(Every)][:-1]
    kinds = [float, float, float, int, float, str, str, bool, tuple, dict]
    assert [of.kind for of in fields.values()] == kinds
    assert [of.optional for of in fields.values()] == [name == "perhaps" for name in fields]
    assert fields["table"].default == {"a": 1} and fields["count"].meaning == "how many"
    assert {name: of.expected for name, of in fields.items()} == {
        "number": "a number in [0, 1]",
        "above": "a number above 0",
        "between": "a number in (0, 1)",
        "count": "a whole number of at least 1",
        "perhaps": "a number of at least 1, or None",
        "word": "one of '', a, b",
        "text": "text",
        "switch": "True or False",
        "names": "a tuple",
        "table": "a dict",
    }


def test_what_is_not_given_has_its_default_and_a_dict_is_each_records_own():
    one, two = read(Every, {}), read(Every, {})
    assert one == Every() == two and one.table is not two.table


def test_values_come_out_as_their_kind():
    given = {
        "number": 1,
        "count": np.int64(4),
        "above": np.float32(0.5),
        "perhaps": 2,
        "names": ["a", "b"],
        "table": {"b": 2},
        "switch": np.bool_(False),
        "word": "",
    }
    record = read(Every, given)
    assert record == Every(1.0, 0.5, 0.5, 4, 2.0, "", "", False, ("a", "b"), {"b": 2})
    for value, kind in ((record.number, float), (record.count, int), (record.switch, bool)):
        assert type(value) is kind
    assert read(Every, {"perhaps": None}).perhaps is None


@pytest.mark.parametrize(
    "name, value",
    [
        ("number", 1.5),
        ("number", -0.1),
        ("number", "0.5"),
        ("number", True),
        ("number", None),
        ("number", float("nan")),
        ("above", 0),
        ("above", float("inf")),
        ("between", 1),
        ("between", 0.0),
        ("count", 0),
        ("count", 1.0),
        ("count", True),
        ("perhaps", 0.5),
        ("perhaps", True),
        ("word", "c"),
        ("word", None),
        ("text", 3),
        ("switch", 1),
        ("switch", "True"),
        ("names", "a"),
        ("names", None),
        ("table", [("a", 1)]),
    ],
)
def test_anything_else_is_refused_with_one_sentence(name, value):
    with pytest.raises(ValueError) as error:
        read(Every, {name: value}, "config field x.")
    expected = describe(Every)[name].expected
    assert str(error.value) == f"config field x.{name} must be {expected}, got {value!r}."


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown option cout: did you mean 'count'"):
        read(Every, {"cout": 1})
    with pytest.raises(ValueError, match="unknown option zzz: valid: number, above, "):
        read(Every, {"zzz": 1})
    with pytest.raises(ValueError, match="unknown option plain: "):
        read(Every, {"plain": 1})
    assert suggest("x", []) == "valid: none"


def test_a_field_of_no_kind_is_a_mistake_of_the_programmer():
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        both: int | str = option(1, "two kinds")

    with pytest.raises(AssertionError, match="an option has one kind"):
        describe(Wrong)


def test_ranges_hold_at_their_ends():
    fields = describe(Every)
    assert convert(fields["number"], 0) == 0 and convert(fields["number"], 1) == 1
    assert convert(fields["perhaps"], 1) == 1
