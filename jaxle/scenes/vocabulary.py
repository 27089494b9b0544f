"""The words of the scenes world: attributes, things, classes and superclasses.

An object has a look: a shape, a colour and a texture; a scene has a place, the background that all
its objects are seen against. Forty-one *things* (apple, sailboat, die, ...) are looks, some of them
only in one place: a yellow crescent is a banana, but before clouds it is the moon. Thirteen
*classes* (fruit, vehicle, game, ...) gather three or four things that share no look, so a network
that is trained to name the class must compute conjunctions (a red circle is an apple, a ladybird or
a ball by its texture) and then disjunctions of unrelated ones. That is what makes its neurons
polysemantic, and what makes a superclass the right word for some of them.

    thing = THING_OF[shape, colour, texture, place]      -1: no name but its attributes'

Colour words are about objects: backgrounds are tinted at random, whatever they show.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHAPES = (
    "circle",
    "oval",
    "ring",
    "crescent",
    "heart",
    "triangle",
    "square",
    "rectangle",
    "hexagon",
    "star",
    "cross",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black")
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "medium", "large")
PLACES = ("clouds", "waves", "grass", "pebbles", "bricks", "tiles", "planks", "fabric")
POSITIONS = ("left", "right", "top", "bottom")
COUNTS = ("one object", "two objects", "three objects")


class Thing(NamedTuple):
    """A named look: any of `colours` with any of `textures` on one shape, in any of `places`."""

    name: str
    kind: str
    shape: str
    colours: tuple[str, ...]
    textures: tuple[str, ...]
    places: tuple[str, ...] = PLACES


# A thing that is bound to a place wins there over one that is not.
THINGS = (
    Thing("apple", "fruit", "circle", ("red",), ("plain",)),
    Thing("banana", "fruit", "crescent", ("yellow",), ("plain",)),
    Thing("plum", "fruit", "oval", ("purple",), ("plain",)),
    Thing("cookie", "pastry", "circle", ("brown",), ("dotted",)),
    Thing("doughnut", "pastry", "ring", ("pink", "brown"), ("plain", "dotted")),
    Thing("croissant", "pastry", "crescent", ("brown", "orange"), ("striped",)),
    Thing("sun", "light source", "circle", ("yellow", "orange"), ("plain",), ("clouds",)),
    Thing("moon", "light source", "crescent", ("white", "yellow"), ("plain",), ("clouds",)),
    Thing("lantern", "light source", "oval", ("orange", "red"), ("striped",)),
    Thing("sailboat", "vehicle", "triangle", ("white", "red", "blue"), ("plain",), ("waves",)),
    Thing("aeroplane", "vehicle", "cross", ("white", "blue"), ("plain",), ("clouds",)),
    Thing("bus", "vehicle", "rectangle", ("yellow", "red"), ("plain",)),
    Thing("bee", "animal", "oval", ("yellow",), ("striped",)),
    Thing("ladybird", "animal", "circle", ("red",), ("dotted",)),
    Thing("turtle", "animal", "hexagon", ("green", "brown"), ("checked",)),
    Thing("starfish", "animal", "star", ("orange", "red"), ("dotted",)),
    Thing("fir", "plant", "triangle", ("green",), ("plain",)),
    Thing("leaf", "plant", "oval", ("green",), ("plain",)),
    Thing("cactus", "plant", "cross", ("green",), ("striped", "dotted")),
    Thing("flower", "plant", "star", ("pink", "purple"), ("plain",)),
    Thing("stop sign", "sign", "hexagon", ("red",), ("plain",)),
    Thing("first-aid sign", "sign", "cross", ("red",), ("plain",)),
    Thing("warning sign", "sign", "triangle", ("yellow", "orange"), ("plain",)),
    Thing("tent", "building", "triangle", ("red", "orange", "green", "blue"), ("striped",)),
    Thing("window", "building", "square", ("blue", "white"), ("checked",)),
    Thing("door", "building", "rectangle", ("brown", "green"), ("plain",)),
    Thing("flag", "textile", "rectangle", COLOURS, ("striped",)),
    Thing("blanket", "textile", "rectangle", COLOURS, ("checked",)),
    Thing("cushion", "textile", "circle", ("pink", "purple", "blue"), ("dotted",)),
    Thing("chessboard", "game", "square", ("black", "brown"), ("checked",)),
    Thing("die", "game", "square", ("white",), ("dotted",)),
    Thing("marble", "game", "circle", ("blue", "green"), ("plain",)),
    Thing("bracelet", "jewellery", "ring", ("yellow", "white"), ("plain",)),
    Thing("gem", "jewellery", "hexagon", ("blue", "purple"), ("plain",)),
    Thing("pearl", "jewellery", "circle", ("white",), ("plain",)),
    Thing("ball", "toy", "circle", COLOURS, ("striped",)),
    Thing("hoop", "toy", "ring", COLOURS, ("striped",)),
    Thing("block", "toy", "square", ("red", "yellow", "green"), ("plain",)),
    Thing("parcel", "gift", "square", COLOURS, ("striped",)),
    Thing("valentine", "gift", "heart", ("red", "pink"), ("plain",)),
    Thing("chocolate", "gift", "heart", ("brown",), ("plain", "dotted")),
)

CLASS_NAMES = tuple(dict.fromkeys(thing.kind for thing in THINGS))

# Members may be superclasses themselves, if these come earlier.
SUPERCLASSES: dict[str, tuple[str, ...]] = {
    **{name: tuple(thing.name for thing in THINGS if thing.kind == name) for name in CLASS_NAMES},
    "food": ("fruit", "pastry", "chocolate"),
    "living thing": ("animal", "plant"),
    "plaything": ("toy", "game"),
    "round shape": ("circle", "oval", "ring"),
    "quadrilateral": ("square", "rectangle"),
    "polygon": ("triangle", "quadrilateral", "hexagon"),
    "symbol": ("heart", "star", "cross"),
    "warm colour": ("red", "orange", "yellow"),
    "cool colour": ("green", "blue", "purple"),
    "pale colour": ("white", "pink"),
    "dark colour": ("black", "brown"),
    "patterned": ("striped", "dotted", "checked"),
    "several objects": ("two objects", "three objects"),
    "ground": ("grass", "pebbles"),
    "built surface": ("bricks", "tiles", "planks"),
}

# "plain" and "medium" are the unmarked cases: no concepts.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "thing": tuple(thing.name for thing in THINGS),
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES[1:],
    "size": (SIZES[0], SIZES[2]),
    "position": POSITIONS,
    "count": COUNTS,
    "place": PLACES,
}

CONCEPTS = tuple(name for names in ATTRIBUTES.values() for name in names) + tuple(SUPERCLASSES)


def _thing_of() -> np.ndarray:
    table = np.full((len(SHAPES), len(COLOURS), len(TEXTURES), len(PLACES)), -1, np.int16)
    for number, thing in sorted(enumerate(THINGS), key=lambda pair: pair[1].places != PLACES):
        colours, textures, places = (
            [words.index(word) for word in chosen]
            for words, chosen in (
                (COLOURS, thing.colours),
                (TEXTURES, thing.textures),
                (PLACES, thing.places),
            )
        )
        table[np.ix_([SHAPES.index(thing.shape)], colours, textures, places)] = number
    table.flags.writeable = False
    return table


def _closure() -> np.ndarray:
    column = {name: j for j, name in enumerate(CONCEPTS)}
    closure = np.eye(len(CONCEPTS), dtype=bool)
    for name, members in SUPERCLASSES.items():
        closure[:, column[name]] |= closure[:, [column[member] for member in members]].any(axis=1)
    closure.flags.writeable = False
    return closure


THING_OF = _thing_of()  # int16 (shapes, colours, textures, places)
CLASS_OF = np.array([CLASS_NAMES.index(thing.kind) for thing in THINGS], np.int32)  # (things,)
IMPLIES = _closure()  # bool (concepts, concepts): row concept holds => column concept holds
