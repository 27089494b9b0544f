"""Problems like the real ones, small, and a counter of compilations."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest


@pytest.fixture
def compilations():
    """A list that grows by one name with every program compiled."""
    names = []

    def listen(event, duration, **facts):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(facts.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def standardised(features, targets):
    """Columns to mean 0 and standard deviation 1 in float64; constant ones to 0."""
    result = []
    for x in (features, targets):
        x = np.asarray(x, np.float64)
        std = x.std(0)
        result.append(np.where(std > 0, (x - x.mean(0)) / np.where(std > 0, std, 1), 0))
    return result


def objective(x, y, w, b, lam, l1_ratio):
    """method.md §4 of every neuron in float64: (neurons,)."""
    residual = y - x @ w - b
    return 0.5 * np.mean(residual**2, axis=0) + lam * (
        l1_ratio * np.abs(w).sum(0) + 0.5 * (1 - l1_ratio) * (w**2).sum(0)
    )


def one_hot(n=900, n_classes=20, n_neurons=7, seed=0):
    """Class memberships with superclasses that are exact sums of them, and neurons of a few.

    (n, 30), (n, n_neurons).
    """
    rng = np.random.default_rng(seed)
    member = np.eye(n_classes)
    supers = [member[:, i : i + 2].sum(1) for i in range(0, 16, 2)] + [
        member[:, :8].sum(1),
        member[:, 8:16].sum(1),
    ]
    labels = np.concatenate([member, np.stack(supers, 1)], 1)[rng.integers(0, n_classes, n)]
    truth = np.where(
        rng.random((labels.shape[1], n_neurons)) < 0.2,
        rng.normal(size=(labels.shape[1], n_neurons)),
        0,
    )
    return labels.astype(np.float32), (
        labels @ truth + 0.5 * rng.normal(size=(n, n_neurons))
    ).astype(np.float32)


def similar(n=900, n_concepts=30, n_neurons=7, seed=0):
    """Sigmoid similarities with near-synonyms, and rectified neurons."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(n_concepts // 3, 12))
    text = np.repeat(basis, 3, axis=0) + 0.5 * rng.normal(size=(n_concepts, 12))
    image = rng.normal(size=(n, 12)) + 1.5 * basis[rng.integers(0, len(basis), n)]
    cos = (
        image
        @ text.T
        / np.linalg.norm(image, axis=1)[:, None]
        / np.linalg.norm(text, axis=1)[None, :]
    )
    drive = image @ rng.normal(size=(12, n_neurons)) + rng.normal(size=(n, n_neurons))
    return (1 / (1 + np.exp(-10 * (cos - 0.3)))).astype(np.float32), np.maximum(drive, 0).astype(
        np.float32
    )


@pytest.fixture(scope="session")
def problems():
    """The functions above, for tests (pytest's importlib mode has no import between test files)."""
    return SimpleNamespace(
        standardised=standardised, objective=objective, one_hot=one_hot, similar=similar
    )
