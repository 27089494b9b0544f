"""Explanations from a file: another method's, or an earlier run's, scored like any other.

    file, layer → one explanation a neuron, as it stands there; neurons without a row have none

The published files of the paper's authors hold MILAN, Network Dissection, CLIP-Dissect, LE(Label)
and LE(SigLIP); MILAN's hold all layers of a network; Network Dissection's own tallies are read, too
(`explanations.published`, `explanations.tally`). The words are the file's own. An encoder embeds
any word. Labels have a column for a word of exactly a column's name, and for no other: a name that
two classes share is neither of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etils import epath

from jaxle.explainers.protocol import Problem
from jaxle.explanations import Explanation, Explanations
from jaxle.explanations.published import Table, read_layers
from jaxle.options import option, suggest


@dataclass(frozen=True)
class Published:
    """Options of `published`."""

    file: str = option("", "CSV: description, or weight0, concept0, … and bias; or label and score")
    layer: str = option("", "which layer of the file; empty = the one named like the tap")


def explain(problem: Problem, options: Published) -> Explanations:
    """Returns the explanations of a file for the layer's neurons.

    A neuron that the file leaves out is flagged unnamed. `val_correlation` is the file's.

    Raises:
      ValueError: no such file or layer, no table of explanations, a unit that does not exist or
        occurs twice.
    """
    n_neurons = problem.activations.shape[1]
    rows = {row.unit: row for row in _rows(options, problem.layer, n_neurons)}
    dead, varies = problem.dead, problem.measured.train.varies()
    found = []
    for k in range(n_neurons):
        row = rows.get(k) or Explanation(k, (), (), 0.0, None, "unnamed")
        flag = "dead" if dead[k] else "constant" if not varies[k] else row.flag
        found.append(row if flag == row.flag else dataclasses.replace(row, flag=flag))
    facts = {"n_rows": len(rows)}
    return Explanations(tuple(found), split=problem.split, facts=facts)


def check(options: Published, layers: Mapping[str, int]) -> None:
    """Raises a ValueError, as `explain`, for a file that does not fit layers of so many neurons."""
    for layer, n_neurons in layers.items():
        _rows(options, layer, n_neurons)


def words(options: Published, layers: Sequence[str]) -> tuple[str, ...]:
    """Returns every concept that the file's explanations of some layers use, once.

    Raises:
      ValueError: as `explain`, of the file.
    """
    tables = [Explanations(_find(options, layer).rows) for layer in layers]
    return tuple(dict.fromkeys(word for table in tables for word in table.concepts))


def _rows(options: Published, layer: str | None, n_neurons: int) -> tuple[Explanation, ...]:
    """The file's rows of a layer, each of another of its neurons."""
    rows, seen = _find(options, layer).rows, set()
    for row in rows:
        if row.unit >= n_neurons:
            raise ValueError(
                f"{options.file} explains unit {row.unit}, and the layer has {n_neurons} neurons: "
                "expected a file of this layer."
            )
        if row.unit in seen:
            raise ValueError(
                f"{options.file} explains unit {row.unit} twice: expected one row a unit."
            )
        seen.add(row.unit)
    return rows


def _find(options: Published, layer: str | None) -> Table:
    """The table of a layer; a file of one layer that it does not name has any."""
    file, wanted = options.file, options.layer or layer
    if not file:
        raise ValueError("explainer 'published' reads a file: set its option file.")
    if not epath.Path(file).expanduser().is_file():
        raise ValueError(f"there is no file {file!r} of published explanations.")
    tables = read_layers(file)
    if None in tables:
        if options.layer:
            raise ValueError(
                f"{file} does not say which layer it is of, and layer={options.layer!r} is asked "
                "for: leave layer out, or add a column layer."
            )
        return tables[None]
    names = [name for name in tables if name is not None]
    if wanted is None and len(names) == 1:
        return tables[names[0]]
    if wanted not in tables:
        asked = "no layer is named" if wanted is None else f"layer {wanted!r} is asked for"
        raise ValueError(
            f"{file} has the layers {', '.join(names)}, and {asked}: set the option layer"
            f"{'' if wanted is None else f'; {suggest(wanted, names)}'}."
        )
    return tables[wanted]
