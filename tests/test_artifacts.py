import os

import numpy as np
import pytest

from jaxle import artifacts

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "names": np.array(["ä", "b"]),
    "empty": np.zeros((0, 3)),
    "scalar": np.float32(2),
}


def test_round_trip(tmp_path):
    artifacts.write(tmp_path / "x", ARRAYS, {"n": 1, "name": "ä"})
    found = artifacts.read(tmp_path / "x")
    assert found.facts == {"n": 1, "name": "ä"} and set(found.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == np.asarray(array).dtype


def test_same_content_gives_the_same_bytes(tmp_path):
    for folder in ("x", "y"):
        artifacts.write(tmp_path / folder, ARRAYS, {"n": 1})
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()


@pytest.mark.parametrize("file", ["a.npy", "manifest.json", "names.npy"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_is_noticed(tmp_path, file, place, caplog):
    artifacts.write(tmp_path / "x", ARRAYS, {})
    path = tmp_path / "x" / file
    data = bytearray(path.read_bytes())
    data[place] ^= 0x81
    path.write_bytes(data)
    assert artifacts.read(tmp_path / "x") is None
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.unlink(),
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        lambda p: p.write_bytes(b""),
    ],
)
def test_a_missing_or_cut_file_is_noticed(tmp_path, damage):
    artifacts.write(tmp_path / "x", ARRAYS, {})
    damage(tmp_path / "x" / "a.npy")
    assert artifacts.read(tmp_path / "x") is None


def test_unfinished_work_counts_as_absent_and_leftovers_go(tmp_path):
    assert artifacts.read(tmp_path / "x") is None
    artifacts.write(tmp_path / "x" / "parts" / "000000", {"a": np.zeros(1)}, {})
    (tmp_path / "x" / ".a.npy.tmp").write_bytes(b"half")
    assert artifacts.read(tmp_path / "x") is None
    artifacts.write(tmp_path / "x", {"a": np.ones(1)}, {})
    assert sorted(os.listdir(tmp_path / "x")) == ["a.npy", "manifest.json"]


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        artifacts.write(tmp_path / "x", {"a": np.array([{}], object)}, {})
    assert artifacts.read(tmp_path / "x") is None


def test_fingerprint_knows_values_and_not_their_order():
    base = artifacts.fingerprint({"a": 1, "b": [1, 2.5, "x"]})
    assert base == artifacts.fingerprint({"b": (1, 2.5, "x"), "a": 1}) and len(base) == 16
    assert base != artifacts.fingerprint({"a": 1, "b": [1, 2.5, "y"]})
    with pytest.raises(ValueError):
        artifacts.fingerprint({"a": float("nan")})


def test_a_failed_write_leaves_the_old_file(tmp_path):
    artifacts.write_json(tmp_path / "s.json", {"a": 1})
    with pytest.raises(ValueError):
        artifacts.write_json(tmp_path / "s.json", {"a": float("nan")})
    assert (tmp_path / "s.json").read_text() == '{\n  "a": 1\n}\n'


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError("3200 requested and 3040 written"), "No space left on device"),  # NumPy's
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_disk_that_refuses_is_named_with_the_file(tmp_path, error, reason):
    def write(file):
        raise error

    with pytest.raises(OSError) as found:
        artifacts.write_file(tmp_path / "x.npy", write)
    assert found.value.filename == str(tmp_path / "x.npy") and found.value.strerror == reason


def test_rows_in_blocks_are_the_array(tmp_path):
    array = np.arange(42, dtype=np.float32).reshape(7, 2, 3)
    rows = artifacts.Rows((7, 2, 3), array.dtype, lambda: iter([array[:4], array[4:4], array[4:]]))
    none = artifacts.Rows((0, 3), np.dtype(np.int32), lambda: iter(()))
    found = artifacts.write(tmp_path / "x", {"a": rows, "none": none}, {})
    artifacts.write(tmp_path / "y", {"a": array, "none": np.zeros((0, 3), np.int32)}, {})
    np.testing.assert_array_equal(found.arrays["a"], array)
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()
    assert artifacts.names(tmp_path / "x") == {"a", "none"}
    (tmp_path / "x" / "a.npy").unlink()
    assert artifacts.names(tmp_path / "x") == artifacts.names(tmp_path / "z") == frozenset()
