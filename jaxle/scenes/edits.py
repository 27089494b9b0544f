"""Pairs of pictures of one scene that differ in one edit, with the exact labels of both.

    a = paint(layout),   b = paint(edit(layout))     the same numbers drawn for both

A scene's picture depends on its layout and on numbers that are drawn from its index alone. So what
an edit leaves as it is stays the same to the last pixel: the tint and the light of the background,
the lean and the tone of every object, the noise of a pattern. An edited scene is again one that the
world could have drawn: its main object is a thing and larger than the others, every object is
inside the picture, and none covers more of another than before. Labels follow the world's own
rules: an apple painted blue is a marble.

    object     the main object becomes a thing of another class, as large, at the same place
    shape      one object's silhouette
    colour     one object's colour
    texture    one object's pattern
    size       one object's radius, about its centre
    position   where the main object is
    presence   the last object is taken away, or one more is put there
    place      what the background shows
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from jaxle.arrays import checks_input
from jaxle.scenes import draws
from jaxle.scenes.layout import _RADII as RADII
from jaxle.scenes.layout import SIDE, SLOTS, Layout, layout, membership, positions
from jaxle.scenes.vocabulary import (
    CLASS_OF,
    COLOURS,
    CONCEPTS,
    PLACES,
    SHAPES,
    TEXTURES,
    THING_OF,
)
from jaxle.scenes.world import CHUNK, paint

_STREAM = 5  # of `draws`
_SPOTS = 32  # tried for the main object
_WORDS = 1 + 2 * _SPOTS  # drawn for an edit


class EditedPairs(NamedTuple):
    """Pictures a and b of the same scenes, b after one edit, and all that is true of them."""

    images_a: UInt8[np.ndarray, "pairs 64 64 3"]  # 0–255
    images_b: UInt8[np.ndarray, "pairs 64 64 3"]
    labels_a: UInt8[np.ndarray, "pairs concepts"]  # 0 or 1, in the order of `concepts`
    labels_b: UInt8[np.ndarray, "pairs concepts"]
    edits: tuple[str, ...]  # of EDITS, one a pair
    index: Int64[np.ndarray, " pairs"]  # numbers of the scenes; each once
    slots: Int64[np.ndarray, " pairs"]  # the object that is edited, 0 the main one; −1 the place
    concepts: tuple[str, ...] = CONCEPTS


class _Edit(NamedTuple):
    scenes: Layout
    slot: np.ndarray  # int (images,)
    possible: np.ndarray  # bool (images,); elsewhere `scenes` means nothing


@checks_input
def edited_pairs(
    n: int, seed: int, kinds: Sequence[str] | None = None, *, first: int = 0
) -> EditedPairs:
    """Returns pairs of pictures that differ in one edit, as many of each kind.

    Pair j is of kind j mod len(kinds), and more pairs begin with the same ones. The labels of its
    two pictures differ in at least one concept.

    Args:
      n: how many pairs.
      seed: of the world; its first scenes are what `render` gives for the same seed.
      kinds: of EDITS, each once; None for all.
      first: the pairs are of scenes with this number or a higher one, so that other pictures of the
        same world can be left out.

    Raises:
      ValueError: an unknown kind, one that is named twice, or a number out of range.
    """
    kinds = tuple(EDITS) if kinds is None else tuple(kinds)
    _check(n, kinds, first)
    whole: dict[str, np.ndarray] = {}
    for number, kind in enumerate(kinds[:n]):
        own = slice(number, n, len(kinds))
        wanted = len(range(n)[own])
        found = _of_kind(kind, itertools.count(first + number, len(kinds)), seed, wanted)
        for name, values in found.items():
            every = whole.setdefault(name, np.empty((n, *values.shape[1:]), values.dtype))
            every[own] = values
    return EditedPairs(**whole, edits=tuple(kinds[j % len(kinds)] for j in range(n)))


@checks_input
def _check(n: int, kinds: tuple[str, ...], first: int) -> None:
    unknown = [kind for kind in kinds if kind not in EDITS]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        raise ValueError(
            f"kinds must name edits, each once, got {kinds!r}; expected some of {', '.join(EDITS)}."
        )
    for name, value, least in (("n", n, 1), ("first", first, 0)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def _of_kind(kind: str, scenes: Iterator[int], seed: int, wanted: int) -> dict[str, np.ndarray]:
    """Name → values of the first pairs of one kind among some scenes."""
    parts, left = [], wanted
    while left:
        index = np.fromiter(itertools.islice(scenes, CHUNK), np.int64)
        parts.append(_try(kind, index, seed, left))
        left -= len(parts[-1]["index"])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _try(kind: str, index: np.ndarray, seed: int, most: int) -> dict[str, np.ndarray]:
    before = layout(index, seed)
    edit = EDITS[kind](before, draws.bits(index, seed, _STREAM, _WORDS))
    after = edit.scenes._replace(thing=_named(edit.scenes))
    labels = [np.asarray(membership(scenes).any(axis=1)) for scenes in (before, after)]
    of = np.flatnonzero(edit.possible & np.any(labels[0] != labels[1], axis=1))[:most]
    found = {"index": index[of], "slots": edit.slot[of]}
    for side, scenes, bears in zip("ab", (before, after), labels, strict=True):
        found[f"images_{side}"], _ = paint(index[of], seed, Layout(*(v[of] for v in scenes)))
        found[f"labels_{side}"] = bears[of].astype(np.uint8)
    return found


def _named(scenes: Layout) -> Int64[np.ndarray, "images slots"]:
    look = scenes.shape, scenes.colour, scenes.texture, scenes.place[:, None]
    return THING_OF[look].astype(np.int64)


def _pick(
    allowed: Bool[np.ndarray, "images options"], words: np.ndarray
) -> Int64[np.ndarray, " images"]:
    """One of the options that each image allows, each as likely; 0 where it allows none."""
    count = allowed.sum(axis=1)
    rank = draws.choice(words, np.maximum(count, 1))
    return np.argmax(np.cumsum(allowed, axis=1) > rank[:, None], axis=1)


def _with(values: np.ndarray, slot: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The values (images, slots) with a new one in one slot of each image."""
    changed = values.copy()
    changed[np.arange(len(values)), slot] = new
    return changed


def _look(name: str, words: tuple[str, ...]) -> Callable[[Layout, np.ndarray], _Edit]:
    """The edit of one of an object's shape, colour and texture."""

    def edit(scenes: Layout, numbers: np.ndarray) -> _Edit:
        values = getattr(scenes, name)
        options = np.arange(len(words))
        look = {part: getattr(scenes, part)[..., None] for part in ("shape", "colour", "texture")}
        look[name] = options
        things = THING_OF[(*look.values(), scenes.place[:, None, None])]
        allowed = scenes.present[..., None] & (options != values[..., None])
        allowed[:, 0] &= things[:, 0] >= 0  # the main object stays a thing
        slot = _pick(allowed.any(axis=2), numbers[:, 0])
        new = _pick(allowed[np.arange(len(slot)), slot], numbers[:, 1])
        edited = scenes._replace(**{name: _with(values, slot, new)})
        return _Edit(edited, slot, allowed.any(axis=(1, 2)))

    return edit


_CELLS = np.argwhere(THING_OF >= 0)  # shape, colour, texture, place
_CELL_THING = THING_OF[tuple(_CELLS.T)].astype(np.int64)
_CELL_CLASS = CLASS_OF[_CELL_THING]


def _object(scenes: Layout, numbers: np.ndarray) -> _Edit:
    # another class, then a thing of it, then a look of that thing, in the same place
    free = _CELLS[:, 3] == scenes.place[:, None]
    free &= _CELL_CLASS != CLASS_OF[scenes.thing[:, 0]][:, None]
    for column, words in ((_CELL_CLASS, numbers[:, 0]), (_CELL_THING, numbers[:, 1])):
        options = np.arange(column.max() + 1)
        offered = np.any(free[:, :, None] & (column[:, None] == options), axis=1)
        free &= column == _pick(offered, words)[:, None]
    cell = _CELLS[_pick(free, numbers[:, 2])]
    slot = np.zeros(len(cell), np.int64)
    shape, colour, texture = (
        _with(values, slot, cell[:, part])
        for part, values in enumerate((scenes.shape, scenes.colour, scenes.texture))
    )
    edited = scenes._replace(shape=shape, colour=colour, texture=texture)
    return _Edit(edited, slot, np.any(free, axis=1))


def _size(scenes: Layout, numbers: np.ndarray) -> _Edit:
    options = np.arange(len(RADII))
    size, present = scenes.size, scenes.present
    # the main object is of a larger size than every other one
    largest_other = np.where(present[:, 1:], size[:, 1:], -1).max(axis=1)
    allowed = present[..., None] & (options != size[..., None])
    allowed[:, 0] &= options > largest_other[:, None]
    allowed[:, 1:] &= options < size[:, :1, None]
    low, high = RADII[size, 0], RADII[size, 1]
    share = (scenes.radius - low) / (high - low)  # the same share of the new range
    radius = RADII[:, 0] + share[..., None] * (RADII[:, 1] - RADII[:, 0])
    for slot in range(SLOTS):
        for option in options:
            at = np.full(len(size), slot)
            grown = scenes._replace(radius=_with(scenes.radius, at, radius[:, slot, option]))
            allowed[:, slot, option] &= _fits(grown, at) & ~_covers(grown, at, _room(scenes, at))
    slot = _pick(allowed.any(axis=2), numbers[:, 0])
    rows = np.arange(len(slot))
    new = _pick(allowed[rows, slot], numbers[:, 1])
    edited = scenes._replace(
        size=_with(size, slot, new), radius=_with(scenes.radius, slot, radius[rows, slot, new])
    )
    return _Edit(edited, slot, allowed.any(axis=(1, 2)))


def _position(scenes: Layout, numbers: np.ndarray) -> _Edit:
    slot = np.zeros(len(numbers), np.int64)
    margin = scenes.radius[:, 0] + np.float32(1)
    span = SIDE - 2 * margin
    before, room, allowed, moves = positions(scenes), _room(scenes, slot), [], []
    for spot in range(_SPOTS):
        x, y = (margin + draws.uniform(numbers[:, 1 + 2 * spot + axis]) * span for axis in range(2))
        moved = scenes._replace(x=_with(scenes.x, slot, x), y=_with(scenes.y, slot, y))
        differs = (positions(moved) != before).any(axis=1)
        allowed.append(differs & ~_covers(moved, slot, room))
        moves.append((x, y))
    allowed, moves = np.stack(allowed, axis=1), np.array(moves)  # (spots, 2, images)
    chosen = moves[_pick(allowed, numbers[:, 0]), :, np.arange(len(slot))]
    edited = scenes._replace(
        x=_with(scenes.x, slot, chosen[:, 0]), y=_with(scenes.y, slot, chosen[:, 1])
    )
    return _Edit(edited, slot, np.any(allowed, axis=1))


def _presence(scenes: Layout, numbers: np.ndarray) -> _Edit:
    count, rows = scenes.present.sum(axis=1), np.arange(len(numbers))
    more, last = np.minimum(count, SLOTS - 1), count - 1
    put = (count < SLOTS) & (scenes.size[:, 0] > scenes.size[rows, more])
    put &= ~_covers(scenes, more)
    choices = np.stack([put, count > 1], axis=1)
    taken = _pick(choices, numbers[:, 0]).astype(bool)
    slot = np.where(taken, last, more)
    edited = scenes._replace(present=_with(scenes.present, slot, ~taken))
    return _Edit(edited, slot, np.any(choices, axis=1))


def _place(scenes: Layout, numbers: np.ndarray) -> _Edit:
    options = np.arange(len(PLACES))
    main = (scenes.shape[:, :1], scenes.colour[:, :1], scenes.texture[:, :1])
    allowed = (THING_OF[(*main, options)] >= 0) & (options != scenes.place[:, None])
    edited = scenes._replace(place=_pick(allowed, numbers[:, 0]))
    return _Edit(edited, np.full(len(numbers), -1), np.any(allowed, axis=1))


def _fits(scenes: Layout, slot: np.ndarray) -> Bool[np.ndarray, " images"]:
    """Whether an object and a pixel around it are inside the picture."""
    rows = np.arange(len(slot))
    reach = scenes.radius[rows, slot] + 1
    inside = [(v[rows, slot] >= reach) & (v[rows, slot] <= SIDE - reach) for v in scenes[-2:]]
    return np.logical_and(*inside)


def _room(scenes: Layout, slot: np.ndarray) -> np.ndarray:
    """Pixels between an object and each slot's, as `layout` counts them; float (images, slots)."""
    rows = np.arange(len(slot))
    dx, dy = (v - v[rows, slot][:, None] for v in (scenes.x, scenes.y))
    reach = scenes.radius + scenes.radius[rows, slot][:, None] + 1
    return np.sqrt(dx * dx + dy * dy) - reach


def _covers(
    scenes: Layout, slot: np.ndarray, before: np.ndarray | float = 0.0
) -> Bool[np.ndarray, " images"]:
    """Whether an object overlaps others, and more than it did when `before` was its room."""
    overlap = scenes.present & (_room(scenes, slot) < np.minimum(before, 0))
    overlap[np.arange(len(slot)), slot] = False
    return np.any(overlap, axis=1)


EDITS: dict[str, Callable[[Layout, np.ndarray], _Edit]] = {
    "object": _object,
    "shape": _look("shape", SHAPES),
    "colour": _look("colour", COLOURS),
    "texture": _look("texture", TEXTURES),
    "size": _size,
    "position": _position,
    "presence": _presence,
    "place": _place,
}
