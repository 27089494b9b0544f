"""Makes jaxle/concepts/data/foreign.txt: words of things that are not in the world of scenes.

    python -m tools.foreign_words

Screening must drop them. The rule: of jaxle/concepts/data/nouns.txt, in its order, are kept the
single words of three letters or more that

* share no word with the world's (its concepts' and its captions' words, both with or without a
  plural's ending), nor hold one of four letters or more inside themselves, nor lie inside one (no
  "fish", because of "starfish");
* are not above a world word in WordNet 3.0 (no "artifact", because of "bus"), in any sense of it;
* are not colours, materials or textures of the shipped lists, nor one of `NEAR`: other words that
  are true of some scenes.

Every EVERY-th of these is foreign. The others that pass are words which the text towers may learn
to be absent; see tools/train_siglip.py, which drops every text with a foreign word. The list was
made before any tower was trained.
"""

import gzip
import re
from pathlib import Path

import numpy as np

from jaxle.scenes import CONCEPTS, captions
from tools.siglip_texts import CORPUS_WORLD, NEAR, singular

DATA = Path(__file__).resolve().parent.parent / "jaxle/concepts/data"
EVERY = 8
CAPTIONS = 20_000


def lines(name: str) -> list[str]:
    found = (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in found if line.strip() and not line.startswith("#")]


def above(words: set[str]) -> set[str]:
    """First lemmas of all hypernyms of every synset whose first lemma is one of the words."""
    table = [
        line.split("\t")
        for line in gzip.decompress((DATA / "wordnet_nouns.tsv.gz").read_bytes())
        .decode()
        .splitlines()
    ]
    name, up = (
        {key: lemma for key, lemma, _ in table},
        {key: parents.split() for key, _, parents in table},
    )
    todo, seen = [key for key, lemma in name.items() if lemma in words], set()
    while todo:
        for parent in up[todo.pop()]:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return {name[key].lower() for key in seen}


def main():
    sentences = set(
        re.findall(
            r"[a-z]+", " ".join([*CONCEPTS, *captions(np.arange(CAPTIONS), CORPUS_WORLD)]).lower()
        )
    )
    world = {singular(word) for word in sentences}
    long = [word for word in world if len(word) >= 4]
    other = above(sentences | set(CONCEPTS) | {"airplane", "die", "first aid"}) | NEAR
    other |= {
        word
        for name in ("colours", "materials", "textures")
        for line in lines(name)
        for word in re.findall(r"[a-z]+", line)
    }

    def foreign(word: str) -> bool:
        if not re.fullmatch(r"[a-z]{3,}", word):
            return False
        own = singular(word)
        inside = any(part in word for part in long) or (
            len(own) >= 4 and any(own in part for part in long)
        )
        return own not in world and not inside and word not in other and own not in other

    chosen = [word for word in lines("nouns") if foreign(word)][::EVERY]
    rule = "tools/foreign_words.py before any tower was trained on scenes"
    comment = f"# Things that are not in the world of scenes, chosen by the rule in {rule}.\n"
    (DATA / "foreign.txt").write_text(
        comment + "".join(f"{word}\n" for word in chosen), encoding="utf-8"
    )
    print(f"foreign.txt: {len(chosen)} words")


if __name__ == "__main__":
    main()
