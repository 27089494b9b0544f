"""Concept sets: the words that an explanation may use, named sets and text files in any union.

A set is a list of names with `#` comments. Of names that differ only in case, spacing or underscores the first is kept, with underscores
read as spaces. Paper, section 4: class names ∪ superclasses ∪ Broden labels ∪ common nouns; its own lists can be given as files.
"""

import collections
import difflib
import importlib.resources
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

SHIPPED = {
    "nouns": "some 4,500 English nouns that can be seen, by how common they are (WordNet 3.0)",
    "common_words": "some 11,000 common English words of every kind (WordNet 3.0)",
    "colours": "kinds of colour (WordNet 3.0)",
    "materials": "kinds of fabric, wood, metal, stone, … (WordNet 3.0)",
    "parts": "parts of things and living beings (WordNet 3.0)",
    "textures": "the 47 describable textures",
    "scenes": "the 365 categories of Places365",
    "foreign": "some 400 things that are not in jaxle's own world of scenes, fixed before its text towers were trained: the control",
}
OF_THE_DATA = ("classes", "superclasses", "annotations")
FILE = "file:"
MOST = 100_000  # concepts of a union: the fit's second moments then take 40 GB
LONGEST = 200  # characters of a name; text towers read 16 to 77 tokens


class ConceptSet(NamedTuple):
    """A union of sets."""

    concepts: tuple[str, ...]  # all different, in the order of the sets and within each
    origin: tuple[str, ...]  # the set that each came from first
    repeated: dict[str, int]  # set → how many of its names an earlier line or set had already


def gather(
    sets: Sequence[str],
    classes: Sequence[str] = (),
    superclasses: Sequence[str] = (),
    annotations: Sequence[str] = (),
) -> ConceptSet:
    """Make the union of concept sets; use it for what `config.concepts` lists.

    Args:
      sets: names out of `SHIPPED` and `OF_THE_DATA`, and `file:PATH` for UTF-8 texts with one concept a line; blank lines and lines that
        begin with # count for nothing.
      classes: the data set's class names, for the set `classes`.
      superclasses: names, for the set `superclasses`.
      annotations: names of what the data have labelled image by image, for the set `annotations`.

    Returns:
      ConceptSet.

    Raises:
      ValueError: no set, an unknown one (the valid names are listed), one that holds nothing, a file that cannot be read as UTF-8 text, a
        name of more than 200 characters (file and line are named), more than 100,000 concepts.
    """
    if isinstance(sets, str) or not sets:
        raise ValueError(f"concept sets are {sets!r}; expected a list of one or more of {_valid()}")
    of_data = {"classes": classes, "superclasses": superclasses, "annotations": annotations}
    spelling, origin, repeated = {}, [], collections.Counter()
    for name in sets:
        lines = enumerate(of_data[name], 1) if name in of_data else read_lines(name)
        found = 0
        for number, line in lines:
            concept = tidy(line)
            if len(concept) > LONGEST:
                raise ValueError(
                    f"line {number} of {name} has {len(concept):,} characters ({concept[:40]}…); expected at most {LONGEST}"
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
            raise ValueError(
                f"concept set {name} holds no concept{'; the data have none' if name in of_data else ''}"
            )
    if len(spelling) > MOST:
        raise ValueError(
            f"{', '.join(sets)} hold {len(spelling):,} concepts; expected at most {MOST:,}, as the fit grows with their square"
        )
    return ConceptSet(tuple(spelling.values()), tuple(origin), dict(repeated))


def read_lines(name: str) -> Iterable[tuple[int, str]]:
    """(line number, text) of a shipped set or of `file:PATH`, without comments."""
    if name in SHIPPED:
        text = (
            importlib.resources.files("jaxle.concepts")
            .joinpath(f"data/{name}.txt")
            .read_text(encoding="utf-8")
        )
    elif str(name).startswith(FILE):
        text = _read(Path(os.path.expanduser(name.removeprefix(FILE))))
    else:
        near = difflib.get_close_matches(str(name), [*OF_THE_DATA, *SHIPPED], n=1)
        raise ValueError(
            f"unknown concept set {name!r}{f' (did you mean {near[0]}?)' if near else ''}; valid: {_valid()}"
        )
    return [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith("#")
    ]


def tidy(name: str) -> str:
    """A name as text: underscores as spaces, single spaces, none at the ends."""
    return " ".join(str(name).replace("_", " ").split())


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
            f"{path} is not text (a zero byte at character {text.index(chr(0)):,}); expected one concept a line"
        )
    return text


def _valid() -> str:
    return ", ".join([*OF_THE_DATA, *SHIPPED, f"{FILE}PATH"])
