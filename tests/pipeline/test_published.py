"""Explanations from files, and CLIP-Dissect, as methods of a run: who simulates them, what lies in
the cache, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from jaxle.concepts import wordnet
from jaxle.explanations import Explanations
from jaxle.pipeline import defaults
from jaxle.pipeline.reading import read_config
from jaxle.pipeline.simulate import have_all
from tests import runs

MILAN = "layer,unit,description\nlayer2,0,nothing\n" + "".join(
    f"layer1,{k},{word}\n" for k, word in enumerate(["a red thing", "fruit on cloth"] * 8)
)
LABELS = "unit,weight0,concept0,weight1,concept1,bias\n" + "".join(
    f"{k},2,red,-1,circle,0.5\n" for k in range(15)
)
FIELDS = {
    "concepts.sets": ("annotations",),
    "fit.min_top5": 0.0,
    "simulators.siglip": defaults.tower("scenes_siglip_m"),
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    (folder / "milan.csv").write_text(MILAN)
    (folder / "le.csv").write_text(LABELS)
    methods = {
        "methods.milan": defaults.published(str(folder / "milan.csv")),
        "methods.le": {"explainer": "published", "file": str(folder / "le.csv")},
        "methods.dissect": defaults.siglip("scenes_siglip_s", explainer="clip_dissect"),
    }
    fields = {**FIELDS, **methods}
    return folder, fields, runs.quick(folder / "run", fields)


def test_each_is_simulated_by_all_that_know_its_words(ran, capfd):
    folder, _, summary = ran
    by = {(r["method"], r["simulator"]): r for r in summary["results"]}
    assert set(by) == {
        *((name, "siglip") for name in ("label", "milan", "le", "dissect")),
        *((name, "labels") for name in ("label", "le")),
    }
    assert by["milan", "siglip"]["mean_length"] == 1 and by["le", "labels"]["n_unexplained"] == 1
    assert any("method 'le' names 15 of the 16 neurons of layer1" in n for n in summary["notes"])
    scores = pd.read_csv(folder / "run" / "scores.csv")
    assert len(scores) == 16 * len(by) and np.isfinite(scores["correlation"]).all()
    table = Explanations.from_csv(folder / "run" / "layer1" / "milan" / "explanations.csv")
    assert [str(row) for row in table][:2] == ["a red thing", "fruit on cloth"]
    dissect = Explanations.from_csv(folder / "run" / "layer1" / "dissect" / "explanations.csv")
    assert {row.kind for row in dissect} == {"description"} and "similarity" in dissect.scores


def test_another_content_is_another_result(ran):
    folder, fields, summary = ran
    (folder / "le.csv").write_text(LABELS.replace("0.5", "0.25"))
    again = runs.quick(folder / "run", fields)
    table = Explanations.from_csv(folder / "run" / "layer1" / "le" / "explanations.csv")
    assert {row.bias for row in table} == {0.25, 0.0}
    assert again["results"][0]["mean_correlation"] == summary["results"][0]["mean_correlation"]


def test_labels_of_one_name_are_told_apart(capfd):
    described = wordnet.describe(wordnet.imagenet())
    names = (*described.class_names, *described.superclasses)
    assert not have_all(names, ["missile", "crane"], "labels")
    assert have_all(names, ["missile", "gown", "duck"], "labels")
    lacking, shared = capfd.readouterr().err.splitlines()
    assert "such as 'crane' (but 'crane (wading bird)' or 'crane (lifting device)')" in lacking
    assert (
        "1 words of a file" in shared and "'gown' is 'gown', and not 'gown (outerwear)'" in shared
    )


REFUSED = [
    (
        {"explainer": "clip_dissect"},
        {},
        None,
        "methods.x.explainer 'clip_dissect' needs an encoder",
    ),
    (
        {"explainer": "published"},
        {},
        None,
        "config field methods.x.file is empty: expected the file",
    ),
    ({"explainer": "published", "files": "x"}, {}, None, "unknown config field methods.x.files"),
    (
        {"explainer": "published", "file": "no.csv"},
        {},
        "",
        "reads the file 'no.csv', which does not",
    ),
    ({"explainer": "published"}, {}, "unit,name\n", "method 'x': "),
    (
        {"explainer": "published"},
        {},
        "unit,description\n16,red\n",
        "explains unit 16, and the layer",
    ),
    (
        {"explainer": "published"},
        {},
        "layer,unit,description\nlayer4,0,red\n",
        "has the layers layer4, and layer 'layer1' is asked for",
    ),
    (
        {"explainer": "published"},
        FIELDS,
        "unit,description\n0,犬\n",
        "knows nothing of the word '犬'",
    ),
    (
        {"explainer": "published"},
        {},
        "unit,description\n0,red\n1,thing of red\n",
        "no simulator can simulate the words of a file, such as 'thing of red'",
    ),
]


@pytest.mark.parametrize(("method", "fields", "text", "sentence"), REFUSED)
def test_refusals_are_one_sentence(ran, tmp_path, method, fields, text, sentence):
    if text:
        (tmp_path / "table.csv").write_text(text)
        method = {**method, "file": str(tmp_path / "table.csv")}
    with pytest.raises(ValueError) as error:
        if text is None:
            read_config(runs.changed({"methods.x": method}))
        else:
            runs.quick(ran[0] / "run", {**fields, "methods.x": method})  # images are read
    assert sentence in str(error.value) and "\n" not in str(error.value)
