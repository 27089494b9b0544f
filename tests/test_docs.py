"""README, CONTRIBUTING and docs: what they name exists; the site has every page and every name."""

import re
from pathlib import Path

import pytest

import jaxle
from jaxle.pipeline import defaults

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
MADE = ("architecture.md", "config.md")  # from the code, docstrings as they are
REFERENCE = "".join(path.read_text() for path in sorted((ROOT / "docs/reference").glob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_named_files_and_settings_exist(page):
    text = page.read_text(encoding="utf-8")
    rooms = "configs|tests|docs|benchmarks|tools|launch"
    for path in re.findall(rf"(?<![\w/])(?:{rooms})/[\w./]+\.\w+", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (page.parent / path).exists(), path
    for path in re.findall(r"`([a-z_]+/\w+\.py)`", text):
        assert (ROOT / "jaxle" / path).exists() or (ROOT / path).exists(), path
    for field in re.findall(r"--config\.([\w.]+)=", text):
        section, _, name = field.partition(".")
        known = defaults.get_config()
        where = known[section] if name else known
        assert section in ("methods", "simulators") or (name or section) in where


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in MADE], ids=lambda path: path.name
)
def test_lines_are_at_most_100_columns(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 100 and not line.startswith("|")]


@pytest.mark.parametrize("name", jaxle.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert re.search(rf"^::: jaxle\.{name}$", REFERENCE, re.MULTILINE), name


def test_the_site_has_every_page():
    nav = (ROOT / "mkdocs.yml").read_text()
    for path in sorted((ROOT / "docs").glob("**/*.md")):
        assert re.search(rf": {path.relative_to(ROOT / 'docs')}$", nav, re.MULTILINE), path
