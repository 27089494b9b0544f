"""Concept sets: the words that an explanation may use, named sets and text files in any union.

A set is a list of names with `#` comments. Of names that differ only in case, spacing or
underscores the first is kept, with underscores read as spaces. Paper, section 4: class names ∪
superclasses ∪ Broden labels ∪ common nouns; its own lists can be given as files.
"""

from __future__ import annotations

import collections
import difflib
import functools
import importlib.resources
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxle.arrays import checks_input
from jaxle.references import is_reference, load_reference

FILE = "file:"
MOST = 100_000  # concepts of a union: the fit's second moments then take 40 GB
_WRITTEN = 3  # names of a merged concept
LONGEST = 200  # characters of a name; text towers read 16 to 77 tokens

Lines = Iterable[tuple[int, str]]  # line number, text


class OfTheData(NamedTuple):
    """The names that the data set brings."""

    classes: Sequence[str] = ()
    superclasses: Sequence[str] = ()
    annotations: Sequence[str] = ()


class Set(NamedTuple):
    """A named set: what it holds, and the function that reads it."""

    meaning: str
    lines: Callable[[OfTheData], Lines]


def _shipped(name: str, data: OfTheData) -> Lines:
    file = importlib.resources.files("jaxle.concepts").joinpath(f"data/{name}.txt")
    return _without_comments(file.read_text(encoding="utf-8"))


def _of_the_data(name: str, data: OfTheData) -> Lines:
    return enumerate(getattr(data, name), 1)


SHIPPED = {
    "nouns": "some 4,500 English nouns that can be seen, by how common they are (WordNet 3.0)",
    "common_words": "some 11,000 common English words of every kind (WordNet 3.0)",
    "colours": "kinds of colour (WordNet 3.0)",
    "materials": "kinds of fabric, wood, metal, stone, … (WordNet 3.0)",
    "parts": "parts of things and living beings (WordNet 3.0)",
    "textures": "the 47 describable textures",
    "scenes": "the 365 categories of Places365",
    "foreign": "some 400 things that are not in jaxle's own world of scenes, chosen before its "
    "text towers were trained: the control",
}
OF_THE_DATA = {
    "classes": "the data set's classes",
    "superclasses": "what the classes belong to: WordNet's, the data set's own, or the config's",
    "annotations": "what the data have labelled image by image",
}
SETS: dict[str, Set] = {
    name: Set(meaning, functools.partial(read, name))
    for read, sets in ((_of_the_data, OF_THE_DATA), (_shipped, SHIPPED))
    for name, meaning in sets.items()
}


class ConceptSet(NamedTuple):
    """A union of sets."""

    concepts: tuple[str, ...]  # all different, in the order of the sets and within each
    origin: tuple[str, ...]  # the set that each came from first
    repeated: dict[str, int]  # set → how many of its names an earlier line or set had already


class Merged(NamedTuple):
    """A union of sets, names that a tokenizer reads alike made one."""

    concepts: tuple[str, ...]
    origin: tuple[str, ...]  # of the first name
    texts: dict[str, str]  # concept made of several names → the first, which stands for all


@checks_input
def merge_alike(found: ConceptSet, tokens: Int[np.ndarray, "concepts tokens"]) -> Merged:
    """Returns the concepts with those of equal tokens as one, "C++ / C#", in the first one's place.

    An encoder cannot tell them apart, and an explanation that named one of them would be arbitrary.
    Of more than three names, three are written and the others counted.

    Args:
      found: a union of sets.
      tokens: what a tokenizer makes of each name, in every prompt.
    """
    alike: dict[bytes, list[int]] = {}
    for j, row in enumerate(np.ascontiguousarray(tokens)):
        alike.setdefault(row.tobytes(), []).append(j)
    concepts, origin, texts = [], [], {}
    for first, *others in alike.values():
        written = [found.concepts[j] for j in (first, *others[: _WRITTEN - 1])]
        more = len(others) - len(written) + 1
        concept = " / ".join([*written, *([f"{more} more"] if more else [])])
        concepts.append(concept)
        origin.append(found.origin[first])
        if others:
            texts[concept] = found.concepts[first]
    return Merged(tuple(concepts), tuple(origin), texts)


@checks_input
def gather(
    sets: Sequence[str],
    classes: Sequence[str] = (),
    superclasses: Sequence[str] = (),
    annotations: Sequence[str] = (),
) -> ConceptSet:
    """Returns the union of the concept sets that `config.concepts` lists.

    Args:
      sets: names out of `SETS`; `file:PATH` for UTF-8 texts with one concept a line, where blank
        lines and lines that begin with # are left aside; and "package.module:name" of your own
        list of str, or of a function without arguments that returns one.
      classes: the data set's class names, for the set `classes`.
      superclasses: names, for the set `superclasses`.
      annotations: names of what the data have labelled image by image, for the set `annotations`.

    Raises:
      ValueError: no set, an unknown one (the valid names are listed), one that holds nothing, an
        object that is no list of str, a file that cannot be read as UTF-8 text, a name of more than
        200 characters (file and line are named), more than 100,000 concepts.
    """
    if isinstance(sets, str) or not sets:
        raise ValueError(f"concept sets are {sets!r}; expected a list of one or more of {_valid()}")
    data = OfTheData(classes, superclasses, annotations)
    spelling: dict[str, str] = {}
    origin: list[str] = []
    repeated: collections.Counter[str] = collections.Counter()
    for name in sets:
        found = 0
        for number, line in read_lines(name, data):
            concept = " ".join(line.replace("_", " ").split())  # underscores, too
            if len(concept) > LONGEST:
                raise ValueError(
                    f"line {number} of {name} has {len(concept):,} characters ({concept[:40]}…); "
                    f"expected at most {LONGEST}"
                )
            if not concept:
                continue
            found += 1
            if concept.casefold() in spelling:
                repeated[name] += 1
                continue
            spelling[concept.casefold()] = concept
            origin.append(name)
        if not found:
            none = "; the data have none" if name in OF_THE_DATA else ""
            raise ValueError(f"concept set {name} holds no concept{none}")
    if len(spelling) > MOST:
        raise ValueError(
            f"{', '.join(sets)} hold {len(spelling):,} concepts; "
            f"expected at most {MOST:,}, as the fit grows with their square"
        )
    return ConceptSet(tuple(spelling.values()), tuple(origin), dict(repeated))


def read_lines(name: str, data: OfTheData | None = None) -> Lines:
    """Returns (line number, text) of one set, without comments.

    Args:
      name: as in `gather`.
      data: the names that the data set brings; None for none.

    Raises:
      ValueError: an unknown name, a file that cannot be read, an object that is no list of str.
    """
    name = str(name)
    if name in SETS:
        return SETS[name].lines(data or OfTheData())
    if name.startswith(FILE):
        return _without_comments(_read(Path(os.path.expanduser(name.removeprefix(FILE)))))
    if is_reference(name):
        return enumerate(_outside(name), 1)
    near = difflib.get_close_matches(name, SETS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(f"unknown concept set {name!r}{hint}; valid: {_valid()}")


def _outside(name: str) -> Sequence[str]:
    found = load_reference(name, "concept set")
    if callable(found):
        found = found()
    if not isinstance(found, (list, tuple)) or not all(isinstance(word, str) for word in found):
        what = type(found).__name__
        if isinstance(found, (list, tuple)):
            wrong = next(word for word in found if not isinstance(word, str))
            what += f" that holds {wrong!r}"
        raise ValueError(
            f"concept set {name!r} is {what}; expected a list or tuple of str, "
            "or a function that returns one"
        )
    return found


def _without_comments(text: str) -> Lines:
    return [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith("#")
    ]


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read concepts from {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start:,}); expected one concept a line"
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} is not text (a zero byte at character {text.index(chr(0)):,}); "
            "expected one concept a line"
        )
    return text


def _valid() -> str:
    return ", ".join([*SETS, f"{FILE}PATH", "package.module:name"])
