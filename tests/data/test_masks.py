"""Pixel masks of a source: what is checked, how they are cropped like a network's input, and the
scenes' own."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from jaxle.data.masks import Masks, category_numbers, masks_of, read_masks, window
from jaxle.data.sources import open_source
from jaxle.images import Preprocess


class Two:
    """Two concepts, left and right half."""

    concepts = ("left", "right")
    categories = ("side", "side")

    def label_maps(self, i):
        return np.repeat([[[1, 1, 2, 2]]], 3, axis=1)

    def fingerprint_fields(self):
        return {}


def source(**changes):
    masks = Two()
    for name, value in changes.items():
        setattr(masks, name, value)
    return SimpleNamespace(masks=masks)


def test_scenes_have_masks_that_agree_with_their_annotations():
    scenes = open_source("scenes", limit=70, seed=5)
    masks = masks_of(scenes)
    assert isinstance(masks, Masks) and masks.concepts == scenes.annotations[0]
    for i in (0, 69, 3):
        borne = np.unique(masks.label_maps(i))
        assert set(borne[borne > 0] - 1) == set(np.flatnonzero(scenes.annotations[1][i]))
    assert category_numbers(masks)[0] == ("scene",)
    other = open_source("scenes", limit=70, seed=6).masks
    assert masks.fingerprint_fields() != other.fingerprint_fields()
    again = pickle.loads(pickle.dumps(masks))
    assert (again.label_maps(69) == masks.label_maps(69)).all()


def test_a_subset_has_the_masks_of_its_images(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 4, 4, 3), np.uint8))
    assert masks_of(open_source(f"arrays:{tmp_path}", limit=2)) is None
    from jaxle.data.sources import Subset

    scenes = open_source("scenes", limit=20)
    some = Subset(scenes, [7, 2])
    assert (some.masks.label_maps(0) == scenes.masks.label_maps(7)).all()


@pytest.mark.parametrize(
    "resize, crop, shape",
    [("squash", 1.0, (30, 50)), ("none", 1.0, (24, 24)), ("shorter_side", 24 / 32, (90, 64)),
     ("shorter_side", 1.0, (64, 90)), ("squash", 0.75, (40, 40))],
)  # fmt: skip
def test_masks_are_cropped_as_images_are(resize, crop, shape):
    """A picture whose colours say where a pixel came from is fitted; the window says the same."""
    preprocess = Preprocess(resize, 24, crop)
    y = np.broadcast_to((np.arange(shape[0]) + 0.5)[:, None] / shape[0], shape)
    x = np.broadcast_to((np.arange(shape[1]) + 0.5)[None] / shape[1], shape)
    image = np.stack([y * 250, x * 250, 0 * x], axis=-1).astype(np.uint8)
    fitted = preprocess.fit(image)[2:-2, 2:-2].astype(float) / 250
    top, left, bottom, right = window(preprocess, *shape)
    centres = ((np.arange(24) + 0.5) / 24)[2:-2]
    np.testing.assert_allclose(fitted[:, 9, 0], top + (bottom - top) * centres, atol=0.02)
    np.testing.assert_allclose(fitted[9, :, 1], left + (right - left) * centres, atol=0.02)
    found = read_masks(Two(), 0, None, 8)
    assert found.shape == (1, 8, 8) and (found[0, 0] == [1, 1, 1, 1, 2, 2, 2, 2]).all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"concepts": ()}, "masks have concepts (); expected names"),
        ({"concepts": ("a", "a")}, "name concept 'a' twice; expected each once"),
        ({"categories": ("side",)}, "have 1 categories for 2 concepts; expected one for each"),
        ({"concepts": tuple(map(str, range(2**15)))}, "have 32768 concepts; expected up to 32767"),
    ],
)
def test_bad_masks_are_refused(change, words):
    with pytest.raises(ValueError) as error:
        masks_of(source(**change))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_masks_without_members_are_refused():
    with pytest.raises(ValueError, match="the source's masks lack categories, label_maps"):
        masks_of(SimpleNamespace(masks=SimpleNamespace(concepts=("a",), fingerprint_fields=1)))


@pytest.mark.parametrize(
    "maps, words",
    [
        (np.zeros((4, 4), int), "image 3 are int64 of shape (4, 4); expected whole numbers (layer"),
        (np.zeros((1, 4, 4)), "are float64 of shape (1, 4, 4); expected whole numbers"),
        (np.full((1, 4, 4), 3), "hold 3; expected 0 for none, or 1 to 2, a concept's number + 1"),
        (np.full((1, 4, 4), -1), "hold -1; expected 0 for none"),
    ],
)
def test_bad_label_maps_are_refused(maps, words):
    masks = Two()
    masks.label_maps = lambda i: maps
    with pytest.raises(ValueError) as error:
        read_masks(masks, 3, None, 4)
    assert words in str(error.value)
