"""Images that cannot be decoded: the list of them, what is left of a source and of its split."""

import numpy as np
import pytest
from etils import epath

from jaxle.data.loader import Decoding, UnreadableImage
from jaxle.data.sources import names_of
from jaxle.data.splits import Split
from jaxle.pipeline.skipped import find_skipped, leave_out, split_without, without


class Numbers:
    """Image i has colour i; some are broken."""

    class_names, annotations = ("even", "odd"), None

    def __init__(self, *broken):
        self.broken = set(broken)
        self.labels = np.arange(10, dtype=np.int32) % 2
        self.file_names = [f"{i}.png" for i in range(10)]

    def __len__(self):
        return 10

    def __getitem__(self, i):
        if i in self.broken:
            raise ValueError(f"cannot decode image {i}.png: it is broken")
        return np.full((2, 2, 3), i, np.uint8), int(self.labels[i])

    def fingerprint_fields(self):
        return {"kind": "numbers"}


def found(source, place, first):
    """What is left after an image of a source, by its number in what is left of it, was met."""
    skipped = find_skipped(source, place)
    left = without(source, skipped)
    error = UnreadableImage("it is broken", first)
    assert leave_out(left, skipped, error, Decoding())
    return find_skipped(source, place)


def test_all_after_the_first_are_listed_and_left_out(tmp_path):
    source, place = Numbers(3, 4, 9), epath.Path(tmp_path)
    assert without(source, find_skipped(source, place)) is source
    skipped = found(source, place, 3)
    assert skipped.index.tolist() == [3, 4, 9] and skipped.names == ("3.png", "4.png", "9.png")
    assert skipped.reasons[2] == "cannot decode image 9.png: it is broken"
    left = without(source, skipped)
    assert names_of(left) == [f"{i}.png" for i in (0, 1, 2, 5, 6, 7, 8)]
    assert left.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert [int(left[i][0][0, 0, 0]) for i in range(7)] == [0, 1, 2, 5, 6, 7, 8]
    assert not leave_out(left, skipped, None, Decoding())


def test_one_that_breaks_later_joins_the_list(tmp_path):
    source, place = Numbers(4), epath.Path(tmp_path)
    assert found(source, place, 4).index.tolist() == [4]
    source.broken = {4, 2, 7}
    assert found(source, place, 2).index.tolist() == [2, 4, 7]


def test_one_that_can_be_read_again_is_not_left_out(tmp_path):
    with pytest.raises(UnreadableImage, match="it is broken"):
        found(Numbers(8), epath.Path(tmp_path), 5)


def test_a_run_that_is_to_stop_says_how_to_go_on():
    with pytest.raises(ValueError, match="^it is broken: expected a picture; mend it, or set data"):
        leave_out(Numbers(3), None, UnreadableImage("it is broken", 3), Decoding())


def test_index_files_still_number_all_images(tmp_path):
    source, place = Numbers(3, 4, 9), epath.Path(tmp_path)
    split = Split(np.array([5, 0, 3]), np.array([9, 8]), np.array([1, 4, 2, 7]))
    skipped = found(source, place, 3)
    left = split_without(split, skipped)
    assert [part.tolist() for part in left] == [[3, 0], [6], [1, 2, 5]]
    assert split_without(split, None) is split
    with pytest.raises(ValueError, match="no image of split.val can be decoded"):
        split_without(split._replace(val=np.array([9])), skipped)
