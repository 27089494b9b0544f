"""Halving or doubling labels lowers the metrics that jaxle reports, but not AUC over the most
activating and random images (NeuronEval, 2025)."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxle.evaluation import self_test as room
from jaxle.evaluation.self_test import auc_top_and_random, known_neurons, self_test
from jaxle.scenes.layout import layout, membership


@pytest.fixture(scope="module")
def labels():
    """The exact labels of 3,000 scenes; painting them would change nothing."""
    return membership(layout(np.arange(3000), 0)).any(axis=1).astype(np.uint8)


@pytest.mark.parametrize("noise, seed", [(0.1, 0), (0.5, 0), (0.5, 1)])
def test_reported_metrics_pass_and_auc_over_top_and_random_images_fails(labels, noise, seed):
    found = self_test(known_neurons(labels, noise=noise), labels, seed=seed)
    assert {name for name, verdict in found.items() if verdict.passes} == {
        "correlation",
        "cosine",
        "auprc",
        "f1",
        "iou",
    }
    auc = found["auc_top_and_random"]
    assert (
        auc.share_doubled < 0.75
    )  # labels twice too wide go unnoticed for a quarter of the concepts or more
    assert all(
        min(found[name].share_halved, found[name].share_doubled) > 0.95
        for name in found
        if name != "auc_top_and_random"
    )


def test_labels_are_halved_and_doubled_exactly(labels):
    kept = labels[:, labels.mean(0) < 0.5] > 0
    half, double = room._changed(kept, 0)
    count = kept.sum(0)
    np.testing.assert_array_equal(half.sum(0), count - count // 2)
    np.testing.assert_array_equal(double.sum(0), 2 * count)
    assert not (half & ~kept).any() and (double | ~kept).all()


def test_a_metric_that_does_not_look_fails(labels, monkeypatch):
    monkeypatch.setattr(room, "correlation", lambda s, a: np.ones(a.shape[1], np.float32))
    assert not self_test(known_neurons(labels), labels)["correlation"].passes


def test_auc_equals_scikit_learn():
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=(20, 3)), axis=0)[::-1]
    s = np.round(a + rng.normal(size=a.shape))
    got = auc_top_and_random(s, a, 0, n_images=10)  # ten and ten: all images
    np.testing.assert_allclose(got, [roc_auc_score(np.arange(20) < 10, s[:, k]) for k in range(3)])


@pytest.mark.parametrize(
    "labels, words",
    [
        (np.full((8, 2), 0.5), "labels must be 0 or 1, got 0.5"),
        (np.ones((8, 2)), "none of the 2 concepts"),
        (np.ones((2, 2)), "four images"),
    ],
)
def test_bad_labels_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        self_test(np.zeros(labels.shape, np.float32), labels)
