"""The report of a finished run: its numbers are those of the tables, and nothing is computed anew.

What a browser makes of it is tested in tests/report/test_browser.py.
"""

import base64
import gzip
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.pipeline import defaults, report_command
from jaxle.pipeline.stages import STAGES
from jaxle.report.shards import DIGITS
from tests import runs

TAP = "layer3"


def data(folder, name):
    """The value of a data script."""
    text = (folder / "data" / f"{name}.js").read_text()
    return json.loads(re.fullmatch(r"jaxle\.receive\(\".*?\",(.*)\);\n", text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def run(finished):
    return jaxle.load_run(finished.workdir)


@pytest.fixture(scope="module")
def folder(finished):
    return finished.workdir / "report"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the run, to be written to."""
    shutil.copytree(finished.workdir, tmp_path / "run")
    return tmp_path / "run"


def close(found, wanted):
    """Whether numbers of a page are those of a file, to the digits that a page holds."""
    wanted = np.asarray(wanted, np.float64)
    found = np.array([np.nan if x is None else x for x in found], np.float64)
    np.testing.assert_allclose(found, wanted, rtol=0.6 * 10.0 ** (1 - DIGITS), atol=1e-30)


def test_every_score_is_that_of_scores_csv(run, folder):
    facts, table = data(folder, "run"), data(folder, "layers/0")
    assert len(facts["rows"]) == len(run.summary["results"]) == len(table["scores"])
    for number, row in enumerate(facts["rows"]):
        frame, own = run.scores_of(**row), table["scores"][str(number)]
        assert set(own) == set(frame.columns) - {
            *("tap", "unit", "method", "simulator", "flag", "length", "val_correlation"),
        }
        for name, values in own.items():
            close(values, frame[name].to_numpy())


def test_every_explanation_is_that_of_its_file(run, folder):
    facts, table = data(folder, "run"), data(folder, "layers/0")
    for method in run.methods:
        own = table["methods"][method]
        for k, row in enumerate(run.explanations(TAP, method)):
            assert tuple(facts["words"][w] for w in own["words"][k]) == row.concepts
            close(own["weights"][k], row.weights)
            assert own["flag"][k] == row.flag and own["kind"][k] == row.kind
        close(own["bias"], [row.bias for row in run.explanations(TAP, method)])
    activations = run.activations(TAP)[run.split.test]
    close(table["spread"], activations.std(axis=0, dtype=np.float64))


def test_a_neurons_pictures_have_its_real_and_simulated_activations(run, folder):
    facts, names = data(folder, "run"), data(folder, "images")
    place = {name: i for i, name in enumerate(run.names)}
    activations = run.activations(TAP)
    for unit in (0, 17, 63):
        page = data(folder, f"neurons/0/{unit // 16}")[unit % 16]
        images = np.array([place[names[p]] for p in page["pictures"]])
        assert set(images.tolist()) <= set(run.split.test.tolist())
        close(page["real"], activations[images, unit])
        rows = {image: i for i, image in enumerate(run.split.test.tolist())}
        for number, entry in page["entries"].items():
            row = facts["rows"][int(number)]
            _, test = run.simulated(**row)
            close(entry["simulated"], test[[rows[i] for i in images.tolist()], unit])


def test_the_sum_of_a_picture_is_its_simulated_activation(run, folder):
    facts, table = data(folder, "run"), data(folder, "layers/0")
    seen = 0
    for unit in range(64):
        page = data(folder, f"neurons/0/{unit // 16}")[unit % 16]
        for number, entry in page["entries"].items():
            own = table["methods"][facts["rows"][int(number)]["method"]]
            weights, bias = np.array(own["weights"][unit]), own["bias"][unit]
            for simulated, probs in zip(entry["simulated"], entry["probs"], strict=True):
                if probs is not None and None not in probs[: len(weights)]:
                    found = weights @ np.array(probs[: len(weights)]) + bias
                    size = np.abs(weights).sum() + abs(bias)
                    assert found == pytest.approx(simulated, abs=1e-4 * max(1, size))
                    seen += 1
    assert seen > 1000


def test_ranks_bins_errors_and_shares(run, folder):
    facts = data(folder, "run")
    test = run.activations(TAP)[run.split.test]
    page, unit = data(folder, "neurons/0/1")[3], 19
    values = test[:, unit]
    assert [rank for rank, _ in page["ranks"]] == [5, 50]  # of 60 test images
    top = [page["real"][i] for i in page["ranks"][0][1]]
    close(top, np.sort(values)[::-1][:5])
    low, high = page["edges"]
    width = (high - low) / 8
    for b, own in enumerate(page["bins"]):
        for i in own:
            assert low + b * width - 1e-5 <= page["real"][i] <= low + (b + 1) * width + 1e-5
    assert sum(page["histogram"]) == 60
    number = next(i for i, row in enumerate(facts["rows"]) if row["method"] == "label")
    entry, row = page["entries"][str(number)], facts["rows"][number]
    _, simulated = run.simulated(**row)
    errors = simulated[:, unit] - values
    found = [entry["simulated"][i] - page["real"][i] for i in entry["over"]]
    np.testing.assert_allclose(found, np.sort(errors)[::-1][:5], atol=1e-4)
    found = [entry["simulated"][i] - page["real"][i] for i in entry["under"]]
    np.testing.assert_allclose(found, np.sort(errors)[:5], atol=1e-4)
    rows = run.concept_matrix("label").rows(run.split.test)
    names = list(run.concept_matrix("label").concepts)
    members = np.minimum(np.floor((values - low) / width).astype(int), 7)
    if row["simulator"] == "labels":
        for j, name in enumerate(run.explanations(TAP, "label")[unit].concepts):
            for b in range(8):
                own = np.asarray(rows)[members == b, names.index(name)]
                if not len(own):
                    assert entry["shares"][b][j] is None
                else:
                    assert entry["shares"][b][j] == pytest.approx(own.mean(), abs=1e-3)


def test_a_map_is_the_neurons_value_by_position(run, folder):
    page, names, unit = data(folder, "neurons/0/0")[2], data(folder, "images"), 2
    maps = page["maps"]
    height, width = maps["shape"]
    size = height * width
    content = np.frombuffer(base64.b64decode(maps["bytes"]), np.uint8).reshape(-1, size)
    assert len(content) == len(maps["pictures"]) and content.max() == 255
    # the pooled activation is the mean over positions, which the map holds to a 255th of its peak
    model = jaxle.load_model("scenes_resnet")
    images = np.stack([run.image(names[page["pictures"][i]]) for i in maps["pictures"]])
    whole = model.activations(images, TAP, pool="none")[..., unit].reshape(len(images), -1)
    peak = whole.max()
    np.testing.assert_allclose(content / 255 * peak, np.maximum(whole, 0), atol=0.01 * peak)


def test_the_bulk_file_holds_what_the_scripts_hold(folder):
    with gzip.open(folder / "report.jsonl.gz") as file:
        lines = [json.loads(line) for line in file]
    names = [line["name"] for line in lines]
    assert names[:4] == ["run", "images", "map", "layers/0"] and len(names) == 8
    for line in lines:
        assert line["value"] == data(folder, line["name"])


def test_what_untrained_networks_reach_stands_beside(run, folder):
    facts = data(folder, "run")
    table = pd.read_csv(run.workdir / "controls.csv")
    assert len(facts["controls"]) == 2 * len(facts["rows"])
    for own in facts["controls"]:
        names = ["tap", "method", "simulator", "network"]
        those = np.logical_and.reduce([table[name] == own[name] for name in names])
        np.testing.assert_allclose(own["correlation"], table.loc[those, "correlation"], atol=1e-3)
    of = table[table["method"] == "label"].groupby(["simulator", "network"])["correlation"].mean()
    record = next(r for r in run.summary["results"] if r["method"] == "label")
    wanted = of[record["simulator"]].mean()
    assert record["untrained_mean_correlation"] == pytest.approx(wanted, abs=1e-5)


def test_classes_are_those_of_the_linear_tail(run, folder):
    model = jaxle.load_model("scenes_resnet")
    kernel = np.asarray(model.variables["params"]["linear"]["kernel"])
    spread = np.asarray(data(folder, "layers/0")["spread"])
    page = data(folder, "neurons/0/0")[5]
    wanted = kernel[5] * spread[5]
    order = np.argsort(-wanted, kind="stable")[:5]
    assert [name for name, _ in page["pushes"]] == [model.class_names[j] for j in order]
    np.testing.assert_allclose([x for _, x in page["pushes"]], wanted[order], rtol=1e-3)


def test_the_command_makes_the_same_report_from_what_is_there(copy, capsys):
    of_the_run = runs.files(copy / "report")
    shutil.rmtree(copy / "report" / "data")
    assert report_command.main([str(copy)]) == 0
    before = runs.files(copy / "report")
    assert capsys.readouterr().out == f"Report: {copy / 'report' / 'index.html'}\n"
    shutil.rmtree(copy / "report")
    assert report_command.main([str(copy)]) == 0
    assert runs.files(copy / "report") == before and set(before) == set(of_the_run)
    # eight devices here, one there: `present` and with it the bulk file differ by round-off
    apart = {name for name in before if before[name] != of_the_run[name]}
    assert apart <= {"data/run.js", "report.jsonl.gz"}


def test_another_run_stands_beside(copy, finished, capsys):
    assert report_command.main([str(copy), "--against", str(finished.workdir)]) == 0
    report = copy / "report"
    assert data(report, "run")["against"]
    own = (finished.workdir / "report" / "data" / "layers" / "0.js").read_bytes()
    assert (report / "against" / "data" / "layers" / "0.js").read_bytes() == own
    (report / "figures").mkdir()
    (report / "figures" / "mine.svg").write_text("")
    assert report_command.main([str(copy)]) == 0  # what was added on demand stays
    assert data(report, "run")["against"] and (report / "against" / "data" / "run.js").exists()
    assert (report / "figures" / "mine.svg").exists()


def test_a_run_without_arrays_for_a_report_says_what_to_do(copy, tmp_path, capsys):
    index = json.loads((copy / "run.json").read_text())
    del index["arrays"]["report"]
    (copy / "run.json").write_text(json.dumps(index))
    assert report_command.main([str(copy)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"jaxle: the run in {copy} kept nothing for a report: "
        "run the same command again, with stage report.\n"
    )
    assert report_command.main([str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert (copy / "report" / "index.html").exists()  # nothing is lost


def test_an_unknown_simulation_is_named(run):
    with pytest.raises(
        ValueError, match="has not simulated 'layer3 · label · siglp': did you mean"
    ):
        run.simulated(TAP, "label", "siglp")


def test_without_pictures_nothing_of_an_image_is_kept(tmp_path):
    workdir = tmp_path / "run"
    fields = {"report.images": "none"}
    runs.quick(workdir, fields, STAGES)
    assert not list((workdir / "report").rglob("*.webp"))
    facts, page = data(workdir / "report", "run"), data(workdir / "report", "neurons/0/0")[0]
    assert facts["pictures"]["stored"] == 0 and "maps" not in page and page["pictures"]
    runs.quick(workdir, {**fields, "report.images": "all", "report.maps": False}, STAGES)
    pictures = list((workdir / "report" / "pictures").glob("*.webp"))
    assert len(pictures) == data(workdir / "report", "run")["pictures"]["large"] > 10


def test_a_tap_with_a_slash_has_maps(tmp_path):
    runs.quick(tmp_path / "run", {"target.taps": ("layer1/0/conv1",)}, STAGES)
    page = data(tmp_path / "run" / "report", "neurons/0/0")[0]
    assert page["maps"]["shape"] == [14, 14] and len(page["maps"]["pictures"]) > 5


def test_errors_of_a_bare_text_are_on_the_neurons_scale(tmp_path):
    methods = {"methods.invert": defaults.label("invert")}
    runs.quick(tmp_path / "run", {**methods, "report.maps": False}, STAGES)
    report, run = tmp_path / "run" / "report", jaxle.load_run(tmp_path / "run")
    number = next(
        i for i, row in enumerate(data(report, "run")["rows"]) if row["method"] == "invert"
    )
    table = run.explanations("layer1", "invert")
    unit = next(row.unit for row in table if row.is_bare)
    val, test = (part[:, unit] for part in run.simulated("layer1", "invert", "labels"))
    real = [run.activations("layer1")[part, unit] for part in (run.split.val, run.split.test)]
    scale, shift = np.polyfit(val, real[0], 1) if np.ptp(val) else (0.0, real[0].mean())
    errors = scale * test + shift - real[1]
    page = data(report, f"neurons/0/{unit // 16}")[unit % 16]
    names = data(report, "images")
    place = {name: i for i, name in enumerate(run.names)}
    rows = {image: i for i, image in enumerate(run.split.test.tolist())}
    entry = page["entries"][str(number)]
    for side, wanted in (("over", errors), ("under", -errors)):
        found = [wanted[rows[place[names[page["pictures"][i]]]]] for i in entry[side]]
        best = np.sort(wanted)[::-1]
        np.testing.assert_allclose(found, best[: len(found)], atol=1e-4)
