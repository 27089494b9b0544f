"""Padding and tiles: sizes, what is read, and that other counts reuse the programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.solve import (
    elastic_net,
    exchange,
    folds,
    forward,
    lasso,
    least_squares,
    measure,
    moments,
    ridge,
    tiles,
    wording,
)
from jaxle.solve.screen import GROUP


def test_buckets_are_few_hold_all_and_waste_at_most_half():
    sizes = {n: tiles.bucket(n) for n in range(1, tiles.MOST + 1)}
    assert sizes[1] == sizes[16] == sizes[47] == sizes[48] == sizes[64] == 64
    assert sizes[65] == 128 and sizes[256] == 256 and sizes[768] == 768 and sizes[3000] == 3072
    assert all(n <= size < max(65, 2 * n, n + 256) for n, size in sizes.items())
    assert len(set(sizes.values())) == 18
    assert tiles.bucket(tiles.MOST + 1) == tiles.MOST + 1
    assert (
        tiles.bucket(11, 8) == 64 and tiles.bucket(100, 3) == 129 and tiles.bucket(5001, 8) == 5008
    )


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("host_bytes", [0, tiles.HOST_BYTES])
def test_columns_are_padded_with_zeros_and_cut_on_host_and_device(monkeypatch, make, host_bytes):
    monkeypatch.setattr(tiles, "HOST_BYTES", host_bytes)
    x = make(np.arange(6, dtype=np.float32).reshape(2, 3))
    padded = tiles.pad_columns(x, 5)
    assert np.asarray(padded).tolist() == [[0, 1, 2, 0, 0], [3, 4, 5, 0, 0]]
    assert tiles.pad_columns(x, 3) is x
    assert np.asarray(tiles.cut_columns(padded, slice(1, 3))).tolist() == [[1, 2], [4, 5]]
    assert np.asarray(tiles.cut_columns(x[0], np.array([2, 0]))).tolist() == [2, 0]


@pytest.mark.parametrize(
    "lengths, width, n_devices, rows",
    [
        ([1], 10, 1, 64),
        ([500], 200, 1, 512),
        ([600], 200, 1, 1024),
        ([50_000], 1000, 1, 4096),
        ([840] * 5 + [120] * 5, 200, 1, 512),
        ([10_000], 10**9, 1, 256),
        ([203], 200, 8, 512),
        ([5000], 200, 3, 6144),
    ],
)
def test_the_length_of_a_tile_is_one_of_few(lengths, width, n_devices, rows):
    assert tiles.tile_rows(lengths, width, n_devices) == rows
    assert rows % (GROUP * n_devices) == 0


def test_a_tile_repeats_its_last_image_to_its_full_length():
    index = np.array([7, 3, 9, 1, 5])
    assert tiles.tile_index(index, 0, 3, 5).tolist() == [7, 3, 9]
    assert tiles.tile_index(index, 3, 3, 5).tolist() == [1, 5, 5]
    assert tiles.tile_index(None, 0, 3, 5) == slice(0, 3)
    assert tiles.tile_index(None, 3, 3, 5).tolist() == [3, 4, 4]


class Made:
    """Rows made when they are asked for, as permuted activations are."""

    def __init__(self, values):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, rows):
        return self._values[rows]


@pytest.mark.parametrize("rows", [slice(2, 5), np.array([4, 0, 4])])
@pytest.mark.parametrize("width", [None, 3, 8])
def test_a_tile_is_read_from_every_kind_of_source(tmp_path, rows, width):
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    np.save(tmp_path / "x.npy", x)
    expected = np.pad(x[rows], ((0, 0), (0, (width or 3) - 3)))
    memory_map = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (x, memory_map, jnp.asarray(x), Made(x), x.astype(jnp.bfloat16), x > 4):
        got = np.asarray(tiles.read_tile(source, rows, width))
        want = expected > 4 if source.dtype == bool else expected
        np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))
    np.testing.assert_array_equal(tiles.read_tile(lambda index: x[index], rows), x[rows])


def fit_all(features, targets, index, n_val):
    """What a run computes of one layer; every array has neurons along its last or first axis."""
    train, val = index[n_val:], index[:n_val]
    measured = measure.measure(
        lambda rows, columns=slice(None): features[rows][:, columns],
        features.shape[1],
        targets,
        train,
        val,
        min_top5=0.0,
        folds=3,
    )
    total = measured.total
    net = elastic_net.solve(measured.train, 0.05, 0.99)
    near = elastic_net.path(measured.train, [0.2, 0.1], 0.9, standardise=False)[1]
    teacher = ridge.teach(total, known=measured.spectrum)
    dense = ridge.solve(measured.train, measured.val)
    path = forward.path(total, teacher.aim, most=4)
    better = exchange.exchange(total, path, teacher.aim)
    weights, bias, rho = least_squares.refit(measured.train, measured.val, better)
    return {
        "cross": total.cross,
        "elastic net": net.weights,
        "gap": net.gap,
        "raw": near.weights,
        "largest penalty": elastic_net.lam_max(total, 0.99),
        "teacher": teacher.aim.cross,
        "strength": teacher.strength,
        "ridge": dense.weights,
        "path": path.T,
        "plain path": forward.path(total, most=4).T,
        "folds": forward.judge([measured.train], measured.val, path).T,
        "reworded": wording.reword(total, path).T,
        "equivalents": wording.equivalents(total, path)[:, :, 0].T,
        "exchanged": better.T,
        "refit": np.concatenate([weights.T, bias[None], rho[None]]),
        "streamed": moments.correlate(features, targets, weights=dense.weights, index=val),
        "moments": moments.second_moments(features, targets, train).var_y,
        "lasso": lasso.elastic_net(features, targets, lam=0.1, l1_ratio=1.0).weights,
        "resampled": moments.merge([measured.train, measured.val]).mean_y,
        "parts": folds.fold_moments(features, targets, train, val).val.cross,
        "varies": measured.train.varies(),
    }


def test_other_counts_of_neurons_and_images_compile_nothing_and_change_nothing(
    problems, compilations
):
    features, targets = problems.similar(n_neurons=64)
    everyone = fit_all(features, targets, np.arange(900), 200)
    compilations.clear()
    for n_neurons, n_images in ((47, 900), (16, 900), (48, 877), (64, 850)):
        got = fit_all(features, targets[:, :n_neurons], np.arange(n_images), 190)
        assert compilations == [], n_neurons
        assert all(part.shape[-1] == n_neurons for part in got.values())
    fewer = fit_all(features, targets[:, :16], np.arange(900), 200)
    for name, part in fewer.items():
        expected = np.asarray(everyone[name])[..., :16]
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_constant_neurons_take_no_slot_of_the_elastic_net(problems):
    features, targets = problems.similar()
    targets[:, 3] = 2.5
    got = elastic_net.solve(moments.second_moments(features, targets), 0.05, 0.99)
    iterations = np.asarray(got.iterations)
    assert iterations[3] == 0 and (np.delete(iterations, 3) > 0).all()
    assert got.converged.all() and not np.asarray(got.weights)[:, 3].any() and got.gap[3] == 0
    still = moments.second_moments(features, np.full_like(targets, 7.0))
    none = elastic_net.solve(still, 0.05, 0.99)
    assert none.converged.all() and not np.asarray(none.weights).any()


def test_padding_is_for_moments_from_files_too(problems):
    of_arrays = moments.second_moments(*problems.similar())
    of_files = jax.tree.map(np.asarray, of_arrays)._replace(n=of_arrays.n)
    padded = of_files.padded()
    assert all(isinstance(part, jax.Array) for part in padded[1:]) and padded.n == 900
    assert padded.cross.shape == (30, 64) and not np.asarray(padded.var_y)[7:].any()
    assert padded.varies().tolist() == [True] * 7 + [False] * 57
    for a, b in zip(padded.neurons(slice(0, 7)), of_arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    assert of_arrays.neurons(slice(None)) is of_arrays
