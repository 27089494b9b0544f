"""The comparison of two runs: what it lets pass and what it names."""

import pytest

from tools import same_numbers

SCORES = "tap,unit,method,simulator,correlation,flag\n"
ROWS = "layer1,0,label,s,0.5,\nlayer1,1,label,s,2000.0,dead\nlayer1,2,label,s,True,\n"


@pytest.fixture
def runs(tmp_path):
    def put(old: str, new: str | None):
        for name, text in (("old", old), ("new", new)):
            (tmp_path / name).mkdir()
            if text is not None:
                (tmp_path / name / "scores.csv").write_text(text)
        return tmp_path / "old", tmp_path / "new"

    return put


@pytest.mark.parametrize(
    "new",
    [
        SCORES + ROWS,
        SCORES + "".join(reversed(ROWS.splitlines(keepends=True))),
        SCORES + ROWS.replace("0.5", "0.5000009").replace("2000.0", "2000.0019"),
        SCORES + ROWS.replace("0.5,", "5e-1,"),
        "more,flag,correlation,tap,unit,method,simulator\nx,,0.5,layer1,0,label,s\n"
        "y,dead,2000,layer1,1,label,s\nz,,True,layer1,2,label,s\n",
    ],
)
def test_the_same(runs, capsys, new):
    assert same_numbers.compare(*runs(SCORES + ROWS, new))
    assert capsys.readouterr().out.startswith("same    scores.csv: largest difference")


@pytest.mark.parametrize(
    "new, words",
    [
        (None, "the second run does not have it"),
        (
            SCORES + ROWS.replace("0.5", "0.5000011"),
            "1 cells differ, most correlation, layer1 0 label",
        ),
        (SCORES + ROWS.replace("2000.0", "2000.003"), "layer1 1 label s: 2000.0 and 2000.003"),
        (
            SCORES + ROWS.replace("dead", ""),
            "1 cells differ, most flag, layer1 1 label s: dead and ",
        ),
        (SCORES + ROWS.replace("True", "False"), "True and False"),
        (SCORES + ROWS.replace("0.5", "nan"), "0.5 and nan"),
        (
            SCORES + ROWS.replace("label,s,0.5", "siglip,s,0.5"),
            "1 rows are missing, such as layer1 0",
        ),
        (SCORES + ROWS + "layer1,3,label,s,0,\n", "1 rows are new, such as layer1 3 label s"),
        ((SCORES + ROWS).replace("correlation", "rho"), "column 'correlation' is missing"),
    ],
)
def test_other_numbers_are_named(runs, capsys, new, words):
    assert not same_numbers.compare(*runs(SCORES + ROWS, new))
    assert words in capsys.readouterr().out


def test_a_folder_without_tables_is_no_run(runs, tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    assert not same_numbers.compare(tmp_path / "cache", tmp_path / "cache")
    assert "no finished run" in capsys.readouterr().out
