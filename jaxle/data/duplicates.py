"""The same picture in two parts of a split: what was fitted or chosen on is then scored on.

pictures as the network gets them → a 64-bit hash each → how many of val and test were seen before

Pictures are compared after they were resized, so that copies under other names, and in other
formats without loss, count. Two pictures that differ in one pixel are different.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8, UInt64

from jaxle.data.splits import Split


class Duplicates(NamedTuple):
    """Images of val and test whose picture an earlier part holds as well."""

    val: int  # in train
    test: int  # in train or val
    first: tuple[int, int] | None  # one of them (test before val), and the image that it repeats


def picture_hashes(
    images: UInt8[np.ndarray, "images height width 3"],
) -> UInt64[np.ndarray, " images"]:
    """Returns a 64-bit hash of each picture's pixels."""
    found = [hashlib.blake2b(x.tobytes(), digest_size=8).digest() for x in images]
    return np.frombuffer(b"".join(found), "<u8").astype(np.uint64)


def duplicates(pictures: Shaped[np.ndarray, " images"], split: Split) -> Duplicates:
    """Counts the pictures that occur in more than one part of a split.

    Args:
      pictures: (images,) of every image, equal where the pictures are, from `picture_hashes`.
      split: train, val and test.
    """
    train, val, test = (pictures[index] for index in split)
    again_val, again_test = np.isin(val, train), np.isin(test, np.concatenate([train, val]))
    first = None
    for part, again, before in (
        (split.test, again_test, np.concatenate([split.train, split.val])),
        (split.val, again_val, split.train),
    ):
        if first is None and again.any():
            image = int(part[np.argmax(again)])
            first = (image, int(before[np.argmax(pictures[before] == pictures[image])]))
    return Duplicates(int(again_val.sum()), int(again_test.sum()), first)
