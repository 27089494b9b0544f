"""`jaxle.plots.run_figures`: what it writes of a finished run, and that its numbers are shown."""

import numpy as np
import pytest

import jaxle
from jaxle.plots.run import ablated, best_neurons, shown
from jaxle.report.outcome import best_method


@pytest.fixture(scope="module")
def run(finished):
    return jaxle.load_run(finished.workdir)


def test_writes_vector_files_of_the_best_neuron_and_of_every_ablation(run, tmp_path):
    names = jaxle.plots.run_figures(run, tmp_path / "new" / "figures")
    method, _ = best_method(run.summary["results"])
    best = best_neurons(run, "layer3", method)[0]
    drawn = [f"layer3-{method}-{best}-{kind}" for kind in ("area", "bins", "ranks")]
    records = [record for record in run.summary["results"] if "mean_ablation_excess" in record]
    drawn += [f"layer3-{r['method']}-{r['simulator']}-ablation" for r in records]
    assert len(records) >= 4
    expected = [name + kind for name in drawn for kind in (".pdf", ".svg")]
    assert names == [*expected, "scores.tex"]
    found = {path.name: path.read_bytes() for path in (tmp_path / "new" / "figures").iterdir()}
    assert sorted(found) == sorted(names)
    for name, content in found.items():
        start = {"pdf": b"%PDF-", "svg": b"<?xml", "tex": b"\\begin{tabular}"}[name[-3:]]
        assert content.startswith(start) and str(run.workdir).encode() not in content


def test_a_neuron_is_shown_as_the_run_scored_it(run):
    table = run.explanations("layer3", "label")
    unit = int(best_neurons(run, "layer3", "label")[0])
    rho = table.scores["sim correlation"]
    assert rho[unit] == rho[table.flags != "dead"].max()
    own = shown(run, "layer3", "label", unit)
    assert own.concepts == table[unit].concepts and own.title.startswith(f"layer3, neuron {unit}: ")
    found = jaxle.correlation(own.simulated[:, None], own.activations[:, None])
    np.testing.assert_allclose(found, rho[unit], atol=1e-4)


def test_ablated_neurons_are_those_of_the_table(run):
    found = {names: (x, y) for names, x, y in ablated(run)}
    x, y = found["layer3", "label", "labels"]
    table = run.explanations("layer3", "label")
    np.testing.assert_allclose(x, table.scores["sim correlation"], atol=1e-6)
    record = next(r for r in run.summary["results"] if r["method"] == "label")
    assert y.mean() == pytest.approx(record["mean_ablation_excess"], abs=1e-6)


def test_an_unknown_method_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="the run has no method 'lable'"):
        jaxle.plots.run_figures(run, tmp_path, method="lable")
    assert not list(tmp_path.iterdir())
