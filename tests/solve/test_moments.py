"""Moments against float64 NumPy: uneven tiles, every source and dtype, awkward columns, devices."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.explainers import rank, search
from jaxle.mesh import make_mesh
from jaxle.solve import forward, ridge
from jaxle.solve import moments as m
from jaxle.solve.moments import correlate, merge, scales, second_moments

LIMITS = {"n_candidates": 5, "max_concepts": 2, "min_gain": 0.0}
RNG = np.random.default_rng(0)
X, Y = RNG.random((203, 150), np.float32) + 5, RNG.normal(size=(203, 7)).astype(np.float32)


def expected(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a, b = x - x.mean(0), y - y.mean(0)
    return len(x), x.mean(0), y.mean(0), a.T @ a / len(x), a.T @ b / len(x), (b**2).mean(0)


def assert_equal(got, want, tolerance=1e-6):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tile_rows", [None, 37, 203])
def test_equal_float64_numpy_in_tiles_that_do_not_divide(tile_rows):
    got = second_moments(X, Y, tile_rows=tile_rows)
    assert_equal(got, expected(X, Y))
    np.testing.assert_array_equal(got.gram, got.gram.T)
    assert all(part.dtype == jnp.float32 for part in got[1:])


def test_an_index_takes_rows_in_any_order_and_a_function_makes_tiles_on_the_fly(tmp_path):
    index = RNG.permutation(203)[:100]
    want = expected(X[index], Y[index])
    np.save(tmp_path / "x.npy", X)
    memory_map = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (
        X,
        jnp.asarray(X),
        memory_map,
        lambda rows: X[rows],
        lambda rows: jnp.asarray(X)[rows],
    ):
        assert_equal(second_moments(source, Y, index, tile_rows=37), want)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "uint8", "bool"])
def test_any_real_dtype_counts_as_the_numbers_it_holds(dtype):
    x = (X[:, :20] * 3).astype(jnp.dtype(dtype))
    assert_equal(second_moments(x, Y, tile_rows=37), expected(x.astype(np.float64), Y), 2e-6)


def test_a_near_constant_column_far_from_zero_keeps_its_variance():
    x = X.copy()
    x[:, 3] = 0.5 + 1e-5 * RNG.normal(
        size=203
    )  # variance 1e-10: an unshifted float32 sum has no digit of it
    var = second_moments(x, Y, tile_rows=37).gram[3, 3]
    np.testing.assert_allclose(var, x[:, 3].astype(np.float64).var(), rtol=1e-3)


def test_a_constant_and_a_small_number_are_distinguished_whatever_the_scale():
    x = X[:, :4].copy()
    x[:, 0], x[:, 1], x[:, 2] = 0.1, 0.0, 1e-6 * x[:, 2]
    y = Y[:, :3].copy()
    y[:, 0], y[:, 1] = 1e6, y[:, 1] * 1e-6
    size = scales(second_moments(x, y))
    assert list(size.inv_x > 0) == [False, False, True, True]
    assert list(size.inv_y > 0) == [False, True, True]
    np.testing.assert_allclose(size.std_x[2], x[:, 2].std(), rtol=1e-5)


def test_moments_of_parts_merge_into_those_of_the_whole():
    parts = [second_moments(X, Y, index) for index in np.split(RNG.permutation(203), [20, 90])]
    assert_equal(merge(parts), expected(X, Y))


def test_one_device_equals_eight():
    for got, want in zip(
        second_moments(X, Y, tile_rows=50, mesh=make_mesh()), second_moments(X, Y), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_streamed_correlation_equals_numpy_and_is_zero_for_a_constant():
    weights = RNG.normal(size=(150, 7)).astype(np.float32)
    weights[:, 2] = 0
    index = RNG.permutation(203)[:120]
    got = correlate(X, Y, weights, None, index, tile_rows=37)
    want = [
        np.corrcoef(X[index] @ weights[:, k], Y[index, k])[0, 1] if k != 2 else 0 for k in range(7)
    ]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_blocks_cover_every_neuron_in_one_shape():
    whole = second_moments(X, Y)
    seen = {}
    for start, part in m.blocks(whole, 3):
        assert part.cross.shape == (150, 3)
        seen |= {start + i: np.asarray(part.cross[:, i]) for i in range(3)}
    np.testing.assert_array_equal(np.stack([seen[k] for k in range(7)], 1), whole.cross)


def test_a_block_is_a_power_of_two_within_bounds():
    assert m.block_size(8) == 4096
    assert m.block_size(10**9) == 256
    assert m.block_size(10**9, n_devices=8) == 2048


def test_other_values_and_other_lengths_compile_nothing_new(compilations):
    second_moments(X, Y, tile_rows=37)
    compilations.clear()
    second_moments(2 * X, Y, np.arange(110), tile_rows=37)
    assert compilations == []


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="203 and 200 rows"):
        second_moments(X, Y[:200])
    with pytest.raises(ValueError, match="at least one image"):
        second_moments(X, Y, np.array([], int))


def test_a_new_accumulator_every_few_tiles_changes_nothing(monkeypatch):
    whole = second_moments(X, Y, tile_rows=16)
    monkeypatch.setattr(m, "PART", 3)
    for mesh in (None, make_mesh()):
        assert_equal(second_moments(X, Y, tile_rows=16, mesh=mesh), whole, 1e-5)


def test_more_images_than_an_int32_counts_are_fitted():
    few = second_moments(X[:, :10], Y)
    many = few._replace(n=1 << 33)
    found = (
        (
            rank.candidates(one, 0.05, 0.9).order,
            search.greedy(one, one, np.arange(10)[None].repeat(7, 0), **LIMITS).selected,
            ridge.teach(one, (0.1,)).aim.cross,
            forward.path(one, most=2),
            merge([one, one]).cross,
            forward.judge([one], one, forward.path(one, most=2)),
        )
        for one in (few, many)
    )
    for got, want in zip(*found, strict=True):
        np.testing.assert_array_equal(got, want)
