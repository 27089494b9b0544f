"""Superclasses of classes that are WordNet synsets (method.md §3, Label), and readable names.

An image belongs to every hypernym of its class. Shipped are WordNet 3.0's noun synsets with their
hypernyms, the synsets of ImageNet-1k's classes in the order of its labels, and one synset for each
class of CIFAR-10 and CIFAR-100; all made by tools/concept_tables.py. A data set whose class names
are synset ids (ImageNet, Tiny-ImageNet, ImageNet-21k) needs nothing else.

The paper's code keys hypernyms by their first lemma, so that synsets of one name merge. Here each
synset is a concept of its own, and one whose name is another's too is distinguished by its
hypernym: crane (wading bird).
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxle.concepts.hierarchy import resolve_superclasses

SYNSET = re.compile(r"(n\d{8})(?:[_ -].*)?")  # an id, alone or before a name: n01443537_goldfish
DATA_SETS = ("cifar10", "cifar100")
# As the paper's code does: 19 coarse labels of CIFAR-100.
_MERGED = {"vehicles 1": "vehicles", "vehicles 2": "vehicles"}


class Described(NamedTuple):
    """Classes in words, and what they belong to."""

    class_names: tuple[str, ...]  # readable, in the order of the classes, all different
    # name → class names; the most specific first, as `LabelConcepts.make` takes them
    superclasses: dict[str, tuple[str, ...]]
    dropped: dict[str, str]  # synset id of a hypernym → why it is no superclass


def describe(class_names: Sequence[str]) -> Described:
    """Returns readable names and superclasses of classes that WordNet has.

    Args:
      class_names: ids such as "n02099601" or "n01443537_goldfish" in any order, or the class names
        of one of `DATA_SETS` (case, spacing and underscores are free).

    Returns:
      Described. Of hypernyms with the same classes the most specific is kept; dropped are those of
      a single class and of all classes.

    Raises:
      ValueError: names that are neither, or ids that WordNet 3.0 does not have as nouns.
    """
    ids = synsets(class_names)
    if SYNSET.fullmatch(str(class_names[0])):
        names = _distinct(ids, taken=())
    else:
        names = tuple(_plain(name) for name in class_names)
    members: dict[str, list[str]] = {}
    for own, name in zip(ids, names, strict=True):
        for above in _ancestors(own) - {own}:
            members.setdefault(above, []).append(name)
    for own, name in zip(ids, names, strict=True):  # a class that is itself a hypernym of others
        if own in members:
            members[own].append(name)
    specific_first = sorted(members, key=lambda synset: (-_depth(synset), synset))
    hierarchy = resolve_superclasses({synset: members[synset] for synset in specific_first}, names)
    labels = _distinct(hierarchy.names, taken=names)
    position = {name: i for i, name in enumerate(names)}
    kept = {
        label: tuple(sorted(members[synset], key=position.__getitem__))
        for label, synset in zip(labels, hierarchy.names, strict=True)
    }
    return Described(names, kept, hierarchy.dropped)


def synsets(class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the WordNet ids of classes.

    Raises:
      ValueError: classes that have none (see `describe`).
    """
    class_names = [str(name) for name in class_names]
    found = [SYNSET.fullmatch(name) for name in class_names]
    if class_names and all(found):
        class_names = [match[1] for match in found if match]
        unknown = [name for name in class_names if name not in _graph()]
        if unknown:
            raise ValueError(
                f"classes that are no noun synsets of WordNet 3.0: {', '.join(unknown[:10])}"
            )
        if len(set(class_names)) < len(class_names):
            raise ValueError("class names repeat; expected each synset once")
        return tuple(class_names)
    for data_set in DATA_SETS:
        table = _classes(data_set)
        if class_names and {_plain(name) for name in class_names} <= table.keys():
            return tuple(table[_plain(name)][0] for name in class_names)
    raise ValueError(
        f"class names are {', '.join(class_names[:5]) or 'none'}…; expected WordNet ids such as "
        f"n02099601, or the classes of {' or '.join(DATA_SETS)}; for other data give superclasses "
        "by name in the config"
    )


def imagenet() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet-1k's classes, in the order of its labels and of every
    network's logits."""
    return tuple(_text("imagenet.txt").split())


def coarse(class_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns CIFAR-100's own coarse labels as superclasses.

    Vehicles 1 and 2 are merged, as in the paper's code.

    Raises:
      ValueError: a class that CIFAR-100 does not have.
    """
    table = _classes("cifar100")
    unknown = [str(name) for name in class_names if _plain(str(name)) not in table]
    if unknown:
        raise ValueError(
            f"classes without a coarse label: {', '.join(unknown[:10])}; "
            "expected classes of cifar100"
        )
    members: dict[str, list[str]] = {}
    for name in class_names:
        label = _plain(table[_plain(name)][1])
        members.setdefault(_MERGED.get(label, label), []).append(name)
    return {label: tuple(members[label]) for label in sorted(members)}


def _distinct(ids: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    """Names of synsets; those that equal one another or a name that is taken are qualified by the
    nearest hypernym that differs."""
    graph = _graph()
    groups: dict[str, list[str]] = {}
    for synset in ids:
        groups.setdefault(graph[synset][0], []).append(synset)
    labels, used = {}, {*taken, *groups}
    for name, alike in groups.items():
        if len(alike) == 1 and name not in taken:
            labels[alike[0]] = name
            continue
        lines = [
            sorted(_ancestors(synset) - {synset}, key=lambda above: (-_depth(above), above))
            for synset in alike
        ]
        for step in range(max(map(len, lines))):
            found = [f"{name} ({graph[line[min(step, len(line) - 1)]][0]})" for line in lines]
            if len(set(found)) == len(found) and not used & set(found):
                break
        else:
            found = [f"{name} ({synset})" for synset in alike]
            # a class, and the superclass that it is too
            found = [f"kinds of {label}" if label in used else label for label in found]
        used.update(found)
        labels.update(zip(alike, found, strict=True))
    return tuple(labels[synset] for synset in ids)


@functools.cache
def _graph() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Synset id → (first lemma, ids of hypernyms)."""
    packed = (
        importlib.resources.files("jaxle.concepts")
        .joinpath("data/wordnet_nouns.tsv.gz")
        .read_bytes()
    )
    rows = (line.split("\t") for line in gzip.decompress(packed).decode().splitlines())
    return {synset: (name, tuple(above.split())) for synset, name, above in rows}


@functools.cache
def _ancestors(synset: str) -> frozenset[str]:
    return frozenset([synset]).union(*(_ancestors(above) for above in _graph()[synset][1]))


@functools.cache
def _depth(synset: str) -> int:
    return 1 + max((_depth(above) for above in _graph()[synset][1]), default=0)


@functools.cache
def _classes(data_set: str) -> dict[str, tuple[str, str]]:
    """Class → (synset id, coarse label, empty where the data set has none)."""
    rows = (line.split("\t") for line in _text(f"{data_set}.tsv").splitlines())
    return {_plain(name): (synset, label) for name, synset, label in rows}


def _text(name: str) -> str:
    return (
        importlib.resources.files("jaxle.concepts")
        .joinpath(f"data/{name}")
        .read_text(encoding="utf-8")
    )


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
