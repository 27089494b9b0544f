import numpy as np
import pytest

from jaxle.solve import screen as screening
from jaxle.solve.screen import GROUP, screen


def run(probs, index=None, min_top5=0.5):
    index = np.arange(len(probs)) if index is None else index
    return screen(lambda i: probs[i], index, probs.shape[1], min_top5)


def test_rules_of_the_paper():
    probs = np.zeros((100, 5), np.float32)
    probs[:5, 0] = 0.5  # five clear images: stays
    probs[:4, 1] = 0.6  # four are not enough: mean of five is 0.48
    probs[:, 2] = 0.9  # constant
    probs[:, 3] = 0.9
    probs[0, 3] = 0.9 + 2e-4  # standard deviation 2e-5: stays
    assert run(probs).kept.tolist() == [True, False, False, True, False]


def test_turned_off_keeps_all_that_varies():
    probs = np.zeros((100, 3), np.float32)
    probs[0, 0], probs[:, 1] = 0.01, 1.0
    assert run(probs, min_top5=0.0).kept.tolist() == [True, False, False]


def test_only_the_given_images_decide():
    """The reference screens over all images and fails on a column that is constant on train."""
    probs = np.zeros((100, 1), np.float32)
    probs[50:60] = 1
    assert run(probs).kept[0] and not run(probs, index=np.arange(50)).kept[0]


@pytest.mark.parametrize("n", [1, 2, 4, GROUP, 5 * GROUP + 1, 997])
def test_equals_numpy_in_blocks_that_do_not_divide(monkeypatch, n):
    monkeypatch.setattr(screening.tiles, "tile_rows", lambda lengths, width: 6 * GROUP)
    probs = np.random.default_rng(n).random((n, 7)).astype(np.float32)
    got = run(probs)
    np.testing.assert_allclose(got.top5, np.sort(probs, 0)[-5:].mean(0), rtol=1e-6)
    np.testing.assert_allclose(got.std, probs.std(0, dtype=np.float64), atol=1e-6)


def test_the_largest_may_all_lie_in_one_group_or_be_equal():
    probs = np.zeros((20 * GROUP, 3), np.float32)
    probs[GROUP : GROUP + 5, 0] = [0.9, 0.8, 0.7, 0.6, 0.5]
    probs[:, 1] = 0.3
    probs[:: 4 * GROUP, 2] = 1.0
    np.testing.assert_allclose(run(probs).top5, [0.7, 0.3, 1.0], rtol=1e-6)


def test_every_tile_is_asked_for_in_one_size(monkeypatch):
    monkeypatch.setattr(screening.tiles, "tile_rows", lambda lengths, width: 6 * GROUP)
    probs, asked = np.random.default_rng(0).random((997, 7)).astype(np.float32), []

    def rows(index):
        asked.append(len(index))
        return probs[index]

    screen(rows, np.arange(997), 7, 0.5)
    assert len(set(asked)) == 1 and len(asked) > 5
