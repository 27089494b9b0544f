"""docs/scores.md holds the columns as the tables state them, and names every fact."""

from pathlib import Path

import pytest

from jaxle.columns import Column
from jaxle.evaluation import METRICS, score
from jaxle.evaluation.page import BEGIN, END, main, page, span

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scores.md"
COMMAND = (
    "python -m jaxle.evaluation.page docs/scores.md "
    "jaxle.intervention:COLUMNS jaxle.evaluation.monosemanticity:COLUMNS "
    "jaxle.evaluation.counterfactual:COLUMNS"
)


def test_the_page_is_up_to_date(tmp_path):
    written = PAGE.read_text(encoding="utf-8")
    copy = tmp_path / "scores.md"
    copy.write_text(written, encoding="utf-8")
    main(str(copy), *COMMAND.split()[4:])
    assert copy.read_text(encoding="utf-8") == written, f"docs/scores.md is old; run: {COMMAND}"


def test_every_fact_of_a_metric_is_explained(evidence):
    written = PAGE.read_text(encoding="utf-8")
    for fact in score(evidence(), METRICS).facts:
        assert f"`{fact}`" in written, f"docs/scores.md does not explain the fact {fact}"


def test_a_row_has_range_direction_and_meaning():
    extra = Column("their_score", -1.0, float("inf"), "lower", "a|b")
    text = page(f"before\n{BEGIN}\nformer\n{END}\nafter\n", {"them": (extra,)})
    assert text.startswith("before\n") and text.endswith("after\n") and "former" not in text
    assert "| `their_score` | a\\|b | at least −1 | lower | them |\n" in text
    assert "| `correlation` |" in text and "| −1 to 1 | higher | metric `correlation` |" in text
    assert page(text, {"them": (extra,)}) == text
    assert span(Column("a", -float("inf"), 1.0, "", "")) == "at most 1"
    assert span(Column("a", -float("inf"), float("inf"), "", "")) == ""


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="the page lacks the line '<!-- columns"):
        page("text")
    with pytest.raises(ValueError, match="the page lacks the line <!-- end|'<!-- end"):
        page(BEGIN)
