"""Network Dissection against brute force in NumPy, one neuron, concept and image at a time; planted
detectors; and what it refuses."""

import numpy as np
import pytest

import jaxle
from jaxle.explainers import EXPLAINERS, Explainer
from jaxle.explainers.network_dissection import dissect
from jaxle.scenes.masks import label_maps, masks
from jaxle.scenes.vocabulary import CONCEPTS
from jaxle.solve.overlap import Counts

NAMES = ("sky", "grass", "dog", "striped", "street")
CATEGORIES = ("object", "object", "object", "texture", "scene")


def bilinear(m, height, width):
    """One map at another size, between the centres of its cells, the outermost repeated."""

    def cells(old, new):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(np.floor(at).astype(int), old - 2) if old > 1 else np.zeros(new, int)
        return low, np.minimum(low + 1, old - 1), at - low

    top, bottom, down = cells(m.shape[0], height)
    left, right, across = cells(m.shape[1], width)
    upper = m[top][:, left] * (1 - across) + m[top][:, right] * across
    lower = m[bottom][:, left] * (1 - across) + m[bottom][:, right] * across
    return upper * (1 - down[:, None]) + lower * down[:, None]


def brute(maps, labels, share, categories):
    iou = np.zeros((maps.shape[3], len(NAMES)))
    for k in range(maps.shape[3]):
        values = np.sort(maps[..., k].ravel().astype(np.float64))
        threshold = values[len(values) - 1 - int(share * len(values))]
        for c in range(len(NAMES)):
            both = union = 0
            for i in range(len(maps)):
                alike = [j + 1 for j in range(len(NAMES)) if categories[j] == categories[c]]
                if not np.isin(labels[i], alike).any():
                    continue
                active = bilinear(maps[i, ..., k].astype(np.float64), *labels.shape[2:]) > threshold
                here = (labels[i] == c + 1).any(0)
                both += (active & here).sum()
                union += (active | here).sum()
            iou[k, c] = both / union if union else 0
    return iou


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    maps = rng.integers(-800, 4000, (40, 4, 5, 6)).astype(np.float32)
    maps[..., 1] = np.maximum(maps[..., 1] - 3950, 0)
    maps[..., 2] = 2.0  # constant
    labels = rng.integers(0, 4, (40, 2, 10, 10))
    labels[:, 1] = np.where(rng.random((40, 1, 1)) < 0.5, 0, rng.integers(4, 6, (40, 10, 10)))
    labels[:10, 0] = 0  # no object in these
    return maps, labels


@pytest.mark.parametrize("categories", [None, CATEGORIES])
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_iou_is_that_of_brute_force(made, share, categories):
    maps, labels = made
    found = dissect(maps, labels, NAMES, categories, share=share)
    iou = brute(maps, labels, share, categories or ("",) * len(NAMES))
    varies = np.arange(6) != 2
    np.testing.assert_allclose(found.scores["pixel iou"][varies], iou.max(1)[varies], atol=1e-12)
    words = [NAMES[j] for j in iou.argmax(1)]
    assert [r.concepts for r in found if r.unit != 2] == [
        (words[k],) for k in np.flatnonzero(varies)
    ]
    detectors = (iou.max(1) > 0.04) & varies
    assert (found.scores["detector"] == detectors).all()
    assert found[2].concepts == () and found[2].flag in ("dead", "constant")
    assert found.facts["n_detectors"] == detectors.sum()
    assert {row.kind for row in found if row.concepts} == {"description"}


def test_of_equal_iou_the_first_concept_counts():
    maps = np.zeros((2, 2, 2, 1), np.float32)
    maps[0, 0, 0] = 1
    labels = np.zeros((2, 2, 2, 2), int)
    labels[0, :, 0, 0] = (5, 2)
    found = dissect(maps, labels, NAMES, share=0.13)
    assert found[0].concepts == ("grass",) and found.scores["pixel iou"][0] == 1
    assert dissect(maps, np.zeros_like(labels), NAMES, share=0.13)[0].flag == "unexplained"


def test_planted_detectors_are_found():
    """Maps that are the pixels of a concept, coarse and noisy, are detectors of it."""
    pixels = masks(np.arange(96), 3)
    areas = pixels.mean((0, 2, 3))
    planted = np.flatnonzero((areas > 0.01) & (areas < 0.03))
    maps = pixels[:, planted].reshape(96, len(planted), 16, 4, 16, 4).mean((3, 5))
    noise = np.random.default_rng(0).normal(0, 0.1, maps.shape)
    maps = np.moveaxis(maps + noise, 1, 3).astype(np.float32)
    found = dissect(maps, label_maps(np.arange(96), 3), CONCEPTS, share=0.02)
    assert len(planted) > 20
    right = [row.concepts == (CONCEPTS[j],) for row, j in zip(found, planted, strict=True)]
    assert np.mean(right) > 0.9  # a thing may be all there is of its look
    assert found.scores["detector"].all() and found.scores["pixel iou"].mean() > 0.4


def test_counts_add_up():
    one = Counts(np.ones((2, 3), int), np.full((2, 1), 2), np.full(3, 2))
    both = one + one
    assert (both.iou(np.zeros(3, int)) == 2 / 6).all()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"label_maps": np.full((40, 1, 4, 4), 6)}, "label_maps hold 6: expected 0 for none, or 1"),
        ({"label_maps": np.full((40, 1, 4, 4), -1)}, "label_maps hold -1: expected 0 for none"),
        ({"label_maps": np.zeros((39, 1, 4, 4), int)}, "maps are of 40 images, label_maps of 39"),
        ({"concepts": ("a", "a", "b", "c", "d")}, "concepts must be different names"),
        ({"maps": np.zeros((40, 0, 4, 2))}, "none of them 0; got float64 of shape (40, 0, 4, 2)"),
        ({"maps": [np.zeros((4, 4, 2)), np.zeros((3, 4, 2))]}, "got unlike parts"),
        ({"label_maps": np.zeros((40, 1, 4, 4))}, "label_maps must be whole numbers of shape (ima"),
        ({"label_maps": np.zeros((40, 4, 4), int)}, "got int64 of shape (40, 4, 4)"),
        ({"categories": ("object",)}, "categories are 1 for 5 concepts: expected one for each"),
        ({"share": 1.0}, "share must be a number"),
        (
            {"maps": np.full((40, 4, 4, 2), np.nan, np.float32)},
            "maps hold a value that is not fini",
        ),
    ],
)
def test_bad_arrays_are_refused(made, change, words):
    given = {"maps": made[0], "label_maps": made[1], "concepts": NAMES, **change}
    with pytest.raises(ValueError) as error:
        dissect(**given)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_concept_beyond_two_bytes_is_found(made):
    maps, labels = made[:2]
    names = [f"concept {j}" for j in range(40_000)]
    moved = np.where(labels == 1, 40_000, 0)
    single = dissect(maps, np.where(labels == 1, 1, 0), NAMES, share=0.13)
    late = dissect(maps, moved, names, share=0.13)
    assert late.scores["pixel iou"].tolist() == single.scores["pixel iou"].tolist()
    assert late[0].concepts == ("concept 39999",)


def test_activations_of_whole_images_are_refused():
    with pytest.raises(ValueError, match="reads maps and pixel masks, and these are activations"):
        jaxle.explain(np.eye(4), np.eye(4), list("abcd"), search="network_dissection")


def test_an_explainer_that_needs_masks_has_the_options():
    row = EXPLAINERS["greedy"]
    with pytest.raises(ValueError, match="needs masks must have an option share"):
        Explainer(row.options, row.explain, needs=("masks",))
