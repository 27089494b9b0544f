"""The embedded world as a source: the images of the renderer, with every concept's label."""

import numpy as np

from jaxle.data.scenes import ScenesSource
from jaxle.scenes.edits import edited_pairs
from jaxle.scenes.vocabulary import CLASS_NAMES, CONCEPTS
from jaxle.scenes.world import render


def test_source_gives_what_the_renderer_makes():
    source, scenes = ScenesSource(40, seed=3), render(np.arange(40), 3)
    assert len(source) == 40 and source.class_names == CLASS_NAMES
    for i in (0, 7, 39):
        image, label = source[i]
        assert np.array_equal(image, scenes.images[i]) and label == scenes.class_ids[i]
    assert np.array_equal(source.labels, scenes.class_ids) and source.labels.dtype == np.int32
    concepts, matrix = source.annotations
    assert (
        concepts == CONCEPTS
        and matrix.dtype == np.uint8
        and np.array_equal(matrix, scenes.concept_labels)
    )


def test_fingerprint_distinguishes_worlds_and_renders_few():
    fields = ScenesSource(10**9, seed=3).fingerprint_fields()
    assert fields == ScenesSource(10**9, seed=3).fingerprint_fields()
    assert (
        fields
        != ScenesSource(10**9, seed=4).fingerprint_fields()
        != ScenesSource(10**8, seed=4).fingerprint_fields()
    )


def test_pairs_are_of_the_same_world_and_of_no_image_of_the_source():
    pairs, same = ScenesSource(40, seed=3).pairs(24, 0), edited_pairs(24, 3, first=40)
    assert pairs.index.min() >= 40
    np.testing.assert_array_equal(pairs.images_b, same.images_b)
    np.testing.assert_array_equal(render(pairs.index, 3).images, pairs.images_a)
    others = ScenesSource(40, seed=3).pairs(24, 5)
    assert not set(others.index.tolist()) & set(pairs.index.tolist())
    assert ScenesSource(40, seed=3).pairs(1, 2**40).index.dtype == np.int64
