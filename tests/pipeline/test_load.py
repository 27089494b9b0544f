"""`jaxle.load_run`: a finished run opened for reading, and a sentence where there is none."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import jaxle
from jaxle.data.sources import open_source
from tests import runs


@pytest.fixture(scope="module")
def run(finished):
    return jaxle.load_run(finished.workdir)


def test_says_what_it_is_of(run, finished):
    assert run.taps == ("layer3",) and run.methods == ("label", "nonsense", "ours", "siglip")
    assert run.summary["n_images"] == len(run.names) == 300
    assert run.index["run"] == run.summary["config_fingerprint"]
    assert run.config.evaluation.ablation == "best" and run.config.data.limit == 300
    assert run.config.workdir == str(finished.workdir)
    assert [len(part) for part in run.split] == [210, 30, 60]


def test_activations_are_those_that_were_explained(run):
    values = run.activations("layer3")
    assert values.shape == (300, 64) and values.dtype == np.float32 and values.max() > 0.01
    images = np.stack([run.image(i) for i in range(4)])
    own = jaxle.load_model("scenes_resnet").activations(images, "layer3")
    np.testing.assert_allclose(values[:4], own, atol=1e-4)


@pytest.mark.parametrize("method", ["label", "ours", "siglip", "nonsense"])
def test_concept_matrices_are_those_that_the_run_used(run, method):
    """What an explanation predicts from them correlates on val, or on test, as the run reported."""
    matrix, table = run.concept_matrix(method), run.explanations("layer3", method)
    assert set(table.concepts) <= set(matrix.concepts)
    split, values = run.split, run.activations("layer3")
    rows = np.asarray(matrix.rows(np.arange(300)))
    assert rows.shape == (300, len(matrix.concepts)) and 0 <= rows.min() and rows.max() <= 1
    simulated = jaxle.simulate(table, rows, matrix.concepts)
    assert len(matrix.concepts) == (110 if method in ("label", "ours") else 110 + 99)
    if method in ("label", "ours"):
        rho = jaxle.correlation(simulated[split.test], values[split.test])
        np.testing.assert_allclose(rho, table.scores["sim correlation"], atol=1e-4)
    if method != "ours":  # whose validation is by folds
        rho = jaxle.correlation(simulated[split.val], values[split.val])
        own = [row.val_correlation for row in table]
        np.testing.assert_allclose(rho, own, atol=2e-3)


def test_explanations_have_their_scores_and_the_runs_split(run):
    table = run.explanations("layer3", "label")
    assert len(table) == 64 and table.split is run.split
    names = ["sim correlation", "sim ablation(optim)", "sim ablation(norm)"]
    assert list(table.scores) == [*names, *(f"{name} siglip" for name in names)]
    again = jaxle.explain(
        run.activations("layer3"),
        run.concept_matrix("label").rows(np.arange(300)),
        run.concept_matrix("label").concepts,
        split=table.split,
    )
    assert [row.concepts for row in again] == [row.concepts for row in table]


def test_scores_are_the_table(run, finished):
    pd.testing.assert_frame_equal(
        run.scores, pd.read_csv(finished.workdir / "scores.csv", keep_default_na=False)
    )
    label = run.scores[(run.scores["method"] == "label") & (run.scores["simulator"] == "labels")]
    table = run.explanations("layer3", "label")
    np.testing.assert_allclose(label["correlation"], table.scores["sim correlation"], atol=1e-6)


def test_an_image_is_found_by_its_name_and_by_its_number(run):
    source = open_source("scenes", limit=300, seed=0)
    for number in (0, 17, 299):
        expected = source[number][0]
        np.testing.assert_array_equal(run.image(number), expected)
        np.testing.assert_array_equal(run.image(run.names[number]), expected)
    assert len(set(run.names)) == 300


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda run: run.activations("layer2"), "the run has no tap 'layer2': did you mean 'lay"),
        (lambda run: run.activations("layer3", "untrained"),
         "the run has no network 'untrained': did you mean 'untrained-2'"),
        (lambda run: run.concept_matrix("labels"), "the run has no method 'labels': did you mean"),
        (lambda run: run.explanations("layer3", "our"), "the run has no method 'our': did you "),
        (lambda run: run.explanations("x", "ours"), "the run has no tap 'x': valid: layer3"),
        (lambda run: run.image("nowhere.jpg"), "no image 'nowhere.jpg': "),
        (lambda run: run.image(300), "no image 300: expected 0 to 299"),
        (lambda run: run.image(-1), "no image -1: expected 0 to 299"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_one_sentence(run, ask, words):
    with pytest.raises(ValueError) as error:
        ask(run)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_a_finished_run_is_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="holds no finished run: expected run.json"):
        jaxle.load_run(tmp_path / "nowhere")
    runs.quick(tmp_path / "run", stages=("probe", "fit"))
    with pytest.raises(ValueError, match="holds no finished run: expected run.json"):
        jaxle.load_run(tmp_path / "run")
    runs.quick(tmp_path / "run")
    run = jaxle.load_run(str(tmp_path / "run"))
    assert run.activations("layer1").shape == (80, 16)
    shutil.rmtree(tmp_path / "run" / "cache")
    run = jaxle.load_run(tmp_path / "run")
    assert len(run.scores) == 16
    with pytest.raises(ValueError, match="lacks probe-.*: run the same command again to make it"):
        run.activations("layer1")


def test_a_run_that_was_moved_is_opened_where_it_lies(finished, tmp_path):
    shutil.copytree(finished.workdir, tmp_path / "moved")
    moved = jaxle.load_run(tmp_path / "moved")
    assert moved.config.workdir == str(tmp_path / "moved")
    np.testing.assert_array_equal(
        moved.activations("layer3"), jaxle.load_run(finished.workdir).activations("layer3")
    )


def test_any_file_name_is_a_name(tmp_path):
    """Names that `str.splitlines` would cut in two stand on one line."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "images" / f"class {i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"a\u2028{i}\x1c.png")
    fields = {"data.source": f"folder:{tmp_path}/images", "fit.min_top5": 0.0}
    runs.quick(tmp_path / "run", fields)
    run = jaxle.load_run(tmp_path / "run")
    assert len(run.names) == 60
    name = next(name for name in run.names if name.startswith("class 0/a 21"))
    np.testing.assert_array_equal(run.image(name), pixels[21])
