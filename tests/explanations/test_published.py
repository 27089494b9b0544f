"""The published files as they are, and what is said of files that are something else."""

import csv

import numpy as np
import pytest

from jaxle import Explanation, Explanations

SKI = Explanation(136, ("snowmobile", "ski"), (3.14159265358979, 2.2), -0.04, 0.51)
NEGATIVE = Explanation(138, ('a "quoted", word', "zwölf"), (0.1, -7e22), 0.0, 0.25)
DOG = Explanation(0, ("a dog",), (1.0,), 0.0, kind="description")
FORMULA = Explanation(1, ("dog AND NOT water",), (1.0,), 0.0, kind="formula")


@pytest.mark.parametrize("name", ["le_label", "le_siglip", "clip_dissect", "milan", "net_dissect"])
def test_published_tables_load_and_keep_every_value(test_data, tmp_path, name):
    path = test_data / "published" / f"{name}_resnet50_imagenet_layer4.csv"
    table = Explanations.from_csv(path)
    assert len(table) == 2048 and table.units.tolist() == list(range(2048))
    assert 0.05 < table.scores["sim correlation"].mean() < 0.4
    assert {row.kind for row in table} == {"linear" if name.startswith("le_") else "description"}
    table.to_csv(tmp_path / "again.csv")
    with open(path, newline="") as old, open(tmp_path / "again.csv", newline="") as new:
        for before, after in zip(csv.DictReader(old), csv.DictReader(new), strict=True):
            assert after.pop("flag") == "" and before.keys() == after.keys()
            for column in before:
                assert before[column] == after[column] or float(before[column]) == float(
                    after[column]
                )


def header(table: Explanations, path) -> list[str]:
    table.to_csv(path)
    return path.read_text().splitlines()[0].split(",")


def test_columns_are_the_published_ones_and_a_flag(tmp_path):
    scores = {"sim correlation": np.zeros(2), "sim ablation(norm)": np.zeros(2)}
    got = header(Explanations((SKI, NEGATIVE), scores, "layer4"), tmp_path / "a.csv")
    assert got[:4] == ["layer", "unit", "val correlation", "weight0"]
    assert got[-4:] == ["bias", *scores, "flag"] and len(got) == 3 + 20 + 4
    got = header(Explanations((DOG,)), tmp_path / "a.csv")
    assert got == ["unit", "description", "flag"]


def test_other_kinds_have_a_column(tmp_path):
    for rows in [(SKI, DOG), (FORMULA,), (DOG, FORMULA)]:
        got = header(Explanations(rows), tmp_path / "a.csv")
        assert got[1] == "val correlation" and got[-2:] == ["kind", "flag"]
        assert Explanations.from_csv(tmp_path / "a.csv").rows == rows


def test_more_than_ten_concepts_widen_the_table(tmp_path):
    row = Explanation(0, tuple(f"c{i}" for i in range(13)), tuple(np.linspace(2, 1, 13)), 0.0, 0.9)
    Explanations((row,)).to_csv(tmp_path / "a.csv")
    assert Explanations.from_csv(tmp_path / "a.csv").rows == (row,)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("unit,description\r\n4,zwölf Hunde\r\n", encoding=encoding)
    table = Explanations.from_csv(tmp_path / "a.csv")
    assert table.rows == (Explanation(4, ("zwölf Hunde",), (1.0,), 0.0, kind="description"),)


def test_line_breaks_of_other_programs_become_spaces(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'unit,description\n0,"a big\r\ndog"\n1,"a\ncat\n"\n')
    assert Explanations.from_csv(tmp_path / "a.csv").concepts == ("a big dog", "a cat")


LINEAR = "unit,val correlation,weight0,concept0,bias"


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "an empty file"),
        ("a,b\n1,2\n", "expected columns unit"),
        (
            "unit,description,sim correlation\n0,x,high\n",
            "line 2, column 'sim correlation': expected a number, got 'high'",
        ),
        ("unit,description,sim correlation\n0,x,nan\n", "expected a finite number, got nan"),
        ("unit,description,sim correlation\n0,x\n", "line 2: expected 3 cells, got 2"),
        ("layer,unit,description\na,0,x\nb,1,y\n", "mixes the layers ['a', 'b']"),
        ("unit,description\n0.5,x\n", "line 2, column 'unit': expected a whole number, got 0.5"),
        ("unit,description\n-2,x\n", "line 2: a neuron's unit must be a whole number from 0"),
        ("unit,unit,description\n0,1,x\n", "more than one column 'unit'"),
        ("unit,weight0,bias\n0,1,0\n", "lacks the column 'concept0', though it has 'weight0'"),
        ("unit,weight1,concept1,bias\n0,1,a,0\n", "lacks the column 'weight0'"),
        (f"{LINEAR}\n0,,1,a,inf\n", "line 2, column 'bias': expected a finite number, got inf"),
        (f"{LINEAR},kind\n0,,1,a,0,word\n", "line 2: the explanation of neuron 0 has kind 'word'"),
        (f"{LINEAR},kind\n0,,0,0,0,formula\n", "line 2: the formula of neuron 0 must be one text"),
        ('unit,description\n0,"x\n', "is no CSV file: unexpected end of data"),
        ("unit,description\n0,a\0b\n", "line 2: the concept 'a\\x00b' holds a line break, NUL"),
    ],
)
def test_other_files_are_refused_with_line_and_column(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError) as error:
        Explanations.from_csv(tmp_path / "a.csv")
    assert words in str(error.value) and str(tmp_path / "a.csv") in str(error.value)


def test_latin_1_is_refused_with_the_path(tmp_path):
    (tmp_path / "a.csv").write_bytes("unit,description\n0,zwölf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.csv is not text in utf-8 \(byte 21\): save it as UTF"):
        Explanations.from_csv(tmp_path / "a.csv")
