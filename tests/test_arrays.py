import jax.numpy as jnp
import numpy as np
import pytest

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
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 64)
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
    blocks = list(arrays.row_blocks(1000, arrays.BLOCK_BYTES // 64))
    assert (
        np.concatenate([np.arange(1000)[block] for block in blocks]).tolist() == list(range(1000))
        and len(blocks) == 16
    )
