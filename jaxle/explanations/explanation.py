"""One neuron's explanation, and the names that may stand in it.

    activation ≈ Σ_i weight_i · Pr(concept_i is in the image) + bias

An explanation has one of three kinds (`KINDS`). All of them are such a sum, so that one table and
one file hold them; the kind says what the names are.

* `linear`: the names are concepts. This is what jaxle's own searches give.
* `description`: one bare text of another method (CLIP-Dissect, MILAN, Network Dissection), which
  counts as one concept of weight 1: E = {(1, text)} in the paper's notation.
* `formula`: the names are logical formulas over concepts, such as `(dog OR cat) AND NOT water`
  (`jaxle.explanations.formula` says how they are written): one of another method, such as INVERT,
  with weight 1, or a weighted sum of several, of which some may be concepts. A formula's column is
  made of its concepts' probabilities; its length is its number of words. A text that is no formula
  by these rules is kept and shown as it is, and simulated only by a matrix that has a column of
  exactly that name.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass

from jaxle.arrays import checks_input
from jaxle.explanations import formula

FLAGS = {
    "dead": "it does not fire on any probe image",
    "constant": "its activation does not vary on the training images",
    "unexplained": "nothing that was tried correlates with it on images that its fit did not see",
    "unnamed": "the file that was read does not name it",
    "unconverged": "its elastic net stopped at the iteration cap, above the tolerance",
}
KINDS = {
    "linear": "a weighted sum of concepts",
    "description": "one bare text of another method, which counts as a concept of weight 1",
    "formula": "one logical formula over concepts, or a weighted sum of several",
}
# What str.splitlines takes for a line's end; NUL, which ends a NumPy string; halves of a surrogate
# pair, which UTF-8 cannot write.
_UNSTORABLE = re.compile("[\0\n\r\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]")


@checks_input
def check_names(names: Iterable[str], what: str = "concept") -> None:
    """Raises a ValueError for the first name that no table and no file could hold.

    A name is any text, the empty one included, on one line and without NUL. Call this where names
    enter; `Explanation` calls it again.

    Args:
      names: the names.
      what: what they name, for the message.

    Raises:
      ValueError: a name is not a str, holds a line break or NUL, or is not valid Unicode.
    """
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"a {what} must be named by text, got {name!r}.")
        if _UNSTORABLE.search(name):
            raise ValueError(
                f"the {what} {name!r} holds a line break, NUL or half a surrogate pair; "
                "expected text on one line: replace the character by a space."
            )


def _unit(unit) -> int:
    try:
        number = operator.index(unit)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise ValueError(f"a neuron's unit must be a whole number from 0, got {unit!r}.")
    return number


@checks_input
@dataclass(frozen=True)
class Explanation:
    """One neuron's explanation: `str(e)` reads "3.1×snowmobile + 2.2×ski − 0.04".

    Numbers are kept as Python's own, whatever real scalars are given.

    Attributes:
      unit: the neuron's index in its layer.
      concepts: the words, by descending weight; empty if the neuron has no explanation. A
        description is one text, a formula at least one.
      weights: one per concept, on the raw concept probability, in units of the activation.
      bias: the intercept, in units of the activation.
      val_correlation: Pearson's correlation with the activation on the validation images; None
        where none is known.
      flag: "" or the reason why the explanation needs care, such as one of `FLAGS`.
      kind: one of `KINDS`: "linear", "description" or "formula".

    Raises:
      ValueError: the unit is no index, a number is not finite, names and weights differ in number,
        a name cannot be stored (`check_names`), the kind is unknown, or a description is not one
        text.
    """

    unit: int
    concepts: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    val_correlation: float | None = None
    flag: str = ""
    kind: str = "linear"

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("unit", _unit(self.unit))
        check_names(self.concepts)
        check_names([self.flag], "flag")
        put("concepts", tuple(str(name) for name in self.concepts))
        put("weights", tuple(float(weight) for weight in self.weights))
        put("bias", float(self.bias))
        numbers = [*self.weights, self.bias]
        if self.val_correlation is not None:
            put("val_correlation", float(self.val_correlation))
            numbers.append(self.val_correlation)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"the explanation of neuron {self.unit} must hold finite numbers, got weights "
                f"{self.weights}, bias {self.bias}, val_correlation {self.val_correlation}."
            )
        if len(self.concepts) != len(self.weights):
            raise ValueError(
                f"the explanation of neuron {self.unit} must have one weight per concept, got "
                f"{len(self.concepts)} concepts and {len(self.weights)} weights."
            )
        if self.kind not in KINDS:
            raise ValueError(
                f"the explanation of neuron {self.unit} has kind {self.kind!r}; expected one of "
                f"{', '.join(KINDS)}."
            )
        one = len(self.concepts) == 1 or (self.kind == "formula" and self.concepts)
        if self.kind != "linear" and not one:
            raise ValueError(
                f"the {self.kind} of neuron {self.unit} must be one text, got {self.concepts}."
            )

    @property
    def is_bare(self) -> bool:
        """Whether it is a description or a formula with weight 1, bias 0: its text says it all."""
        return self.kind != "linear" and self.weights == (1.0,) and self.bias == 0.0

    @property
    def length(self) -> int:
        """How many words it has: concepts, those of a formula each as often as it stands there."""
        counts = self.kind == "formula"
        return sum(map(formula.count, self.concepts)) if counts else len(self.concepts)

    @property
    def words(self) -> tuple[str, ...]:
        """The concepts that a simulator must know; none of a text that is no formula."""
        if self.kind != "formula":
            return self.concepts
        found = map(formula.find_formula, self.concepts)
        return tuple(name for one in found if one is not None for name in formula.words(one))

    @property
    def texts(self) -> tuple[str, ...]:
        """Each of `concepts` as the text of a formula: one name for a concept (`formula.write`)."""
        if self.kind != "formula":
            return tuple(formula.write(formula.Name(concept)) for concept in self.concepts)
        found = ((formula.find_formula(text), text) for text in self.concepts)
        return tuple(text if one is None else formula.write(one) for one, text in found)

    def __str__(self) -> str:
        if self.is_bare:
            return self.concepts[0]
        plain = self.kind != "formula"
        names = [c if plain or formula.is_name(c) else f"[{c}]" for c in self.concepts]
        terms = [
            f"{'−' if w < 0 else '+'} {abs(w):.2g}×{name}"
            for w, name in zip(self.weights, names, strict=True)
        ]
        text = " ".join([*terms, f"{'−' if self.bias < 0 else '+'} {abs(self.bias):.2g}"])
        return text[2:] if text.startswith("+ ") else "−" + text[2:]
