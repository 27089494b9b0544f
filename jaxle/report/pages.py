"""The pages of a report: one HTML file, a style sheet and plain scripts, beside its data.

    index.html   assets/*   data/*.js   sprites/*.webp

One page shows all views; what stands behind `#` says which: `#/`, `#/neuron/layer3/136`,
`#/word/dog`, `#/compare`. No framework: the scripts are classic ones in the order of `SCRIPTS`,
each a few functions on the object `jaxle`, since a browser loads neither modules nor JSON from
`file://`. Every name is untrusted: Jinja2 escapes it here, and the scripts write text nodes only.
"""

from __future__ import annotations

from importlib.resources import files

from etils import epath

from jaxle import artifacts
from jaxle.report.environment import environment

SCRIPTS = (
    "load.js",
    "dom.js",
    "points.js",
    "charts.js",
    "pictures.js",
    "tables.js",
    "scores.js",
    "overview.js",
    "explanation.js",
    "dialog.js",
    "copy.js",
    "neuron.js",
    "words.js",
    "map.js",
    "compare.js",
    "main.js",
)
STYLES = ("style.css",)
ASSETS = "assets"


def write_pages(folder: epath.Path, title: str, lines: list[str]) -> None:
    """Writes index.html and what it loads beside data.

    Args:
      folder: of the report.
      title: of the run.
      lines: the run in words, for a browser without scripts.
    """
    for name in (*SCRIPTS, *STYLES):
        text = (files("jaxle.report") / ASSETS / name).read_text(encoding="utf-8")
        artifacts.write_text(folder / ASSETS / name, text)
    page = environment().get_template("report.html")
    html = page.render(title=title, lines=lines, scripts=SCRIPTS, styles=STYLES, folder=ASSETS)
    artifacts.write_text(folder / "index.html", html)
