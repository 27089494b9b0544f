"""Data scripts: what a page reads is what was written, and no name leaves its string."""

import gzip
import json
import re

import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from jaxle.report.shards import DIGITS, Shards, copy_shard, numbers, to_script

HOSTILE = "</script><script>alert(1)</script> & \u2028 \"quoted\" 'so' שלום 🐕"


def value_of(script: str):
    found = re.fullmatch(r"jaxle\.receive\((\".*?\"),(.*)\);\n", script, re.DOTALL)
    assert found
    return json.loads(found[2])


def test_a_name_stays_a_string_whatever_it_holds():
    script = to_script("run", {"name": HOSTILE})
    assert value_of(script) == {"name": HOSTILE}
    assert script.isascii() and not set("<>&\u2028") & set(script)


def test_a_number_that_json_has_not_is_refused():
    with pytest.raises(ValueError):
        to_script("run", {"x": float("nan")})


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
def test_numbers_hold_to_their_digits_and_none_stands_for_what_is_not_finite(values):
    found = numbers(np.array(values, np.float64), DIGITS)
    for x, y in zip(values, found, strict=True):
        if np.isfinite(x):
            assert y == pytest.approx(x, rel=0.51 * 10.0 ** (1 - DIGITS), abs=0)
        else:
            assert y is None


def test_whole_numbers_truth_and_shapes_stay():
    assert numbers(np.array([[1, -2], [3, 4]])) == [[1, -2], [3, 4]]
    assert numbers(np.array([True, False])) == [True, False]
    assert numbers(np.array([[0.123456, np.nan]])) == [[0.1235, None]]
    assert numbers(np.array(0.1, np.float32)) == 0.1


def test_the_bulk_file_holds_every_script_and_is_the_same_each_time(tmp_path):
    files = []
    for name in ("a", "b"):
        folder = epath.Path(tmp_path / name)
        with Shards(folder) as shards:
            shards.write("run", {"x": 1})
            shards.write("neurons/0/0", [HOSTILE])
        files.append((folder / "report.jsonl.gz").read_bytes())
    assert files[0] == files[1]
    lines = [json.loads(line) for line in gzip.decompress(files[0]).splitlines()]
    assert lines == [
        {"name": "run", "value": {"x": 1}},
        {"name": "neurons/0/0", "value": [HOSTILE]},
    ]
    assert value_of((tmp_path / "a" / "data" / "run.js").read_text()) == {"x": 1}
    copy_shard(epath.Path(tmp_path / "a"), epath.Path(tmp_path / "c"), "run")
    assert (tmp_path / "c" / "data" / "run.js").read_bytes() == (
        tmp_path / "a" / "data" / "run.js"
    ).read_bytes()
