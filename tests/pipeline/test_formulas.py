"""Formulas in a run: methods that ask for them, and what every table says of them."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle import Explanations
from jaxle.pipeline import defaults
from jaxle.pipeline.drawn import chosen
from jaxle.pipeline.reading import read_config
from tests import runs

METHODS = {
    "methods.label": defaults.label("preconditioned", formulas=2),
    "methods.invert": defaults.label("invert", min_fraction=0.05),
    "evaluation.contributions": True,
    "evaluation.counterfactual": 20,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("formulas") / "run"
    runs.quick(workdir, METHODS)
    return workdir


def test_formulas_are_columns_of_every_table(finished):
    scores = pd.read_csv(finished / "scores.csv")
    summary = json.loads((finished / "summary.json").read_text())
    assert not scores.drop(columns=["flag", "val_correlation"]).isna().any(axis=None)
    for method in ("label", "invert"):
        folder = finished / "layer1" / method
        table = Explanations.from_csv(folder / "explanations.csv")
        own = scores[(scores["method"] == method) & (scores["simulator"] == "labels")]
        assert own["length"].tolist() == table.lengths.tolist()
        assert (table.lengths >= table.terms).all() and (table.lengths > table.terms).any()
        concepts = pd.read_csv(folder / "concepts.csv")
        assert concepts["concept"].tolist() == [c for row in table for c in row.concepts]
        numbers = concepts.select_dtypes("number")
        assert numbers.notna().all(axis=None) and "counterfactual_effect labels" in numbers
        share = concepts.groupby("unit")["share labels"].sum()  # 0: constant on 16 test images
        assert np.allclose(share * (share - 1), 0, atol=1e-3) and share.max() > 0.9
        found = [r for r in summary["results"] if r["method"] == method]
        assert [r["simulator"] for r in found] == ["labels"]
        for record in found:
            assert record["mean_length"] == pytest.approx(table.lengths.mean())
            assert record["mean_correlation"] > 0.05
    run = jaxle.load_run(finished)
    words = set(run.concept_matrix("label").concepts)
    assert words.issuperset(run.explanations("layer1", "label").concepts)
    invert = run.explanations("layer1", "invert")
    assert words.issuperset(invert.concepts)
    unit = next(row.unit for row in invert if row.kind == "formula")
    with pytest.raises(ValueError, match=f"neuron {unit} of layer1 is explained by the formula"):
        chosen(run, "layer1", "invert", [unit])


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"concepts.formulas": 3}, "concepts.formulas must be a whole number in .1, 2., got 3"),
        (
            {"methods.label": defaults.label("top_k", formulas=2)},
            "methods.label.formulas=2 needs .* such as preconditioned, got 'label' and 'top_k'",
        ),
        (
            {"methods.label": defaults.label("invert", formulas=2)},
            "methods.label.formulas=2 needs .* got 'label' and 'invert'",
        ),
        (
            {"methods.n": defaults.nonsense("scenes_siglip_s", formulas=2)},
            "methods.n.formulas=2 needs concepts that mean something .* got 'nonsense'",
        ),
    ],
)
def test_bad_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        read_config(runs.changed(fields))


def test_the_shared_setting_is_for_searches_that_count_words():
    fields = {"concepts.formulas": 2, "methods.all": defaults.label("invert")}
    config = read_config(runs.changed(fields))
    assert config.concepts.formulas == 2 and config.methods["label"].formulas == 0
