"""What a table holds comes back from the cache and from CSV to the last bit, whatever its names."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from jaxle import Explanation, Explanations, artifacts
from jaxle.explanations import published

FINITE = st.floats(allow_nan=False, allow_infinity=False)
HARD = (
    *("", "0", "0.0", "1984", "1e5", "True", "null", "NULL", "None", "NA", "N/A", "nan", "NaN"),
    *("<NA>", "'null'", "''NA''", "'", "''", "'''", "''''", "'0'", '"', '""', ",", 'a "b", c'),
    *(" a ", "\t", "#N/A", "=1+1", "zwölf", "犬", "🐕", "\ufeffa", "a;b", "unit", "'it's'", "'a'"),
)
ONE_LINE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=9)
NAMES = st.sampled_from(HARD) | ONE_LINE


@st.composite
def rows(draw, kinds):
    kind = draw(st.sampled_from(kinds))
    count = draw(st.integers(0, 13)) if kind == "linear" else 1
    bare = kind != "linear" and draw(st.booleans())
    return Explanation(
        draw(st.integers(0, 2**63 - 1)),
        tuple(draw(st.lists(NAMES, min_size=count, max_size=count))),
        (1.0,) if bare else tuple(draw(st.lists(FINITE, min_size=count, max_size=count))),
        0.0 if bare else draw(FINITE),
        draw(st.none() | FINITE),
        draw(st.sampled_from(["", "dead", "unexplained"]) | NAMES),
        kind,
    )


@st.composite
def parts(draw):
    """Rows, scores and layer. The test makes the table: run-time type checks use `random`."""
    kinds = draw(
        st.sampled_from([("linear",), ("description",), ("linear", "description", "formula")])
    )
    made = draw(st.lists(rows(kinds), min_size=1, max_size=4))
    column = st.lists(FINITE, min_size=len(made), max_size=len(made)).map(np.array)
    named = st.sampled_from(["sim correlation", "a,b", "null", '"'])
    scores = draw(st.dictionaries(named, column, max_size=3))
    return tuple(made), scores, draw(st.none() | NAMES)


def written(table: Explanations) -> str:
    """Every value of a table as text, the sign of zero included."""
    scores = {name: values.tolist() for name, values in table.scores.items()}
    return repr((table.rows, scores, table.layer))


@given(parts())
def test_csv(parts):
    table = Explanations(*parts)
    with TemporaryDirectory() as folder:
        table.to_csv(f"{folder}/a.csv")
        back = Explanations.from_csv(f"{folder}/a.csv")
        back.to_csv(f"{folder}/b.csv")
        assert written(back) == written(table)
        assert Path(f"{folder}/a.csv").read_bytes() == Path(f"{folder}/b.csv").read_bytes()


@given(parts())
def test_arrays(parts):
    table = Explanations(*parts)
    assert written(Explanations.from_arrays(table.to_arrays())) == written(table)


def test_the_cache(tmp_path):
    rows = (
        Explanation(3, ("a dog",), (1.0,), 0.0, kind="description"),
        Explanation(1, ("(dog OR cat) AND NOT water",), (1.0,), 0.0, 0.25, kind="formula"),
        Explanation(2, ("null", ""), (0.0, -1.5), 1e-300, None, "dead"),
    )
    table = Explanations(
        rows, {"iou": np.array([0.1, 0.2, 0.3])}, "layer4", split="a split", facts={"n": 1}
    )
    made = artifacts.write(tmp_path / "made", table.to_arrays(), table.facts)
    back = Explanations.from_arrays(made.arrays, table.split, made.facts)
    assert written(back) == written(table) and str(back[0]) == "a dog"
    assert back.split == "a split" and back.facts == {"n": 1}


def test_an_empty_table(tmp_path):
    table = Explanations((), {"iou": np.zeros(0)})
    table.to_csv(tmp_path / "a.csv")
    assert written(Explanations.from_csv(tmp_path / "a.csv")) == written(table)
    assert written(Explanations.from_arrays(table.to_arrays())) == written(table)


@given(NAMES)
def test_cells_name_every_name(name):
    assert published.from_cell(published.to_cell(name)) == name


@pytest.mark.parametrize("name", HARD)
def test_pandas_reads_every_name_as_text(name, tmp_path):
    """The same text as ours, but for the apostrophes around what pandas would take for missing."""
    rows = (Explanation(0, (name,), (1.0,), 0.0), Explanation(1, ("plain",), (1.0,), 0.0))
    Explanations(rows).to_csv(tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv")["concept0"].tolist()
    core = name
    while len(core) > 1 and core[0] == core[-1] == "'":
        core = core[1:-1]
    missing = core in STR_NA_VALUES | {"0", "0.0"}
    assert read == [f"'{name}'" if missing else name, "plain"]


def test_the_list_of_missing_values_is_that_of_pandas():
    assert published.to_cell("dog") == "dog"
    assert all(published.to_cell(name) == f"'{name}'" for name in STR_NA_VALUES)


def test_an_unquoted_null_of_another_program_is_a_name(tmp_path):
    (tmp_path / "a.csv").write_text("unit,description\n0,null\n1,'tis\n")
    table = Explanations.from_csv(tmp_path / "a.csv")
    assert table.concepts == ("null", "'tis")
    table.to_csv(tmp_path / "b.csv")
    assert pd.read_csv(tmp_path / "b.csv")["description"].tolist() == ["'null'", "'tis"]
    assert Explanations.from_csv(tmp_path / "b.csv").rows == table.rows


def test_scores_and_numbers_are_what_pandas_reads(tmp_path):
    table = Explanations((Explanation(7, ("a",), (1 / 3,), -1e-300),), {"iou": np.array([np.pi])})
    table.to_csv(tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv")
    got = frame[["unit", "weight0", "bias", "iou"]].values[0]
    assert got == pytest.approx([7, 1 / 3, -1e-300, np.pi], rel=1e-14, abs=0)
    assert frame["val correlation"].isna().all()
