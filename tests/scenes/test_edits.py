"""Pairs of pictures differ in one edit: in nothing else, pixel by pixel, and labels are exact."""

import hashlib

import numpy as np
import pytest

from jaxle.scenes import draws, render
from jaxle.scenes.edits import _STREAM, _WORDS, EDITS, edited_pairs
from jaxle.scenes.layout import SIDE, SLOTS, layout, membership
from jaxle.scenes.vocabulary import (
    ATTRIBUTES,
    CLASS_NAMES,
    CONCEPTS,
    IMPLIES,
    PLACES,
    THING_OF,
    THINGS,
)
from jaxle.scenes.world import paint

PAIRS = 400
# Layout fields that each edit may change, beside `thing`, which follows from the look
TOUCHES = {
    "object": {"shape", "colour", "texture"},
    "shape": {"shape"},
    "colour": {"colour"},
    "texture": {"texture"},
    "size": {"size", "radius"},
    "position": {"x", "y"},
    "presence": {"present"},
    "place": {"place"},
}
# and the words of ATTRIBUTES whose labels it may toggle, beside things, classes and superclasses
SPEAKS = {
    "object": ("shape", "colour", "texture"),
    "shape": ("shape",),
    "colour": ("colour",),
    "texture": ("texture",),
    "size": ("size",),
    "position": ("position",),
    "presence": ("shape", "colour", "texture", "size", "count"),
    "place": ("place",),
}


@pytest.fixture(scope="module")
def pairs():
    return edited_pairs(PAIRS, 7)


@pytest.fixture(scope="module")
def layouts(pairs):
    """Kind → pair numbers, and the layouts of both sides."""
    found = {}
    for kind in EDITS:
        of = np.array([j for j, edit in enumerate(pairs.edits) if edit == kind])
        before = layout(pairs.index[of], 7)
        numbers = draws.bits(pairs.index[of], 7, _STREAM, _WORDS)
        edit = EDITS[kind](before, numbers)
        assert edit.possible.all() and np.array_equal(edit.slot, pairs.slots[of])
        after = edit.scenes
        look = after.shape, after.colour, after.texture, after.place[:, None]
        found[kind] = of, before, after._replace(thing=THING_OF[look].astype(np.int64))
    return found


def test_side_a_is_the_world_as_it_is(pairs):
    scenes = render(pairs.index, 7)
    np.testing.assert_array_equal(pairs.images_a, scenes.images)
    np.testing.assert_array_equal(pairs.labels_a, scenes.concept_labels)
    assert len(set(pairs.index.tolist())) == PAIRS and pairs.concepts == CONCEPTS


def test_kinds_take_turns_and_more_pairs_begin_with_the_same(pairs):
    assert pairs.edits == tuple(list(EDITS)[j % len(EDITS)] for j in range(PAIRS))
    for n in (1, 5, 37):
        fewer = edited_pairs(n, 7)
        for some, every in zip(fewer[:-1], pairs[:-1], strict=True):
            np.testing.assert_array_equal(some, every[:n])
    only = edited_pairs(9, 7, ("place", "colour"))
    assert set(only.edits) == {"place", "colour"} and only.edits[0] == "place"


def test_other_scenes_from_a_number_on_and_other_worlds():
    late = edited_pairs(40, 7, first=1000)
    assert late.index.min() >= 1000
    assert np.all(np.any(late.images_a != edited_pairs(40, 8, first=1000).images_a, axis=(1, 2, 3)))


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_changes_the_fields_of_its_own_and_only_in_one_slot(layouts, kind):
    of, before, after = layouts[kind]
    assert len(of) == PAIRS // len(EDITS)
    slots = set()
    for name in before._fields:
        old, new = getattr(before, name), getattr(after, name)
        if name == "thing":
            continue
        if name not in TOUCHES[kind]:
            np.testing.assert_array_equal(old, new)
        elif old.ndim == 2:
            changed = old != new
            assert (changed.sum(axis=1) <= 1).all()
            slots |= set(np.nonzero(changed)[1].tolist())
    expected = {"place": set(), "position": {0}, "object": {0}, "presence": {1, 2}}
    assert slots >= expected.get(kind, {0, 1}) and bool(slots) == bool(expected.get(kind, {0, 1}))


@pytest.mark.parametrize("kind", EDITS)
def test_both_pictures_are_ones_that_the_world_could_draw(layouts, kind):
    for scenes in layouts[kind][1:]:
        assert (scenes.thing[:, 0] >= 0).all() and scenes.present[:, 0].all()
        others = scenes.present[:, 1:]
        assert (scenes.size[:, 1:] < scenes.size[:, :1])[others].all()
        assert (scenes.radius[:, 1:] < scenes.radius[:, :1])[others].all()
        margin = scenes.radius + 1 - 1e-4
        for at in (scenes.x, scenes.y):
            assert ((at >= margin) & (at <= SIDE - margin))[scenes.present].all()


def test_nothing_is_covered_that_was_not(layouts):
    def gaps(scenes):
        dx, dy = (v[:, :, None] - v[:, None, :] for v in (scenes.x, scenes.y))
        gap = np.sqrt(dx**2 + dy**2) - scenes.radius[:, :, None] - scenes.radius[:, None, :] - 1
        both = scenes.present[:, :, None] & scenes.present[:, None, :] & ~np.eye(SLOTS, dtype=bool)
        return np.where(both, np.minimum(gap, 0), 0)

    for _, before, after in layouts.values():
        assert (gaps(after) >= gaps(before) - 1e-4).all()


@pytest.mark.parametrize("kind", EDITS)
def test_labels_are_those_of_the_layouts_and_only_words_of_the_edit_toggle(pairs, layouts, kind):
    of, _, after = layouts[kind]
    np.testing.assert_array_equal(pairs.labels_b[of], membership(after).any(axis=1))
    toggled = pairs.labels_a[of] != pairs.labels_b[of]
    assert toggled.any(axis=1).all()
    spoken = {word for name in SPEAKS[kind] for word in ATTRIBUTES[name]}
    free = {thing.name for thing in THINGS} if kind not in ("size", "position") else set()
    direct = {CONCEPTS[j] for j in np.flatnonzero(toggled.any(axis=0))}
    basic = {word for words in ATTRIBUTES.values() for word in words}
    assert direct & basic <= spoken | free
    # labels of b obey the hierarchy, as those of a
    labels = pairs.labels_b[of].astype(bool)
    np.testing.assert_array_equal(labels, labels @ IMPLIES)


def test_an_object_edit_changes_the_class(pairs, layouts):
    of, before, after = layouts["object"]
    column = [CONCEPTS.index(name) for name in CLASS_NAMES]
    kinds = [np.array([CLASS_NAMES.index(thing.kind) for thing in THINGS])[scenes.thing[:, 0]]
             for scenes in (before, after)]  # fmt: skip
    assert (kinds[0] != kinds[1]).all()
    assert pairs.labels_b[of][:, column][np.arange(len(of)), kinds[1]].all()


def reach(scenes, slots):
    """Pixels within 6½ of a disc a twentieth larger than an object: shadows of sharp corners."""
    rows = np.arange(len(slots))
    x, y, radius = (v[rows, slots][:, None, None] for v in (scenes.x, scenes.y, scenes.radius))
    at = np.arange(SIDE) + 0.5
    distance = np.sqrt((at[None, None, :] - x) ** 2 + (at[None, :, None] - y) ** 2)
    return distance <= 1.05 * radius + 6.5


@pytest.mark.parametrize("kind", [kind for kind in EDITS if kind != "place"])
def test_every_pixel_is_the_same_outside_the_edited_object(pairs, layouts, kind):
    of, before, after = layouts[kind]
    slots = pairs.slots[of]
    near = reach(before, slots) | reach(after, slots)
    differs = (pairs.images_a[of] != pairs.images_b[of]).any(axis=3)
    assert not (differs & ~near).any()
    assert differs.any(axis=(1, 2)).all()


def test_a_place_edit_leaves_the_inside_of_every_object_and_the_tint(pairs, layouts):
    of, before, after = layouts["place"]
    painted = [paint(pairs.index[of], 7, scenes) for scenes in (before, after)]
    np.testing.assert_array_equal(painted[0][1], painted[1][1])
    owner = painted[0][1]
    inner = owner >= 0
    for axis in (1, 2):  # two pixels within the silhouette on every side
        for step in (-2, -1, 1, 2):
            inner &= np.roll(owner, step, axis) == owner
    difference = np.abs(pairs.images_a[of].astype(int) - pairs.images_b[of])
    assert (
        inner.sum() > 2000 and difference[inner].max() <= 1
    )  # round-off of under + 1·(over − under)
    assert difference[owner < 0].mean() > 8
    # brightness and colour of the background hardly move: the place is a pattern
    means = [np.array([im[o < 0].mean(axis=0) for im, o in zip(images[of], owner, strict=True)])
             for images in (pairs.images_a, pairs.images_b)]  # fmt: skip
    assert np.abs(means[0] - means[1]).mean() < 12


def test_every_edit_touches_both_directions(pairs):
    difference = pairs.labels_b.astype(int) - pairs.labels_a
    appears, goes = (difference > 0).sum(axis=0), (difference < 0).sum(axis=0)
    places = [
        CONCEPTS.index(name) for name in (*PLACES, "small", "large", "left", "several objects")
    ]
    assert (appears[places] > 0).all() and (goes[places] > 0).all()
    assert ((appears + goes) > 0).mean() > 0.9


def test_pixels_are_the_same_on_every_platform():
    # made by this very line; only IEEE arithmetic and integers are involved
    made = edited_pairs(64, 0)
    digest = hashlib.sha256(made.images_b.tobytes() + made.labels_b.tobytes()).hexdigest()
    assert digest == "f640cc4bc13c24c7fc9f7bb8b07898986422a6f9887c4f62d5d42874a9027b3f"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n": 0}, "n must be a whole number of at least 1, got 0."),
        ({"n": 2.0}, "n must be a whole number of at least 1, got 2.0."),
        ({"first": -1}, "first must be a whole number of at least 0, got -1."),
        ({"kinds": ()}, "kinds must name edits, each once, got ()"),
        ({"kinds": ("size", "size")}, "kinds must name edits, each once"),
        ({"kinds": ("size", "hue")}, "expected some of object, shape, colour, texture, size"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError) as error:
        edited_pairs(**{"n": 3, "seed": 0, **arguments})
    assert message in str(error.value)
