"""One method's explanations of one layer: unchanged by the cache, and keyed by all that is read."""

import dataclasses

import numpy as np
import pytest
from etils import epath

import jaxle
from jaxle import Explanation, Explanations
from jaxle.data.splits import make_split
from jaxle.explainers import EXPLAINERS, Explainer
from jaxle.explainers.linear import Greedy
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.explainers.protocol import ArrayRows
from jaxle.mesh import make_mesh
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.config import Method
from jaxle.pipeline.explain import Searched, explain, explain_all, mean_length
from jaxle.pipeline.fit import Screening, fit
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.layers import make_layers
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Partition
from jaxle.pipeline.probe import Probed
from jaxle.pipeline.reading import read_config
from tests.runs import changed

NAMES = tuple(f"c{j}" for j in range(12))
PARTITION = Partition("split", make_split(300, 0))


@pytest.fixture(scope="module")
def data():
    """Probabilities, and six neurons that are sums of three concepts, the last one dead."""
    rng = np.random.default_rng(0)
    probs = (rng.random((300, 12)) < 0.3).astype(np.float32)
    values = probs @ (rng.random((12, 6)) * (rng.random((12, 6)) < 0.3)) + 0.1
    values = (values + 0.2 * rng.random((300, 6))).astype(np.float32)
    values[:, 5] *= 1e-4
    return probs, values


@pytest.fixture
def cache(tmp_path):
    stages = ("fit", "explain")
    return Cache(epath.Path(tmp_path), stages, make_mesh(1), Journal(None))


@pytest.fixture
def fitted(cache, data):
    """Moments with folds of one layer, and that layer."""
    probs, values = data
    probed = Probed("net", "trained", {"tap": values}, np.zeros(300, np.int32), np.arange(300))
    layers = make_layers({"trained": probed}, PARTITION, 0, 0)
    concepts = ConceptMatrix("concepts", "label", ArrayRows(probs, NAMES))
    return fit(cache, concepts, layers, PARTITION, Screening(0.5, 5)), layers.real[0]


def searched(name="greedy", options=None):
    return Searched(name, Greedy() if options is None else options, 0.01)


@pytest.mark.parametrize("name", [name for name, row in EXPLAINERS.items() if not row.needs])
def test_equals_jaxle_explain_on_the_same_arrays(cache, fitted, data, name):
    probs, values = data
    options = EXPLAINERS[name].options()
    found = explain(cache, name, *fitted, PARTITION, searched(name, options))
    alone = jaxle.explain(values, probs, NAMES, split=PARTITION.split, search=name)
    assert found.explanations.flags.tolist() == ["", "", "", "", "", "dead"]
    for one, other in zip(found.explanations, alone, strict=True):
        assert one.concepts == other.concepts and one.flag == other.flag
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4, atol=1e-6)
    assert found.live.tolist() == [True] * 5 + [False]


MIXED = (
    Explanation(0, ("c1",), (1.0,), 0.0, None, "", "description"),
    Explanation(1, ("c1", "c2"), (0.1, 1e-30), 1 / 3, 0.25, "unconverged"),
    Explanation(2, (), (), 2.5, None, "unexplained"),
    Explanation(3, ("c1 AND NOT c2",), (1.0,), 0.0, 0.5, "", "formula"),
    Explanation(4, ("c3",), (-2.0,), 0.0, -0.125),
    Explanation(5, ("c4",), (1.0,), 0.0, 0.0, "dead", "description"),
)


def test_whatever_an_explainer_gives_comes_back_from_the_cache_as_it_was(
    cache, fitted, monkeypatch
):
    calls = []

    def give(problem, options):
        calls.append(problem)
        return Explanations(MIXED, facts={"how": ["by", 1, None, 0.5]})

    monkeypatch.setitem(EXPLAINERS, "given", Explainer(Greedy, give))
    first, again = (explain(cache, "m", *fitted, PARTITION, searched("given")) for _ in range(2))
    assert len(calls) == 1
    for found in (first, again):
        assert found.explanations.rows == MIXED and str(found.explanations[0]) == "c1"
        assert found.explanations.facts == {"how": ["by", 1, None, 0.5]}
        assert found.explanations.split is PARTITION.split
    problem = calls[0]
    assert problem.concepts == NAMES and problem.dead_threshold == 0.01
    assert problem.measured.train.cross.shape == (12, 6)


def test_the_key_holds_explainer_options_threshold_and_version(cache, fitted, monkeypatch):
    keys = {explain(cache, "m", *fitted, PARTITION, searched()).key}
    changes = (
        searched("top_k", EXPLAINERS["top_k"].options()),
        searched(options=Greedy(min_gain=0.5)),
        dataclasses.replace(searched(), dead_threshold=0.5),
    )
    keys |= {explain(cache, "m", *fitted, PARTITION, change).key for change in changes}
    assert len(keys) == 4
    assert explain(cache, "another name", *fitted, PARTITION, searched()).key in keys
    newer = dataclasses.replace(EXPLAINERS["greedy"], version=EXPLAINERS["greedy"].version + 1)
    monkeypatch.setitem(EXPLAINERS, "greedy", newer)
    assert explain(cache, "m", *fitted, PARTITION, searched()).key not in keys


def test_a_method_is_held_to_the_mean_length_of_another(cache, fitted):
    """Named before it or after it, it is explained after it, and stands where it was named."""
    moments, layer = fitted
    config = read_config(changed({}))
    free, held = Method(options=Greedy()), Preconditioned(min_gain=0.0)
    held = Method(explainer="preconditioned", no_longer_than="b", options=held)
    config = dataclasses.replace(config, methods={"a": held, "b": free})
    first, second = explain_all(cache, {"a": moments, "b": moments}, [layer], PARTITION, config)
    assert (first.method, second.method) == ("a", "b")
    limit = mean_length(second.explanations)
    assert first.searched.options == Preconditioned(min_gain=0.0, mean_length=limit)
    assert mean_length(first.explanations) <= limit


def test_mean_length_is_over_neurons_that_can_be_explained():
    rows = (
        Explanation(0, ("a", "b", "c"), (1.0, 1.0, 1.0), 0.0),
        Explanation(1, (), (), 0.0, 0.0, "unexplained"),
        Explanation(2, ("a",), (1.0,), 0.0, 0.0, "dead"),
        Explanation(3, (), (), 0.0, 0.0, "constant"),
    )
    assert mean_length(Explanations(rows)) == 1.5
    assert mean_length(Explanations(rows[1:2])) == 0.0
    assert mean_length(Explanations(rows[2:])) is None
