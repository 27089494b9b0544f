"""The listing: a line of figures a layer, then its best, median and worst neurons once each."""

import numpy as np
import pytest

from jaxle import Explanation, Explanations
from jaxle.report import listing
from jaxle.report.listing import Listed

ROWS = (
    Explanation(0, ("a", "b"), (1.0, 0.5), 0.0, 0.6),
    Explanation(1, (), (), 0.2, 0.0, "unexplained"),
    Explanation(2, ("a",), (1.0,), 0.0, 0.9, "dead"),
    Explanation(3, ("b",), (1.0,), 0.0, 0.3),
)
RHO = np.array([0.5, 0.0, 0.8, 0.1], np.float32)
RECORD = {
    "mean_correlation": 0.2,
    "sem_correlation": 0.1527525,
    "n_neurons": 4,
    "n_dead": 1,
    "mean_length": 1.0,
}


def entry(rows=ROWS, rho=RHO, simulator="labels"):
    live = np.array([row.flag != "dead" for row in rows])
    return Listed("layer4", "label", simulator, Explanations(rows), live, rho)


HEADLINE = {
    "untrained_mean_correlation": 0.05,
    "q": 0.05,
    "better_q": 0.05,
    "n_controls": 5,
    "n_better": 2,
    "smallest_control_p": 0.001,
    **{"better_probability": 0.97, "better_probability_low": 0.95, "better_probability_high": 0.99},
    **{"excess": 0.44, "excess_low": 0.36, "excess_high": 0.52},
}


def test_each_neuron_is_shown_once_and_no_dead_one():
    text = list(listing.layer_lines(entry(), RECORD, 2))
    assert "test correlation 0.200 ± 0.153 over 3 live neurons" in text[0]
    assert sum("neuron" in line for line in text[1:]) == 3
    assert not any("neuron    2" in line for line in text)
    assert list(listing.layer_lines(entry(), RECORD, 0)) == text[:1]


@pytest.mark.parametrize("rows, rho", [(ROWS[2:3], RHO[2:3]), (ROWS[:1], RHO[:1])])
def test_a_layer_of_one_neuron_dead_or_alive_is_listed(rows, rho):
    record = {**RECORD, "n_neurons": 1, "n_dead": int(rows[0].flag == "dead")}
    text = list(listing.layer_lines(entry(rows, rho), record, 3))
    assert text and "nan" not in "".join(text)
    assert sum("neuron " in line for line in text[1:]) == 1 - record["n_dead"]


def test_neurons_of_a_layer_and_method_are_listed_once_by_its_last_simulator():
    summary = {"results": [RECORD, RECORD], "comparisons": [], "notes": ["Read this."]}
    text = list(listing.lines([entry(), entry(simulator="siglip")], summary, 1))
    places = [i for i, line in enumerate(text) if "simulated by" in line]
    assert places[0] == 0 and places[1] == 1 and len(text) > 3
    assert text[-1] == "Note: Read this."


def test_what_stands_beside_a_score_is_named():
    record = {
        **RECORD,
        "mean_ceiling": 0.75,
        "explained_by": "siglip-s",
        "simulated_by": "siglip-m",
        **HEADLINE,
        "n_explained": 2,
        "n_explainable": 3,
        "untrained_n_explained": 1.4,
        "retrieval_at_1": 0.5,
        "screened_out_foreign": 0.995,
    }
    text = list(listing.layer_lines(entry(), record, 0))
    assert "(ceiling by siglip-s 0.750, 5 untrained networks 0.050)" in text[0]
    assert text[1].strip() == (
        "2 of 3 neurons better explained than an untrained network's at q = 0.05 (5 networks; "
        "P(ρ > ρ untrained) 0.97 [0.95, 0.99]; excess ρ +0.44 [0.36, 0.52])"
    )
    assert text[2].strip() == (
        "2 correlate beyond permuted images at q = 0.05 (1.4 of an untrained network's); "
        "50 % distinguished from all others by their explanation; "
        "99.5 % of the foreign words screened out"
    )


def test_what_cannot_be_counted_is_said():
    record = {**RECORD, **HEADLINE, "n_controls": 1, "smallest_control_p": 1.0}
    record |= {"n_explainable": 0, "smallest_p": 1 / 12, "mean_ceiling": 0.75}
    del record["n_better"]
    text = list(listing.layer_lines(entry(), record, 0))
    assert "(ceiling 0.750, untrained network 0.050)" in text[0]
    assert (
        text[1]
        .strip()
        .startswith(
            "no neuron can be found better explained (smallest p 1) than an untrained network's"
        )
    )
    assert text[2].strip() == (
        "these test images and permutations allow no p-value that would count a neuron as "
        "explained at q = 0.05 (smallest p 0.083)"
    )


def test_two_methods_are_compared_in_a_line():
    record = {
        "tap": "layer4",
        "method": "ours",
        "against": "label",
        "simulator": "labels",
        "mean": 0.0954,
        "mean_low": 0.048,
        "mean_high": 0.141,
        "share_a_better": 0.7,
    }
    assert listing.comparison_line(record) == (
        "layer4 · ours against label · simulated by labels: +0.095 (+0.048 to +0.141); "
        "better for 70 % of the neurons"
    )


def test_the_probe_states_calibration_and_accuracy():
    own = {"scale": 32.48, "shift": -0.149, "source": "fitted on 210 images"}
    facts = {"encoders": {"s": own}, "top1_accuracy": 0.9867, "n_images": 300, "model": "net"}
    assert list(listing.probe_lines(facts)) == [
        "  s: σ(32.48·(cos -0.149)), fitted on 210 images",
        "  net: top-1 accuracy 98.67 % on 300 images",
    ]
    assert not list(listing.probe_lines({**facts, "encoders": {}, "top1_accuracy": None}))
