import numpy as np
import pytest
import scipy.sparse

from jaxle.concepts.calibration import (
    BINS,
    KNOWN,
    assess,
    calibrate,
    calibrate_embeddings,
    known,
)
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.concepts.labels import LabelConcepts
from jaxle.mesh import make_mesh

CLASSES = tuple(f"class {i}" for i in range(12))
ABOVE = {"pair": CLASSES[:2], "quarter": CLASSES[3:6], "nearly all": CLASSES[:9]}
GRID_SCALES = [0.1, 0.25, 0.5, 0.75, 1.0, *range(0, 151, 2)]
GRID_SHIFTS = np.arange(-100, 101) / 100
ENCODERS = {  # noise of the embeddings; what the cosines are mapped to
    "siglip": (1.0, 1.0, 0.0),
    "sharp": (0.4, 1.0, 0.0),
    "weak": (3.0, 1.0, 0.0),
    "clip: cosines in a narrow, high band": (1.0, 0.1, 0.2),
    "cosines a fiftieth": (1.0, 0.02, 0.0),
    "all cosines negative": (1.0, 0.3, -0.5),
    "useless": (1000.0, 1.0, 0.0),
}


def world(noise, n=110, width=48, seed=0):
    """Labels, their concepts, and cosines of embeddings that know the labels up to noise."""
    rng = np.random.default_rng(seed)
    labels = LabelConcepts.make(rng.integers(0, 12, n), CLASSES, ABOVE)
    texts = rng.normal(size=(len(labels.concepts), width))
    truth = labels.rows(np.arange(n))
    images = truth @ texts + noise * 2 * rng.normal(size=(n, width))
    texts, images = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (texts, images))
    return labels, texts.astype(np.float32), images.astype(np.float32)


def grid_search(x, y):
    """The paper's: least mean binary cross-entropy over all pairs of scale and shift."""
    best = (np.inf, None, None)
    for scale in GRID_SCALES:
        z = scale * (x[None].astype(np.float64) + GRID_SHIFTS[:, None, None])
        losses = np.logaddexp(0, np.where(y > 0, -z, z)).mean(axis=(1, 2))
        i = losses.argmin()
        best = min(best, (losses[i], scale, GRID_SHIFTS[i]))
    return best


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_higher_than_the_papers_grid_search_in_a_hundredth_of_its_evaluations(encoder):
    noise, factor, offset = ENCODERS[encoder]
    labels, texts, images = world(noise)
    index = np.arange(5, 105)

    def cosines(rows, columns):
        return (images[rows] @ texts[columns].T * np.float32(factor) + np.float32(offset)).astype(
            np.float32
        )

    found = calibrate(cosines, labels.rows, index)
    rare = labels.rows(index).mean(0) <= 0.3
    assert [labels.concepts[j] for j in np.flatnonzero(~rare)] == ["nearly all"]
    columns = np.flatnonzero(rare)
    grid, scale, shift = grid_search(cosines(index, columns), labels.rows(index, columns))
    assert found.quality.nll <= grid * (1 + 1e-6)
    assert (
        found.evaluations < len(GRID_SCALES) * len(GRID_SHIFTS) / 100
        and found.evaluations <= 15
        and found.converged
    )
    np.testing.assert_allclose(
        assess(cosines, labels.rows, index, scale, shift, columns).nll, grid, rtol=1e-5
    )


def test_the_constants_that_made_the_labels_come_back():
    rng = np.random.default_rng(0)
    x = rng.normal(0.05, 0.04, (4000, 60)).astype(np.float32)
    y = (rng.random(x.shape) < 1 / (1 + np.exp(-60 * (x - 0.09)))).astype(np.uint8)
    found = calibrate(
        lambda i, j: x[i][:, j], lambda i, j: y[i] if j is None else y[i][:, j], np.arange(4000)
    )
    np.testing.assert_allclose([found.scale, found.shift], [60, -0.09], rtol=0.02)
    quality = found.quality
    assert quality.ece < 0.01 and quality.count.sum() == y.size
    full = quality.count > 500
    np.testing.assert_allclose(quality.predicted[full], quality.observed[full], atol=0.05)
    assert "fitted on 4,000 images × 60 label concepts" in found.source


def test_quality_by_definition():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 0.1, (53, 7)).astype(np.float32), rng.integers(0, 2, (53, 7))
    quality = assess(
        lambda i, j: x[i][:, j],
        lambda i, j: y[i] if j is None else y[i][:, j],
        np.arange(53),
        20.0,
        -0.02,
    )
    p = 1 / (1 + np.exp(-20 * (x.astype(np.float64) - 0.02)))
    np.testing.assert_allclose(
        quality.nll, -np.mean(np.where(y == 1, np.log(p), np.log1p(-p))), rtol=1e-5
    )
    np.testing.assert_allclose(quality.brier, np.mean((p - y) ** 2), rtol=1e-5)
    where = np.minimum((p * BINS).astype(int), BINS - 1)
    ece = sum(
        abs(p[where == b].mean() - y[where == b].mean()) * (where == b).mean()
        for b in range(BINS)
        if (where == b).any()
    )
    np.testing.assert_allclose(quality.ece, ece, rtol=1e-4)
    assert np.array_equal(quality.count, np.bincount(where.ravel(), minlength=BINS))
    for b in np.flatnonzero(quality.count):
        np.testing.assert_allclose(
            [quality.predicted[b], quality.observed[b]],
            [p[where == b].mean(), y[where == b].mean()],
            rtol=1e-4,
        )


def test_empty_bins_are_nan_and_do_not_count():
    x = np.full((10, 2), 0.5, np.float32)
    quality = assess(
        lambda i, j: x[i][:, j],
        lambda i, j: np.ones((len(i), 2), np.float32),
        np.arange(10),
        0.0,
        0.0,
    )
    assert quality.count[BINS // 2] == 20 and np.isnan(quality.predicted).sum() == BINS - 1
    np.testing.assert_allclose(quality.ece, 0.5)


@pytest.mark.parametrize("mesh", [None, 8])
def test_tiles_of_two_towers(mesh):
    labels, texts, images = world(1.0)
    made = ContrastiveConcepts.make(
        labels.concepts, images, texts, 1.0, 0.0, mesh=mesh and make_mesh()
    )
    found = calibrate(made.cosines, labels.rows, np.arange(104))
    plain = calibrate(lambda i, j: images[i] @ texts[j].T, labels.rows, np.arange(104))
    np.testing.assert_allclose([found.scale, found.shift], [plain.scale, plain.shift], rtol=1e-4)


@pytest.mark.parametrize("kind", ["uint8", "bool", "float32", ">i4", "memory map", "sparse"])
def test_arrays_alone_give_what_tiles_give(kind, tmp_path):
    labels, texts, images = world(1.0)
    given, index = labels.rows(np.arange(110)), np.arange(3, 100)
    expected = calibrate(lambda i, j: images[i] @ texts[j].T, labels.rows, index)
    if kind == "memory map":
        for name, array in (("images", images), ("labels", given)):
            np.save(tmp_path / f"{name}.npy", array)
        images, given = (
            np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels")
        )
    elif kind != "sparse":
        given = given.astype(kind)
    asked = scipy.sparse.csr_array(given) if kind == "sparse" else given
    found = calibrate_embeddings(images, texts, asked, index)
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-4)
    np.testing.assert_allclose(found.quality.nll, expected.quality.nll, rtol=1e-5)
    assert found.source == expected.source and "fitted on 97 images × 14 " in found.source
    other = calibrate_embeddings(images[index], texts, given[index])
    np.testing.assert_allclose(other[:2], found[:2], rtol=1e-4)


def test_blocks_of_images_are_read_and_never_all_at_once(monkeypatch):
    labels, texts, images = world(1.0)
    given = labels.rows(np.arange(110)).astype(np.uint8)
    whole = calibrate_embeddings(images, texts, given)
    monkeypatch.setattr("jaxle.arrays.READ_BYTES", 4 * 15 * 10)
    shapes = []
    cosines = ContrastiveConcepts.cosines

    def watched(self, index, columns=None):
        shapes.append(len(index))
        return cosines(self, index, columns)

    monkeypatch.setattr(ContrastiveConcepts, "cosines", watched)
    blocks = calibrate_embeddings(images, texts, given)
    np.testing.assert_allclose(blocks[:2], whole[:2], rtol=1e-5)
    assert max(shapes) <= 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.ones((109, 15))}, "image embeddings and labels must describe the same"),
        ({"labels": np.ones((110, 14))}, "labels have 14 columns for 15 text embeddings"),
        ({"labels": np.full((110, 15), 0.5)}, "labels must be 0 or 1, got 0.5 at image 0"),
        ({"labels": np.full((110, 15), 2)}, "labels must be 0 or 1, got 2 at image 0"),
        ({"labels": "labels.npy"}, "labels must be an array of shape .*, got str: load it first"),
        ({"image_embeddings": np.ones((110, 48))}, "image embedding 0 has length 6.928"),
        ({"text_embeddings": np.ones((15, 47))}, "expected .15 concepts, 48 numbers"),
        ({"index": np.array([0, 110])}, "index holds 110; expected 0 to 109"),
        ({"index": np.array([0.5])}, "index is float64"),
        ({"index": np.arange(0)}, "empty index"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message):
    labels, texts, images = world(1.0)
    good = {
        "image_embeddings": images,
        "text_embeddings": texts,
        "labels": labels.rows(np.arange(110)),
    }
    with pytest.raises(ValueError, match=message):
        calibrate_embeddings(**(good | change))


def test_perfect_labels_are_said_to_have_no_best_scale():
    labels, _, _ = world(1.0)
    found = calibrate(labels.rows, labels.rows, np.arange(110))
    assert (
        not found.converged
        and "no finite scale is best" in found.source
        and found.quality.nll < 1e-3
    )


def test_an_encoder_that_points_the_wrong_way_is_named():
    labels, texts, images = world(0.5)
    found = calibrate(lambda i, j: -(images[i] @ texts[j].T), labels.rows, np.arange(110))
    assert found.scale < 0 and "the scale is negative" in found.source


def test_known_constants_say_so():
    assert known("siglip_so400m_14_384")[:2] == (58.0, -0.13) and known("siglip_l_16_384")[:2] == (
        60.0,
        -0.09,
    )
    assert known("clip_vit_l_14_336")[:2] == (58.0, -0.25)
    for name in KNOWN:
        made = known(name, trained=(117.0, -0.1))
        assert (
            f"known constants of {name}" in made.source
            and "no labels" in made.source
            and made.quality is None
        )
    assert known("siglip_b_16_224", trained=(117.3, -0.11))[:2] == (117.3, -0.11)
    assert "was trained with" in known("siglip_b_16_224", trained=(117.3, -0.11)).source
    with pytest.raises(
        ValueError, match="no calibration is known for siglip_b_16_224; known: siglip_so400m_14_384"
    ):
        known("siglip_b_16_224")


def test_bad_input_is_named():
    labels, texts, images = world(1.0)

    def cosines(i, j):
        return images[i] @ texts[j].T

    with pytest.raises(ValueError, match="empty index"):
        calibrate(cosines, labels.rows, np.arange(0))
    with pytest.raises(ValueError, match="each of the 15 label concepts holds of more than 0%"):
        calibrate(cosines, labels.rows, np.arange(110), max_share=0.0)
    with pytest.raises(
        ValueError,
        match="none of the 15 label concepts of at most 30% of the images holds of any image",
    ):
        calibrate(cosines, lambda i, j: labels.rows(i, j) * 0, np.arange(110))
    with pytest.raises(ValueError, match="all alike"):
        calibrate(
            lambda i, j: np.full((len(i), len(j)), 0.2, np.float32), labels.rows, np.arange(110)
        )
