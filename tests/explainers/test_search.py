"""The searches against method.md §5 restated in NumPy, with lstsq on the images at every
candidate."""

import numpy as np
import pytest

from jaxle.explainers import rank
from jaxle.explainers.search import SEARCHES, greedy, top_k
from jaxle.mesh import make_mesh
from jaxle.solve.moments import second_moments

LIMITS = {"n_candidates": 5, "max_concepts": 4, "min_gain": 0.02}


def problem(kind, n_neurons=12, seed=0):
    """0/1 classes with superclasses that are their sums, or correlated sigmoids.

    Returns (features, targets) of 700 images.
    """
    rng = np.random.default_rng(seed)
    if kind == "one_hot":
        member = np.eye(20)
        labels = np.concatenate(
            [member, *(member[:, i : i + 4].sum(1, keepdims=True) for i in range(0, 20, 2))], 1
        )
        features = labels[rng.integers(0, 20, 700)]
    else:
        features = 1 / (1 + np.exp(-2 * rng.normal(size=(700, 8)) @ rng.normal(size=(8, 30))))
    truth = np.where(
        rng.random((features.shape[1], n_neurons)) < 0.2,
        rng.normal(size=(features.shape[1], n_neurons)),
        0,
    )
    return features.astype(np.float32), (
        features @ truth + 0.4 * rng.normal(size=(700, n_neurons))
    ).astype(np.float32)


def moments(features, targets):
    return second_moments(features[:500], targets[:500]), second_moments(
        features[500:], targets[500:]
    )


def restated(features, targets, order, k, n_candidates, max_concepts, min_gain):
    """method.md §5 for one neuron.

    Returns (concepts, ρ, whether two candidates or a threshold were within 1e-6).
    """
    x, y = features.astype(np.float64), targets[:, k].astype(np.float64)
    selected, rejected, best, close = [], set(), 0.0, False
    while len(selected) < max_concepts:
        candidates = [c for c in order if c not in selected and c not in rejected][:n_candidates]
        rho = []
        for c in candidates:
            columns = [*selected, c]
            beta = np.linalg.lstsq(
                np.column_stack([x[:500][:, columns], np.ones(500)]), y[:500], rcond=None
            )[0]
            s = x[500:][:, columns] @ beta[:-1]
            rho.append(
                np.corrcoef(s, y[500:])[0, 1] if s.std() > 1e-12 and y[500:].std() > 0 else 0.0
            )
        needed = best + min_gain if selected else 0.0
        top = sorted(rho)[::-1]
        close |= any(abs(r - needed) < 1e-6 for r in rho) or len(rho) > 1 and top[0] - top[1] < 1e-6
        if not rho or top[0] < needed or top[0] <= 0:
            break
        if selected:
            rejected |= {c for c, r in zip(candidates, rho, strict=True) if r < best + min_gain}
        best = max(rho)
        selected.append(candidates[rho.index(best)])
    return selected, best, close


@pytest.mark.parametrize("kind", ["one_hot", "sigmoid"])
@pytest.mark.parametrize(
    "limits", [LIMITS, {"n_candidates": 2, "max_concepts": 6, "min_gain": 0.0}]
)
def test_greedy_equals_the_method_restated(kind, limits):
    features, targets = problem(kind)
    train, val = moments(features, targets)
    order = rank.candidates(
        train, 0.05 / 0.99, 0.99, pool=limits["n_candidates"] * limits["max_concepts"]
    ).order
    found = greedy(train, val, order, **limits)
    exempt = 0
    for k in range(targets.shape[1]):
        want, rho, close = restated(features, targets, order[k].tolist(), k, **limits)
        if close:
            exempt += 1
            continue
        assert found.selected[k, : found.count[k]].tolist() == want
        assert abs(found.val_correlation[k] - rho) < 1e-5
    assert exempt <= 1


def test_a_planted_pair_is_found_with_its_weights_and_bias():
    features, _ = problem("sigmoid")
    targets = (2 * features[:, [3]] + features[:, [7]] - 1).astype(np.float32)
    train, val = moments(features, targets)
    found = greedy(
        train,
        val,
        np.array([[3, 7, 0, 1, 2]], np.int32),
        n_candidates=5,
        max_concepts=4,
        min_gain=0.01,
    )
    assert found.selected.tolist() == [[3, 7, -1, -1]] and found.count.tolist() == [2]
    np.testing.assert_allclose(found.weights[0], [2, 1, 0, 0], atol=1e-4)
    np.testing.assert_allclose([found.bias[0], found.val_correlation[0]], [-1, 1], atol=1e-4)


def test_least_squares_is_exact_where_gradient_steps_are_not():
    features, targets = problem("one_hot")
    train, val = moments(features, targets)
    found = top_k(train, val, np.tile(np.arange(4, dtype=np.int32), (12, 1)), max_concepts=4)
    design = np.column_stack([features[:500, :4], np.ones(500)]).astype(np.float64)
    beta = np.linalg.lstsq(design, targets[:500].astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(found.weights, beta[:-1].T, atol=1e-5)
    np.testing.assert_allclose(found.bias, beta[-1], atol=1e-5)


def test_a_neuron_without_a_helpful_candidate_ends_unexplained():
    features, targets = problem("sigmoid")
    targets = features[:, :2].copy()
    targets[:, 1] = 2.5  # a constant neuron
    found = greedy(*moments(features, targets), np.zeros((2, 1), np.int32), **LIMITS)
    assert found.count.tolist() == [1, 0]
    reverse = moments(
        features, np.concatenate([targets[:500], -targets[500:]])
    )  # on val it points the other way
    found = greedy(*reverse, np.zeros((2, 1), np.int32), **LIMITS)
    assert (
        found.count.tolist() == [0, 0] and (found.selected == -1).all() and not found.weights.any()
    )
    np.testing.assert_allclose(found.bias, targets[:500].mean(0), rtol=1e-6)


def test_the_last_concept_kept_is_the_one_chosen_and_not_the_one_tried_last():
    features, _ = problem("sigmoid", seed=1)
    targets = (features[:, [3]] + 0.9 * features[:, [7]]).astype(np.float32)
    train, val = moments(features, targets)
    found = greedy(
        train,
        val,
        np.array([[3, 7, 0, 1, 2]], np.int32),
        n_candidates=5,
        max_concepts=2,
        min_gain=0.01,
    )
    assert found.selected.tolist() == [[3, 7]]


def test_top_k_passes_over_a_superclass_that_is_the_sum_of_classes_before_it():
    features, targets = problem("one_hot")
    train, val = moments(features, targets)
    found = top_k(
        train, val, np.tile(np.array([[0, 1, 2, 3, 20, 5]], np.int32), (12, 1)), max_concepts=6
    )
    assert (found.selected == np.array([0, 1, 2, 3, 5, -1])).all() and (found.count == 5).all()


def test_a_pool_of_r_times_v_is_enough():
    features, targets = problem("sigmoid")
    train, val = moments(features, targets)
    order = rank.candidates(train, 0.05 / 0.99, 0.99, pool=30).order
    limits = {"n_candidates": 3, "max_concepts": 4, "min_gain": 0.001}
    for part, whole in zip(
        greedy(train, val, order[:, :12], **limits),
        greedy(train, val, order, **limits),
        strict=True,
    ):
        np.testing.assert_allclose(part, whole, atol=1e-6)


@pytest.mark.parametrize("name", list(SEARCHES))
def test_one_device_equals_eight_and_a_padded_block_a_whole_one(name, monkeypatch):
    features, targets = problem("sigmoid", n_neurons=11)
    train, val = moments(features, targets)
    order = rank.candidates(train, 0.05 / 0.99, 0.99, pool=20).order
    one = SEARCHES[name](train, val, order, **LIMITS)
    eight = SEARCHES[name](train, val, order, mesh=make_mesh(), **LIMITS)
    monkeypatch.setattr("jaxle.explainers.search.BLOCK", 4)
    blocks = SEARCHES[name](train, val, order, **LIMITS)
    for a, b, c in zip(one, eight, blocks, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a, c, atol=1e-5)
