"""Runs on pictures without labels: what an encoder can say is said, and the rest is left out."""

import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxle.data.scenes import ScenesSource
from jaxle.pipeline import defaults
from jaxle.pipeline.load import load_run
from jaxle.pipeline.stages import STAGES
from tests import runs

WORDS = ("red", "blue", "circle", "square", "large", "small", "dog")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    scenes = ScenesSource(80, 3)
    for i in range(80):
        Image.fromarray(scenes[i][0]).save(folder / f"{i:03d}.png")
    (folder / "words").with_suffix(".txt").write_text("\n".join(WORDS))
    return folder


def fields(folder):
    return {
        "data.source": f"folder:{folder}",
        "data.limit": 0,
        "concepts.sets": ("classes", f"file:{folder}/words.txt"),
        "fit.min_top5": 0.0,
        "evaluation.ablation": "best",
        "evaluation.impact": True,
        "methods.siglip": defaults.siglip("scenes_siglip_s"),
        "methods.short": defaults.siglip(
            "scenes_siglip_s", explainer="preconditioned", no_longer_than="label"
        ),
        "simulators.m": defaults.tower("scenes_siglip_s"),
    }


def test_a_flat_folder_runs_to_the_report(photographs, tmp_path, capfd):
    summary = runs.quick(tmp_path / "run", fields(photographs), STAGES)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Left out")]
    assert said == [
        f"Left out, for the images have no labels: {what}."
        for what in (
            "ablation scores and Top Impact ask how well classes are told",
            "method 'label' explains with labels",
            "simulator 'labels' is the labels",
            "the length of method 'short' is that of 'label'",
            "the words of classes are the labels'",
        )
    ]
    assert summary["notes"][:5] == said
    assert {(r["method"], r["simulator"]) for r in summary["results"]} == {
        ("siglip", "m"),
        ("short", "m"),
    }
    source = summary["encoders"]["scenes_siglip_s"]["source"]
    assert "trained with" in source  # how scale and shift were chosen
    run = load_run(tmp_path / "run")
    assert np.isfinite(run.scores["correlation"]).all() and run.names[0] == "000.png"
    assert (tmp_path / "run" / "report" / "index.html").exists()
    again = runs.quick(tmp_path / "run", fields(photographs), STAGES)
    assert again == summary


def as_tar(files, folder):
    with tarfile.open(folder / "0.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)


def as_parquet(files, folder):
    values = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": values}), folder / "0.parquet")


def as_saved(files, folder):
    table = pa.table({"image": [file.read_bytes() for file in files]})
    with (
        pa.OSFile(str(folder / "data-0.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')


def as_folders(files, folder):
    (folder / "a" / "b").mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder / "a" / "b" / file.name)


def test_every_form_is_the_same_run(photographs, tmp_path):
    files, scores = sorted(photographs.glob("*.png")), []
    for form in (None, as_tar, as_parquet, as_saved, as_folders):
        place = photographs
        if form is not None:
            place = tmp_path / form.__name__
            place.mkdir()
            form(files, place)
        given = {**fields(photographs), "data.source": f"pictures:{place}"}
        del given["methods.short"], given["evaluation.impact"]
        runs.quick(tmp_path / "run" / place.name, given)
        run = load_run(tmp_path / "run" / place.name)
        scores.append(run.scores["correlation"].to_numpy())
    assert len(scores) == 5 and all((one == scores[0]).all() for one in scores)


def test_what_is_left_of_nothing_is_refused(photographs, tmp_path):
    with pytest.raises(ValueError, match="methods.siglip = jaxle.pipeline.defaults.siglip"):
        runs.quick(tmp_path / "run", {"data.source": f"pictures:{photographs}", "data.limit": 0})
    only = {**fields(photographs), "concepts.sets": ("classes",)}
    with pytest.raises(ValueError, match="concept set classes holds no concept; the data have no"):
        runs.quick(tmp_path / "run", only)
    two = fields(photographs)
    del two["simulators.m"]
    with pytest.raises(ValueError, match="no simulator can simulate the explanations of method"):
        runs.quick(tmp_path / "run", two)
