"""What depends on the concepts alone is made once for all taps, networks and permutations."""

import numpy as np
import pytest
from etils import epath

from jaxle.data.splits import make_split
from jaxle.explainers.protocol import ArrayRows
from jaxle.mesh import make_mesh
from jaxle.pipeline import defaults
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.fit import Screening, fit
from jaxle.pipeline.inputs import UNTRAINED
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.layers import Columns, make_layers
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import TRAINED, Partition
from jaxle.pipeline.probe import Probed
from jaxle.solve import measure, ridge
from tests import runs

SPLIT = make_split(200, 0)
PARTITION = Partition("split", SPLIT)


@pytest.fixture(scope="module")
def layers():
    """Two taps of two networks, those of the trained one with two permutations."""
    rng = np.random.default_rng(0)
    probed = {
        name: Probed(
            name,
            name,
            {tap: rng.random((200, width), np.float32) for tap, width in (("a", 3), ("b", 5))},
            np.zeros(200, np.int32),
            np.arange(200),
            kind,
        )
        for name, kind in (("trained", TRAINED), ("untrained-1", UNTRAINED))
    }
    return make_layers(probed, PARTITION, permutations=2, seed=0)


@pytest.fixture(scope="module")
def concepts():
    probs = np.random.default_rng(1).random((200, 12)).astype(np.float32)
    probs[:, 7] *= 0.1  # does not pass screening
    names = tuple(f"c{j}" for j in range(12))
    return ConceptMatrix("concepts", "label", ArrayRows(probs, names))


@pytest.fixture
def cache(tmp_path):
    return Cache(epath.Path(tmp_path), ("fit",), make_mesh(1), Journal(None))


def test_each_layer_has_its_own_columns(layers):
    every = layers.every
    assert [str(layer) for layer in every[:4]] == [
        "a",
        "a (permutation 1)",
        "a (permutation 2)",
        "b",
    ]
    assert str(every[5]) == "b (permutation 2)" and str(every[-1]) == "b (untrained-1)"
    assert len({layer.key for layer in every}) == len(every) == 8
    columns = Columns(every)
    assert columns.shape == (200, 32)
    rows = np.array([5, 190, 3])
    for layer in every:
        np.testing.assert_array_equal(
            columns[rows][:, columns.spans[layer.key]], layer.values[rows]
        )
    assert [layer.tap for layer in layers.trained] == ["a", "b"]


def test_a_permutation_moves_train_and_val_and_leaves_test(layers):
    real = layers.real[0]
    for layer in layers.permuted[real.key]:
        np.testing.assert_array_equal(layer.values[SPLIT.test], real.values[SPLIT.test])
        both = np.concatenate([SPLIT.train, SPLIT.val])
        one, other = np.asarray(layer.values[both]), np.asarray(real.values[both])
        assert not np.array_equal(one, other)
        np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))
    one, other = layers.permuted[real.key]
    assert not np.array_equal(one.values[SPLIT.train], other.values[SPLIT.train])


@pytest.mark.parametrize("folds", [0, 5])
def test_moments_of_all_layers_at_once_equal_each_layers_own(cache, layers, concepts, folds):
    fitted = fit(cache, concepts, layers, PARTITION, Screening(0.5, folds))
    assert "c7" not in fitted.names and len(fitted.names) == 11
    for layer in layers.every:
        alone = measure.measure(
            concepts.matrix.rows, 12, layer.values, *SPLIT[:2], min_top5=0.5, folds=folds
        )
        own = fitted.of(layer)
        np.testing.assert_array_equal(own.kept, alone.kept)
        pairs = [(own.train, alone.train), (own.val, alone.val)]
        pairs += list(zip(own.folds, alone.folds, strict=True))
        if folds:
            pairs.append((own.total, alone.total))
            np.testing.assert_allclose(own.spectrum.values, alone.spectrum.values, atol=1e-5)
        for one, other in pairs:
            for part, expected in zip(one, other, strict=True):
                np.testing.assert_allclose(part, expected, atol=1e-5)


def test_what_the_cache_gives_back_is_what_was_made(cache, layers, concepts):
    how = Screening(0.5, 5)
    made, found = (fit(cache, concepts, layers, PARTITION, how) for _ in range(2))
    assert made.key == found.key and made.names == found.names and made.spans == found.spans
    for one, other in zip(made.measured, found.measured, strict=True):
        assert type(one) is type(other)
    for part in ("train", "val", "total", "spectrum"):
        for one, other in zip(
            getattr(made.measured, part), getattr(found.measured, part), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_screening_gram_and_spectrum_are_made_once_in_a_run(tmp_path, monkeypatch):
    """Two taps, three networks, two refits, two explainers and the ceiling on one matrix."""
    counts = {"screen": 0, "spectrum": 0}

    def counted(name, real):
        def call(*args, **kwargs):
            counts[name] += 1
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(measure, "screen", counted("screen", measure.screen))
    monkeypatch.setattr(ridge, "spectrum", counted("spectrum", ridge.spectrum))
    fields = {
        "target.taps": ("layer1", "layer2"),
        "concepts.sets": ("classes",),
        "methods.ours": defaults.label("preconditioned", no_longer_than="label"),
        "evaluation.controls": 2,
        "evaluation.refits": 2,
        "evaluation.ceiling": True,
    }
    summary = runs.quick(tmp_path / "run", fields)
    assert len(summary["results"]) == 4  # two taps, two methods
    assert counts == {"screen": 1, "spectrum": 1}
    made = [path.name.partition("-")[0] for path in (tmp_path / "run" / "cache").iterdir()]
    assert made.count("fit") == made.count("ceiling") == 1
    assert made.count("explain") == 12 and made.count("refits") == 4
    runs.quick(tmp_path / "run", {**fields, "fit.lam": 0.1}, ("probe", "fit", "explain"))
    assert counts == {"screen": 1, "spectrum": 1}
