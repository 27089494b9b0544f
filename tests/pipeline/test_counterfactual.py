"""The counterfactual test as steps of a run: what it reads, what it gives, and what is cached."""

import dataclasses
import functools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from etils import epath

from jaxle.data.pairs import BothSides
from jaxle.data.scenes import ScenesSource
from jaxle.data.sources import open_source
from jaxle.evaluation.contrast import contrast
from jaxle.evaluation.counterfactual import COLUMNS, counterfactual
from jaxle.mesh import make_mesh
from jaxle.models.zoo import load_model
from jaxle.pipeline import defaults, tables
from jaxle.pipeline.cache import Cache
from jaxle.pipeline.concepts import method_matrices
from jaxle.pipeline.counterfactual import (
    counterfactual_all,
    kind_records,
    with_counterfactual,
)
from jaxle.pipeline.encoders import calibrate_all
from jaxle.pipeline.explain import explain_all
from jaxle.pipeline.fit import fit_all
from jaxle.pipeline.inputs import UNTRAINED, open_inputs
from jaxle.pipeline.journal import Journal
from jaxle.pipeline.layers import make_layers
from jaxle.pipeline.opened import TRAINED, Images, Opened
from jaxle.pipeline.pairs import open_pairs, pair_concepts, probe_pairs
from jaxle.pipeline.probe import probe, read_labels
from jaxle.pipeline.score import score_one
from jaxle.pipeline.simulate import able_all, simulate
from jaxle.pipeline.stages import STAGES
from jaxle.pipeline.tables import Row
from tests.runs import FOREIGN, settings

PAIRS = 120
FIELDS = {
    "data.limit": 400,
    "target.taps": ("layer3",),
    "concepts.sets": ("annotations", FOREIGN),
    "evaluation.metrics": ("correlation",),
    "methods.siglip": defaults.siglip("scenes_siglip_s"),
    "methods.nonsense": defaults.nonsense("scenes_siglip_s"),
    "simulators.siglip": defaults.tower("scenes_siglip_m"),
}
NAMES = ("untrained-1", "untrained-2")


class Scene(NamedTuple):
    """A run up to its scores, with two untrained networks."""

    config: object
    cache: Cache
    inputs: object
    calibrated: object
    scored: list


def opened(folder, stages=STAGES) -> Cache:
    folder = epath.Path(folder)
    return Cache(folder / "cache", stages, make_mesh(1), Journal(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config, cache = settings(folder, FIELDS), opened(folder)
    inputs = open_inputs(config, cache.folder / "generated", cache.mesh)
    networks = dict(inputs.networks)
    for number, name in enumerate(NAMES):
        network = load_model("scenes_resnet", random_init_seed=number)
        networks[name] = Opened(name, network, UNTRAINED)
    inputs = dataclasses.replace(inputs, networks=networks)
    partition = inputs.partition
    labelled = read_labels(cache, inputs.images)
    probed, embedded = probe(cache, inputs, config)
    calibrated = calibrate_all(cache, inputs, labelled, embedded, config)
    matrices = method_matrices(cache, inputs.images, labelled, calibrated, config)
    layers = make_layers(probed, partition, 0, config.seed)
    fitted = fit_all(cache, matrices, layers, partition, config)
    explained = explain_all(cache, fitted, layers.real, partition, config)
    able = able_all(cache, fitted, labelled, calibrated, inputs.images, config)
    scored = [
        score_one(cache, simulate(cache, entry, simulator, partition), [], partition, config)
        for entry in explained
        for simulator in able[entry.fitted.key].simulators
    ]
    return Scene(config, cache, inputs, calibrated, scored)


@pytest.fixture(scope="module")
def paired(scene):
    pairs = open_pairs(scene.inputs, PAIRS, scene.config)
    return probe_pairs(scene.cache, scene.inputs, pairs, scene.calibrated, scene.config)


@pytest.fixture(scope="module")
def judged(scene, paired):
    return counterfactual_all(scene.cache, scene.scored, paired, scene.config)


def rows_of(scene):
    trained = [e for e in scene.scored if e.simulated.explained.layer.network == TRAINED]
    return [Row(entry, dict(entry.columns), dict(entry.facts), {}) for entry in trained]


@functools.cache
def source_pairs():
    """The pairs as the source gives them, drawn once."""
    return ScenesSource(400, 0).pairs(PAIRS, 0)


def by_hand(scene, entry):
    """The test from arrays: labels of the edits, and the network itself on both pictures."""
    pairs = source_pairs()
    explained = entry.simulated.explained
    network = scene.inputs.networks[explained.layer.network].network
    sides = [network.activations(x, "layer3", "avg") for x in (pairs.images_a, pairs.images_b)]
    labels = (pairs.labels_a, pairs.labels_b, pairs.concepts)
    return counterfactual(explained.explanations, *sides, *labels, kinds=pairs.edits)


def entry_of(scene, network, method="label", simulator="labels"):
    return next(
        entry
        for entry in scene.scored
        if entry.simulated.explained.layer.network == network
        and (entry.about["method"], entry.about["simulator"]) == (method, simulator)
    )


def test_it_is_what_the_function_gives_for_the_same_arrays(scene, judged):
    found = {}
    for network in (TRAINED, *NAMES):
        entry = entry_of(scene, network)
        own, expected = judged[entry.key], by_hand(scene, entry)
        found[network] = expected
        assert list(own.columns) == [column.name for column in COLUMNS]
        for name, values in expected.columns.items():
            np.testing.assert_allclose(own.columns[name], values, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(
            own.parts["counterfactual_effect"], expected.by_concept.effect, atol=1e-5
        )
        assert own.facts["n_counterfactual_following"] == expected.n_following
        assert own.facts["n_counterfactual_pairs"] == PAIRS
        assert own.facts["n_counterfactual_unlabelled"] == 0
    facts = judged[entry_of(scene, TRAINED).key].facts
    both = contrast(found[TRAINED], [found[name] for name in NAMES])
    assert facts["n_counterfactual_untrained"] == 2
    for name, (value, low, high) in both.difference.items():
        gain = [facts[f"counterfactual_{name}_gain{end}"] for end in ("", "_low", "_high")]
        np.testing.assert_allclose(gain, [value, low, high], atol=1e-4)
    assert "n_counterfactual_untrained" not in judged[entry_of(scene, NAMES[0]).key].facts


def test_the_trained_network_follows_its_words_more_than_untrained_ones(scene, judged):
    for method in ("label", "siglip"):
        simulator = "labels" if method == "label" else "siglip"
        facts = judged[entry_of(scene, TRAINED, method, simulator).key].facts
        assert facts["counterfactual_following_gain"] > 0.05
        assert facts["counterfactual_correlation_gain_low"] > 0


def test_words_of_labels_have_the_truth_and_others_the_simulators_probabilities(
    scene, paired, judged
):
    label, siglip = entry_of(scene, TRAINED), entry_of(scene, TRAINED, simulator="siglip")
    assert judged[label.key].key == judged[siglip.key].key  # labels for both: made once
    nonsense = entry_of(scene, TRAINED, "nonsense", "siglip")
    names = nonsense.simulated.explained.explanations.concepts
    assert names and judged[nonsense.key].facts["n_counterfactual_unlabelled"] == len(names)
    fitted = nonsense.simulated.explained.fitted
    concepts = pair_concepts(scene.cache, "siglip", fitted, paired, scene.config)
    got = concepts.rows(2 * PAIRS, (*names, "red"))
    encoder = scene.config.simulators["siglip"]
    run, tower = scene.calibrated[encoder], scene.inputs.encoders[encoder].network
    images = np.stack([paired.images.both[i][0] for i in range(2 * PAIRS)])
    cosines = np.asarray(tower.embed_images(images)) @ np.asarray(tower.embed_texts(names)).T
    expected = 1 / (1 + np.exp(-run.scale * (cosines + run.shift)))
    np.testing.assert_allclose(got[:, :-1], expected, atol=1e-4)
    truth = paired.images.both.annotations
    np.testing.assert_array_equal(got[:, -1], truth[1][:, truth[0].index("red")])


def test_rows_get_columns_facts_and_parts(scene, judged, tmp_path):
    rows = with_counterfactual(rows_of(scene), judged)
    assert len(rows) == 4
    for row in rows:
        own = judged[row.scored.key]
        assert set(own.columns) <= set(row.columns) and set(own.facts) <= set(row.facts)
        json.dumps(row.facts, allow_nan=False)
        for name, values in row.parts.items():
            assert name.startswith("counterfactual_") and name.endswith(f" {row.simulator}")
            assert len(values) == 64 and np.isfinite(values).all()
    workdir = epath.Path(tmp_path)
    tables.write_scores(workdir / "scores.csv", rows)
    frame = pd.read_csv(workdir / "scores.csv", keep_default_na=False)
    numbers = frame[[column.name for column in COLUMNS]]
    assert len(frame) == 4 * 64 and not numbers.map(lambda value: value == "").any(axis=None)
    tables.write_concepts(workdir, rows[0].explained, rows[:2])
    parts = pd.read_csv(workdir / "layer3" / "label" / "concepts.csv", keep_default_na=False)
    assert {"counterfactual_effect labels", "counterfactual_pairs siglip"} <= set(parts)
    kept = with_counterfactual(rows_of(scene), {})
    assert all(row.columns.keys() == row.scored.columns.keys() for row in kept)


def test_kinds_say_what_each_network_reacts_to(scene, judged):
    records = pd.DataFrame(kind_records(scene.scored, judged))
    assert set(records.network) == {TRAINED, *NAMES}
    label = records[(records.method == "label") & (records.simulator == "labels")]
    assert len(label) == 3 * 8 and (label.n_pairs == PAIRS // 8).all()
    response = label.pivot(index="kind", columns="network", values="response")
    assert response[TRAINED]["shape"] > 2 * response[NAMES[0]]["shape"]
    json.dumps(kind_records(scene.scored, judged), allow_nan=False)


def test_the_cache_gives_it_again_and_another_number_of_pairs_is_made_anew(scene, judged):
    folder = scene.cache.folder.parent
    again = dataclasses.replace(scene.cache, stages=("score",), journal=Journal(folder / "again"))
    pairs = open_pairs(scene.inputs, PAIRS, scene.config)
    same = probe_pairs(again, scene.inputs, pairs, scene.calibrated, scene.config)
    found = counterfactual_all(again, scene.scored, same, scene.config)
    assert [one.key for one in found.values()] == [one.key for one in judged.values()]
    notes = [json.loads(line) for line in (folder / "again").read_text().splitlines()]
    assert all(note["reused"] for note in notes) and len(notes) > 10
    fewer = open_pairs(scene.inputs, PAIRS - 8, scene.config)
    assert fewer.key != pairs.key
    with pytest.raises(ValueError, match="stage 'probe' is not complete for 224 images"):
        probe_pairs(again, scene.inputs, fewer, scene.calibrated, scene.config)


def test_no_pairs_no_test(scene):
    pairs = open_pairs(scene.inputs, 0, scene.config)
    assert pairs is None
    nothing = probe_pairs(scene.cache, scene.inputs, pairs, scene.calibrated, scene.config)
    assert nothing is None
    assert counterfactual_all(scene.cache, scene.scored, None, scene.config) == {}


def test_data_that_have_no_pairs_say_so(scene, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    images = Images("plain", open_source(f"arrays:{tmp_path}"))
    inputs = dataclasses.replace(scene.inputs, images=images)
    with pytest.raises(ValueError, match=r"needs a source with a method pairs\(n, seed\)"):
        open_pairs(inputs, 8, scene.config)


def test_labels_that_lack_a_concept_are_named(scene, paired):
    pairs = source_pairs()
    few = pairs._replace(
        concepts=pairs.concepts[:5], labels_a=pairs.labels_a[:, :5], labels_b=pairs.labels_b[:, :5]
    )
    images = dataclasses.replace(paired.images, both=BothSides(few))
    lacking = dataclasses.replace(paired, images=images)
    fitted = entry_of(scene, TRAINED).simulated.explained.fitted
    with pytest.raises(ValueError, match="the pairs have no label for .* expected the names"):
        pair_concepts(scene.cache, "labels", fitted, lacking, scene.config)
