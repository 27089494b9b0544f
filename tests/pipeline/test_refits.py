"""Simulated activations and refits: what the records of a run give equals the same from arrays."""

import dataclasses

import numpy as np
import pytest
from etils import epath

import jaxle
from jaxle import Explanation, Explanations
from jaxle.data.splits import make_split
from jaxle.evaluation.nulls import PermutedActivations, score_refits
from jaxle.explainers import EXPLAINERS
from jaxle.explainers.protocol import ArrayRows
from jaxle.mesh import make_mesh
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.explain import Searched, explain
from jaxle.pipeline.fit import Screening, fit
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.layers import make_layers
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Partition
from jaxle.pipeline.probe import Probed
from jaxle.pipeline.refits import refit, refit_all
from jaxle.pipeline.simulate import Able, Simulator, simulate, simulate_images

NAMES = tuple(f"c{j}" for j in range(12))
SPLIT = make_split(300, 0)
PARTITION = Partition("split", SPLIT)
RNG = np.random.default_rng(0)
PROBS = (RNG.random((300, 12)) < 0.3).astype(np.float32)
VALUES = (PROBS[:, :6] + PROBS[:, 3:9] + 0.5 * RNG.random((300, 6))).astype(np.float32)
SEEN = np.clip(PROBS + 0.2 * RNG.random((300, 12)).astype(np.float32), 0, 1)  # by a simulator


@pytest.fixture
def cache(tmp_path):
    stages = ("fit", "explain", "simulate", "score")
    return Cache(epath.Path(tmp_path), stages, make_mesh(1), Journal(None))


@pytest.fixture
def layers():
    probed = Probed("net", "trained", {"tap": VALUES}, np.zeros(300, np.int32), np.arange(300))
    return make_layers({"trained": probed}, PARTITION, permutations=3, seed=7)


def explained_by(cache, layers, name):
    concepts = ConceptMatrix("concepts", "label", ArrayRows(PROBS, NAMES))
    fitted = fit(cache, concepts, layers, PARTITION, Screening(0.5, EXPLAINERS[name].folds))
    searched = Searched(name, EXPLAINERS[name].options(), 0.01)
    return explain(cache, name, fitted, layers.real[0], PARTITION, searched)


SIMULATOR = Simulator("by", "by", ConceptMatrix("seen", "siglip", ArrayRows(SEEN, NAMES)))


@pytest.mark.parametrize("name", ["greedy", "preconditioned"])
def test_refits_equal_those_on_permuted_arrays(cache, layers, name):
    """Permuted layers are columns of the same moments; here each is measured and fitted alone."""
    explained = explained_by(cache, layers, name)
    permuted = layers.permuted[explained.layer.key]
    found = refit(cache, explained, permuted, [SIMULATOR], PARTITION)
    views = [PermutedActivations(VALUES, SPLIT, 7, number) for number in range(3)]
    alone = score_refits(
        [jaxle.explain(view[:], PROBS, NAMES, split=SPLIT, search=name) for view in views],
        lambda explanations: jaxle.simulate(explanations, SEEN, NAMES, SPLIT.test),
        VALUES[SPLIT.test],
    )
    assert found["by"] == {
        "permuted_val_correlation": pytest.approx(alone.val_correlation.mean(), abs=1e-5),
        "permuted_correlation": pytest.approx(alone.test_correlation.mean(), abs=1e-5),
    }
    able = {explained.fitted.key: Able(explained.fitted, (SIMULATOR,))}
    every = refit_all(cache, [explained], able, layers, PARTITION)
    assert every == {(explained.key, "by"): found["by"]}
    simulated = simulate(cache, explained, SIMULATOR, PARTITION)
    real = jaxle.correlation(simulated.test, VALUES[SPLIT.test])
    assert real.mean() > 0.6 > found["by"]["permuted_correlation"] + 0.3


def test_simulated_activations_are_of_val_and_test(cache, layers):
    explained = explained_by(cache, layers, "greedy")
    simulated = simulate(cache, explained, SIMULATOR, PARTITION)
    for part in ("val", "test"):
        expected = jaxle.simulate(explained.explanations, SEEN, NAMES, getattr(SPLIT, part))
        np.testing.assert_array_equal(getattr(simulated, part), expected)
    other = dataclasses.replace(SIMULATOR, key="another")
    assert simulate(cache, explained, other, PARTITION).key != simulated.key


def test_a_formula_is_simulated_by_its_concepts_or_by_a_column_of_its_name():
    rows = (
        Explanation(0, ("c1",), (2.0,), 0.5),
        Explanation(1, ("c1 AND NOT c2",), (1.0,), 0.0, None, "", "formula"),
        Explanation(2, ("c1 & c2",), (1.0,), 0.0, None, "", "formula"),
    )
    table, test = Explanations(rows), SEEN[SPLIT.test]
    found = simulate_images(table, SIMULATOR.concepts.matrix, SPLIT.test)
    np.testing.assert_allclose(found[:, 0], 2 * test[:, 1] + 0.5, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], test[:, 1] * (1 - test[:, 2]), rtol=1e-5)
    assert not found[:, 2].any()  # a neuron that counts as unexplained
    both = np.column_stack([SEEN, SEEN[:, 1] * SEEN[:, 2]])
    concepts = ConceptMatrix("more", "outside", ArrayRows(both, (*NAMES, "c1 & c2")))
    more = simulate_images(table, concepts.matrix, SPLIT.test)
    np.testing.assert_array_equal(more[:, :2], found[:, :2])
    np.testing.assert_allclose(more[:, 2], both[SPLIT.test, -1], rtol=1e-6)
