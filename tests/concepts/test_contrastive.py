import jax
import numpy as np
import pandas as pd
import pytest

from jaxle.concepts import contrastive
from jaxle.concepts.contrastive import ContrastiveConcepts, embed_prompts
from jaxle.mesh import make_mesh
from jaxle.solve.moments import second_moments
from jaxle.solve.screen import screen


def unit(shape, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


IMAGES, TEXTS = unit((101, 24), 0), unit((37, 24), 1)
WORDS = [f"word {j}" for j in range(37)]


def dense(scale=60.0, shift=-0.09):
    return 1 / (
        1 + np.exp(-scale * (IMAGES.astype(np.float64) @ TEXTS.T.astype(np.float64) + shift))
    )


def test_rows_are_the_equation():
    made = ContrastiveConcepts.make(WORDS, IMAGES, TEXTS, 60.0, -0.09)
    assert len(made) == 101 and made.concepts == tuple(WORDS)
    index, columns = np.array([3, 100, 3, 0]), np.array([36, 2, 2])
    for asked in (None, slice(None), slice(4, 9), columns):
        tile = made.rows(index, asked)
        assert isinstance(tile, jax.Array) and tile.dtype == np.float32
        np.testing.assert_allclose(
            tile, dense()[index][:, slice(None) if asked is None else asked], rtol=2e-5, atol=1e-7
        )
    np.testing.assert_array_equal(made.rows(index, np.array([-1, 2, 2])), made.rows(index, columns))
    with pytest.raises(IndexError, match="37"):  # not a column of padding
        made.rows(index, np.array([0, 1, 37]))
    np.testing.assert_allclose(made.cosines(index), (IMAGES @ TEXTS.T)[index], atol=1e-6)
    np.testing.assert_allclose(made.rows(slice(5, 9)), dense()[5:9], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("make", [pd.DataFrame, lambda x: x.astype(">f4"), jax.device_put])
def test_kinds_of_embeddings(make):
    made = ContrastiveConcepts.make(WORDS, make(IMAGES), make(TEXTS), 60.0, -0.09)
    index, columns = np.array([3, 100, 3, 0]), np.array([36, 2, 2])
    np.testing.assert_allclose(made.rows(index, columns), dense()[index][:, columns], rtol=2e-5)


def test_large_scales_neither_overflow_nor_vanish():
    made = ContrastiveConcepts.make(WORDS, IMAGES, TEXTS, 1e4, -0.5)
    tile = np.asarray(made.rows(np.arange(101)))
    assert np.isfinite(tile).all() and tile.min() == 0


def test_memory_maps_and_meshes_give_the_same(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    made = ContrastiveConcepts.make(WORDS, mapped, TEXTS, 60.0, -0.09, mesh=make_mesh())
    for index in (
        np.arange(80),
        np.arange(7),
    ):  # rows that divide among the devices, and rows that do not
        np.testing.assert_allclose(
            made.rows(index, np.arange(5, 20)), dense()[index][:, 5:20], rtol=2e-5, atol=1e-7
        )
    assert len(made.rows(np.arange(80)).sharding.device_set) == 8


@pytest.mark.parametrize("mesh", [None, 8])
def test_moments_and_screening_of_tiles_equal_those_of_the_matrix(mesh):
    mesh = mesh and make_mesh()
    made = ContrastiveConcepts.make(WORDS, IMAGES, TEXTS, 60.0, -0.09, mesh=mesh)
    targets, index = (
        np.random.default_rng(2).normal(size=(101, 5)).astype(np.float32),
        np.arange(3, 90),
    )
    kept = np.arange(1, 37, 2)
    ours = second_moments(lambda i: made.rows(i, kept), targets, index, mesh=mesh, tile_rows=16)
    other = second_moments(dense().astype(np.float32)[:, kept], targets, index, tile_rows=16)
    for a, b in zip(ours[1:], other[1:], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    ours, matrix = screen(made.rows, index, 37, 0.5), dense()[index]
    np.testing.assert_allclose(ours.top5, np.sort(matrix, axis=0)[-5:].mean(0), rtol=2e-5)
    np.testing.assert_allclose(ours.std, matrix.std(0), rtol=1e-4, atol=1e-6)


def test_prompts_are_averaged_and_bare_names_are_not_touched():
    table = {}

    def embed(texts):
        assert isinstance(texts, list)
        for text in texts:
            table.setdefault(text, unit((1, 8), len(table))[0])
        return np.stack([table[text] for text in texts])

    bare = embed_prompts(embed, ("dog", "cat {x}"))
    assert list(table) == ["dog", "cat {x}"] and np.array_equal(
        bare, np.stack(list(table.values()))
    )
    both = embed_prompts(embed, ("dog", "cat {x}"), ("a {}.", "{} in the snow"))
    assert "cat {x} in the snow" in table and "a dog." in table
    mean = table["a dog."] + table["dog in the snow"]
    np.testing.assert_allclose(both[0], mean / np.linalg.norm(mean), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "a {name}"])
def test_bad_templates_are_named(template):
    with pytest.raises(ValueError, match="expected exactly one {} in each"):
        embed_prompts(lambda texts: TEXTS, WORDS, ("{}", template))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"text_embeddings": TEXTS[:, :20]},
            r"text embeddings are \(37, 20\); expected \(37 concepts, 24 numbers",
        ),
        ({"concepts": WORDS[:-1]}, r"expected \(36 concepts, 24 numbers"),
        ({"concepts": [*WORDS[:-1], "word 0"]}, "concepts repeat: word 0"),
        ({"image_embeddings": IMAGES * 2}, "image embedding 0 has length 2; expected 1"),
        (
            {"text_embeddings": np.where(np.arange(37)[:, None] == 5, 0, TEXTS)},
            "text embedding 5 has length 0; expected 1",
        ),
        (
            {"image_embeddings": np.where(np.arange(101)[:, None] == 7, np.nan, IMAGES)},
            "image embeddings must be finite, got nan at image 7",
        ),
        ({"scale": np.inf}, "scale and shift are inf and -0.09"),
    ],
)
def test_bad_input_is_named(change, message):
    good = dict(
        concepts=WORDS, image_embeddings=IMAGES, text_embeddings=TEXTS, scale=60.0, shift=-0.09
    )
    with pytest.raises(ValueError, match=message):
        ContrastiveConcepts.make(**{**good, **change})


def test_one_program_serves_all_tiles_of_a_size():
    made = ContrastiveConcepts.make(WORDS, IMAGES, TEXTS, 60.0, -0.09)
    other = ContrastiveConcepts.make(WORDS, IMAGES, TEXTS, 58.0, -0.25)
    made.rows(np.arange(11), np.arange(6))
    before = contrastive._probabilities._cache_size()
    for start in range(5):
        made.rows(np.arange(start, start + 11), np.arange(start, start + 6))
        other.rows(np.arange(start, start + 11), np.arange(6))
    assert contrastive._probabilities._cache_size() == before
