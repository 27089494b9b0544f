"""What is in each scene, before any pixel: one to three objects and a place.

Drawn from the index alone.

Slot 0 is the main object: a thing, always larger than the others, and the scene's class is its
class. Every class is equally likely, then every thing of the class, then every look of the thing.
The other slots are free combinations of attributes, about a quarter of which happen to be things
too; they make the class a question about one object rather than about the image as a whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from jaxle.scenes import draws
from jaxle.scenes.vocabulary import (
    ATTRIBUTES,
    CLASS_NAMES,
    CLASS_OF,
    COLOURS,
    CONCEPTS,
    IMPLIES,
    PLACES,
    POSITIONS,
    SHAPES,
    THING_OF,
)

SIDE = 64  # pixels
SLOTS = 3
_RADII = np.array([[6.0, 8.0], [9.0, 11.5], [12.5, 15.5]], np.float32)  # pixels, by size
_GRID = 7  # candidate centres a side
_COUNT_SHARES = (5, 3, 2)
_TEXTURE_SHARES = (14, 2, 2, 2)


class Layout(NamedTuple):
    """Everything a scene is made of.

    Integer arrays number the words of `vocabulary`; the slots of absent objects hold anything.
    """

    place: Int64[np.ndarray, " images"]
    present: Bool[np.ndarray, "images slots"]
    shape: Int64[np.ndarray, "images slots"]
    colour: Int64[np.ndarray, "images slots"]
    texture: Int64[np.ndarray, "images slots"]
    size: Int64[np.ndarray, "images slots"]
    thing: Int64[np.ndarray, "images slots"]  # -1 where the look has no name
    radius: Float32[np.ndarray, "images slots"]  # pixels
    x: Float32[np.ndarray, "images slots"]  # pixels from the left
    y: Float32[np.ndarray, "images slots"]  # pixels from the top


def _looks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cells = np.argwhere(THING_OF >= 0)
    order = np.argsort(THING_OF[tuple(cells.T)], kind="stable")
    number = np.bincount(THING_OF[THING_OF >= 0], minlength=len(CLASS_OF))
    return cells[order], number, np.cumsum(number) - number


_CELLS, _LOOKS, _FIRST_LOOK = _looks()
_THINGS, _FIRST_THING = (
    np.bincount(CLASS_OF),
    np.searchsorted(CLASS_OF, np.arange(len(CLASS_NAMES))),
)


def layout(index: Int[np.ndarray, " images"], seed: int) -> Layout:
    """Returns the contents of the scenes `index` of the world `seed`."""
    words = draws.bits(index, seed, 0, 18 + 2 * _GRID * _GRID)
    n = len(words)

    # the main object's look, and with it the place
    kind = draws.choice(words[:, 0], len(CLASS_NAMES))
    thing = _FIRST_THING[kind] + draws.choice(words[:, 1], _THINGS[kind])
    main = _CELLS[_FIRST_LOOK[thing] + draws.choice(words[:, 2], _LOOKS[thing])]
    place = main[:, 3]
    shape = np.stack(
        [main[:, 0], *(draws.choice(words[:, 3 + s], len(SHAPES)) for s in range(2))], axis=1
    )
    colour = np.stack(
        [main[:, 1], *(draws.choice(words[:, 5 + s], len(COLOURS)) for s in range(2))], axis=1
    )
    texture = np.stack(
        [main[:, 2], *(draws.weighted(words[:, 7 + s], _TEXTURE_SHARES) for s in range(2))], axis=1
    )

    # sizes: the others are of a smaller size than the main object
    count = 1 + draws.weighted(words[:, 9], _COUNT_SHARES)
    present = np.arange(SLOTS) < count[:, None]
    main_size = np.where(
        count == 1, draws.choice(words[:, 10], 3), 1 + draws.weighted(words[:, 10], (2, 3))
    )
    other_size = np.where(main_size[:, None] == 2, draws.choice(words[:, 11:13], 2), 0)
    size = np.concatenate([main_size[:, None], other_size], axis=1)
    low, high = _RADII[size, 0], _RADII[size, 1]
    radius = low + draws.uniform(words[:, 13:16]) * (high - low)

    # centres: the main object's anywhere inside; each other's on a jittered grid, a random free
    # place or else the freest
    x, y = np.empty((n, SLOTS), np.float32), np.empty((n, SLOTS), np.float32)
    margin = radius + np.float32(1)
    span = SIDE - 2 * margin
    x[:, 0] = margin[:, 0] + draws.uniform(words[:, 16]) * span[:, 0]
    y[:, 0] = margin[:, 0] + draws.uniform(words[:, 17]) * span[:, 0]
    points = np.arange(_GRID * _GRID)
    for slot in range(1, SLOTS):
        start = 18 + (slot - 1) * _GRID * _GRID
        tickets = draws.uniform(words[:, start : start + _GRID * _GRID])
        across = margin[:, slot, None] + span[:, slot, None] * (points % _GRID).astype(
            np.float32
        ) / np.float32(_GRID - 1)
        down = margin[:, slot, None] + span[:, slot, None] * (points // _GRID).astype(
            np.float32
        ) / np.float32(_GRID - 1)
        room = np.full(across.shape, np.inf, np.float32)
        for other in range(slot):
            dx, dy = across - x[:, other, None], down - y[:, other, None]
            reach = radius[:, other, None] + radius[:, slot, None] + np.float32(1)
            room = np.minimum(room, np.sqrt(dx * dx + dy * dy) - reach)
        best = np.argmax(np.where(room >= 0, tickets + 1, np.minimum(room, 0) / SIDE), axis=1)
        x[:, slot], y[:, slot] = across[np.arange(n), best], down[np.arange(n), best]

    named = THING_OF[shape, colour, texture, place[:, None]].astype(np.int64)
    return Layout(place, present, shape, colour, texture, size, named, radius, x, y)


def class_ids(scenes: Layout) -> Int32[np.ndarray, " images"]:
    """Returns the class of each scene, that of its main object, as a number of `CLASS_NAMES`."""
    return CLASS_OF[scenes.thing[:, 0]]


def positions(scenes: Layout) -> Bool[np.ndarray, "images positions"]:
    """Returns whether the main object's centre is in the outer three eighths of each side.

    Columns as in `POSITIONS`.
    """
    x, y, near = scenes.x[:, 0], scenes.y[:, 0], np.float32(SIDE * 3 / 8)
    return np.stack([x < near, x > SIDE - near, y < near, y > SIDE - near], axis=1)


def membership(scenes: Layout) -> Bool[np.ndarray, "images parts concepts"]:
    """Returns which concepts each part of a scene bears: each slot's object, then the background.

    An image has a concept when any of its parts bears it, and the concept's pixels are those of the
    parts that do. Positions belong to the main object, counts to every object.
    """
    n = len(scenes.place)
    column = {name: j for j, name in enumerate(CONCEPTS)}
    bears = np.zeros((n, SLOTS + 1, len(CONCEPTS)), bool)
    image, slot = np.nonzero(scenes.present)

    def mark(words: tuple[str, ...], number: np.ndarray) -> None:
        # number: int (objects,), negative where none of the words applies
        hit = number >= 0
        bears[image[hit], slot[hit], np.array([column[word] for word in words])[number[hit]]] = True

    mark(ATTRIBUTES["thing"], scenes.thing[image, slot])
    mark(ATTRIBUTES["shape"], scenes.shape[image, slot])
    mark(ATTRIBUTES["colour"], scenes.colour[image, slot])
    mark(ATTRIBUTES["texture"], scenes.texture[image, slot] - 1)
    mark(ATTRIBUTES["size"], np.array([0, -1, 1])[scenes.size[image, slot]])
    mark(ATTRIBUTES["count"], scenes.present.sum(axis=1)[image] - 1)
    bears[:, 0, [column[word] for word in POSITIONS]] = positions(scenes)
    bears[np.arange(n), SLOTS, np.array([column[word] for word in PLACES])[scenes.place]] = True
    return bears @ IMPLIES
