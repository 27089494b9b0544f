"""Files by their content: what is read again, and what is noticed of a change."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from jaxle.data import content
from jaxle.data.content import changed, hash_files
from jaxle.data.folder import FolderSource
from jaxle.data.sources import changed_files, open_source


@pytest.fixture
def files(tmp_path):
    """Three files of an hour ago."""
    for name in "abc":
        (tmp_path / name).write_text(f"this is {name}")
        os.utime(tmp_path / name, ns=(time.time_ns() - 3600 * 10**9,) * 2)
    return [tmp_path / name for name in "abc"]


@pytest.fixture
def read(monkeypatch):
    """The names of all files that are read, as they are read."""
    names, real = [], content._hash_piece
    monkeypatch.setattr(
        content, "_hash_piece", lambda piece: names.append(piece[0][-1]) or real(piece)
    )
    return names


@pytest.fixture
def old(monkeypatch):
    """Stamps are trusted at once, as if the files had lain there for more than a minute."""
    monkeypatch.setattr(content, "_YOUNG", -60e9)


def hashes(files, memory=None):
    return [seen.sha256 for seen in hash_files(files, memory).values()]


def test_a_file_is_read_once(files, tmp_path, read, old):
    first = hashes(files, tmp_path / "memory")
    assert len(set(first)) == 3 and sorted(read) == ["a", "b", "c"]
    assert hashes(files, tmp_path / "memory") == first and len(read) == 3
    assert hashes(files) == first and len(read) == 6  # without a memory


def test_a_change_at_the_same_size_with_the_old_time_put_back_is_noticed(
    files, tmp_path, read, old
):
    first = hashes(files, tmp_path / "memory")
    seen = hash_files(files, tmp_path / "memory")
    before = files[1].stat()
    time.sleep(0.05)
    files[1].write_text("this is X")
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = files[1].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert changed(seen) == [str(files[1])]
    read.clear()
    again = hashes(files, tmp_path / "memory")
    assert again[1] != first[1] and again[::2] == first[::2] and read == ["b"]


def test_a_touched_file_is_read_again_and_is_the_same(files, tmp_path, read, old):
    first = hashes(files, tmp_path / "memory")
    read.clear()
    os.utime(files[2])
    assert hashes(files, tmp_path / "memory") == first and read == ["c"]
    assert hashes(files, tmp_path / "memory") == first and read == ["c"]


def test_a_young_stamp_is_not_trusted(files, tmp_path, read):
    """Another write in the same tick of the clock leaves it as it is."""
    first = hashes(files, tmp_path / "memory")
    assert hashes(files, tmp_path / "memory") == first and len(read) == 6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "null"])
def test_a_damaged_memory_is_no_memory(files, tmp_path, text):
    (tmp_path / "memory").write_text(text)
    assert hashes(files, tmp_path / "memory") == hashes(files)


def test_a_memory_that_cannot_be_written_is_none(files, tmp_path):
    (tmp_path / "file").touch()
    assert hashes(files, tmp_path / "file" / "memory") == hashes(files)


def test_every_byte_of_a_large_file_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_PIECE", 10)
    monkeypatch.setattr(content, "_CHUNK", 4)
    data, found = bytes(range(35)), set()
    for i in range(36):
        (tmp_path / "file").write_bytes(data[:i] + b"\xff" + data[i + 1 :])
        found |= set(hashes([tmp_path / "file"]))
    (tmp_path / "file").write_bytes(b"")
    assert len(found | set(hashes([tmp_path / "file"]))) == 37


def test_a_file_that_cannot_be_read_is_named(files, tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*/absent: No such file or directory$"):
        hash_files([*files, tmp_path / "absent"])
    seen = hash_files(files)
    files[0].unlink()
    assert changed(seen) == [str(files[0])]


def test_of_a_subset_only_the_chosen_images_are_read(tmp_path, read):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (2, 2), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    few = open_source(f"folder:{tmp_path}", limit=3)
    fields = few.fingerprint_fields()
    assert len(read) == 3 and fields["images"] == 3
    other = next(path for path in FolderSource(tmp_path).file_names if path not in few.file_names)
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / other)
    assert few.fingerprint_fields() == fields and changed_files(few) == []
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / few.file_names[1])
    assert changed_files(few) == [f"{tmp_path}/{few.file_names[1]}"]
    assert few.fingerprint_fields() != fields


def test_each_picture_of_an_array_counts(tmp_path):
    """Of 1,000 pictures, 64 at equal distances stay as they are and the others turn black."""
    images = np.random.default_rng(0).integers(0, 256, (1000, 4, 4, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    before = open_source(f"arrays:{tmp_path}").fingerprint_fields()
    kept = np.linspace(0, 999, 64).astype(int)
    images[np.setdiff1d(np.arange(1000), kept)] = 0
    np.save(tmp_path / "images.npy", images)
    assert open_source(f"arrays:{tmp_path}").fingerprint_fields() != before


def test_the_facts_of_your_own_source_are_json_values(monkeypatch):
    class Mine:
        class_names, labels, annotations = (), None, None

        def __len__(self):
            return 1

        def __getitem__(self, i):
            return np.zeros((2, 2, 3), np.uint8), -1

        def fingerprint_fields(self):
            return {"version": np.float32(1)}

    monkeypatch.setitem(globals(), "MINE", Mine())
    with pytest.raises(ValueError, match="fingerprint_fields that are no JSON values .*float32"):
        open_source(f"{__name__}:MINE").fingerprint_fields()
