"""The tables: a row per tap, unit, method and simulator, and each explanation's own file."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from etils import epath

from jaxle import Explanation, Explanations
from jaxle.pipeline import tables
from jaxle.pipeline.reading import read_config
from jaxle.pipeline.rows import by_explained
from tests.pipeline.conftest import RHO
from tests.runs import changed


@pytest.fixture
def workdir(tmp_path):
    return epath.Path(tmp_path)


def test_scores_csv_has_a_row_per_neuron(make_row, workdir):
    rows = [make_row(), make_row(about=("layer4", "ours", "labels"))]
    tables.write_scores(workdir / "scores.csv", rows)
    frame = pd.read_csv(workdir / "scores.csv", keep_default_na=False)
    assert len(frame) == 8 and frame["flag"].tolist()[:4] == ["", "unexplained", "dead", ""]
    np.testing.assert_array_equal(frame["correlation"].to_numpy(np.float32)[:4], RHO)
    assert frame["method"].tolist() == ["label"] * 4 + ["ours"] * 4
    assert frame["length"].tolist()[:4] == [2, 0, 1, 1] and set(frame["tap"]) == {"layer4"}


def test_every_column_that_a_run_can_write_says_what_it_holds():
    held = tables.columns(read_config(changed({})))
    assert {"correlation", "ceiling", "ablation_optim", "p_value"} <= set(held)
    assert all(column.meaning for column in held.values())
    few = tables.columns(read_config(changed({"evaluation.metrics": ("correlation",)})))
    assert "p_value" not in few and {"correlation", "ceiling", "ablation_optim"} <= set(few)


def test_each_simulators_score_stands_beside_the_explanation(make_row, workdir):
    rows = [make_row(), make_row(rho=RHO / 2, about=("layer4", "label", "siglip"))]
    tables.write_explanations(workdir, rows[0].explained, rows)
    table = Explanations.from_csv(workdir / "layer4" / "label" / "explanations.csv")
    assert table.rows == rows[0].explained.explanations.rows
    assert list(table.scores) == ["sim correlation", "sim correlation siglip"]
    np.testing.assert_allclose(table.scores["sim correlation siglip"], RHO / 2)


def test_a_tap_with_slashes_is_one_folder(make_row, workdir):
    row = make_row(about=("block/mlp:in", "label", "labels"))
    tables.write_explanations(workdir, row.explained)
    assert (workdir / "block.mlp:in" / "label" / "explanations.csv").exists()


def test_two_methods_that_explain_alike_have_a_file_each(make_row, workdir):
    """Their explanations have one key: they were made once, from the same records and options."""
    rows = [make_row(), make_row(about=("layer4", "again", "labels"))]
    assert rows[0].explained.key == rows[1].explained.key
    for explained, own in by_explained(rows):
        assert len(own) == 1
        tables.write_explanations(workdir, explained, own)
    for method in ("label", "again"):
        table = Explanations.from_csv(workdir / "layer4" / method / "explanations.csv")
        np.testing.assert_allclose(table.scores["sim correlation"], RHO)


def test_concepts_csv_has_a_row_per_unit_and_concept(make_row, workdir):
    shares = np.array([[0.75, 0.25], [0, 0], [1, 0], [1, 0]], np.float32)
    own = {"share labels": shares, "selection_frequency": shares / 2}
    row = dataclasses.replace(make_row(), parts=own)
    tables.write_concepts(workdir, row.explained, [row])
    frame = pd.read_csv(workdir / "layer4" / "label" / "concepts.csv")
    assert list(zip(frame["unit"], frame["concept"], strict=True)) == [
        (0, "a"),
        (0, "b"),
        (2, "a"),
        (3, "b"),
    ]
    assert frame["share labels"].tolist() == [0.75, 0.25, 1, 1]
    assert list(frame.columns)[-1] == "selection_frequency"
    tables.write_concepts(workdir / "none", row.explained, [make_row()])
    assert not (workdir / "none").exists()


def test_what_is_bare_stays_bare_in_the_tables(make_row, workdir):
    bare = (
        Explanation(0, ("a",), (1.0,), 0.0, None, "", "description"),
        Explanation(1, ("b AND c",), (1.0,), 0.0, None, "", "formula"),
    )
    row = make_row(bare, RHO[:2])
    tables.write_explanations(workdir, row.explained, [row])
    tables.write_scores(workdir / "scores.csv", [row])
    table = Explanations.from_csv(workdir / "layer4" / "label" / "explanations.csv")
    assert table.rows == bare and [str(e) for e in table] == ["a", "b AND c"]
    assert (workdir / "scores.csv").read_text().splitlines()[1].startswith("layer4,0,label,labels")
    frame = pd.read_csv(workdir / "scores.csv")
    assert frame["val_correlation"].isna().all() and frame["length"].tolist() == [1, 2]
