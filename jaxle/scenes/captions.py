"""A short English sentence for each scene: true, never complete, and worded in many ways.

A caption names some objects by thing, class, shape or superclass, with some of their attributes,
and often the place; what it leaves out is left out at random. Every concept of `CONCEPTS` is named
in some captions, so that a text encoder can learn it from them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from jaxle.arrays import checks_input
from jaxle.scenes import draws
from jaxle.scenes.layout import Layout, layout, positions
from jaxle.scenes.vocabulary import (
    CLASS_NAMES,
    CLASS_OF,
    COLOURS,
    CONCEPTS,
    COUNTS,
    PLACES,
    POSITIONS,
    SHAPES,
    SIZES,
    SUPERCLASSES,
    TEXTURES,
    THINGS,
)
from jaxle.scenes.world import check_index

Uniform = Iterator[float]  # of one scene, in [0, 1), used up one by one

_SYNONYMS = {
    "small": ("small", "small", "little"),
    "large": ("large", "large", "big"),
    "dotted": ("dotted", "dotted", "spotted"),
    "checked": ("checked", "checked", "chequered"),
}
_SIDES = [
    (POSITIONS.index(word), word) for word in ("top", "bottom", "left", "right")
]  # "at the top left"
_MASS = {"jewellery": "piece of jewellery", "food": "piece of food"}
_BEFORE = {
    "clouds": ("in front of clouds", "against clouds", "among clouds"),
    "waves": ("on waves", "above waves", "in front of waves"),
    "grass": ("on grass", "in the grass", "in front of grass"),
    "pebbles": ("on pebbles", "lying on pebbles", "in front of pebbles"),
    "bricks": ("in front of bricks", "against bricks", "on bricks"),
    "tiles": ("on tiles", "in front of tiles", "against tiles"),
    "planks": ("on planks", "in front of planks", "lying on planks"),
    "fabric": ("on fabric", "on a piece of fabric", "in front of fabric"),
    "ground": ("on the ground", "lying on the ground"),
    "built surface": ("on a built surface", "in front of a built surface"),
}


def _above(word: str) -> tuple[str, ...]:
    # the superclasses that a word is directly in
    return tuple(name for name, members in SUPERCLASSES.items() if word in members)


_ABOVE = {word: _above(word) for word in CONCEPTS}


def _pick(uniform: Uniform, options: tuple[str, ...]) -> str:
    return options[int(next(uniform) * len(options))]


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _noun(shape: str, thing: int, uniform: Uniform) -> str:
    if thing >= 0 and next(uniform) < 0.8:
        name, kind = THINGS[thing].name, CLASS_NAMES[CLASS_OF[thing]]
        if next(uniform) < 0.68:
            return name
        wider = tuple(word for word in (*_ABOVE[name], *_ABOVE[kind]) if word != kind)
        noun = _pick(uniform, wider) if wider and next(uniform) < 0.4 else kind
        return _MASS.get(noun, noun)
    wider = _ABOVE[shape] + tuple(word for name in _ABOVE[shape] for word in _ABOVE.get(name, ()))
    return _pick(uniform, wider) if wider and next(uniform) < 0.2 else shape


def _object(scenes: Layout, image: int, slot: int, uniform: Uniform) -> str:
    size, texture = SIZES[scenes.size[image, slot]], TEXTURES[scenes.texture[image, slot]]
    colour, shape = COLOURS[scenes.colour[image, slot]], SHAPES[scenes.shape[image, slot]]
    words = []
    if size != "medium" and next(uniform) < 0.4:
        words.append(_pick(uniform, _SYNONYMS[size]))
    if texture != "plain" and next(uniform) < 0.75:
        words.append(
            "patterned"
            if next(uniform) < 0.15
            else _pick(uniform, _SYNONYMS.get(texture, (texture,)))
        )
    named = next(uniform) < 0.65
    if named:
        words.append(colour)
    phrase = _article(" ".join([*words, _noun(shape, int(scenes.thing[image, slot]), uniform)]))
    if not named and _ABOVE[colour] and next(uniform) < 0.4:
        phrase += f" in {_article(_pick(uniform, _ABOVE[colour]))}"
    return phrase


def _sentence(scenes: Layout, image: int, sides: list[str], uniform: Uniform) -> str:
    count = int(scenes.present[image].sum())
    objects = [_object(scenes, image, slot, uniform) for slot in range(count)]
    if sides and next(uniform) < 0.35:
        objects[0] += f" at the {' '.join(sides)}"
    place = PLACES[scenes.place[image]]
    where = _pick(
        uniform,
        _BEFORE[_pick(uniform, _ABOVE[place]) if _ABOVE[place] and next(uniform) < 0.15 else place],
    )
    placed = next(uniform) < 0.8

    listed = objects[0]
    if count > 1 and next(uniform) < 0.85:
        others = objects[1:] if next(uniform) < 0.7 else objects[1:2]
        joined = others[0] if len(others) == 1 else " and ".join(others)
        listed = f"{objects[0]} {_pick(uniform, ('with', 'beside', 'and', 'and'))} {joined}"
        if len(others) == 2 and next(uniform) < 0.5:
            listed = f"{objects[0]}, {others[0]} and {others[1]}"
    if next(uniform) < 0.2:
        number = "several objects" if count > 1 and next(uniform) < 0.35 else COUNTS[count - 1]
        sentence = f"{number}{' ' + where if placed else ''}: {listed}"
    elif placed and next(uniform) < 0.2:
        sentence = f"{where}, {listed}"
    else:
        opening = _pick(uniform, ("", "", "", "there is ", "a picture of ", "this is ", "here is "))
        sentence = f"{opening}{listed}{_pick(uniform, (' ', ', ')) + where if placed else ''}"
    return f"{sentence[0].upper()}{sentence[1:]}."


@checks_input
def captions(index: Int[np.ndarray, " images"], seed: int) -> list[str]:
    """Returns a sentence about each of the scenes `index` of the world `seed`.

    Raises:
      ValueError: an index that is not 1-D, whole and non-negative.
    """
    index = check_index(index)
    scenes = layout(index, seed)
    words = draws.uniform(draws.bits(index, seed, 4, 64))
    at = positions(scenes)
    sentences = []
    for image in range(len(index)):
        sides = [word for j, word in _SIDES if at[image, j]]
        sentences.append(_sentence(scenes, image, sides, iter(words[image].tolist())))
    return sentences
