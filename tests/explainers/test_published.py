"""Explanations from a file: the paper's five, several layers, tallies; and what is refused."""

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle import Explanations
from jaxle.evaluation.simulation import names
from jaxle.explainers.published import Published, words

N, K = 60, 200
METHODS = ("clip_dissect", "le_label", "le_siglip", "milan", "net_dissect")
RNG = np.random.default_rng(0)
PROBS = (RNG.random((N, 3)) < 0.5).astype(np.float32)
LAYERS = "layer,unit,description\n" + "".join(
    f"{layer},{k},{layer} {k}\n" for layer in ("conv1", "layer4") for k in (1, 0)
)
TALLY = "unit,category,label,score,scene-label\n" + "".join(
    f"{unit},,{label},.1,{label}\n"
    for unit, label in ((2, "shoe_shop-s"), (1, "greenhouse-indoor-s"), (3, "black-c"))
)
LINEAR = "unit,val correlation,weight0,concept0,bias\n"


def explain(path, n_neurons, **options):
    activations = RNG.random((N, n_neurons)).astype(np.float32)
    return jaxle.explain(
        activations, PROBS, list("abc"), search="published", file=str(path), **options
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_papers_files_are_scored(test_data, tmp_path, name):
    whole = test_data / "published" / f"{name}_resnet50_imagenet_layer4.csv"
    lines = whole.read_text().splitlines()[: K + 1]
    (tmp_path / "part.csv").write_text("\n".join(lines))
    found = explain(tmp_path / "part.csv", K)
    table = pd.read_csv(tmp_path / "part.csv")
    first = "description" if "description" in table else "concept0"
    assert found.units.tolist() == table["unit"].tolist() == list(range(K))
    assert [row.concepts[0] for row in found] == table[first].tolist() and not any(found.flags)
    used = names(found)
    assert words(Published(str(tmp_path / "part.csv")), ["layer4"]) == used
    probs = RNG.random((N, len(used))).astype(np.float32)
    simulated = jaxle.simulate(found, probs, used)
    activations = simulated + simulated.std(axis=0) * RNG.normal(size=simulated.shape)
    rho = jaxle.correlation(simulated, activations)
    assert rho.shape == (K,) and abs(rho.mean() - np.sqrt(0.5)) < 0.05


def test_two_terms_of_one_name_stay_two(test_data):
    path = test_data / "published" / "le_label_resnet50_imagenet_layer4.csv"
    found = explain(path, 2048)
    assert len(found) == 2048 and not any(found.flags)
    row = found[507]  # two classes are called sunglasses
    assert row.concepts == ("sunglasses", "sunglasses", "car mirror", "balaclava ski mask")
    probs = np.linspace(0, 1, N, dtype=np.float32)[:, None] ** np.arange(1, 4)
    simulated = jaxle.simulate(found[507:508], probs, list(dict.fromkeys(row.concepts)))
    weights = np.array([row.weights[0] + row.weights[1], *row.weights[2:]])
    np.testing.assert_allclose(simulated[:, 0], probs @ weights + row.bias, rtol=1e-5)


def test_a_file_of_several_layers_is_asked_for_one(tmp_path):
    (tmp_path / "milan.csv").write_text(LAYERS)
    found = explain(tmp_path / "milan.csv", 3, layer="layer4")
    assert [row.concepts for row in found] == [("layer4 0",), ("layer4 1",), ()]
    assert [row.flag for row in found] == ["", "", "unnamed"]
    own = Published(str(tmp_path / "milan.csv"))
    assert words(own, ["layer4", "conv1"]) == ("layer4 1", "layer4 0", "conv1 1", "conv1 0")


def test_what_a_pandas_user_writes_is_read(tmp_path):
    text = ",unit,description\n0,0,dog\n1,2,\n\n"  # an index without a name, no text, a blank line
    (tmp_path / "table.csv").write_text(text)
    found = explain(tmp_path / "table.csv", 3)
    assert [row.flag for row in found] == ["", "unnamed", "unnamed"]
    assert Explanations.from_csv(tmp_path / "table.csv").scores == {}


def test_tallies_count_from_one_and_name_by_marks(tmp_path):
    (tmp_path / "tally.csv").write_text(TALLY)
    found = explain(tmp_path / "tally.csv", 3)
    assert [str(row) for row in found] == ["greenhouse, indoor", "shoe shop", "black"]
    (tmp_path / "tally.csv").write_text("label,score\nsky,.1\nkitchen-s,.2\n")
    found = explain(tmp_path / "tally.csv", 2)
    assert [str(row) for row in found] == ["sky", "kitchen"]  # without numbers: by row
    assert Explanations.from_csv(tmp_path / "tally.csv").scores["score"].tolist() == [0.1, 0.2]


BAD = [
    ("", {}, "expected columns unit and either description or weight0, concept0, …, bias, or the"),
    ("unit,score\n0,1\n", {}, "is no table of explanations"),
    ("unit,weight0,bias\n0,1,0\n", {}, "lacks the column 'concept0', though it has 'weight0'"),
    ("unit,description\n7,dog\n", {}, "explains unit 7, and the layer has 3 neurons"),
    ("unit,description\n1,dog\n1,cat\n", {}, "explains unit 1 twice: expected one row a unit"),
    ("unit,description\n-1,dog\n", {}, "a neuron's unit must be a whole number from 0, got -1"),
    (f"unit,description\n{'1' * 5000},dog\n", {}, "column 'unit': expected a finite number"),
    ("unit,description\n0.5,dog\n", {}, "column 'unit': expected a whole number, got 0.5"),
    ("unit,description\n0\n", {}, "line 2: expected 2 cells, got 1"),
    (LINEAR + "0,.3,much,dog,0\n", {}, "column 'weight0': expected a number, got 'much'"),
    ("label,score\nsky,high\n", {}, "column 'score': expected a number, got 'high'"),
    (LAYERS, {}, "has the layers conv1, layer4, and no layer is named: set the option layer"),
    (LAYERS, {"layer": "layer_4"}, "layer 'layer_4' is asked for: set the option layer; did you"),
    ("unit,description\n0,dog\n", {"layer": "x"}, "does not say which layer it is of, and layer="),
    (None, {}, "there is no file"),
    (None, {"file": ""}, "explainer 'published' reads a file: set its option file"),
]


@pytest.mark.parametrize(("text", "options", "sentence"), BAD)
def test_bad_files_are_one_sentence(tmp_path, text, options, sentence):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    options = {"file": str(path), **options}
    with pytest.raises(ValueError) as error:
        explain(options.pop("file"), 3, **options)
    assert sentence in str(error.value) and "\n" not in str(error.value)
