"""Sums over tiles equal those in float64, however the triangle is cut into blocks and programs."""

import numpy as np
import pytest

from jaxle.solve import accumulate
from jaxle.solve.moments import second_moments

RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 700), dtype=np.float32) + RNG.standard_normal(700, dtype=np.float32)
Y = RNG.standard_normal((150, 3), dtype=np.float32) + X[:, 690:693]


@pytest.mark.parametrize(
    ("bytes_of_products", "programs"), [(1, [(0, 1), (1, 2), (2, 3)]), (16 << 20, [(0, 3)])]
)
def test_the_gram_matrix_is_that_of_all_blocks(monkeypatch, bytes_of_products, programs):
    """Three blocks: 256, 256 and 188 concepts; the last one's halves differ."""
    monkeypatch.setattr(accumulate, "PRODUCT_BYTES", bytes_of_products)
    assert accumulate.bounds(700) == [(0, 256), (256, 512), (512, 700)]
    assert accumulate._groups(700) == programs
    moments = second_moments(X, Y, tile_rows=64)
    x, y = (part.astype(np.float64) - part.mean(axis=0, dtype=np.float64) for part in (X, Y))
    np.testing.assert_allclose(moments.gram, x.T @ x / 150, atol=2e-6)
    np.testing.assert_array_equal(moments.gram, moments.gram.T)
    np.testing.assert_allclose(moments.cross, x.T @ y / 150, atol=3e-6)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 128, 200])
def test_a_square_of_any_width_has_its_upper_triangle(width):
    part = RNG.standard_normal((width, 20), dtype=np.float32)
    got, exact = np.triu(accumulate._square(part)), np.triu(part @ part.T)
    np.testing.assert_allclose(got, exact, atol=1e-5)


def test_blocks_cover_all_concepts_once():
    for n_concepts in (1, 64, 257, 3_073, 5_000, 100_000):
        blocks = accumulate.bounds(n_concepts)
        assert blocks[0][0] == 0 and blocks[-1][1] == n_concepts and len(blocks) <= 12
        assert all(stop == start for (_, stop), (start, _) in zip(blocks, blocks[1:], strict=False))
        groups = accumulate._groups(n_concepts)
        assert [i for start, stop in groups for i in range(start, stop)] == [*range(len(blocks))]
