"""The short end of a run: few lines, each figure that of the summary."""

import numpy as np

from jaxle import Explanation, Explanations
from jaxle.report import outcome
from jaxle.report.listing import Listed

ROWS = (
    Explanation(0, ("a", "b"), (1.0, 0.5), 0.0, 0.6),
    Explanation(1, ("a",), (1.0,), 0.0, 0.9, "dead"),
    Explanation(2, ("b" * 120,), (1.0,), 0.0, 0.3),
)
RECORD = {
    **{"tap": "layer1", "method": "label", "simulator": "labels", "mean_correlation": 0.2},
    **{"sem_correlation": 0.15, "n_neurons": 3, "n_dead": 1, "mean_length": 1.0},
}


def entry(tap="layer1", simulator="labels"):
    live = np.array([True, False, True])
    rho = np.array([0.1, 0.9, 0.5], np.float32)
    return Listed(tap, "label", simulator, Explanations(ROWS), live, rho)


def test_a_row_a_layer_and_method_by_its_last_simulator():
    records = [RECORD, {**RECORD, "simulator": "siglip", "mean_correlation": 0.3}]
    summary = {"results": records, "notes": ["Read this."]}
    text = list(outcome.lines([entry(), entry(simulator="siglip")], summary, 2))
    assert text[0].split("  ")[0] == "layer · method" and "ceiling" not in text[0]
    assert "siglip" in text[1] and "0.300 ± 0.150" in text[1]
    assert text[2] == "Note: Read this."
    assert text[3] == "Best explained by label, simulated by siglip:"
    assert text[4].startswith("  layer1/2  ρ 0.50") and text[5].startswith("  layer1/0  ρ 0.10")
    assert max(map(len, text)) <= 100 and text[4].endswith("…") and len(text) == 6


def test_the_best_method_is_that_of_largest_mean_by_its_last_simulator():
    def record(tap, method, simulator, rho):
        about = {"tap": tap, "method": method, "simulator": simulator}
        return {**RECORD, **about, "mean_correlation": rho}

    records = [record("a", "x", "labels", 0.9), record("a", "x", "siglip", 0.2)]
    records += [record("b", "x", "siglip", 0.3), record("a", "y", "siglip", 0.3)]
    records += [record("b", "y", "siglip", 0.3)]
    assert outcome.best_method(records) == ("y", "siglip")
    assert outcome.best_method(records[:3]) == ("x", "siglip")


def test_columns_are_those_that_some_row_has():
    controls = {"n_controls": 5, "n_better": 2, "untrained_mean_correlation": 0.05}
    rows = [{**RECORD, **controls, "mean_ceiling": 0.7}, {**RECORD, "tap": "layer2"}]
    rows.append({**RECORD, "tap": "layer3", "n_controls": 1, "mean_ablation_excess": 0.125})
    summary = {"results": rows, "notes": [], "top_impact": {"all": {"0.01": 0.25}}}
    names = ("layer1", "layer2", "layer3")
    text = list(outcome.lines([entry(tap) for tap in names], summary, 0))
    assert [word in text[0] for word in ("ceiling", "untrained", "ablation excess")] == [True] * 3
    assert "0.700" in text[1] and "2 of 2" in text[1]
    assert "not countable" in text[3] and "0.125" in text[3]
    assert text[4] == "Top Impact, share of the impact by share of the images: 25 % by 1 %"


def test_a_run_of_many_layers_stays_short():
    taps = [f"layer{i}" for i in range(40)]
    summary = {"results": [{**RECORD, "tap": tap} for tap in taps], "notes": []}
    text = list(outcome.lines([entry(tap) for tap in taps], summary, 3))
    assert len(text) <= 24 and "… and 22 more in summary.json" in text
