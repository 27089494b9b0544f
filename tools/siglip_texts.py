"""What the small SigLIPs of the embedded default are trained on: corpus, texts, exact targets.

    target(image, text) = 1 where every word of the text holds of one and the same object, or of the
    background; 0 elsewhere

Four kinds of text: each of the world's concepts as a bare word, short phrases ("a striped red
toy"), full captions, and words of things that are not in the world, of which nothing is ever true:
a tower that never read such a word could not know that it names something absent (real SigLIPs have
read all words). These come from the package's noun and common-word lists without `foreign`, the
list of words that screening is measured with: no text here holds one of them, not in the plural
either. Where labels do not refute a full caption of another image, its target is unknown and left
out.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np

from jaxle.concepts.sets import gather
from jaxle.scenes import ATTRIBUTES, CONCEPTS, SUPERCLASSES, captions
from jaxle.scenes.layout import layout, membership

CORPUS_WORLD = 1_000_003  # neither a training world nor a held-out one
VOCABULARY = 1024
LENGTH = 20  # tokens a text; seven captions in a hundred are cut
# Words of no concept that are true of some scenes: labels say neither that they are absent nor that
# they are present.
NEAR = frozenset(
    "air aircraft airplane background band bangle beach bead beetle board boat border box brick "
    "bug bun cake can cloth coat corner cracker cube cup dice disc disk dot earth edge face field "
    "figure film flash floor fruit globe grain head image item jewel lamp land lawn light line "
    "loop meadow mark orb package paint panel paper pastry pattern photo picture pillow plane "
    "plate point post present print ray road rock roll rope rug sand scene sea sheet ship side "
    "sky slab soil spot stone street stripe surface sweet timber token tree turf vessel view wall "
    "water wave wheel wood".split()
)
_SYNONYMS = {"little": "small", "big": "large", "spotted": "dotted", "chequered": "checked"}
_COLUMN = {name: j for j, name in enumerate(CONCEPTS)}
_MENTION = re.compile(rf"\b({'|'.join(sorted([*CONCEPTS, *_SYNONYMS], key=len, reverse=True))})\b")


def _columns(*names: str) -> np.ndarray:
    return np.array([_COLUMN[name] for name in names])


_COLOUR_KINDS = tuple(name for name in SUPERCLASSES if name.endswith(" colour"))
_BEFORE = (
    _columns(*ATTRIBUTES["size"]),
    _columns(*ATTRIBUTES["texture"], "patterned"),
    _columns(*ATTRIBUTES["colour"]),
)
_NOT_NOUNS = {"patterned", "several objects", *_COLOUR_KINDS}.union(
    *(ATTRIBUTES[name] for name in ("size", "texture", "colour", "position", "count"))
)
_NOUNS = _columns(*(name for name in CONCEPTS if name not in _NOT_NOUNS))


class Batch(NamedTuple):
    """Texts, and what is known of each with each image."""

    texts: list[str]
    targets: np.ndarray  # bool (images, texts)
    known: np.ndarray  # bool (images, texts); what is not known is left out of the loss


@functools.cache
def singular(word: str) -> str:
    """The word without a plural's ending, roughly."""
    return re.sub(r"(?<=..)(?:es|s)$", "", word)


def words_of(text: str) -> set[str]:
    """Its words in lower case, without plurals' endings."""
    return {singular(word) for word in re.findall(r"[a-z]+", text.lower())}


@functools.cache
def _sentences() -> list[str]:
    return captions(np.arange(20_000), CORPUS_WORLD)


@functools.cache
def unknown_words() -> tuple[str, ...]:
    """Returns the words of things that are not in the world.

    Shipped nouns and common words that share no word with the world or with `foreign`.
    """
    world = set().union(*map(words_of, [*CONCEPTS, *_SYNONYMS, *NEAR, *_sentences()]))
    hues = set().union(*map(words_of, gather(["colours", "materials", "textures"]).concepts))
    left_out = world | hues | set().union(*map(words_of, gather(["foreign"]).concepts))
    return tuple(
        word for word in gather(["nouns", "common_words"]).concepts if not words_of(word) & left_out
    )


def corpus() -> list[str]:
    """Returns the lines that the tokenizer is trained on.

    Captions, the world's concepts, and words of what is not in the world.
    """
    return [*_sentences()[:10_000], *(20 * CONCEPTS), *unknown_words()]


def mentions(texts: list[str]) -> np.ndarray:
    """Which concepts each text names: bool (texts, concepts).

    The longest name counts where one lies in another.
    """
    found = np.zeros((len(texts), len(CONCEPTS)), bool)
    for row, text in zip(found, texts, strict=True):
        for word in _MENTION.findall(text.lower()):
            row[_COLUMN[_SYNONYMS.get(str(word), str(word))]] = True
    return found


def batch(
    index: np.ndarray, world: int, draw: np.random.Generator, *, short: int, full: int, unknown: int
) -> Batch:
    """Make the texts of one step: all concepts, `short` phrases, `full` captions, `unknown` words.

    Args:
      index: int (images,), scenes of the world `world`.
      draw: where phrases and words are drawn from.
    """
    n = len(index)
    bears = membership(layout(index, world))  # images, parts, concepts
    has = bears.any(axis=1)

    # bare words, exact by the labels
    words = list(CONCEPTS)

    # phrases: exact, as all of their words must hold of one part of the image
    phrases, asked = _phrases(bears, short, draw)
    count = asked.sum(axis=1)
    fits = (
        np.einsum("ipc,tc->ipt", bears.astype(np.float32), asked.astype(np.float32)) == count
    ).any(axis=1)

    # captions: true of their own image, unknown where another has all that they name
    own = draw.choice(n, min(full, n), replace=False)
    sentences = captions(index[own], world)
    named = mentions(sentences)
    unrefuted = has.astype(np.float32) @ named.T.astype(np.float32) == named.sum(axis=1)
    true = np.arange(n)[:, None] == own

    # words of what is not in the world, one in five in a phrase
    absent = [str(word) for word in draw.choice(unknown_words(), unknown, replace=False)]
    absent = [_dress(word, draw) if draw.random() < 0.2 else word for word in absent]

    targets = np.concatenate([has, fits, true, np.zeros((n, unknown), bool)], axis=1)
    known = np.ones_like(targets)
    known[:, len(words) + short : len(words) + short + len(own)] = true | ~unrefuted
    return Batch([*words, *phrases, *sentences, *absent], targets, known)


def _dress(noun: str, draw: np.random.Generator) -> str:
    with_article = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return str(
        draw.choice((noun, with_article, f"a picture of {with_article}", f"this is {with_article}"))
    )


def _phrases(
    bears: np.ndarray, number: int, draw: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    # a noun that holds of an object, behind some of the object's size, texture and colour; and the
    # concepts that each asks for
    texts, asked = [], np.zeros((number, len(CONCEPTS)), bool)
    image, part = np.nonzero(bears[:, :-1, _NOUNS].any(axis=2))
    for row, at in zip(asked, draw.integers(len(image), size=number), strict=True):
        own = bears[image[at], part[at]]
        chosen = [
            draw.choice(held)
            for group in _BEFORE
            if len(held := group[own[group]]) and draw.random() < 0.5
        ]
        chosen.append(draw.choice(_NOUNS[own[_NOUNS]]))
        row[chosen] = True
        texts.append(_dress(" ".join(CONCEPTS[j] for j in chosen), draw))
    return texts, asked
