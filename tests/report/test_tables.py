import json

import numpy as np
import pandas as pd
import pytest

from jaxle import Explanation, Explanations
from jaxle.report import listing, tables
from jaxle.report.tables import Scored

ROWS = (
    Explanation(0, ("a", "b"), (1.0, 0.5), 0.0, 0.6),
    Explanation(1, (), (), 0.2, 0.0, "unexplained"),
    Explanation(2, ("a",), (1.0,), 0.0, 0.9, "dead"),
    Explanation(3, ("b",), (1.0,), 0.0, 0.3),
)
RHO = np.array([0.5, 0.0, 0.8, 0.1], np.float32)


def entry(rows=ROWS, rho=RHO):
    return Scored("layer4", "label", "labels", Explanations(rows), {"correlation": rho})


def test_means_are_over_live_neurons_and_unexplained_ones_count_zero():
    record = tables.record(entry())
    assert (record["n_neurons"], record["n_dead"], record["n_unexplained"]) == (4, 1, 1)
    assert record["mean_correlation"] == pytest.approx((0.5 + 0 + 0.1) / 3)
    assert record["mean_correlation_all"] == pytest.approx((0.5 + 0 + 0 + 0.1) / 4)
    assert record["sem_correlation"] == pytest.approx(np.std([0.5, 0, 0.1], ddof=1) / np.sqrt(3))
    assert record["mean_val_correlation"] == pytest.approx((0.6 + 0 + 0.3) / 3)
    assert record["mean_length"] == pytest.approx(1.0)


@pytest.mark.parametrize("rows, rho", [(ROWS[2:3], RHO[2:3]), (ROWS[:1], RHO[:1])])
def test_a_layer_of_one_neuron_dead_or_alive_has_no_nan(rows, rho):
    record = tables.record(entry(rows, rho))
    assert json.dumps(record, allow_nan=False)
    assert record["sem_correlation"] == 0 and record["mean_correlation"] == pytest.approx(
        0 if rows[0].flag else 0.5
    )
    assert list(listing.lines(entry(rows, rho), record, 3))


def test_scores_csv_has_a_row_per_neuron(tmp_path):
    tables.write_scores(tmp_path / "scores.csv", [entry(), entry()])
    frame = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert len(frame) == 8 and frame["flag"].tolist()[:4] == ["", "unexplained", "dead", ""]
    np.testing.assert_array_equal(frame["correlation"].to_numpy(np.float32)[:4], RHO)


def test_listing_shows_each_neuron_once_and_no_dead_one():
    text = list(listing.lines(entry(), tables.record(entry()), 2))
    assert "test correlation 0.200 ± 0.153 over 3 live neurons" in text[0]
    assert sum("neuron" in line for line in text[1:]) == 3 and not any(
        "neuron    2" in line for line in text
    )
    assert list(listing.lines(entry(), tables.record(entry()), 0)) == text[:1]
