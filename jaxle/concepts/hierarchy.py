"""Superclasses: concepts that hold of an image because of its class (method.md §3, Label).

`animal` holds of every image of a cat. Given as a dict of name → members, each a class or another
superclass: by a config, or from WordNet (`wordnet`). What would add nothing to the fit is dropped:
a superclass of one class or of all of them, and every further name of the same set.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxle.arrays import checks_input


class Hierarchy(NamedTuple):
    """The superclasses that remain, and why the others do not."""

    names: tuple[str, ...]  # superclasses kept, in the order given
    membership: Bool[np.ndarray, "classes superclasses"]  # is the class in it?
    dropped: dict[str, str]  # superclass → why it was dropped


@checks_input
def resolve_superclasses(
    superclasses: Mapping[str, Sequence[str]], class_names: Sequence[str]
) -> Hierarchy:
    """Returns named superclasses resolved down to classes.

    Args:
      superclasses: dict of name → list of member names, classes or other superclasses, nested as
        deep as wanted.
      class_names: the data set's classes.

    Returns:
      Hierarchy. Dropped are superclasses of a single class, of all classes (a constant column), and
      all but the first name of each set.

    Raises:
      ValueError: members that are neither class nor superclass, superclasses that contain
        themselves, that have no members, or that bear a class's name; all such names are listed.
    """
    row = {name: i for i, name in enumerate(class_names)}
    _check_names(superclasses, row)
    sets: dict[str, frozenset[int]] = {}

    def classes_of(name: str, above: list[str]) -> frozenset[int]:
        if name in row:
            return frozenset([row[name]])
        if name in above:
            raise ValueError(
                "superclasses contain themselves: "
                f"{' → '.join([*above[above.index(name) :], name])}"
            )
        if name not in sets:
            sets[name] = frozenset().union(
                *(classes_of(member, [*above, name]) for member in superclasses[name])
            )
        return sets[name]

    kept: dict[frozenset[int], str] = {}
    dropped: dict[str, str] = {}
    for name in superclasses:
        members = classes_of(name, [])
        if len(members) == 1:
            dropped[name] = f"it has a single class, {class_names[min(members)]}"
        elif len(members) == len(row):
            dropped[name] = "it has all classes, so it is the same for every image"
        elif members in kept:
            dropped[name] = f"it has the same classes as {kept[members]}"
        else:
            kept[members] = name
    membership = np.zeros((len(row), len(kept)), bool)
    for column, members in enumerate(kept):
        membership[sorted(members), column] = True
    return Hierarchy(tuple(kept.values()), membership, dropped)


def _check_names(superclasses, row):
    clash = [name for name in superclasses if name in row]
    if clash:
        raise ValueError(
            f"superclasses bear the names of classes: {', '.join(clash)}; expected other names"
        )
    texts = [name for name, members in superclasses.items() if isinstance(members, str)]
    if texts:
        raise ValueError(
            f"superclasses with a text for members: {', '.join(texts)}; expected a list of names"
        )
    empty = [name for name, members in superclasses.items() if not members]
    if empty:
        raise ValueError(
            f"superclasses without members: {', '.join(empty)}; expected class or superclass names"
        )
    known = {*row, *superclasses}
    unknown = [
        f"{member} in {name}{_hint(member, known)}"
        for name, members in superclasses.items()
        for member in members
        if member not in known
    ]
    if unknown:
        raise ValueError(
            f"superclass members that are neither class nor superclass: {', '.join(unknown)}"
        )


def _hint(member, known):
    near = difflib.get_close_matches(str(member), sorted(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
