"""Splits: every image in one part, the same on every machine, and index files read as they are."""

import hashlib

import numpy as np
import pytest

from jaxle.data.splits import Split, check_split, load_split, make_split, shuffled


@pytest.mark.parametrize("n", [3, 4, 5, 9, 10, 101, 6000])
@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.01, 0.98, 0.01), (1 / 3, 1 / 3, 1 / 3)])
def test_every_image_is_in_one_part(n, fractions):
    split = make_split(n, 0, fractions)
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(n))
    for part, share in zip(split, fractions, strict=True):
        assert part.dtype == np.int64 and np.all(np.diff(part) > 0)
        assert len(part) >= 1 and abs(len(part) - share * n) <= 2


def test_sizes_of_the_paper():
    assert [len(part) for part in make_split(50_000, 0)] == [35_000, 5_000, 10_000]
    assert [len(part) for part in make_split(3, 0)] == [1, 1, 1]


def test_seed_decides_and_nothing_else():
    assert all(
        np.array_equal(a, b) for a, b in zip(make_split(100, 7), make_split(100, 7), strict=True)
    )
    assert not np.array_equal(make_split(100, 7).test, make_split(100, 8).test)


def test_parts_are_spread_evenly():
    test = make_split(100_000, 3).test
    counts = np.histogram(test, 10, (0, 100_000))[0]
    assert abs(counts - 2000).max() < 200  # five standard deviations


def test_golden_order():
    """Philox's raw stream is promised not to change; were it to, every published split would."""
    digest = hashlib.sha256(shuffled(1000, seed=5, stream=0).astype("<i8").tobytes()).hexdigest()
    assert digest == "23e8f0f1986edd7b0a13675e7bb2b897e287da35b51204a10c14349722aab71f"
    assert not np.array_equal(shuffled(1000, 5, 0), shuffled(1000, 5, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 0), "cannot split 2 images into train, val and test; expected at least 3"),
        ((1, 0), "cannot split 1 image into"),
        ((0, 0), "cannot split 0 images into"),
        ((10, 0, (0.7, 0.2, 0.2)), "expected three numbers above 0 of sum 1"),
        ((10, 0, (0.8, 0.2, 0.0)), "expected three numbers above 0 of sum 1"),
        ((10, 0, (0.8, 0.2)), "expected three numbers above 0 of sum 1"),
        ((10, -1), "seed is -1"),
        ((10, 2**64), "seed is 18446744073709551616"),
    ],
)
def test_impossible_split(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_split(*arguments)


def test_checked_split_keeps_its_order():
    split = check_split(([4, 0], np.array([3], np.uint8), (1,)), 6)
    assert isinstance(split, Split) and [part.tolist() for part in split] == [[4, 0], [3], [1]]
    assert all(part.dtype == np.int64 for part in split)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (([0], [1]), "split has 2 parts; expected three"),
        (([0], [], [1]), "split.val is float64 of shape \\(0,\\)"),
        (([0], [1.0], [2]), "split.val is float64"),
        (([[0]], [1], [2]), r"split.train is int64 of shape \(1, 1\)"),
        (([True], [1], [2]), "split.train is bool"),
        (([0], [1], [6]), "split.test holds index 6; expected 0 to 5, as there are 6 images"),
        (([-1], [1], [2]), "split.train holds index -1"),
        (([0, 1], [2], [3, 1]), "image 1 is in split.train and in split.test"),
        (([0, 4, 4], [2], [3]), "split.train holds index 4 more than once"),
    ],
)
def test_wrong_split(split, message):
    with pytest.raises(ValueError, match=message):
        check_split(split, 6)


def test_index_files(tmp_path):
    split = make_split(20, 1)
    np.savez(tmp_path / "split.npz", **split._asdict())
    folder = tmp_path / "split"
    folder.mkdir()
    np.save(folder / "train.npy", split.train)
    np.save(folder / "val.npy", split.val.astype(np.uint16))
    np.savetxt(folder / "test.txt", split.test, "%d")
    for path in (tmp_path / "split.npz", str(folder)):
        assert all(np.array_equal(a, b) for a, b in zip(load_split(path, 20), split, strict=True))


def test_wrong_index_files(tmp_path):
    def refused(path, message):
        with pytest.raises(ValueError, match=message):
            load_split(path, 20)

    refused(tmp_path / "absent", "absent is not there; expected an .npz file or a folder")
    refused(tmp_path, "has no train.npy or train.txt")
    (tmp_path / "train.txt").write_text("1\ntwo\n")
    refused(tmp_path, "cannot read split file .*train.txt")
    (tmp_path / "train.txt").write_text("1.5\n")
    refused(tmp_path, "cannot read split file .*train.txt")
    np.save(tmp_path / "train.npy", np.array([{}], object))
    refused(tmp_path, "cannot read split file .*train.npy")
    np.savez(tmp_path / "part.npz", train=np.arange(3), val=np.array([3]))
    refused(tmp_path / "part.npz", "it lacks test; it holds train, val")
    (tmp_path / "text.npz").write_text("no zip")
    refused(tmp_path / "text.npz", "cannot read split .*text.npz")
