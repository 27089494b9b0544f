"""A concept has pixels exactly where its label is 1: those of the parts that bear it."""

import numpy as np

from jaxle.scenes import CONCEPTS, SUPERCLASSES, masks, render
from jaxle.scenes.masks import label_maps
from jaxle.scenes.vocabulary import ATTRIBUTES

INDEX = np.arange(150) * 7


def test_mask_is_empty_exactly_where_the_label_is_zero():
    marked = masks(INDEX, 3)
    assert marked.shape == (150, len(CONCEPTS), 64, 64) and marked.dtype == bool
    np.testing.assert_array_equal(marked.any(axis=(2, 3)), render(INDEX, 3).concept_labels)


def test_masks_part_the_image_and_superclasses_join_them():
    marked = masks(INDEX, 3)
    column = {name: j for j, name in enumerate(CONCEPTS)}
    for kind in ("shape", "colour", "place"):
        assert marked[:, [column[name] for name in ATTRIBUTES[kind]]].sum(axis=1).max() == 1
    objects, places = (
        marked[:, [column[name] for name in ATTRIBUTES[kind]]].any(axis=1)
        for kind in ("shape", "place")
    )
    np.testing.assert_array_equal(objects, ~places)
    for name, members in SUPERCLASSES.items():
        np.testing.assert_array_equal(
            marked[:, column[name]], marked[:, [column[member] for member in members]].any(axis=1)
        )


def test_masks_lie_on_what_they_name():
    marked, scenes = masks(INDEX, 3), render(INDEX, 3)
    red = marked[:, CONCEPTS.index("red")] & ~marked[:, CONCEPTS.index("patterned")]
    pixels = scenes.images[red].astype(int)
    assert (
        len(pixels) > 1000
        and np.mean((pixels[:, 0] > 2 * pixels[:, 1]) & (pixels[:, 0] > 2 * pixels[:, 2])) > 0.95
    )
    one = masks(INDEX[40:41], 3)
    np.testing.assert_array_equal(one[0], marked[40])


def test_label_maps_hold_the_same_pixels():
    found = np.zeros((20, len(CONCEPTS) + 1, 64, 64), bool)
    np.put_along_axis(found, label_maps(INDEX[:20], 3).astype(np.int64), True, axis=1)
    np.testing.assert_array_equal(found[:, 1:], masks(INDEX[:20], 3))
