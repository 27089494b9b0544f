"""WordNet 3.0's database files, from which the tables of concepts are made (concept_tables.py).

Debian's package `wordnet-base` puts them in /usr/share/wordnet; their format is described in its
manual page wndb(5WN).
"""

import collections
from pathlib import Path
from typing import NamedTuple

PARTS_OF_SPEECH = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
LEXICOGRAPHER_FILES = {  # lexnames(5WN)
    **{
        5: "animal",
        6: "artifact",
        8: "body",
        13: "food",
        17: "object",
        18: "person",
        19: "phenomenon",
        20: "plant",
        27: "substance",
    },
}
# Synsets marked with one of these as their usage.
OFFENSIVE = ("ethnic_slur", "disparagement", "obscenity")


class Synset(NamedTuple):
    """One noun synset: lexicographer file, lemmas, and the offsets of those that it points to."""

    file: str
    lemmas: tuple[str, ...]
    hypernyms: tuple[int, ...]
    instance: bool  # Rome, not city
    parts: tuple[int, ...]
    usage: tuple[int, ...]


class WordNet(NamedTuple):
    """Nouns by offset, senses by (lemma, part of speech), and each one's count in tagged text."""

    nouns: dict[int, Synset]
    senses: dict[tuple[str, str], list[int]]
    tags: collections.Counter  # (lemma, part of speech, offset) → count
    words: collections.Counter  # lemma → count over all its senses
    offensive: set[str]  # lemmas, lower case

    def hyponyms(self, *lemmas: str) -> set[int]:
        """Offsets of all that is below the first noun sense of each lemma, itself included."""
        below = collections.defaultdict(list)
        for offset, synset in self.nouns.items():
            for hypernym in synset.hypernyms:
                below[hypernym].append(offset)
        found, todo = set(), [self.senses[lemma, "noun"][0] for lemma in lemmas]
        while todo:
            offset = todo.pop()
            if offset not in found:
                found.add(offset)
                todo += below[offset]
        return found

    def ancestors(self, offset: int) -> frozenset[int]:
        """Offsets of all hypernyms, itself included."""
        return frozenset([offset]).union(
            *(self.ancestors(hypernym) for hypernym in self.nouns[offset].hypernyms)
        )

    def count(self, offset: int) -> int:
        """How often the synset was met, over its lemmas."""
        return sum(self.tags[lemma.lower(), "noun", offset] for lemma in self.nouns[offset].lemmas)


def read(folder: Path) -> WordNet:
    """Read data.noun, index.*, cntlist.rev of a folder."""
    nouns, marks = {}, collections.defaultdict(set)
    for part in ("noun", "verb", "adj", "adv"):
        for line in _lines(folder / f"data.{part}"):
            fields = line.split(" | ")[0].split()
            n_lemmas = int(fields[3], 16)
            lemmas = tuple(field.split("(")[0] for field in fields[4 : 4 + 2 * n_lemmas : 2])
            start = 5 + 2 * n_lemmas
            pointers = [
                fields[start + 4 * i : start + 4 * i + 3] for i in range(int(fields[start - 1]))
            ]

            def to(*symbols, pointers=pointers):
                return tuple(
                    int(offset)
                    for symbol, offset, part in pointers
                    if symbol in symbols and part == "n"
                )

            for offset in to(";u"):
                marks[offset].update(lemma.lower() for lemma in lemmas)
            if part == "noun":
                nouns[int(fields[0])] = Synset(
                    LEXICOGRAPHER_FILES.get(int(fields[1]), ""),
                    lemmas,
                    to("@"),
                    bool(to("@i")),
                    to("%p"),
                    to(";u"),
                )
    offensive = set().union(
        *(words for offset, words in marks.items() if set(nouns[offset].lemmas) & set(OFFENSIVE))
    )
    senses = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in _lines(folder / f"index.{part}"):
            fields = line.split()
            senses[fields[0], part] = [int(offset) for offset in fields[-int(fields[2]) :]]
    tags, words = collections.Counter(), collections.Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, number, count = line.split()
        lemma, rest = key.split("%")
        part = PARTS_OF_SPEECH[rest[0]]
        words[lemma] += int(count)
        offsets = senses.get((lemma, part), [])
        if int(number) <= len(offsets):  # some counts are of senses that 3.0 no longer has
            tags[lemma, part, offsets[int(number) - 1]] += int(count)
    return WordNet(nouns, senses, tags, words, offensive)


def _lines(path: Path):
    with path.open(encoding="latin-1") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("  ")]
