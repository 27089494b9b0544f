"""Makes everything in jaxle/concepts/data, from WordNet 3.0 and lists of tensorflow-datasets.

    apt-get install wordnet-base
    python -m tools.concept_tables                                  # CIFAR-100's pairs stay
    python -m tools.concept_tables --cifar100 cifar-100-binary      # these too, from its archive

No name in these tables is typed by hand; what is chosen by hand are the rules below. The pairs
(label, coarse label) of CIFAR-100 were first taken from public listings of the data set's own
labels, two that agree: numbers in alphabetical order, and names by coarse label.
"""

import argparse
import collections
import gzip
from pathlib import Path

import numpy as np
import tensorflow_datasets

from tools.wordnet import WordNet, read

DATA = Path(__file__).resolve().parent.parent / "jaxle/concepts/data"
TFDS = Path(tensorflow_datasets.__file__).parent
DEPICTABLE = ("animal", "artifact", "body", "food", "object", "person", "plant", "substance")
MATERIALS = tuple(
    "fabric wood metallic_element alloy rock glass plastic leather natural_fiber building_material "
    "ceramic fur".split()
)
# What WordNet has below these is made of them.
MATERIALS_ALONE = ("paper", "cardboard", "parchment", "linoleum")
WHOLES = ("animal", "artifact", "person", "plant", "body")
PARTS = ("animal", "artifact", "plant", "body")
# The data set's label names.
CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument(
        "--licence", type=Path, default=Path("/usr/share/doc/wordnet-base/copyright")
    )
    parser.add_argument(
        "--cifar100",
        type=Path,
        help="the folder cifar-100-binary, as the data set's authors publish it",
    )
    args = parser.parse_args()
    wordnet = read(args.wordnet)
    write_graph(wordnet)
    write_licence(args.licence)
    pairs = cifar100_archive(args.cifar100) if args.cifar100 else cifar100_kept()
    write_cifar("cifar10", [(name, "") for name in CIFAR10], wordnet)
    write_cifar("cifar100", pairs, wordnet)

    by_count = "most frequent in WordNet 3.0's tagged text first"
    write_set(
        "nouns",
        nouns(wordnet),
        f"English nouns that can be seen: {', '.join(DEPICTABLE)}; {by_count}",
    )
    write_set(
        "common_words",
        common_words(wordnet),
        f"single English words met at least twice, {by_count}",
    )
    write_set(
        "colours", colours(wordnet), "kinds of chromatic and achromatic colour in WordNet 3.0"
    )
    write_set(
        "materials",
        materials(wordnet),
        f"kinds of {', '.join(MATERIALS).replace('_', ' ')} in WordNet 3.0, met in tagged text",
    )
    write_set(
        "parts",
        parts(wordnet),
        f"parts of things and living beings by WordNet 3.0's part meronyms, {by_count}",
    )
    textures = (TFDS / "image_classification/dtd_key_attributes.txt").read_text().split()
    write_set(
        "textures",
        textures,
        "the 47 describable textures (Cimpoi et al. 2014), as tensorflow-datasets lists them",
    )
    places = (TFDS / "image_classification/categories_places365.txt").read_text().split()
    scenes = [" ".join(reversed(name.replace("_", " ").split("/"))) for name in places]
    write_set(
        "scenes",
        scenes,
        "the 365 categories of Places365 (Zhou et al. 2017), as tensorflow-datasets lists them; "
        "a/b reads b a",
    )


def nouns(wordnet: WordNet) -> list[str]:
    """Lemmas of which at least half of the tagged nouns are of a depictable kind.

    Proper names, instances and slurs are left out.
    """
    score, spelling = collections.Counter(), {}
    for (lemma, part), offsets in wordnet.senses.items():
        if part != "noun" or not _is_word(lemma) or lemma in wordnet.offensive:
            continue
        total = sum(wordnet.tags[lemma, "noun", offset] for offset in offsets)
        seen = [
            o
            for o in offsets
            if wordnet.nouns[o].file in DEPICTABLE and not wordnet.nouns[o].instance
        ]
        count = sum(wordnet.tags[lemma, "noun", offset] for offset in seen)
        if count and 2 * count >= total:
            most = max(seen, key=lambda offset: wordnet.tags[lemma, "noun", offset])
            spelling[lemma] = next(
                name for name in wordnet.nouns[most].lemmas if name.lower() == lemma
            )
            if spelling[lemma] == lemma:
                score[lemma] = count
    return sorted(score, key=lambda lemma: (-score[lemma], lemma))


def common_words(wordnet: WordNet) -> list[str]:
    words = [
        w
        for w, n in wordnet.words.items()
        if n >= 2 and len(w) >= 3 and w.isascii() and w.isalpha() and w not in wordnet.offensive
    ]
    return sorted(words, key=lambda word: (-wordnet.words[word], word))


def colours(wordnet: WordNet) -> list[str]:
    roots = {wordnet.senses[lemma, "noun"][0] for lemma in ("chromatic_color", "achromatic_color")}
    below = wordnet.hyponyms("chromatic_color", "achromatic_color") - roots
    return _by_count(
        wordnet, [o for o in below if roots & set(wordnet.nouns[o].hypernyms) or wordnet.count(o)]
    )


def materials(wordnet: WordNet) -> list[str]:
    roots = {wordnet.senses[lemma, "noun"][0] for lemma in (*MATERIALS, *MATERIALS_ALONE)}
    found = {
        offset for offset in wordnet.hyponyms(*MATERIALS) if wordnet.count(offset)
    } - wordnet.hyponyms("paper")
    return _by_count(wordnet, roots | found)


def parts(wordnet: WordNet) -> list[str]:
    found = {
        part
        for whole in wordnet.nouns.values()
        if whole.file in WHOLES and not whole.instance
        for part in whole.parts
    }
    found = [o for o in found if wordnet.nouns[o].file in PARTS and not wordnet.nouns[o].instance]
    return _by_count(wordnet, [offset for offset in found if wordnet.count(offset)])


def senses_by_company(pairs: list[tuple[str, str]], wordnet: WordNet) -> list[int]:
    """One noun sense a class, by its company: `ray` among fish is a fish.

    The company are the classes of its coarse label, all where there is none. Nearness of a sense to
    another class is the Jaccard overlap of hypernym sets at that class's best sense; a sense's
    score is the mean over its company. Chosen is the most frequent sense that scores at least 0.8
    of the best. Only common names of what has a place in space (physical entity) count.
    """
    physical = wordnet.senses["physical_entity", "noun"][0]
    candidates = []
    for name, _ in pairs:
        lemma = _noun_of(name, wordnet)
        above = [
            (offset, wordnet.ancestors(offset))
            for offset in wordnet.senses[lemma, "noun"]
            if lemma in wordnet.nouns[offset].lemmas
        ]
        candidates.append([(offset, up) for offset, up in above if physical in up])
    chosen = []
    for i, own in enumerate(candidates):
        company = [
            other for j, other in enumerate(candidates) if j != i and pairs[j][1] == pairs[i][1]
        ]
        scores = [
            np.mean([max(len(mine & up) / len(mine | up) for _, up in other) for other in company])
            for _, mine in own
        ]
        chosen.append(
            next(
                offset
                for (offset, _), score in zip(own, scores, strict=True)
                if score >= 0.8 * max(scores)
            )
        )
    return chosen


def _noun_of(name: str, wordnet: WordNet) -> str:
    """The class's lemma, or one of its two words where it has none.

    The first word if it can be a kind of the second (maple tree), else the second.
    """
    first, _, last = name.partition("_")
    if (name, "noun") in wordnet.senses:
        return name
    kinds = wordnet.hyponyms(last)
    return first if any(offset in kinds for offset in wordnet.senses[first, "noun"]) else last


def write_graph(wordnet: WordNet) -> None:
    """Every noun synset but instances: id, first lemma, ids of its hypernyms."""
    lines = []
    for offset, synset in sorted(wordnet.nouns.items()):
        if not synset.instance:
            above = " ".join(f"n{o:08d}" for o in synset.hypernyms)
            lines.append(f"n{offset:08d}\t{_plain(synset.lemmas[0])}\t{above}\n")
    packed = gzip.compress("".join(lines).encode(), 9, mtime=0)
    (DATA / "wordnet_nouns.tsv.gz").write_bytes(packed)
    print(f"wordnet_nouns.tsv.gz: {len(lines)} synsets, {len(packed)} bytes")
    ids = (TFDS / "datasets/imagenet2012/labels.txt").read_text().split()
    (DATA / "imagenet.txt").write_text("".join(f"{wnid}\n" for wnid in ids), encoding="utf-8")
    print(f"imagenet.txt: {len(ids)} classes")


def write_licence(path: Path) -> None:
    text = (
        path.read_text(encoding="utf-8")
        .split("License: WordNet3.0\n")[1]
        .split("\nFiles: debian")[0]
    )
    lines = ["" if line.strip() == "." else line.strip() for line in text.strip().splitlines()]
    notice = (
        "The tables in this folder are derived from WordNet 3.0 (https://wordnet.princeton.edu), "
        "whose licence follows;\ntextures.txt and scenes.txt are lists that tensorflow-datasets "
        "carries (Apache License 2.0).\n\n"
    )
    (DATA / "WORDNET_LICENSE").write_text(notice + "\n".join(lines) + "\n", encoding="utf-8")


def write_cifar(name: str, pairs: list[tuple[str, str]], wordnet: WordNet) -> None:
    synsets = senses_by_company(pairs, wordnet)
    rows = [
        f"{label}\tn{offset:08d}\t{coarse}\n"
        for (label, coarse), offset in zip(pairs, synsets, strict=True)
    ]
    (DATA / f"{name}.tsv").write_text("".join(rows), encoding="utf-8")
    print(f"{name}.tsv: {len(rows)} classes")


def cifar100_archive(folder: Path) -> list[tuple[str, str]]:
    """(label, coarse label) as the records of test.bin pair them.

    A record is two label bytes, coarse first, and 3,072 bytes of image.
    """
    fine, coarse = (
        (folder / f"{kind}_label_names.txt").read_text().split() for kind in ("fine", "coarse")
    )
    labels = np.fromfile(folder / "test.bin", np.uint8).reshape(-1, 3074)[:, :2]
    pairs = sorted({(int(f), int(c)) for c, f in labels})
    assert len(pairs) == len(fine), "a label has two coarse labels"
    return [(fine[f], coarse[c]) for f, c in pairs]


def cifar100_kept() -> list[tuple[str, str]]:
    rows = [
        line.split("\t")
        for line in (DATA / "cifar100.tsv").read_text(encoding="utf-8").splitlines()
    ]
    return [(row[0], row[2]) for row in rows]


def write_set(name: str, concepts: list[str], what: str) -> None:
    (DATA / f"{name}.txt").write_text(
        f"# {what}. Made by tools/concept_tables.py.\n"
        + "".join(f"{_plain(c)}\n" for c in concepts)
    )
    print(f"{name}.txt: {len(concepts)} concepts")


def _by_count(wordnet: WordNet, offsets) -> list[str]:
    """First lemmas, most frequent synset first, each once, without proper names."""
    names = [
        wordnet.nouns[offset].lemmas[0]
        for offset in sorted(offsets, key=lambda offset: (-wordnet.count(offset), offset))
    ]
    return list(dict.fromkeys(name for name in names if name.islower() and _is_word(name)))


def _is_word(lemma: str) -> bool:
    return len(lemma) >= 3 and lemma.isascii() and lemma.replace("_", "").replace("-", "").isalpha()


def _plain(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    main()
