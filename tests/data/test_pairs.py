"""Pairs of pictures from a source: what they must be, and both sides as one source."""

import dataclasses

import numpy as np
import pytest

from jaxle.data.pairs import BothSides, Pairs, render_pairs
from jaxle.data.scenes import ScenesSource
from jaxle.data.sources import Source


@dataclasses.dataclass
class Two:
    """Two pairs, pictures of different sizes."""

    images_a: list
    images_b: list
    labels_a: np.ndarray
    labels_b: np.ndarray
    edits: tuple = ("hat", "hat")
    concepts: tuple = ("dog", "hat")


class Outside:
    """A source with pairs of its own."""

    def __init__(self, **change):
        self.change = change

    def pairs(self, n, seed):
        rng = np.random.default_rng(seed)
        sides = [[rng.integers(0, 256, (4 + i, 6, 3), np.uint8) for i in range(2)] for _ in "ab"]
        labels = np.array([[1, 0], [0, 0]], np.uint8), np.array([[1, 1], [0, 1]], bool)
        return dataclasses.replace(Two(*sides, *labels), **self.change)


def test_both_sides_are_one_source():
    pairs = ScenesSource(10, 0).pairs(6, 0)
    both = render_pairs(ScenesSource(10, 0), 6, 0, "scenes")
    assert isinstance(pairs, Pairs) and isinstance(both, Source)
    assert len(both) == 12 and both.n_pairs == 6 and both.edits == pairs.edits
    for i in range(6):
        np.testing.assert_array_equal(both[i][0], pairs.images_a[i])
        np.testing.assert_array_equal(both[6 + i][0], pairs.images_b[i])
    concepts, labels = both.annotations
    assert concepts == pairs.concepts and both.labels is None and both.class_names == ()
    np.testing.assert_array_equal(labels, np.concatenate([pairs.labels_a, pairs.labels_b]))
    assert both.file_names[0] == "pair 0, a" and both.file_names[-1] == "pair 5, b"


def test_your_own_source_may_have_pairs():
    both = render_pairs(Outside(), 2, 3, "mine:Source")
    assert both[1][0].shape == (5, 6, 3) and both[3][1] == -1
    assert both.annotations[1].dtype == np.uint8


def test_the_fingerprint_is_of_all_that_is_there():
    def found(**change):
        return render_pairs(Outside(**change), 2, 0, "mine").fingerprint_fields()

    first = found()
    assert first == found() and first != render_pairs(Outside(), 2, 1, "mine").fingerprint_fields()
    pairs = Outside().pairs(2, 0)
    images = [image.copy() for image in pairs.images_b]
    images[1][2, 3, 1] ^= 1
    labels = pairs.labels_a.copy()
    labels[0, 1] ^= 1
    changes = [{"images_b": images}, {"labels_a": labels}, {"edits": ("hat", "dog")},
               {"concepts": ("dog", "cap")}]  # fmt: skip
    assert len({str(found(**change)) for change in changes} | {str(first)}) == 5
    assert BothSides(pairs).fingerprint_fields() == first


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images_b": []}, "have 0 images_b; expected 2"),
        ({"edits": ("hat",)}, "have 1 edits; expected 2"),
        ({"labels_a": np.zeros((2, 3), np.uint8)}, r"labels_a uint8 of shape \(2, 3\)"),
        ({"labels_b": np.zeros((2, 2))}, r"labels_b float64 of shape .* pairs × concepts"),
        ({"labels_b": np.full((2, 2), 2, np.uint8)}, "labels_b up to 2; expected 0 and 1 only"),
        ({"images_a": [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)]},
         r"images_a\[1\] as uint8 of shape \(4, 4\)"),
        ({"images_a": np.zeros((2, 4, 4, 3))}, r"images_a\[0\] as float64"),
    ],
)  # fmt: skip
def test_bad_pairs_are_named(change, message):
    with pytest.raises(ValueError, match=f"pairs of data source 'mine' .*{message}"):
        render_pairs(Outside(**change), 2, 0, "mine")


def test_a_source_without_pairs_says_what_to_do():
    with pytest.raises(ValueError, match=r"method pairs\(n, seed\), and 'folder:x' has none"):
        render_pairs(object(), 2, 0, "folder:x")

    class Half:
        def pairs(self, n, seed):
            return object()

    with pytest.raises(ValueError, match="lack images_a, images_b, labels_a"):
        render_pairs(Half(), 2, 0, "mine")
