"""Options as frozen dataclasses: kind, default, range and meaning of each, stated once.

A class of options is a frozen dataclass whose fields are made by `option`. `read` turns what a user
wrote into such a record or refuses it with one sentence; `describe` gives what a page of
documentation or a template of a config needs. Explainers and the run's config are built of these.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

Record = TypeVar("Record")
LISTED = 60  # names in a message


class Option(NamedTuple):
    """One field of a class of options."""

    name: str
    kind: type  # bool, int, float, str, tuple or dict
    optional: bool  # None is a value
    default: Any
    meaning: str
    low: float  # least value
    high: float  # largest value
    above: float  # the value must be larger than this
    below: float  # and smaller than this
    choices: tuple[Any, ...]  # the only values, where there are any

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            words = f"one of {', '.join(repr(c) if c == '' else str(c) for c in self.choices)}"
        else:
            words = _KINDS[self.kind]
            if self.kind in (int, float):
                words += self._range()
        return f"{words}, or None" if self.optional else words

    def _range(self) -> str:
        low = self.low > -math.inf or self.above > -math.inf
        high = self.high < math.inf or self.below < math.inf
        if low and high:
            left = f"[{self.low:g}" if self.low > -math.inf else f"({self.above:g}"
            right = f"{self.high:g}]" if self.high < math.inf else f"{self.below:g})"
            return f" in {left}, {right}"
        if self.low > -math.inf:
            return f" of at least {self.low:g}"
        return f" above {self.above:g}" if low else ""


_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple",
    dict: "a dict",
}


def option(
    default: Any,
    meaning: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[Any] = (),
) -> Any:
    """Returns a dataclass field with its default, its meaning (one line) and its range.

    Args:
      default: the value where none is given; a dict is copied for every record.
      meaning: one line of documentation.
      low, high: closed ends of the range of a number.
      above, below: open ends of it.
      choices: the only values allowed.
    """
    metadata = {
        "meaning": meaning,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "choices": tuple(choices),
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def describe(cls: type) -> dict[str, Option]:
    """Returns name → `Option` of every field of a class that `option` made, in order."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        if "meaning" not in field.metadata:
            continue
        kind, optional = _kind(hints[field.name])
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        found[field.name] = Option(field.name, kind, optional, default, **field.metadata)
    return found


def read(cls: type[Record], values: Mapping[str, Any], where: str = "") -> Record:
    """Returns the record that `values` describe; fields that are not given have their defaults.

    Args:
      cls: a class of options.
      values: field name → value; NumPy's scalars count as Python's, lists as tuples.
      where: what stands before a field's name in a sentence, such as "config field search.".

    Raises:
      ValueError: an unknown name (the nearest is offered), a value of another kind or out of range.
    """
    return cls(**checked(cls, values, where))


def checked(cls: type, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Returns the values that are given, each as its field's kind; arguments as in `read`."""
    fields = describe(cls)
    for name in values:
        if name not in fields:
            raise ValueError(f"unknown {where or 'option '}{name}: {suggest(name, fields)}.")
    return {name: convert(fields[name], value, where) for name, value in values.items()}


def convert(field: Option, value: Any, where: str = "") -> Any:
    """Returns the value as the field's kind, or raises a ValueError of one sentence."""
    got = " ".join(repr(value).split())
    got = f"{got[:57]}..." if len(got) > 60 else got
    refusal = ValueError(f"{where}{field.name} must be {field.expected}, got {got}.")
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and np.ndim(value) == 0:
        value = value.item()  # a number of NumPy's or JAX's
    if value is None:
        if field.optional:
            return None
        raise refusal
    if field.kind is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    if field.kind is dict and isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bool) is not (field.kind is bool):
        raise refusal
    if field.kind is float and isinstance(value, int):
        try:
            value = float(value)
        except OverflowError:
            raise refusal from None
    if not isinstance(value, field.kind) or (field.choices and value not in field.choices):
        raise refusal
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        within = field.low <= value <= field.high and field.above < value < field.below
        if not (within and math.isfinite(value)):
            raise refusal
    return value


def number(name: str, value: Any, kind: type, **limits: float) -> Any:
    """Returns one argument as bool, int or float, or raises a ValueError of one sentence.

    Args:
      name: of the argument.
      value: NumPy's and JAX's scalars count as Python's.
      kind: bool, int or float.
      limits: low, high, above, below, as for `option`.
    """
    infinite = {"low": -math.inf, "high": math.inf, "above": -math.inf, "below": math.inf}
    field = Option(name, kind, False, None, "", **infinite | limits, choices=())
    return convert(field, value)


def seed(value: Any, name: str = "seed") -> int:
    """Returns the seed of a draw, a whole number from 0 to 2⁶⁴ − 1, or raises a ValueError."""
    try:
        return number(name, value, int, low=0, high=2**64 - 1)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; expected an integer from 0 to 2**64 − 1") from None


def suggest(name: object, valid: Sequence[str] | Mapping[str, Any]) -> str:
    """Returns what to write in place of an unknown name: the nearest valid one, and all of them.

    Of more than `LISTED` names the first are listed.
    """
    names = [str(other) for other in valid]
    near = difflib.get_close_matches(str(name), names, 1, 0.6)
    listed = f"valid: {', '.join(names[:LISTED]) or 'none'}"
    if len(names) > LISTED:
        listed += f", … ({len(names)} in all)"
    return f"did you mean {near[0]!r}? ({listed})" if near else listed


def _kind(hint: Any) -> tuple[type, bool]:
    """The kind of a field's annotation, and whether None is a value."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        assert len(inner) == 1, f"an option has one kind, got {hint}"
        return _kind(inner[0])[0], True
    kind = origin or hint
    kind = dict if kind in (dict, Mapping) else kind
    assert kind in _KINDS, f"an option is {', '.join(k.__name__ for k in _KINDS)}, got {hint}"
    return kind, False
