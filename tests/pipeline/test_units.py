"""Runs that explain units in place of neurons: the same tables of the same columns, controls and
ablation included, and the guard of what should reconstruct."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.models.units.sae import SHIPPED
from tests import runs

OWN = """
from jaxle.models.units import Maker
from jaxle.models.units.linear import directions_map
import numpy as np


def first(wanted, width):
    return directions_map("first", np.eye(width)[:2], facts={"why": "the first two"})


FIRST = Maker("the first two neurons", "", make=first)
"""


def test_directions_of_a_file_are_applied_at_every_position_and_then_pooled(tmp_path):
    directions = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
    np.savez(tmp_path / "d.npz", directions=directions, bias=np.full(5, 0.1), relu=1)
    summary = runs.quick(tmp_path / "run", {"target.units": f"directions:{tmp_path / 'd.npz'}"})
    assert summary["units"]["layer1"] == {"kind": "directions", "n_units": 5, "file": "d.npz"}
    run = jaxle.load_run(tmp_path / "run")
    model = jaxle.load_model("scenes_resnet")
    maps = model.activations([run.image(i) for i in range(4)], "layer1", "none")
    wanted = np.maximum(maps @ directions + 0.1, 0).mean(axis=(1, 2))
    np.testing.assert_allclose(run.activations("layer1")[:4], wanted, atol=1e-4)
    assert len(pd.read_csv(tmp_path / "run" / "scores.csv")) == 5


def test_learned_units_and_their_controls(tmp_path):
    tap = "linear:in"
    fields = {"target.units": "pca:4", "target.taps": (tap,), "evaluation.controls": 1}
    fields |= {"evaluation.impact": True}
    summary = runs.quick(tmp_path / "run", fields)
    run = jaxle.load_run(tmp_path / "run")
    units = run.activations(tap)
    assert units.shape == (80, 4) and len(run.explanations(tap, "label")) == 4
    impact = pd.read_csv(tmp_path / "run" / "impact.csv")
    assert len(impact) == 4 and summary["top_impact"]["taps"][tap]["path"] == "linear"
    train = np.asarray(units)[run.split.train]
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)
    spread = np.cov(train.T)
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-3 * spread.max())
    assert run.activations(tap, "untrained-1").shape == (80, 4)
    assert 0 < summary["units"][tap]["variance_share"] <= 1
    assert runs.quick(tmp_path / "run", fields) == summary


def test_a_table_says_whose_a_concept_vector_is(tmp_path):
    options = {"images": 20, "distance": 1.0, "spread": 5.0, "min_images": 3}
    fields = {"target.units": "concept_vectors", "target.unit_options": options}
    summary = runs.quick(tmp_path / "run", fields)
    table = pd.read_csv(tmp_path / "run" / "layer1" / "units.csv")
    assert list(table.columns) == ["unit", "neuron", "n_images", "cosine_to_neuron"]
    assert len(table) == summary["units"]["layer1"]["n_units"] == summary["results"][0]["n_neurons"]
    assert table["n_images"].to_numpy().min() >= 3
    # neurons again in the same folder would overwrite them
    with pytest.raises(ValueError, match="holds a run of scenes_resnet concept_vectors"):
        runs.quick(tmp_path / "run")


def test_a_maker_of_your_own(tmp_path, monkeypatch):
    (tmp_path / "own_units.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    summary = runs.quick(tmp_path / "run", {"target.units": "own_units:FIRST"})
    sys.modules.pop("own_units")
    assert summary["results"][0]["n_neurons"] == 2
    assert summary["units"]["layer1"]["why"] == "the first two"
    assert summary["notes"][0] == "Neurons of layer1 are 2 units, first."


SAE = {"target.units": "sae:scenes_layer3", "target.taps": ("layer3",)}


def test_the_shipped_autoencoder_reconstructs_its_tap_and_the_guard_knows_another(tmp_path, capsys):
    runs.quick(tmp_path / "run", SAE, ("probe",))
    about = json.loads((SHIPPED["scenes_layer3"] / "cfg.json").read_text())
    line = (
        r"layer3: 256 units, sae of sae_layer3/sae_weights.safetensors, explained variance (0\.\d+)"
    )
    printed = re.search(line, capsys.readouterr().err)
    assert printed is not None and about["d_sae"] == 256
    assert float(printed[1]) == pytest.approx(about["held_out_explained_variance"], abs=0.05)
    wrong = SAE | {"target.taps": ("layer3/0/conv1",)}
    sentence = (
        "target.units='sae:scenes_layer3' reconstructs tap 'layer3/0/conv1' with an explained"
    )
    with pytest.raises(ValueError, match=sentence) as error:
        runs.quick(tmp_path / "wrong", wrong, ("probe",))
    assert "check the tap, the tokens" in str(error.value) and "\n" not in str(error.value)


BAD = [
    ({"target.units": "pca"}, "must be 'pca:K', got 'pca'"),
    (
        {"target.units": "sae:no.pt"},
        "the SAE no.pt does not exist; expected a file or folder, an https",
    ),
    ({"target.units": "directions:no.npy"}, "reads 'no.npy', which does not exist"),
    (SAE | {"target.taps": ("layer2", "layer3")}, "is of one tap, and target.taps names 2"),
    (SAE | {"target.taps": ("layer2",)}, "reads 64 values, and the tap has 32"),
    ({"target.units": "pca:2", "target.pool": "max"}, "maximum over positions of tap 'layer1'"),
    ({"target.min_explained_variance": -1.0}, "min_explained_variance must be a number of at"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD)
def test_what_a_run_refuses(fields, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", fields)
    assert sentence in str(error.value) and "\n" not in str(error.value)
