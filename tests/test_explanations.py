import csv
import dataclasses

import numpy as np
import pytest

from jaxle import Explanation, Explanations

SKI = Explanation(136, ("snowmobile", "ski"), (3.14159265358979, 2.2), -0.04, 0.51)
PLAIN = Explanation(137, (), (), 0.3, 0.0, "unexplained")
NEGATIVE = Explanation(138, ('a "quoted", word', "0", "zwölf"), (0.1, 1e-300, -7e22), 0.0, 0.25)


def same(a: Explanations, b: Explanations) -> bool:
    scores = a.scores.keys() == b.scores.keys() and all(
        np.array_equal(a.scores[name], b.scores[name]) for name in a.scores
    )
    return scores and a.layer == b.layer and a.rows == b.rows


def test_reads_as_a_sum_of_words():
    assert str(SKI) == "3.1×snowmobile + 2.2×ski − 0.04"
    assert str(PLAIN) == "0.3"
    assert str(Explanation(0, ("a", "b"), (-1.0, 2.0), 0.5)) == "−1×a + 2×b + 0.5"
    assert str(Explanation(0, ("red things",), (1.0,), 0.0, description=True)) == "red things"


def test_is_a_sequence():
    table = Explanations((SKI, PLAIN, NEGATIVE))
    assert len(table) == 3 and table[0] is SKI and list(table) == [SKI, PLAIN, NEGATIVE]
    assert table.units.tolist() == [136, 137, 138] and table.lengths.tolist() == [2, 0, 3]
    assert table.concepts == ("snowmobile", "ski", 'a "quoted", word', "0", "zwölf")


def test_round_trip_to_the_last_bit(tmp_path):
    scores = {
        "sim correlation": np.array([1 / 3, 0.0, -1e-17]),
        "sim ablation(norm)": np.array([np.pi, 1e300, 5e-324]),
    }
    table = Explanations((SKI, PLAIN, NEGATIVE), scores, layer="layer4")
    table.to_csv(tmp_path / "a.csv")
    back = Explanations.from_csv(tmp_path / "a.csv")
    assert same(table, back)
    back.to_csv(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert header[:4] == ["layer", "unit", "val correlation", "weight0"] and header[-4:] == [
        "bias",
        *scores,
        "flag",
    ]


def test_more_than_ten_concepts_widen_the_table(tmp_path):
    row = Explanation(0, tuple(f"c{i}" for i in range(13)), tuple(np.linspace(2, 1, 13)), 0.0, 0.9)
    Explanations((row,)).to_csv(tmp_path / "a.csv")
    assert Explanations.from_csv(tmp_path / "a.csv").rows == (row,)


@pytest.mark.parametrize("name", ["le_label", "le_siglip", "clip_dissect", "milan", "net_dissect"])
def test_published_tables_load_and_keep_every_value(test_data, tmp_path, name):
    path = test_data / "published" / f"{name}_resnet50_imagenet_layer4.csv"
    table = Explanations.from_csv(path)
    assert len(table) == 2048 and table.units.tolist() == list(range(2048))
    assert 0.05 < table.scores["sim correlation"].mean() < 0.4
    table.to_csv(tmp_path / "again.csv")
    assert same(table, Explanations.from_csv(tmp_path / "again.csv"))
    with open(path, newline="") as old, open(tmp_path / "again.csv", newline="") as new:
        for before, after in zip(csv.DictReader(old), csv.DictReader(new), strict=True):
            assert after.pop("flag") == "" and before.keys() == after.keys()
            for column in before:
                assert before[column] == after[column] or float(before[column]) == float(
                    after[column]
                )


def test_arrays_round_trip():
    table = Explanations((SKI, PLAIN, NEGATIVE))
    assert Explanations.from_arrays(table.to_arrays()).rows == table.rows


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
    ],
)
def test_other_files_are_refused_with_line_and_column(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError) as error:
        Explanations.from_csv(tmp_path / "a.csv")
    assert words in str(error.value)


def test_no_nan_enters_a_table():
    with pytest.raises(ValueError, match="finite"):
        Explanations((SKI,), {"sim correlation": np.array([np.nan])})


def test_a_missing_concept_is_named():
    with pytest.raises(ValueError, match=r"lacks 1 concepts .* \['ski'\]"):
        Explanations((SKI,)).weight_matrix(["snowmobile"])


def test_rows_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKI.bias = 1.0
