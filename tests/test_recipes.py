"""The recipes of CONTRIBUTING.md, each run as a reader would: files, then its command."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from jaxle import Explanations
from tests import forks, runs

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
# few images and no more than the recipe itself is about
QUICK = (
    "--config.workdir=run",
    "--config.data.limit=250",
    "--config.target.taps=layer1",
    "--config.evaluation.draws=0",
    "--config.evaluation.permutations=0",
    "--config.evaluation.ceiling=False",
    "--config.evaluation.contributions=False",
)


def recipe(title: str) -> tuple[dict[str, str], list[str]]:
    """The files of a section by name, and its command."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None, title
    files = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", section[1], re.DOTALL))
    commands = re.findall(r"```bash\n(.*?)```", section[1], re.DOTALL)
    assert len(files) == 2 and len(commands) == 1 and section[1].count("```") == 6
    return files, shlex.split(commands[0])


@pytest.fixture
def run(tmp_path, tmp_path_factory):
    def follow(title: str) -> str:
        files, (python, *command) = recipe(title)
        assert python == "python"
        for name, code in files.items():
            (tmp_path / name).write_text(code, encoding="utf-8")
        quick = QUICK if "jaxle.launch" in command else ()
        done = forks.python([*command, *quick], tmp_path, runs.environment(tmp_path_factory))
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return follow


def scores(folder: Path) -> list[dict[str, str]]:
    with open(folder / "run" / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_an_architecture(run):
    printed = run("An architecture").splitlines()
    assert printed[-1] == "(4, 16) (4, 10)" and "'stem:in'" in printed[-2]


def test_an_explainer(run, tmp_path):
    run("An explainer")
    table = Explanations.from_csv(tmp_path / "run" / "layer1" / "one" / "explanations.csv")
    assert set(table.lengths) <= {0, 1} and table.lengths.sum() > 0
    by_method = {row["method"] for row in scores(tmp_path)}
    assert by_method == {"label", "one"}


def test_a_metric(run, tmp_path):
    run("A metric")
    values = [float(row["spearman"]) for row in scores(tmp_path)]
    assert all(-1 <= value <= 1 for value in values) and len(set(values)) > 1


def test_a_concept_set(run, tmp_path):
    run("A concept set")
    table = Explanations.from_csv(tmp_path / "run" / "layer1" / "siglip" / "explanations.csv")
    assert table.lengths.sum() > 0


def test_a_data_source(run, tmp_path):
    run("A data source")
    table = Explanations.from_csv(tmp_path / "run" / "layer1" / "label" / "explanations.csv")
    assert set(table.concepts) <= {"horizontal", "vertical"} and table.lengths.sum() > 0


def test_every_recipe_is_run():
    titles = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    tests = {name.removeprefix("test_").replace("_", " ") for name in globals()}
    assert {title.lower() for title in titles} < tests and len(titles) == 5
