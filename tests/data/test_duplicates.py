"""Pictures that occur in two parts of a split are counted, by their pixels and not their names."""

import numpy as np

from jaxle.data.duplicates import duplicates, picture_hashes
from jaxle.data.splits import Split


def pictures(n):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)


def test_hashes_are_of_the_pixels():
    images = pictures(6)
    images[4] = images[1]
    images[5] = images[2]
    images[5, 0, 0, 0] ^= 1  # one pixel
    found = picture_hashes(images)
    assert found.dtype == np.uint64
    assert found[4] == found[1] and len(np.unique(found)) == 5
    turned = np.asfortranarray(images)
    np.testing.assert_array_equal(picture_hashes(turned), found)


def test_each_part_is_compared_with_those_before_it():
    names = np.array([10, 11, 12, 11, 13, 10, 13, 14, 12, 12], np.uint64)
    split = Split(np.arange(3), np.array([3, 4]), np.arange(5, 10))
    found = duplicates(names, split)
    # val: 11 is in train; test: 10 and twice 12 are in train, 13 is in val, 14 is new
    assert (found.val, found.test, found.first) == (1, 4, (5, 0))
    only_val = duplicates(names, Split(np.arange(3), np.array([3, 4]), np.array([7])))
    assert (only_val.val, only_val.test, only_val.first) == (1, 0, (3, 1))
    none = duplicates(np.arange(10).astype(np.uint64), split)
    assert none == (0, 0, None)
