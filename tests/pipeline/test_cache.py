"""The cache: a step gets exactly what its key holds, and what is damaged is made again."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest
from etils import epath

from jaxle.mesh import make_mesh
from jaxle.pipeline.cache import Cache, Several, Step, derived_key, plain
from jaxle.pipeline.journal import Journal


class Record(NamedTuple):
    key: str
    value: float = 0.0


@dataclasses.dataclass(frozen=True)
class Options:
    power: int = 1
    names: tuple[str, ...] = ()


@pytest.fixture
def cache(tmp_path):
    journal = Journal(epath.Path(tmp_path / "metrics.jsonl"))
    return Cache(epath.Path(tmp_path / "cache"), ("fit",), make_mesh(1), journal)


def recorder(name="add", version=1, stage="fit"):
    """A step that keeps what it was called with."""
    calls = []

    def add(*inputs, options, mesh):
        calls.append((inputs, options, mesh))
        return {"sum": np.array([record.value for record in inputs])}, {"n": len(inputs)}

    return Step(name, stage, version, add), calls


ONE, TWO = Record("one", 1.0), Record("two", 2.0)


def test_a_step_is_called_with_exactly_its_inputs(cache):
    step, calls = recorder()
    options = Options(3, ("x",))
    stored = cache.step(step, "both", [ONE, TWO], options)
    assert calls == [((ONE, TWO), options, cache.mesh)]
    np.testing.assert_array_equal(stored.arrays["sum"], [1, 2])
    assert stored.facts == {"n": 2} and stored.key == cache.key(step, [ONE, TWO], options)


def test_what_is_there_is_not_made_again_and_each_look_up_is_noted(cache, tmp_path):
    step, calls = recorder()
    first = cache.step(step, "both", [ONE, TWO])
    again = cache.step(step, "both", [ONE, TWO])
    assert len(calls) == 1 and again.key == first.key and again.facts == first.facts
    np.testing.assert_array_equal(again.arrays["sum"], first.arrays["sum"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["stage"], line["what"], line["reused"]) for line in lines] == [
        ("add", "fit", "both", False),
        ("add", "fit", "both", True),
    ]


@pytest.mark.parametrize(
    "name, version, inputs, options",
    [
        ("sub", 1, [ONE, TWO], Options()),
        ("add", 2, [ONE, TWO], Options()),
        ("add", 1, [ONE, Record("three")], Options()),
        ("add", 1, [TWO, ONE], Options()),
        ("add", 1, [ONE], Options()),
        ("add", 1, [ONE, TWO], Options(power=2)),
        ("add", 1, [ONE, TWO], Options(names=("a",))),
        ("add", 1, [ONE, TWO], None),
    ],
)
def test_the_key_changes_with_the_name_the_version_any_input_and_any_option(
    cache, name, version, inputs, options
):
    step, calls = recorder()
    other, other_calls = recorder(name, version)
    cache.step(step, "", [ONE, TWO], Options())
    cache.step(other, "", inputs, options)
    assert len(calls) == len(other_calls) == 1
    assert cache.key(step, [ONE, TWO], Options()) != cache.key(other, inputs, options)


def test_the_key_is_of_the_inputs_keys_and_not_of_their_values(cache):
    step, _ = recorder()
    assert cache.key(step, [ONE]) == cache.key(step, [Record("one", 7.0)])


def test_several_records_are_one_whose_key_has_all_in_order():
    both = Several([ONE, TWO])
    assert list(both) == [ONE, TWO] and len({both.key, Several([TWO, ONE]).key, ONE.key}) == 3
    assert derived_key("x", 1, [both]) != derived_key("x", 1, [ONE, TWO])
    # keys of two groups that were joined would not show where one group ends
    left, right = derived_key("x", 1, [both, Several([])]), derived_key("x", 1, [Several([]), both])
    assert left != right


def test_options_are_plain_values_and_a_float_that_is_not_finite_is_refused():
    assert plain({"o": Options(2, ("a", "b")), "n": [1, (2,)]}) == {
        "o": {"power": 2, "names": ["a", "b"]},
        "n": [1, [2]],
    }
    assert derived_key("x", 1, [], Options()) == derived_key("x", 1, [], {"power": 1, "names": []})
    with pytest.raises(ValueError):
        derived_key("x", 1, [], float("nan"))
    with pytest.raises(TypeError):
        derived_key("x", 1, [], object())


def test_a_stage_that_was_not_requested_refuses_with_the_flag_to_add(cache):
    step, calls = recorder(stage="explain")
    with pytest.raises(ValueError) as error:
        cache.step(step, "layer1, label", [ONE])
    assert str(error.value) == (
        "stage 'explain' is not complete for layer1, label: run it first, as by --stages=explain."
    )
    assert not calls
    whole = dataclasses.replace(cache, stages=("explain",))
    whole.step(step, "layer1, label", [ONE])
    cache.step(step, "layer1, label", [ONE])  # it is there now, whoever made it
    assert len(calls) == 1
    anywhere, calls = recorder("texts", stage="")
    cache.step(anywhere, "words of any stage", [ONE])
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["byte", "cut", "no array", "no manifest", "half a manifest"])
def test_a_damaged_result_is_made_again(cache, damage):
    step, calls = recorder()
    key = cache.step(step, "both", [ONE, TWO]).key
    folder = cache.place(step, key)
    array, manifest = folder / "sum.npy", folder / "manifest.json"
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    if damage == "byte":
        array.write_bytes(bytes(data))
    elif damage == "cut":
        array.write_bytes(bytes(data[:-3]))
    elif damage == "no array":
        array.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:20])
    assert not cache.has(step, key) and cache.find(step, key) is None
    stored = cache.step(step, "both", [ONE, TWO])
    assert len(calls) == 2 and cache.has(step, key)
    np.testing.assert_array_equal(stored.arrays["sum"], [1, 2])
