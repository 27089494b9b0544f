"""No result of a run may change and keep its key: where source changes, its version is looked at.

tests/pipeline/steps.json holds, of every cached result (a step, a derived record, an explainer),
its version and a hash of the source that it depends on (`tests.pipeline.steps` says which that is).
When `test_source_is_as_recorded` fails, it names the results and the changed source. If the change
can change a number, raise the version there, so that no cache gives the old one; if it cannot (a
new name, another message, a faster way to the same bits), leave it. Then

    python -m tests.pipeline.steps

writes steps.json anew; a reviewer sees in its diff which versions were raised and which not.
"""

import json

import pytest

from jaxle.explainers import EXPLAINERS
from tests.pipeline.steps import GOLDEN, Code, complaints, kept, recorded, sources


@pytest.fixture(scope="module")
def now():
    """The source as it is."""
    return sources()


@pytest.fixture(scope="module")
def as_it_is(now):
    """What would be recorded of it."""
    return recorded(Code(now))


def edited(texts, module, old, new):
    assert texts[module].count(old) == 1, (module, old)
    return Code({**texts, module: texts[module].replace(old, new)})


def test_source_is_as_recorded(now):
    found = complaints(json.loads(GOLDEN.read_text(encoding="utf-8")), Code(now))
    assert not found, "\n".join(found)


def test_every_step_and_every_explainer_is_recorded(as_it_is):
    names = set(as_it_is["results"])
    assert {f"explainer {name}" for name in EXPLAINERS} <= names
    steps = "labels probe calibration texts fit explain simulate refits score ceiling"
    more = "on_test contribute select_again paired temperature ablate impact"
    assert {f"step {name}" for name in f"{steps} {more}".split()} <= names
    derived = "images network shuffled label_matrix encoder_matrix permuted outside_simulator"
    assert {f"derived {name}" for name in derived.split()} <= names


@pytest.mark.parametrize(
    "result, parts",
    [
        ("step fit", {"jaxle.solve.screen", "jaxle.solve.moments", "jaxle.pipeline.fit:_unpack"}),
        ("step probe", {"jaxle.pipeline.image_pass:_computed", "jaxle.data.loader"}),
        ("step score", {"jaxle.evaluation.intervals", "jaxle.evaluation.detection", "jaxle.stats"}),
        ("step refits", {"jaxle.pipeline.explain:search", "jaxle.evaluation.simulation"}),
        ("step ablate", {"jaxle.intervention.affine", "jaxle.models.suffix"}),
        ("derived network", {"jaxle.models.vit", "jaxle.models.weights", "jaxle.images"}),
        ("derived images", {"jaxle.data.folder", "jaxle.scenes.world", "jaxle.data.generated"}),
        ("derived encoder_matrix", {"jaxle.concepts.contrastive"}),
        ("derived permuted", {"jaxle.evaluation.nulls"}),
        ("explainer greedy", {"jaxle.explainers.search", "jaxle.solve.elastic_net"}),
        ("explainer preconditioned", {"jaxle.solve.forward", "jaxle.solve.exchange"}),
    ],
)
def test_a_result_depends_on_its_formulas(now, result, parts):
    code = Code(now)
    assert parts <= set(code.parts(kept(code)[result]))


def test_it_does_not_depend_on_what_it_never_reads(now):
    code = Code(now)
    every = kept(code)
    assert "jaxle.solve.elastic_net" not in code.parts(every["step fit"])
    assert "jaxle.explainers.preconditioned" not in code.parts(every["explainer greedy"])
    assert not [part for part in code.parts(every["step explain"]) if "explainers" in part]


def test_a_changed_formula_is_named_with_its_results(now, as_it_is):
    code = edited(now, "jaxle.evaluation.simulation", "matmul(prob", "matmul(2 * prob")
    found = complaints(as_it_is, code)
    assert {text.partition(",")[0] for text in found} >= {"step simulate", "step refits"}
    assert all("(jaxle.evaluation.simulation)" in text for text in found)
    assert "raise the version in jaxle.pipeline.simulate; then run python -m" in "".join(found)
    assert not [text for text in found if text.startswith(("step fit,", "derived network,"))]


def test_a_changed_definition_of_the_pipeline_is_named(now, as_it_is):
    code = edited(now, "jaxle.pipeline.image_pass", "_IN_FLIGHT = 2", "_IN_FLIGHT = 3")
    found = complaints(as_it_is, code)
    assert [text for text in found if text.startswith("step probe, version ")]
    assert all("(jaxle.pipeline.image_pass:_IN_FLIGHT)" in text for text in found)
    assert not [text for text in found if text.startswith(("step fit,", "step explain,"))]


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("jaxle.pipeline.fit", '"""Returns the moments of a concept', '"""Gives the moments of a'),
        ("jaxle.pipeline.fit", "partition: Partition, options: Screening", "partition, options"),
        ("jaxle.pipeline.fit", "import numpy as np\n", "import os\nimport numpy as np\n"),
        ("jaxle.models.zoo", "has no text tower; leave", "has no text tower: leave"),
        ("jaxle.pipeline.run", "--- probe:", "--- look:"),
        ("jaxle.launch", "end_now(130)", "end_now(131)"),
    ],
)
def test_prose_types_imports_and_messages_do_not_count(now, as_it_is, module, old, new):
    assert not complaints(as_it_is, edited(now, module, old, new))


def test_a_raised_version_and_a_new_result_ask_for_the_record(now, as_it_is):
    old = json.loads(json.dumps(as_it_is))
    old["results"]["step fit"]["version"] -= 1
    del old["results"]["step score"]
    old["results"]["step gone"] = {"version": 1, "source": ""}
    assert complaints(old, Code(now)) == [
        "step fit has another version: run python -m tests.pipeline.steps.",
        "step gone is gone: run python -m tests.pipeline.steps.",
        "step score is new: run python -m tests.pipeline.steps.",
    ]
