"""The metrics beside the correlation: scikit-learn's numbers, ties included; defined everywhere."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_recall_curve,
    r2_score,
)
from sklearn.metrics.pairwise import cosine_similarity

from jaxle.evaluation import pairs
from jaxle.evaluation.cosine import cosine
from jaxle.evaluation.detection import BASE_RATE, detection
from jaxle.evaluation.r2 import r2
from jaxle.evaluation.scores import Evidence


class Metrics(NamedTuple):
    """All metrics of one pair, in the order of the table."""

    cosine: np.ndarray
    auprc: np.ndarray
    f1: np.ndarray
    iou: np.ndarray
    r2: np.ndarray
    base_rate: np.ndarray
    activation_threshold: np.ndarray
    simulated_threshold: np.ndarray


def metrics(s_val, a_val, s, a) -> Metrics:
    found = detection(s_val, a_val, s, a)
    auprc, f1, iou, *thresholds = found
    evidence = Evidence(s_val, a_val, s, a, np.ones(a.shape[1], bool))
    base_rate = BASE_RATE.compute(evidence)[0]["base_rate"]
    return Metrics(cosine(s, a), auprc, f1, iou, r2(s_val, a_val, s, a), base_rate, *thresholds)


def problem(n=500, seed=0):
    """Six neurons: normal, mostly zero, a label; simulated continuously, rounded, two-valued."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, 6))
    a[:, 2:4] = np.maximum(a[:, 2:4] - 1.8, 0)  # about 3.6 % positive: less than α
    a[:, 4:] = a[:, 4:] > 1.3  # about 10 % positive: more than α, all of them equal
    s = a + 0.7 * rng.normal(size=a.shape)
    s[:, 1] = np.round(s[:, 1])
    s[:, 3] = np.round(2 * s[:, 3])
    s[:, 5] = s[:, 5] > 0.8
    return s.astype(np.float32), a.astype(np.float32)


def split(x):
    return x[::2], x[1::2]


def test_equals_scikit_learn_ties_included(monkeypatch):
    s, a = problem()
    (s_val, s), (a_val, a) = split(s), split(a)
    # four neurons a block, the last reaches back
    monkeypatch.setattr(pairs, "BLOCK_BYTES", 4 * 250 * 4)
    got = metrics(s_val, a_val, s, a)
    for k in range(6):
        top = np.sort(a_val[:, k])[-int(round(0.05 * 250)) - 1]
        threshold = top if top < a_val[:, k].max() else np.unique(a_val[:, k])[-2]
        assert got.activation_threshold[k] == np.float32(threshold)
        positive_val, positive = a_val[:, k] > threshold, a[:, k] > threshold
        assert got.base_rate[k] == pytest.approx(positive.mean())
        assert got.auprc[k] == pytest.approx(average_precision_score(positive, s[:, k]), abs=1e-5)
        precision, recall, thresholds = precision_recall_curve(positive_val, s_val[:, k])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        predicted = s[:, k] > got.simulated_threshold[k]
        chosen = f1_score(positive_val, s_val[:, k] > got.simulated_threshold[k])
        assert chosen == pytest.approx(f1.max(), abs=1e-6)
        assert (
            got.simulated_threshold[k] in s_val[:, k]
            and s_val[s_val[:, k] > got.simulated_threshold[k], k].min() in thresholds
        )
        assert got.f1[k] == pytest.approx(f1_score(positive, predicted), abs=1e-6)
        assert got.iou[k] == pytest.approx(jaccard_score(positive, predicted), abs=1e-6)
        assert got.cosine[k] == pytest.approx(
            cosine_similarity(a[:, [k]].T, s[:, [k]].T)[0, 0], abs=1e-5
        )
        line = LinearRegression().fit(s_val[:, [k]], a_val[:, k])
        assert got.r2[k] == pytest.approx(r2_score(a[:, k], line.predict(s[:, [k]])), abs=1e-4)


def test_what_counts_as_positive():
    """Top α; of a neuron that is mostly zero only what is above zero; of a label all of it."""
    s, a = problem(4000)
    rate = metrics(*split(s)[:1], *split(a)[:1], *split(s)[:1], *split(a)[:1]).base_rate
    np.testing.assert_allclose(
        rate,
        (a[::2] > 0).mean(0) * [0, 0, 1, 1, 1, 1] + np.array([0.05, 0.05, 0, 0, 0, 0]),
        atol=1e-6,
    )


def test_perfect_simulation_scores_one_and_scale_does_not_matter():
    _, a = problem()
    a_val, a = split(a)
    got = metrics(a_val, a_val, a, a)
    np.testing.assert_allclose(np.stack(got[:5]), 1, atol=1e-5)
    s, a = problem()
    (s_val, s), (a_val, a) = split(s), split(a)
    one, other = metrics(s_val, a_val, s, a), metrics(8 * s_val, a_val, 8 * s, a)
    np.testing.assert_allclose(np.stack(one[:6]), np.stack(other[:6]), atol=1e-5)
    shifted = metrics(s_val + 16, a_val, s + 16, a)
    np.testing.assert_allclose(shifted.r2, one.r2, atol=1e-3)


def test_large_values_do_not_overflow():
    s, a = problem()
    np.testing.assert_allclose(
        metrics(s, a, 1e30 * s, 1e30 * a).cosine, metrics(s, a, s, a).cosine, atol=1e-5
    )


@pytest.mark.parametrize("n", [1, 2, 30])
def test_dead_constant_and_few_images_are_defined(n):
    rng = np.random.default_rng(0)
    zero, constant, varied = np.zeros((n, 1)), np.full((n, 1), 3.3), rng.normal(size=(n, 1))
    activations = np.concatenate([zero, constant, varied, varied, varied], 1).astype(np.float32)
    simulated = np.concatenate([varied, varied, zero, constant, varied], 1).astype(np.float32)
    got = metrics(simulated, activations, simulated, activations)
    assert isinstance(got, Metrics) and np.isfinite(np.stack(got[:6])).all()
    assert got.cosine[0] == got.cosine[2] == 0
    for name in ("auprc", "f1", "iou", "r2", "base_rate"):
        assert (getattr(got, name)[:2] == 0).all(), name
    np.testing.assert_allclose(got.r2[2:4], 0, atol=1e-5)
    assert (
        np.isinf(got.activation_threshold[:2]).all() and np.isinf(got.simulated_threshold[:2]).all()
    )
    one = metrics(
        simulated[:, 4:], activations[:, 4:], simulated[:, 4:], activations[:, 4:]
    )  # one neuron
    np.testing.assert_allclose(np.stack(one[:6])[:, 0], np.stack(got[:6])[:, 4], atol=1e-6)


def test_bad_input_is_refused():
    ones = np.ones((4, 2))
    with pytest.raises(ValueError, match="alpha must be a number in \\(0, 1\\), got 1.5"):
        detection(ones, ones, ones, ones, alpha=1.5)
    for metric in (detection, r2):
        with pytest.raises(ValueError, match="same neurons, got 3 and 2 columns"):
            metric(np.ones((4, 3)), np.ones((4, 3)), ones, ones)
        with pytest.raises(
            ValueError,
            match="simulated_val and activations must describe the same images, got 4 and 5 rows",
        ):
            metric(ones, np.ones((5, 2)), ones, ones)
    with pytest.raises(ValueError, match="same neurons, got 3 and 2 columns"):
        cosine(np.ones((4, 3)), ones)
