"""Units whose numbers float32 or the memory does not hold, each with its one sentence."""

import numpy as np
import pytest

from jaxle.models.units.directions import read_directions
from jaxle.models.units.random_directions import random_directions

WIDTH = 4
ONES = np.ones((WIDTH, 3))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"directions": ONES * 1e60}, "must be finite, got a number that float32 does not hold"),
        ({"directions": ONES, "bias": np.full(3, 1e60)}, "bias of"),
        ({"directions": ONES * [1, 1e-60, 1]}, "has length 2e-60: expected at least 1e-18"),
    ],
)
def test_directions_are_numbers_of_float32(tmp_path, arrays, sentence):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError) as error:
        read_directions(tmp_path / "d.npz", WIDTH)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_short_and_long_directions_are_read(tmp_path):
    np.save(tmp_path / "d.npy", ONES * [1e-17, 1, 1e18])
    units = read_directions(tmp_path / "d.npy", WIDTH)
    assert all(np.isfinite(array).all() for array in units.arrays.values())
    gained = np.sum(units.arrays["encoder"] * units.arrays["decoder"], axis=1)
    np.testing.assert_allclose(gained, 1, rtol=1e-5)


def test_more_random_directions_than_fit_in_memory_are_refused():
    with pytest.raises(ValueError, match="target.units=random:100000000000 asks for"):
        random_directions(WIDTH, 10**11, 0)
