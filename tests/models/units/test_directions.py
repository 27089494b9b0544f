"""Directions of files, drawn and learned: what they are, in which orientation, their decoder."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxle.models.units import Learned, read_units
from jaxle.models.units.directions import read_directions
from jaxle.models.units.linear import directions_map
from jaxle.solve.semi_nmf import semi_nmf

WIDTH = 6
RNG = np.random.default_rng(2)
W = RNG.standard_normal((WIDTH, 4))  # width, units
MEAN, BIAS = RNG.standard_normal(WIDTH), RNG.standard_normal(4)
VALUES = RNG.standard_normal((9, WIDTH)).astype(np.float32)


def read(units, values=VALUES):
    return np.asarray(units.form.every(units.arrays, units.form.prepare(units.arrays, values)))


def test_a_file_of_each_kind_and_orientation(tmp_path):
    np.save(tmp_path / "columns.npy", W)
    np.save(tmp_path / "rows.npy", W.T)
    np.savez(tmp_path / "named.npz", directions=W, mean=MEAN, bias=BIAS, relu=1)
    save_file({"anything": W.astype(np.float32)}, tmp_path / "one.safetensors")
    np.save(tmp_path / "vector.npy", W[:, 0])
    plain = VALUES @ W
    for name in ("columns.npy", "rows.npy", "one.safetensors"):
        np.testing.assert_allclose(read(read_directions(tmp_path / name, WIDTH)), plain, atol=1e-5)
    named = read_directions(tmp_path / "named.npz", WIDTH)
    np.testing.assert_allclose(read(named), np.maximum((VALUES - MEAN) @ W + BIAS, 0), atol=1e-5)
    vector = read_directions(tmp_path / "vector.npy", WIDTH)
    np.testing.assert_allclose(read(vector), plain[:, :1], atol=1e-5)


def test_a_square_matrix_is_of_columns(tmp_path):
    square = RNG.standard_normal((WIDTH, WIDTH))
    np.save(tmp_path / "square.npy", square)
    found = read_directions(tmp_path / "square.npy", WIDTH)
    np.testing.assert_allclose(read(found), VALUES @ square, atol=1e-5)


def test_a_decoder_is_read_or_is_the_smallest_change_that_gives_one_more(tmp_path):
    np.savez(tmp_path / "both.npz", directions=W, decoder=2 * W)
    both = read_directions(tmp_path / "both.npz", WIDTH)
    np.testing.assert_allclose(both.arrays["decoder"], 2 * W.T, rtol=1e-6)
    alone = directions_map("directions", W.T)
    np.testing.assert_allclose(np.sum(alone.arrays["decoder"] * W.T, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("count", [3, WIDTH, 10])
def test_random_directions_have_length_1_and_are_orthogonal_where_they_can_be(count):
    wanted = read_units(f"random:{count}", {}, seed=3)
    units = wanted.maker.make(wanted, WIDTH)
    rows = units.arrays["encoder"]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    if count <= WIDTH:
        np.testing.assert_allclose(rows @ rows.T, np.eye(count), atol=1e-5)
    again = read_units(f"random:{count}", {}, seed=3)
    other = read_units(f"random:{count}", {}, seed=4)
    assert again.maker.make(again, WIDTH).form == units.form
    assert other.maker.make(other, WIDTH).form != units.form


def learn(text, values, rows=None, **options):
    wanted = read_units(text, options, seed=0)
    return wanted.maker.learn(wanted, Learned(values, np.arange(len(values))[rows or slice(None)]))


def test_pca_is_that_of_the_covariance():
    values = (RNG.standard_normal((200, WIDTH)) * [5, 3, 2, 1, 0.5, 0.1]).astype(np.float32) + 7
    units = learn("pca:3", values, slice(0, 150))
    found, seen = read(units, values), values[:150]
    np.testing.assert_allclose(found[:150].mean(axis=0), 0, atol=1e-4)
    spread = np.cov(found[:150].T, bias=True)
    wanted = np.sort(np.linalg.eigvalsh(np.cov(seen.T.astype(np.float64), bias=True)))[::-1]
    np.testing.assert_allclose(spread, np.diag(wanted[:3]), atol=1e-3)
    assert units.facts["variance_share"] == pytest.approx(wanted[:3].sum() / wanted.sum(), rel=1e-4)
    rows = units.arrays["encoder"]
    assert (np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1) > 0).all()


def test_semi_nmf_finds_planted_non_negative_parts():
    parts = np.random.default_rng(0).standard_normal((3, WIDTH))
    # one part an image for the most: whose mixtures there are is not unique otherwise
    draw = np.random.default_rng(1)
    amounts = np.eye(3)[draw.integers(0, 3, 400)] * draw.uniform(0.5, 2, (400, 1))
    amounts += 0.05 * draw.random((400, 3))
    units = learn("semi_nmf:3", (amounts @ parts).astype(np.float32))
    assert units.facts["relative_error"] < 1e-3
    cosines = units.arrays["decoder"] @ (parts / np.linalg.norm(parts, axis=1)[:, None]).T
    assert np.abs(cosines).max(axis=0).min() > 0.9
    values = (amounts @ parts).astype(np.float32)
    np.testing.assert_allclose(read(units, values) @ units.arrays["decoder"], values, atol=1e-2)


def test_semi_nmf_never_gets_worse_and_its_amounts_are_not_negative():
    x = RNG.standard_normal((50, WIDTH)).astype(np.float32)
    found = semi_nmf(x, 0, k=3, steps=60)
    assert np.all(np.diff(found.error) <= 1e-5) and np.asarray(found.g).min() >= 0
    remaining = np.sum((x - found.g @ found.f.T) ** 2) / np.sum(x**2)
    np.testing.assert_allclose(found.error[-1], remaining, rtol=1e-4)


def test_concept_vectors_of_a_planted_polysemantic_neuron():
    """Neuron 0 fires for two unrelated features; both directions come back, each by itself."""
    draw = np.random.default_rng(0)
    n, width = 400, 12
    a, b = np.zeros(width), np.zeros(width)
    a[[0, 3, 4]], b[[0, 7, 8]] = (3, 2, 1), (3, 1, 2)
    kind = draw.integers(0, 4, n)  # 0: first feature, 1: second, else neither
    values = 0.1 * draw.standard_normal((n, width))
    values[kind == 0] += a * draw.uniform(0.8, 1.2, (np.sum(kind == 0), 1))
    values[kind == 1] += b * draw.uniform(0.8, 1.2, (np.sum(kind == 1), 1))
    options = {"images": 100, "distance": 8.0, "spread": 3.0}
    units = learn("concept_vectors", values.astype(np.float32), **options)
    table = dict(units.facts["table"])
    own = units.arrays["encoder"][np.array(table["neuron"]) == 0]
    assert len(own) == 2
    for feature in (a, b):
        assert (own @ feature / np.linalg.norm(feature)).max() > 0.99
    assert table["cosine_to_neuron"][0] == pytest.approx(units.arrays["encoder"][0, 0], abs=1e-5)


def test_ward_is_scikit_learns():
    cluster = pytest.importorskip("sklearn.cluster")
    from jaxle.solve.clustering import ward

    for seed, distance in ((0, 2.5), (1, 4.0), (2, 1.0)):
        x = np.random.default_rng(seed).standard_normal((25, 4)).astype(np.float32)
        ours = np.asarray(ward(x, distance))
        theirs = cluster.AgglomerativeClustering(
            n_clusters=None, distance_threshold=distance, linkage="ward"
        ).fit(x)
        same = theirs.labels_[:, None] == theirs.labels_[None]
        np.testing.assert_array_equal(ours[:, None] == ours[None], same)
