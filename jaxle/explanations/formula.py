"""Logical formulas over concepts: parsed, written, and made into the arithmetic of probabilities.

    formula  =  term  |  term AND term AND …  |  term OR term OR …
    term     =  NOT term  |  ( formula )  |  name

Operators are words in capitals. AND and OR mix only with parentheses, so that nothing depends on
which binds tighter. A **name** is written as it is where it reads back so: words with one space
between them, none of which is an operator or holds a parenthesis or a double quote. Any other name
stands in double quotes, a double quote within it twice, as in CSV: `NOT "salt AND pepper"`,
`"a ""b"" (c)"`. So every name can be told from every operator, and `parse(write(f)) == f`.

`FormulaRows` is a concept matrix whose columns are formulas over another matrix's (`solve.logic`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from jaxle.arrays import Array
from jaxle.mesh import round_up
from jaxle.solve.logic import NEGATED, ONE, PLAIN, Program, probabilities

OPERATORS = ("AND", "OR", "NOT")
SHOWN = 80  # characters of a text in a message
DEEPEST = 64  # parentheses and NOTs within one another: a text is untrusted
COLUMNS = 64  # words are read in multiples, so that nearly equal numbers share programs
_TOKEN = re.compile(r'\s*(?:([()])|"((?:[^"]|"")*)"(?=[\s()]|$)|([^\s()"]+)(?=[\s()]|$))')


@dataclass(frozen=True)
class Name:
    """A concept."""

    name: str


@dataclass(frozen=True)
class Not:
    """What holds where its part does not."""

    part: Formula


@dataclass(frozen=True)
class And:
    """What holds where all of its parts do, two or more."""

    parts: tuple[Formula, ...]

    def __post_init__(self):
        _check_parts(self)


@dataclass(frozen=True)
class Or:
    """What holds where any of its parts does, two or more."""

    parts: tuple[Formula, ...]

    def __post_init__(self):
        _check_parts(self)


Formula = Name | Not | And | Or


def _check_parts(formula: And | Or) -> None:
    if len(formula.parts) < 2:
        raise ValueError(
            f"{type(formula).__name__} must have two parts or more, got {len(formula.parts)}."
        )


def parse(text: str) -> Formula:
    """Returns the formula that a text writes; a name alone is one.

    Raises:
      ValueError: one sentence that says where the text is no formula.
    """
    reader = _Reader(_shown(text), _tokens(text))
    formula = reader.formula(0)
    if reader.next() is not None:
        raise ValueError(f"the formula {_shown(text)} goes on after its end, at {reader.next()!r}.")
    return formula


@functools.lru_cache(maxsize=1 << 14)
def find_formula(text: str) -> Formula | None:
    """Returns what `parse` does, or None for a text that is no formula."""
    try:
        return parse(text)
    except ValueError:
        return None


def write(formula: Formula) -> str:
    """Returns the text that `parse` reads as the same formula.

    Raises:
      ValueError: parts within parts deeper than `parse` reads.
    """
    return _write(formula, 0)


def words(formula: Formula) -> Iterator[str]:
    """Yields the names in a formula, in order, each as often as it stands there."""
    if isinstance(formula, Name):
        yield formula.name
    else:
        for part in (formula.part,) if isinstance(formula, Not) else formula.parts:
            yield from words(part)


def count(text: str) -> int:
    """Returns the length of a formula's text in words; 1 for a text that is no formula."""
    formula = find_formula(text)
    return 1 if formula is None else sum(1 for _ in words(formula))


def is_name(text: str) -> bool:
    """Returns whether a text is a formula of one name and no operator."""
    return isinstance(find_formula(text), Name)


def is_known(text: str, concepts: Collection[str]) -> bool:
    """Returns whether a text is a formula over these concepts alone; fast for a set or mapping."""
    formula = find_formula(text)
    return formula is not None and all(name in concepts for name in words(formula))


# --- text ---------------------------------------------------------------------------------------


def _shown(text: str) -> str:
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}…"


class _Token(str):
    """A parenthesis, an operator or one word of a bare name; or a whole name, if `quoted`."""

    quoted: bool

    def __new__(cls, text: str, quoted: bool = False):
        token = super().__new__(cls, text)
        token.quoted = quoted
        return token

    @property
    def is_operator(self) -> bool:
        return not self.quoted and self in OPERATORS

    @property
    def is_mark(self) -> bool:
        return not self.quoted and self in ("(", ")")


def _tokens(text: str) -> list[_Token]:
    found, place, end = [], 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(
                f"the formula {_shown(text)} cannot be read from character {place} on: "
                'expected a name with other characters than ()" or between double quotes.'
            )
        mark, quoted, word = match.groups()
        if quoted is None:
            found.append(_Token(mark or word))
        else:
            found.append(_Token(quoted.replace('""', '"'), quoted=True))
        place = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, tokens: list[_Token]):
        self._text, self._tokens, self._place = text, tokens, 0

    def next(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def take(self) -> _Token | None:
        token, self._place = self.next(), self._place + 1
        return token

    def formula(self, depth: int) -> Formula:
        if depth > DEEPEST:
            raise ValueError(f"the formula {self._text} nests deeper than {DEEPEST}.")
        parts, operator = [self.term(depth)], None
        while (token := self.next()) is not None and token.is_operator and token != "NOT":
            if operator is not None and token != operator:
                raise ValueError(
                    f"the formula {self._text} mixes AND and OR: expected parentheses."
                )
            operator = self.take()
            parts.append(self.term(depth))
        if operator is None:
            return parts[0]
        return (And if operator == "AND" else Or)(tuple(parts))

    def term(self, depth: int) -> Formula:
        token = self.take()
        if token is None:
            raise ValueError(f"the formula {self._text} ends where a name is expected.")
        if token.quoted:
            return Name(str(token))
        if token == "NOT":
            if depth >= DEEPEST:
                raise ValueError(f"the formula {self._text} nests deeper than {DEEPEST}.")
            return Not(self.term(depth + 1))
        if token == "(":
            inner = self.formula(depth + 1)
            if (end := self.take()) is None or end.quoted or end != ")":
                raise ValueError(f"the formula {self._text} lacks a closing parenthesis.")
            return inner
        if token.is_operator or token.is_mark:
            raise ValueError(f"the formula {self._text} has {str(token)!r} in a name's place.")
        parts = [str(token)]
        while (token := self.next()) is not None and not (
            token.quoted or token.is_operator or token.is_mark
        ):
            parts.append(str(self.take()))
        return Name(" ".join(parts))


def _write(formula: Formula, depth: int) -> str:
    if depth > DEEPEST:
        raise ValueError(f"a formula nests deeper than {DEEPEST}: write it with fewer parts.")
    if isinstance(formula, Name):
        return formula.name if _is_bare(formula.name) else _quoted(formula.name)
    if isinstance(formula, Not):
        return f"NOT {_part(formula.part, depth + 1)}"
    operator = " AND " if isinstance(formula, And) else " OR "
    return operator.join(_part(part, depth) for part in formula.parts)


def _part(formula: Formula, depth: int) -> str:
    if isinstance(formula, (And, Or)):
        return f"({_write(formula, depth + 1)})"
    return _write(formula, depth)


def _is_bare(name: str) -> bool:
    return all(
        re.fullmatch(r'[^\s()"]+', word) and word not in OPERATORS for word in name.split(" ")
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- arithmetic ---------------------------------------------------------------------------------


@runtime_checkable
class ConceptRows(Protocol):
    """A concept matrix whose tiles are made where they are read; images × concepts is not held."""

    @property
    def concepts(self) -> Sequence[str]:
        """Names of all columns."""
        ...

    def rows(
        self, index: np.ndarray, columns: np.ndarray | slice | None = None
    ) -> Float[Array, "rows columns"]:
        """Probabilities (0–1) of some images and concepts."""
        ...


class FormulaRows:
    """A concept matrix whose columns are formulas over another's, made where they are read.

    Attributes:
      formulas: one a column; a concept itself is `Name(concept)`.
      concepts: their texts, the names of the columns; none is the name of two.
      lengths: (columns,) how many words each has.

    Raises:
      ValueError: a name that the matrix lacks.
    """

    def __init__(self, matrix: ConceptRows, formulas: Sequence[Formula]):
        self.formulas, self._matrix = tuple(formulas), matrix
        self.concepts = tuple(write(formula) for formula in self.formulas)
        place = {name: j for j, name in enumerate(matrix.concepts)}
        self._program = compile_formulas(self.formulas, place)
        self.lengths: Int64[np.ndarray, " columns"] = np.array(
            [sum(1 for _ in words(formula)) for formula in self.formulas], np.int64
        )

    def rows(
        self, index: np.ndarray, columns: np.ndarray | slice | None = None
    ) -> Float[Array, "rows columns"]:
        """Probabilities of some images and formulas."""
        which = np.arange(len(self.formulas))[slice(None) if columns is None else columns]
        program = self._program.some(which)
        used, leaves = np.unique(program.leaves, return_inverse=True)
        n_words = len(self._matrix.concepts)
        more = min(round_up(len(used), COLUMNS), n_words) - len(used)
        others = np.setdiff1d(np.arange(n_words), used)[:more]
        tile = self._matrix.rows(index, np.concatenate([used, others]))
        leaves = leaves.reshape(program.leaves.shape).astype(np.int32)
        return probabilities(program._replace(leaves=leaves), tile)


def compile_formulas(formulas: Sequence[Formula], place: Mapping[str, int]) -> Program:
    """Returns formulas as products of registers (`solve.logic`).

    Args:
      formulas: one or more.
      place: name → its column.

    Raises:
      ValueError: a name without a column.
    """
    compiled = [_Products(formula, place) for formula in formulas]
    most = max([1, *(len(own.leaves) for own in compiled)])
    filled = [own.filled(most) for own in compiled]
    shapes = ((most,), *((most - 1,),) * 4)
    leaves, left, right, left_as, right_as = (
        np.array([one[i] for one in filled], np.int32).reshape(len(filled), *shape)
        for i, shape in enumerate(shapes)
    )
    negated = np.array([own.result[1] for own in compiled], bool)
    return Program(leaves, left, right, left_as, right_as, negated)


class _Products:
    """One formula's products; an operand is (register, negated), a product's register (-1 − t)."""

    def __init__(self, formula: Formula, place: Mapping[str, int]):
        self._place = place
        self.leaves: list[int] = []
        self.products: list[tuple[tuple[int, bool], tuple[int, bool]]] = []
        self.result = self._add(formula)

    def _add(self, formula: Formula) -> tuple[int, bool]:
        if isinstance(formula, Name):
            if formula.name not in self._place:
                raise ValueError(
                    f"a formula is over {formula.name!r}, for which there is no column: expected "
                    f"names such as {next(iter(self._place), '')!r}."
                )
            self.leaves.append(self._place[formula.name])
            return len(self.leaves) - 1, False
        if isinstance(formula, Not):
            register, negated = self._add(formula.part)
            return register, not negated
        flip = isinstance(formula, Or)  # A OR B is NOT (NOT A AND NOT B)
        # the longest part first, so that most formulas are chains
        parts = sorted(formula.parts, key=lambda part: -sum(1 for _ in words(part)))
        register, negated = self._add(parts[0])
        operand = register, negated ^ flip
        for part in parts[1:]:
            register, negated = self._add(part)
            self.products.append((operand, (register, negated ^ flip)))
            operand = -len(self.products), False
        return operand[0], operand[1] ^ flip

    def filled(self, most: int) -> tuple[list[int], ...]:
        """Leaves, left, right, left_as, right_as of a program for `most` words."""
        own, products = len(self.leaves), list(self.products)
        last = self.result[0]
        kinds = [
            [NEGATED if operand[side][1] else PLAIN for operand in products] for side in (0, 1)
        ]
        registers = [[operand[side][0] for operand in products] for side in (0, 1)]
        for t in range(own - 1, most - 1):
            registers[0].append(last)
            registers[1].append(t + 1)
            kinds[0].append(PLAIN)
            kinds[1].append(ONE)
            last = -1 - t
        at = [[r if r >= 0 else most - 1 - r for r in side] for side in registers]
        return (self.leaves + [0] * (most - own), *at, *kinds)
