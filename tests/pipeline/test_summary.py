"""The summary: what means are over, and what stands beside them."""

import dataclasses
import json

import numpy as np
import pytest

from jaxle.pipeline import summary, tables
from jaxle.pipeline.inputs import UNTRAINED
from jaxle.pipeline.notes import notes
from jaxle.pipeline.probe import Labelled, Probed
from jaxle.pipeline.reading import read_config
from tests.pipeline.conftest import RHO, ROWS
from tests.runs import changed

CONFIG = read_config(changed({}))
HELD = tables.columns(CONFIG)


def record(row, controls=()):
    return summary.record(row, HELD, controls)


def test_means_are_over_live_neurons_and_unexplained_ones_count_zero(make_row):
    found = record(make_row())
    assert (found["n_neurons"], found["n_dead"], found["n_unexplained"]) == (4, 1, 1)
    assert found["mean_correlation"] == pytest.approx((0.5 + 0 + 0.1) / 3)
    assert found["mean_correlation_all"] == pytest.approx((0.5 + 0 + 0 + 0.1) / 4)
    assert found["sem_correlation"] == pytest.approx(np.std([0.5, 0, 0.1], ddof=1) / np.sqrt(3))
    assert found["mean_val_correlation"] == pytest.approx((0.6 + 0 + 0.3) / 3)
    assert found["mean_length"] == pytest.approx(1.0)
    assert (found["tap"], found["method"], found["simulator"]) == ("layer4", "label", "labels")
    assert found["n_screened_out"] == 1 and found["teacher_strength"] == 2.0


@pytest.mark.parametrize("rows, rho", [(ROWS[2:3], RHO[2:3]), (ROWS[:1], RHO[:1])])
def test_a_layer_of_one_neuron_dead_or_alive_has_no_nan(make_row, rows, rho):
    found = record(make_row(rows, rho))
    assert json.dumps(found, allow_nan=False)
    assert found["sem_correlation"] == 0
    assert found["mean_correlation"] == pytest.approx(0 if rows[0].flag else 0.5)


def test_a_column_that_holds_for_some_neurons_is_averaged_over_those(make_row):
    """Ablation may be scored on a sample of the neurons, and never on a dead one."""
    scored = np.array([True, True, True, False])
    more = {"ablation_optim": np.array([0.4, 0.2, 0.9, 0.0]), "ablation_scored": scored}
    found = record(make_row(more=more))
    assert found["mean_ablation_optim"] == pytest.approx(0.3)
    assert found["mean_correlation"] == pytest.approx(0.2)
    assert "mean_ablation_scored" not in found


def test_what_did_not_pass_screening_is_counted_by_its_set(make_row):
    found = record(make_row(origin=("classes", "foreign", "foreign")))
    assert (found["screened_out_classes"], found["screened_out_foreign"]) == (0.0, 0.5)


def test_controls_stand_beside_what_they_control(make_row):
    row = make_row()
    explained = row.explained
    layer = dataclasses.replace(explained.layer, network="untrained-1", kind=UNTRAINED)
    simulated = dataclasses.replace(
        row.scored.simulated, explained=dataclasses.replace(explained, layer=layer)
    )
    columns = {"correlation": RHO / 2}
    control = dataclasses.replace(
        row.scored, simulated=simulated, columns=columns, facts={"n_explained": 1}
    )
    half = dataclasses.replace(control, columns={"correlation": RHO / 4}, facts={"n_explained": 4})
    found = record(row, [control, half])
    assert found["untrained_mean_correlation"] == pytest.approx(0.075)
    assert found["untrained_sem_correlation"] == pytest.approx(0.025)  # over networks
    assert found["untrained_n_explained"] == 2.5 and found["mean_correlation"] == pytest.approx(0.2)
    assert found["explained_by"] == found["simulated_by"] == "labels"
    other = dataclasses.replace(
        control, simulated=dataclasses.replace(simulated, simulator=row.scored.simulated.simulator)
    )
    (joined,) = summary.records([row], [row.scored, other], CONFIG)
    assert joined["untrained_mean_correlation"] == pytest.approx(0.1)


def test_accuracy_is_by_the_classes_names():
    predicted = np.array([0, 1, 2, 0], np.int32)
    probed = Probed("key", "trained", {}, predicted, np.arange(len(predicted)))

    def accuracy(labels, names, known=("c", "B", "a")):
        labelled = Labelled("key", names, labels, None)
        return summary.top1_accuracy(probed, labelled, known)

    labels = np.array([2, 1, 0, 0], np.int32)  # c, b, a, a of the data
    assert accuracy(labels, ("a", "b", "c")) == 0.75
    assert accuracy(labels, ("a", "b", "c"), known=("a", "b", "c")) == 0.5
    assert accuracy(labels, ("a", "b", "d")) is None
    assert accuracy(None, ("a", "b", "c")) is None


def test_nested_facts_have_joined_names():
    nested = {"a": 1, "b": {"c": 2, "d": {"e": [3]}}}
    assert summary.flat(nested) == {"a": 1, "b_c": 2, "b_d_e": [3]}


def test_a_reader_is_warned_of_labels_that_simulate_and_of_few_images(make_row):
    enough = {"n_train": 100, "n_val": 30, "n_test": 50}
    enough |= {"n_skipped": 0, "n_duplicate_val": 0, "n_duplicate_test": 0, "duplicate": []}
    assert notes(CONFIG, enough, [make_row()])[0].startswith("No untrained network stands beside")
    config = read_config(changed({"evaluation.controls": 5}))
    (note,) = notes(config, enough, [make_row()])
    assert note.startswith("Simulator 'labels' is the ground-truth labels themselves")
    few, other = notes(config, {**enough, "n_val": 29}, [make_row()])
    assert few.startswith("This run has only 29 val images (30 are the least") and other == note
    copies = {"n_duplicate_test": 7, "duplicate": ["b/2.png", "a/1.png"]}
    again, other = notes(config, enough | copies, [make_row()])
    assert again.startswith("7 of the 50 test images are pictures that train or val hold as well")
    assert "(b/2.png is a/1.png)" in again and other == note
    two = read_config(changed({"evaluation.controls": 2}))
    assert notes(two, enough, [make_row()])[0].startswith("Only 2 untrained networks: how such")
