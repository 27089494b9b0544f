"""Reading ahead: every image once, in order, fitted for every network; from any start; errors after
all that comes before them."""

import threading

import numpy as np
import pytest

from jaxle.data.duplicates import picture_hashes
from jaxle.data.folder import FolderSource
from jaxle.data.loader import Decoding, UnreadableImage, batches
from jaxle.images import Preprocess


class Numbers:
    """Image i is 4 × 6 pixels of colour i; some are unreadable; counts what is read."""

    class_names, labels, annotations = (), None, None

    def fingerprint_fields(self):
        return {"n": self.n}

    def __init__(self, n, broken=(), shape=(4, 6, 3)):
        self.n, self.broken, self.shape = n, broken, shape
        self.read = []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        if i in self.broken:
            raise ValueError(f"cannot decode image {i}.jpg: it is broken")
        return np.full(self.shape, i % 256, np.uint8), -1


FITS = {"small": Preprocess("squash", 2), "large": Preprocess("shorter_side", 5, crop=0.8)}


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 250])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 64, 100])
def test_every_image_once_in_order(n, batch_size):
    source, index = Numbers(n), []
    for rows, images, _, seconds in batches(source, FITS, batch_size):
        assert len(rows) == batch_size or rows[-1] == n - 1
        assert list(images) == ["small", "large"] and seconds > 0
        for name, fit in FITS.items():
            assert images[name].shape == (batch_size, fit.size, fit.size, 3)
            assert images[name].dtype == np.uint8
            assert (images[name][: len(rows)] == rows[:, None, None, None]).all()
            assert not images[name][len(rows) :].any()
        index.extend(rows.tolist())
    assert index == sorted(source.read) == list(range(n))


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 50)],
        [(13, 50)],
        [(90, 100)],
        [(100, 100)],
        [],
        [(70, 100), (0, 5), (5, 22), (40, 40), (60, 61)],
    ],
)
@pytest.mark.parametrize("batch_size", [16, 40])
def test_any_ranges(ranges, batch_size):
    index = []
    for rows, images, *_ in batches(Numbers(100), FITS, batch_size, ranges):
        assert any(start <= rows[0] and rows[-1] < stop for start, stop in ranges)  # of one range
        assert (images["small"][: len(rows)] == rows[:, None, None, None]).all()
        index += rows.tolist()
    assert index == [i for start, stop in ranges for i in range(start, stop)]


@pytest.mark.parametrize("broken", [0, 1, 15, 16, 40, 99])
@pytest.mark.parametrize("batch_size", [16, 100])
def test_error_comes_after_all_images_before_it(broken, batch_size):
    index = []
    with pytest.raises(
        ValueError, match=f"^cannot decode image {broken}.jpg: it is broken$"
    ) as caught:
        for rows, images, *_ in batches(Numbers(101, {broken, 100}), FITS, batch_size):
            assert (images["small"][: len(rows)] == rows[:, None, None, None]).all()
            index.extend(rows.tolist())
    assert index == list(range(broken)) and caught.value.__cause__ is None
    assert isinstance(caught.value, UnreadableImage) and caught.value.image == broken
    assert threading.active_count() < 100


def test_error_outside_the_range_is_not_met():
    assert sum(len(rows) for rows, *_ in batches(Numbers(100, {3, 60}), FITS, 16, [(4, 60)])) == 56


def test_image_that_cannot_be_fitted_is_an_error_too():
    with pytest.raises(ValueError, match="image 0: .*too narrow to resize"):
        list(batches(Numbers(3, shape=(1, 5000, 3)), {"a": Preprocess("shorter_side", 224)}, 2))


def test_other_exceptions_keep_their_type():
    class Faulty(Numbers):
        def __getitem__(self, i):
            return {}[i]

    with pytest.raises(KeyError):
        list(batches(Faulty(3), FITS, 2))


def test_same_resize_is_done_once():
    fits = {
        "a": Preprocess("squash", 3),
        "b": Preprocess("squash", 3, mean=(0, 0, 0)),
        "c": Preprocess("squash", 3, interpolation="bicubic"),
    }
    for _, images, *_ in batches(Numbers(5), fits, 2):
        assert images["a"] is images["b"] and images["a"] is not images["c"]


def test_fitted_pictures_are_hashed_where_that_is_asked():
    source, found = Numbers(70, broken={60}), {"small": [], "large": []}
    with pytest.raises(UnreadableImage):
        for batch in batches(source, FITS, 40, hashed=("small", "large")):
            for name, hashes in batch.hashes.items():
                n = len(batch.index)
                assert np.array_equal(hashes, picture_hashes(batch.images[name][:n]))
                found[name] += hashes.tolist()
    assert [len(set(hashes)) for hashes in found.values()] == [60, 60]
    assert next(batches(source, FITS, 40, hashed=("large",))).hashes.keys() == {"large"}


def test_no_network_still_gives_the_index():
    assert [rows.tolist() for rows, images, *_ in batches(Numbers(5), {}, 2) if images == {}] == [
        [0, 1],
        [2, 3],
        [4],
    ]


def test_reading_stays_a_few_batches_ahead():
    source = Numbers(10_000)
    iterator = batches(source, FITS, 64)
    next(iterator)
    assert max(source.read) < 64 + 32 * 20
    iterator.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ranges": [(-1, 10)]}, "asked for images -1 to 10; expected a range within 0 to 10"),
        ({"ranges": [(0, 5), (5, 11)]}, "asked for images 5 to 11"),
        ({"ranges": [(6, 5)]}, "asked for images 6 to 5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"how": Decoding(workers=-1)}, "workers -1"),
    ],
)
def test_mistakes_are_named_at_the_call(options, message):
    with pytest.raises(ValueError, match=message):
        batches(Numbers(10), FITS, **({"batch_size": 4} | options))


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)  # of Grain's processes
def test_worker_processes_give_the_same(test_data):
    source, fits = FolderSource(test_data / "photos"), {"a": Preprocess("shorter_side", 32)}
    source.file_names[70] = "absent.jpg"
    got = {}
    for workers in (0, 2):
        got[workers] = []
        with pytest.raises(ValueError, match="cannot read image .*/absent.jpg: No such file"):
            for rows, images, *_ in batches(source, fits, 48, [(0, 100)], Decoding(workers)):
                got[workers].append((rows.tolist(), images["a"]))
    assert [rows for rows, _ in got[0]] == [list(range(48)), list(range(48, 70))]
    for (a, b), (c, d) in zip(got[0], got[2], strict=True):
        assert a == c and np.array_equal(b, d)
