"""`jaxle label-sheet` on a finished run: draw, answer as the labels say, read, beside the run's."""

import csv
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from jaxle import load_run
from jaxle.pipeline.label_sheet import main

TAP = "layer3"


@pytest.fixture(scope="module")
def copied(finished, tmp_path_factory):
    """The finished run, to be written to."""
    return shutil.copytree(finished.workdir, tmp_path_factory.mktemp("copied") / "run")


@pytest.fixture(scope="module")
def run(copied):
    return load_run(copied)


@pytest.fixture(scope="module")
def neurons(run):
    """Two neurons that the labels explain."""
    table = run.explanations(TAP, "label")
    return [row.unit for row in table if row.concepts and not row.flag][:2]


@pytest.fixture
def draw(copied, tmp_path):
    """Draws a sheet; returns its record, and where its HTML is."""

    def make(neurons, *options, images=40):
        out = tmp_path / "sheet.html"
        units = ",".join(map(str, neurons))
        known = set(copied.glob("label_sheets/*.json"))
        given = ["--neurons", units, "--images", str(images), "--out", str(out), *options]
        assert main([str(copied), *given]) == 0
        new = set(copied.glob("label_sheets/*.json")) - known
        path = new.pop() if new else max(known, key=lambda p: p.stat().st_mtime)
        return path.stem, json.loads(path.read_text()), out

    return make


def answer(run, name, drawn, path, person=None):
    """Writes the CSV of a person who answers as the labels say."""
    matrix = run.concept_matrix("label")
    numbers = np.array([run.names.index(image) for image in drawn["images"]])
    columns = np.array([matrix.concepts.index(word) for word in drawn["words"]])
    values = np.asarray(matrix.rows(numbers, columns)).astype(int)
    cells = [list(map(str, row)) for row in values]
    cells = cells if person is None else person(cells)
    file = io.StringIO(newline="")
    csv.writer(file).writerows(
        [
            ["sheet", "image", *drawn["words"]],
            *([name, image, *row] for image, row in zip(drawn["images"], cells, strict=True)),
        ]
    )
    path.write_text(file.getvalue())
    return str(path)


def by_labels(run, method, neurons):
    scores = run.scores
    chosen = scores[(scores["method"] == method) & (scores["simulator"] == "labels")]
    return chosen.set_index("unit")["correlation"][neurons].to_numpy(float)


def test_a_person_who_sees_what_the_labels_say_finds_the_run_s_own_score(
    run, copied, neurons, draw, tmp_path, capsys
):
    name, drawn, out = draw(neurons, "--method", "label", "--guide", "siglip")
    assert (drawn["tap"], drawn["guide"], drawn["neurons"]) == (TAP, "siglip", neurons)
    assert len(drawn["images"]) == len(drawn["probability"]) == 40
    assert set(drawn["images"]) <= {run.names[i] for i in run.split.test}
    text = out.read_text()
    assert text.count('<li class="row"') == 40
    assert f'"sheet": "{name}"' in text
    assert f"--read answers-{name}.csv" in capsys.readouterr().out
    path = answer(run, name, drawn, tmp_path / "mine.csv")
    assert main([str(copied), "--read", path]) == 0
    got = pd.read_csv(tmp_path / "mine_scores.csv", keep_default_na=False)
    rho = by_labels(run, "label", neurons)
    np.testing.assert_allclose(got["run_labels"], rho, atol=1e-6)
    assert (got["correlation_low"] <= rho).all()
    assert (rho <= got["correlation_high"]).all()
    assert got["unit"].tolist() == neurons
    assert (got["answered"] == 40).all()
    printed = capsys.readouterr().out
    assert f"neuron {neurons[0]}" in printed
    assert "the run: labels" in printed
    assert "Note" not in printed


def test_every_image_answered_gives_exactly_that_score(run, copied, neurons, draw, tmp_path):
    name, drawn, _ = draw(neurons, "--method", "label", images=1000)
    assert len(drawn["images"]) == len(run.split.test)
    path = answer(run, name, drawn, tmp_path / "all.csv")
    assert main([str(copied), "--read", path]) == 0
    got = pd.read_csv(tmp_path / "all_scores.csv")
    for column in ("correlation", "correlation_low", "correlation_high"):
        np.testing.assert_allclose(got[column], by_labels(run, "label", neurons), atol=1e-5)


def test_partial_answers_are_named_and_used(run, copied, neurons, draw, tmp_path, capsys):
    name, drawn, _ = draw(neurons, "--method", "label", "--seed", "3")

    def stops(cells):
        return [row if i < 25 else [""] * len(row) for i, row in enumerate(cells)]

    path = answer(run, name, drawn, tmp_path / "part.csv", stops)
    capsys.readouterr()
    assert main([str(copied), "--read", path]) == 0
    printed = capsys.readouterr().out
    assert f"15 of 40 pictures are not fully answered ({drawn['images'][25]}, " in printed
    assert "by 25 answered pictures" in printed

    def hardly(cells):
        return [row if i < 5 else [""] * len(row) for i, row in enumerate(cells)]

    path = answer(run, name, drawn, tmp_path / "few.csv", hardly)
    assert main([str(copied), "--read", path]) == 0
    assert "only 5 answers; at least 10 are needed" in capsys.readouterr().out
    got = pd.read_csv(tmp_path / "few_scores.csv")
    assert got["flag"].tolist() == ["too_few_answers"] * 2


def test_a_person_who_sees_nothing_anywhere(run, copied, neurons, draw, tmp_path, capsys):
    name, drawn, _ = draw(neurons, "--method", "label")
    path = answer(run, name, drawn, tmp_path / "no.csv", lambda c: [["0"] * len(r) for r in c])
    assert main([str(copied), "--read", path]) == 0
    assert "the same answers in all 40 pictures" in capsys.readouterr().out


def test_the_same_command_draws_the_same_sheet_and_another_seed_another(neurons, draw):
    one, other = (draw(neurons, "--method", "label")[0] for _ in range(2))
    assert one == other
    assert draw(neurons, "--method", "label", "--seed", "1")[0] != one


def test_wrong_commands_and_answers_end_with_a_sentence(
    run, copied, neurons, draw, tmp_path, capsys
):
    name, drawn, _ = draw(neurons, "--method", "label")
    unit = str(neurons[0])
    silent = [r.unit for r in run.explanations(TAP, "label") if not r.concepts]
    good = answer(run, name, drawn, tmp_path / "good.csv")
    text = (tmp_path / "good.csv").read_text()
    (tmp_path / "image.csv").write_text(text.replace(drawn["images"][0], "scene x"))
    (tmp_path / "other.csv").write_text(text.replace(name, "0" * 8))
    capsys.readouterr()
    cases = [
        (["--neurons", unit], "no method given: expected --method, one of label, "),
        (["--method", "label"], "no neurons given"),
        (["--method", "labl", "--neurons", unit], "the run has no method 'labl'"),
        (["--tap", "layer9", "--method", "label", "--neurons", unit], "no tap 'layer9'"),
        (["--method", "label", "--neurons", "999"], "no unit 999"),
        (["--method", "label", "--neurons", unit, "--images", "9"], "--images must be at least 10"),
        (
            ["--method", "label", "--neurons", unit, "--guide", "nonsense"],
            "the guide 'nonsense' has no probabilities of",
        ),
        (["--read", str(tmp_path / "none.csv")], "cannot read the answers in"),
        (["--read", str(tmp_path / "image.csv")], "names the image 'scene x'"),
        (["--read", str(tmp_path / "other.csv")], "the sheet '00000000', which"),
    ]
    cases += [
        (["--method", "label", "--neurons", str(u)], f"neuron {u} of {TAP}") for u in silent[:1]
    ]
    for given, words in cases:
        assert main([str(copied), *given]) == 2, given
        error = capsys.readouterr().err
        assert error.startswith("jaxle: ")
        assert words in error
    assert main([str(tmp_path), "--read", good]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(copied), "--neurons", "3,b"])
    assert "no list of unit numbers" in capsys.readouterr().err


def test_a_sheet_of_a_run_that_was_replaced_is_refused(
    run, copied, neurons, draw, tmp_path, capsys
):
    name, drawn, _ = draw(neurons, "--method", "label", "--seed", "9")
    path = answer(run, name, drawn, tmp_path / "old.csv")
    record = copied / "label_sheets" / f"{name}.json"
    record.write_text(json.dumps({**drawn, "run": "another"}))
    assert main([str(copied), "--read", path]) == 2
    assert "was drawn from another run" in capsys.readouterr().err
