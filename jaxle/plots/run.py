"""All figures of a finished run as PDF and SVG: its best neurons, its scores.

    run ─┬─> the best neurons of each tap ─> area chart, grids by bin and by rank
         ├─> where neurons were ablated ───> correlation against ablation
         └─> summary ──────────────────────> scores.tex

Neurons are shown on the test images, which their explanations have not seen. What an explanation
simulates there is computed from the concept values of its own explainer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Float64, Int64

from jaxle.arrays import checks_input
from jaxle.artifacts import write_text
from jaxle.options import suggest
from jaxle.plots import style
from jaxle.plots.area import area_chart
from jaxle.plots.grid import image_grid_by_bin, image_grid_by_rank
from jaxle.plots.latex import score_table
from jaxle.plots.scatter import correlation_ablation
from jaxle.report.bins import RANKS
from jaxle.report.outcome import best_method

KINDS = (".pdf", ".svg")
EXCESS = "ablation score, excess over a constant"
Run = Any  # what `jaxle.load_run` returns, whose type belongs to a higher floor


class Shown(NamedTuple):
    """One neuron on the test images: what its figures are drawn of.

    Attributes:
      title: tap, unit and explanation.
      numbers: (images,) the test images' numbers in the run.
      activations: (images,).
      concepts: of the explanation, in its order.
      values: (images, concepts), what the explainer gave for them.
      simulated: (images,) what the explanation makes of these values; None where the explainer has
        no column for one of its names.
    """

    title: str
    numbers: Int64[np.ndarray, " images"]
    activations: Float[np.ndarray, " images"]
    concepts: tuple[str, ...]
    values: Float[np.ndarray, "images concepts"]
    simulated: Float64[np.ndarray, " images"] | None


class Pictures:
    """The images of a run by their place among some of them; read when they are drawn."""

    def __init__(self, run: Run, numbers: Int64[np.ndarray, " images"]):
        self.run, self.numbers = run, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> np.ndarray:
        return self.run.image(int(self.numbers[place]))


@checks_input
def run_figures(
    run: Run, folder: epath.PathLike, *, method: str | None = None, n_neurons: int = 1
) -> list[str]:
    """Writes the figures of a finished run as PDF and SVG; returns the file names.

    Of the best neurons of each tap: the area chart of their concepts, image grids by bin and by
    rank. Of each tap, method and simulator whose neurons were ablated: the scatter of both scores.
    `scores.tex` holds the table of methods. The same run gives the same bytes.

    Args:
      run: of `jaxle.load_run`.
      folder: where to write; it is made where it does not exist.
      method: whose explanations; None takes the one of largest mean
        test correlation.
      n_neurons: how many of each tap, those of largest test correlation.

    Raises:
      ValueError: a method that the run lacks.
      ImportError: matplotlib is absent.
    """
    method = best_method(run.summary["results"])[0] if method is None else method
    if method not in run.methods:
        raise ValueError(f"the run has no method {method!r}: {suggest(method, run.methods)}.")
    place = epath.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(run, method, n_neurons):
        for kind in KINDS:
            written.append(re.sub(r"[^\w.-]+", "_", name.replace("/", ".")) + kind)
            style.save_figure(figure, place / written[-1])
    write_text(place / "scores.tex", score_table(run))
    return [*written, "scores.tex"]


def _figures(run: Run, method: str, n_neurons: int) -> Iterator[tuple[str, Any]]:
    for tap in run.taps:
        for unit in best_neurons(run, tap, method)[:n_neurons].tolist():
            yield from _of_neuron(run, f"{tap}-{method}-{unit}", shown(run, tap, method, unit))
    for (tap, maker, simulator), x, y in ablated(run):
        title = f"{tap}, {maker} simulated by {simulator}"
        scatter = correlation_ablation(x, y, ablation_name=EXCESS, title=title)
        yield f"{tap}-{maker}-{simulator}-ablation", scatter


def _of_neuron(run: Run, name: str, own: Shown) -> Iterator[tuple[str, Any]]:
    pictures, about = Pictures(run, own.numbers), (own.activations, own.simulated)
    if own.concepts:
        chart = area_chart(own.activations, own.values, own.concepts, title=own.title)
        yield f"{name}-area", chart
    yield f"{name}-bins", image_grid_by_bin(pictures, *about, title=own.title)
    ranks = [rank for rank in RANKS if rank <= len(own.numbers)] or [1]
    yield f"{name}-ranks", image_grid_by_rank(pictures, *about, ranks=ranks, title=own.title)


def best_neurons(run: Run, tap: str, method: str) -> Int64[np.ndarray, " neurons"]:
    """Returns the units that a method explained, the best simulated first.

    By the test correlation of the method's first simulator; of equal ones the lower unit first.
    """
    scores = run.scores
    own = scores[(scores["tap"] == tap) & (scores["method"] == method)]
    own = own[own["simulator"] == own["simulator"].iloc[0]]
    kept = np.asarray((own["length"] > 0) & (own["flag"] != "dead"))
    ranked = np.argsort(-np.asarray(own["correlation"], np.float64)[kept], kind="stable")
    return np.asarray(own["unit"], np.int64)[kept][ranked]


def shown(run: Run, tap: str, method: str, unit: int) -> Shown:
    """Returns a neuron on the test images."""
    row = run.explanations(tap, method).select(unit)
    matrix, numbers = run.concept_matrix(method), np.asarray(run.split.test, np.int64)
    place = {name: j for j, name in enumerate(matrix.concepts)}
    concepts = tuple(name for name in row[0].concepts if name in place)
    columns = np.array([place[name] for name in concepts], np.int64)
    values = np.asarray(matrix.rows(numbers, columns))
    activations = np.asarray(run.activations(tap)[numbers, unit])
    simulated = None
    if len(concepts) == len(row[0].concepts):
        weights, bias = row.weight_matrix(concepts, np.float64)
        simulated = values @ weights[:, 0] + bias[0]
    # on two lines, a break is between terms
    terms = style.NO_BREAK.join(str(row[0]).split(" "))
    terms = re.sub(rf"{style.NO_BREAK}([+−]){style.NO_BREAK}", r" \1 ", terms)
    title = f"{tap}, neuron {unit}: {terms}"
    return Shown(title, numbers, activations, concepts, values, simulated)


def ablated(run: Run) -> Iterator[tuple[tuple[str, str, str], np.ndarray, np.ndarray]]:
    """Yields (tap, method, simulator), correlations and ablation scores of the scored neurons."""
    scores = run.scores
    if "ablation_excess" not in scores:
        return
    scores = scores[scores["ablation_scored"].astype(str) == "True"]
    for names, own in scores.groupby(["tap", "method", "simulator"], sort=False):
        x, y = (own[name].to_numpy(np.float64) for name in ("correlation", "ablation_excess"))
        yield names, x, y  # pyright: ignore
