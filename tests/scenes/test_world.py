"""Rendering has no state, is the same everywhere, and its labels are exact."""

import hashlib

import numpy as np
import pytest

from jaxle.scenes import CLASS_NAMES, CONCEPTS, SUPERCLASSES, render
from jaxle.scenes.layout import layout
from jaxle.scenes.vocabulary import ATTRIBUTES, CLASS_OF, COLOURS, SHAPES, SIZES, TEXTURES, THING_OF
from jaxle.scenes.world import CHUNK, paint


@pytest.fixture(scope="module")
def scenes():
    return render(np.arange(1500), 0)


def test_shapes_and_types(scenes):
    assert scenes.images.shape == (1500, 64, 64, 3) and scenes.images.dtype == np.uint8
    assert scenes.class_ids.shape == (1500,) and scenes.class_ids.dtype == np.int32
    assert (
        scenes.concept_labels.shape == (1500, len(CONCEPTS))
        and scenes.concept_labels.dtype == np.uint8
    )
    assert [len(part) for part in render(np.arange(0), 0)] == [0, 0, 0]


def test_access_is_random(scenes):
    # any order, any company, across chunk borders, with repeats
    index = np.random.default_rng(0).permutation(1500)[: CHUNK + 37]
    index[5] = index[6]
    for some, every in zip(render(index, 0), scenes, strict=True):
        np.testing.assert_array_equal(some, every[index])
    np.testing.assert_array_equal(render(np.array([1_499]), 0).images[0], scenes.images[1_499])


def test_seeds_and_images_differ(scenes):
    assert len({image.tobytes() for image in scenes.images}) == 1500
    other = render(np.arange(100), 1)
    assert np.all(np.any(other.images != scenes.images[:100], axis=(1, 2, 3)))
    render(np.array([2**40]), -3)


def test_pixels_are_the_same_on_every_platform():
    # made by this very line; only IEEE arithmetic and integers are involved, so it must not depend
    # on machine or NumPy
    digest = hashlib.sha256(render(np.arange(256), 0).images.tobytes()).hexdigest()
    assert digest == "13dde48ed5beacef702fb92273b99ae4deb91812a7da6a9207e2fe930684cad3"


@pytest.mark.parametrize("index", [np.array([[1]]), np.array([0.5]), np.array([3, -1])])
def test_bad_index_is_named(index):
    with pytest.raises(ValueError, match="index must"):
        render(index, 0)


def test_class_follows_from_attributes():
    found = layout(np.arange(3000), 5)
    look = THING_OF[found.shape[:, 0], found.colour[:, 0], found.texture[:, 0], found.place]
    np.testing.assert_array_equal(look, found.thing[:, 0])
    np.testing.assert_array_equal(render(np.arange(300), 5).class_ids, CLASS_OF[look[:300]])
    others = np.where(found.present[:, 1:], found.size[:, 1:], -1)
    assert np.all(found.size[:, :1] > others) and np.all(
        found.radius[:, :1] > np.where(found.present[:, 1:], found.radius[:, 1:], 0)
    )


def test_labels_are_the_attributes(scenes):
    found = layout(np.arange(1500), 0)
    words = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}
    for kind, names in words.items():
        for number, name in enumerate(names):
            if name in ATTRIBUTES[kind]:
                there = np.any((getattr(found, kind) == number) & found.present, axis=1)
                np.testing.assert_array_equal(
                    scenes.concept_labels[:, CONCEPTS.index(name)], there, err_msg=name
                )
    count = sum(
        scenes.concept_labels[:, CONCEPTS.index(name)] * number
        for number, name in enumerate(ATTRIBUTES["count"], start=1)
    )
    np.testing.assert_array_equal(count, found.present.sum(axis=1))
    places = scenes.concept_labels[:, [CONCEPTS.index(name) for name in ATTRIBUTES["place"]]]
    np.testing.assert_array_equal(places, np.eye(len(ATTRIBUTES["place"]))[found.place])
    left, right = (scenes.concept_labels[:, CONCEPTS.index(name)] for name in ("left", "right"))
    assert (
        not np.any(left & right)
        and found.x[left == 1, 0].max() < 24
        and found.x[right == 1, 0].min() > 40
    )


def test_superclass_is_any_of_its_members(scenes):
    for name, members in SUPERCLASSES.items():
        any_of = scenes.concept_labels[:, [CONCEPTS.index(member) for member in members]].any(
            axis=1
        )
        np.testing.assert_array_equal(
            scenes.concept_labels[:, CONCEPTS.index(name)], any_of, err_msg=name
        )
    assert np.all(
        scenes.concept_labels[
            np.arange(1500), [CONCEPTS.index(CLASS_NAMES[k]) for k in scenes.class_ids]
        ]
        == 1
    )


def test_no_concept_is_rare_or_in_most_images(scenes):
    share = scenes.concept_labels.mean(axis=0)
    assert share.min() > 0.01 and share.max() < 0.6, dict(
        zip(CONCEPTS, share.round(3), strict=True)
    )
    assert (
        np.bincount(scenes.class_ids, minlength=len(CLASS_NAMES)).min()
        > 1500 / len(CLASS_NAMES) * 0.6
    )
    # no two concepts are one
    assert len({column.tobytes() for column in scenes.concept_labels.T.copy()}) == len(CONCEPTS)


def test_objects_have_their_colours_and_no_two_overlap():
    index = np.arange(400)
    found = layout(index, 2)
    images, owner = paint(index, 2, found)
    paler = {"red": 0, "green": 1, "blue": 2}
    for slot in range(3):
        area = (owner == slot).sum(axis=(1, 2))
        radius = found.radius[:, slot]
        assert np.all(area[found.present[:, slot]] > 0.75 * radius[found.present[:, slot]] ** 2)
        assert np.all(area[~found.present[:, slot]] == 0)
        for name, channel in paler.items():
            plain = (
                found.present[:, slot]
                & (found.colour[:, slot] == COLOURS.index(name))
                & (found.texture[:, slot] == 0)
            )
            for i in np.flatnonzero(plain):
                assert np.argmax(images[i][owner[i] == slot].mean(axis=0)) == channel


def test_brightness_says_little_about_the_place():
    # a background's mean colour is drawn alike for every place, so its places explain next to
    # nothing of it
    index = np.arange(1500)
    found = layout(index, 0)
    _, owner = paint(index, 0, found)
    images = render(index, 0).images
    for channel in range(3):
        mean = np.array([images[i, ..., channel][owner[i] == -1].mean() for i in index])
        between = np.array([mean[found.place == k].mean() for k in range(8)])[found.place]
        assert between.var() / mean.var() < 0.03
