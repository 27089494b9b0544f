import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from jaxle import arrays


@pytest.mark.parametrize(
    "x, words",
    [
        (np.zeros(3), "got shape (3,)"),
        (np.zeros((0, 3)), "got shape (0, 3)"),
        (np.array([["a"]]), "dtype <U1"),
        (np.zeros((2, 2), complex), "dtype complex128"),
        ([[1.0]], "got list"),
    ],
)
def test_refused_with_what_was_got(x, words):
    with pytest.raises(ValueError, match="activations must") as error:
        arrays.check_matrix(x, "activations")
    assert words in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_position_is_named_across_blocks(monkeypatch, bad):
    monkeypatch.setattr(arrays, "READ_BYTES", 64)
    x = np.zeros((50, 4), np.float32)
    x[33, 2] = x[40, 0] = bad
    with pytest.raises(ValueError, match=f"got {bad} at image 33, neuron 2"):
        arrays.check_matrix(x, "activations")
    with pytest.raises(ValueError, match="at image 133, neuron 2"):
        arrays.check_matrix(x, "activations", first_row=100)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((2, 2), np.uint8),
        jnp.ones((2, 2), jnp.bfloat16),
        np.ones((2, 2), np.float16),
        np.ones((1, 1), bool),
    ],
)
def test_any_real_dtype_passes_unchanged(x):
    assert arrays.check_matrix(x, "x") is x


def test_native_arrays_are_returned_as_they_are(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (np.ones((3, 2)), np.ones((3, 2), np.float16), np.ones((3, 2), np.uint8), on_disk):
        assert arrays.as_matrix(x, "x") is x
    assert isinstance(arrays.as_matrix(np.ones((3, 2), bool), "x"), np.ndarray)


def test_a_bool_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2), bool))
    got = arrays.as_matrix(np.load(tmp_path / "x.npy", mmap_mode="r"), "x")
    assert isinstance(got, np.memmap) and got.dtype == np.uint8 and got.all()


@pytest.mark.parametrize(
    "x, dtype",
    [
        (np.ones((2, 2), ">f4"), "float32"),
        (np.ones((2, 2), ">f2"), "float16"),
        (np.ones((2, 2), ">f8"), "float64"),
        (np.ones((2, 2), ">i2"), "int16"),
        (np.ones((2, 2), "g"), "float64"),
        (np.ones((2, 2), np.int64), "uint8"),
        (np.full((2, 2), 2**62), "float64"),
        (np.full((2, 2), -300), "int32"),
        (np.full((2, 2), 2**63, np.uint64), "float64"),
        (np.ones((2, 2), ml_dtypes.float8_e4m3fn), "float32"),
        (np.ones((2, 2), ml_dtypes.uint4), "float32"),
        ([[1.5]], "float64"),
        ([[1]], "uint8"),
        ([np.ones(2, np.float32)], "float32"),
        (np.ma.array([[1.0]]), "float64"),
        (pd.DataFrame({"a": [1.5], "b": [True]}), "float64"),
        (pd.DataFrame({"a": [1], "b": [True]}), "float64"),
        (scipy.sparse.eye(3), "uint8"),
        (scipy.sparse.eye(3, dtype=np.float32) * 2, "float32"),
        (scipy.sparse.coo_array((np.ones(2), ([0, 0], [1, 1])), shape=(2, 2)), "float64"),
        (jnp.ones((2, 2), jnp.bfloat16), "bfloat16"),
    ],
)
def test_others_become_the_least_native_dtype_that_holds_them(x, dtype):
    got = arrays.as_matrix(x, "x")
    assert got.dtype.name == dtype and got.dtype.isnative
    dense = x.toarray() if hasattr(x, "toarray") else x
    np.testing.assert_array_equal(np.asarray(got, float), np.asarray(dense, float))


def test_objects_read_by_rows_stay_so():
    class Rows:
        shape, dtype = (4, 2), np.dtype(np.float32)

        def __getitem__(self, rows):
            return np.ones((4, 2), np.float32)[rows]

    x = Rows()
    assert arrays.as_matrix(x, "x") is x
    blocks = list(arrays.host_blocks(x, np.array([3, 1])))
    assert len(blocks) == 1 and blocks[0][1].shape == (2, 2)


def test_probabilities_are_from_0_to_1_but_for_round_off(monkeypatch):
    monkeypatch.setattr(arrays, "READ_BYTES", 64)
    x = np.full((50, 4), 1 + 9e-7, np.float32)
    assert arrays.as_probabilities(x, "probs") is x
    x[33, 2] = x[40, 0] = -2e-6
    with pytest.raises(ValueError, match="got -2e-06 at image 33, concept 2; give raw_features"):
        arrays.as_probabilities(x, "probs")
    assert arrays.as_probabilities(x, "probs", raw=True) is x


def test_unequal_lengths_are_named():
    with pytest.raises(ValueError, match="a and b must describe the same images, got 3 and 4 rows"):
        arrays.check_equal_rows(np.zeros((3, 1)), np.zeros((4, 1)), ("a", "b"))


def test_live_is_a_mask_of_that_shape():
    assert arrays.check_live(None, (3,)).tolist() == [True] * 3
    mask = np.array([True, False])
    assert arrays.check_live(mask, (2,)) is mask
    for wrong in (np.ones(2), np.ones(3, bool)):
        got = r"(float64 of shape \(2,\)|bool of shape \(3,\))"
        with pytest.raises(ValueError, match=rf"live must be bool of shape \(2,\), got {got}"):
            arrays.check_live(wrong, (2,))


def test_row_blocks_cover_every_row_once():
    blocks = list(arrays.row_blocks(1000, arrays.READ_BYTES // 64))
    assert (
        np.concatenate([np.arange(1000)[block] for block in blocks]).tolist() == list(range(1000))
        and len(blocks) == 16
    )
