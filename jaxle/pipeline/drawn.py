"""Which images a label sheet drew from a run, and what the run knows of them.

RUN/label_sheets/NAME.json    a sheet that was drawn, so that its answers can be read
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float64, Int64

from jaxle import artifacts
from jaxle.evaluation.labelling import Sample
from jaxle.explanations import Explanations
from jaxle.pipeline.load import FinishedRun
from jaxle.report.label_sheet import Sheet
from jaxle.solve.tiles import host_columns

FOLDER = "label_sheets"
SILENT = ("dead", "constant", "unexplained", "unnamed")  # flags: nothing can be asked


class Drawn(NamedTuple):
    """A sheet that was drawn.

    Attributes:
      run: which run it is of, as in run.json.
      tap, method: whose explanations are checked.
      guide: the method whose concept probabilities guided the drawing.
      neurons: unit numbers.
      words: the boxes, in alphabetical order.
      images: names, in the order of the sheet.
      probability: how likely each image was to be drawn.
    """

    run: str
    tap: str
    method: str
    guide: str
    neurons: tuple[int, ...]
    words: tuple[str, ...]
    images: tuple[str, ...]
    probability: tuple[float, ...]

    @property
    def sheet(self) -> Sheet:
        """What the person is asked."""
        return Sheet(artifacts.fingerprint(self._asdict())[:8], self.images, self.words)


class Known(NamedTuple):
    """What is known of the test images before anyone looks at them."""

    index: Int64[np.ndarray, " images"]  # their numbers in the run
    activations: Float64[np.ndarray, "images neurons"]
    probs: Float64[np.ndarray, "images concepts"]
    weights: Float64[np.ndarray, "concepts neurons"]


def chosen(run: FinishedRun, tap: str, method: str, neurons: Sequence[int]) -> Explanations:
    """Returns the explanations of some neurons.

    Raises:
      ValueError: a neuron that the layer lacks, is not live, or has no explanation; or one that is
        explained by a formula.
    """
    found = run.explanations(tap, method).select(neurons)
    for row in found:
        if not row.concepts or row.flag in SILENT:
            why = f"is {row.flag}" if row.flag in SILENT else "has no explanation"
            raise ValueError(
                f"neuron {row.unit} of {tap} {why} by {method}: there is no word to ask about."
            )
        if row.kind == "formula":
            raise ValueError(
                f"neuron {row.unit} of {tap} is explained by the formula {row.concepts[0]!r} by "
                f"{method}: a sheet asks about words, so choose neurons explained by words alone."
            )
    return found


def what_is_known(
    run: FinishedRun, tap: str, guide: str, explanations: Explanations, words: Sequence[str]
) -> Known:
    """Returns activations, the guide's probabilities of the words, and weights, on test images.

    Raises:
      ValueError: the guide does not know a word.
    """
    matrix = run.concept_matrix(guide)
    place = {name: j for j, name in enumerate(matrix.concepts)}
    missing = [word for word in words if word not in place]
    if missing:
        raise ValueError(
            f"the guide {guide!r} has no probabilities of {missing[0]!r}: expected --guide to name "
            "a method of the run whose concepts include every word of the explanations."
        )
    index = np.asarray(run.split.test, np.int64)
    columns = np.array([place[word] for word in words])
    probs = np.asarray(host_columns(matrix.rows, index, columns), np.float64)
    activations = np.asarray(run.activations(tap)[index][:, explanations.units], np.float64)
    weights = np.asarray(explanations.weight_matrix(words)[0], np.float64)
    return Known(index, activations, np.clip(probs, 0, 1), weights)


def sample_of(run: FinishedRun, drawn: Drawn, known: Known) -> Sample:
    """Returns the sample of a sheet, its images as positions among the test images."""
    place = {run.names[number]: i for i, number in enumerate(known.index.tolist())}
    images = np.array([place[name] for name in drawn.images], np.int64)
    return Sample(images, np.array(drawn.probability))


def write_drawn(run: FinishedRun, drawn: Drawn) -> None:
    """Writes a sheet's file beside the run."""
    artifacts.write_json(run.workdir / FOLDER / f"{drawn.sheet.name}.json", drawn._asdict())


def read_drawn(run: FinishedRun, name: str) -> Drawn:
    """Returns the sheet of this name.

    Raises:
      ValueError: there is none, or it was drawn from another run that lay in the same folder.
    """
    path = run.workdir / FOLDER / f"{epath.Path(name).name}.json"
    if not path.exists():
        raise ValueError(
            f"the answers are of the sheet {name!r}, which {run.workdir} does not hold: "
            "expected answers to a sheet that was drawn from this run."
        )
    facts: dict[str, Any] = json.loads(path.read_text())
    lists: dict[str, Any] = {
        field: tuple(facts[field]) for field in ("neurons", "words", "images", "probability")
    }
    drawn = Drawn(**{**facts, **lists})
    if drawn.run != run.index["run"]:
        raise ValueError(
            f"the sheet {name!r} was drawn from another run, which lay in {run.workdir} before: "
            "draw a new sheet."
        )
    return drawn
