"""Simulation: what an explanation predicts for images that its fit has not read.

    s(x) = Σ_i w_i · Pr_sim(c_i | x) + bias        (paper, section 4)
    P(A AND B) = P(A) P(B),   P(NOT A) = 1 − P(A),   P(A OR B) = 1 − (1 − P(A)) (1 − P(B))

The second line is for explanations by formulas: `over_columns` gives them columns, which are made
of their concepts' where they are read. The probabilities come from a simulator that is not the
explainer. Only the concepts that occur in an explanation are read, in blocks of images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Real

from jaxle.arrays import Array, as_probabilities, checks_input, row_blocks, take_names
from jaxle.explanations import Explanation, Explanations, FormulaRows
from jaxle.explanations.formula import (
    ConceptRows,
    Formula,
    Name,
    find_formula,
    is_known,
    parse,
    write,
)
from jaxle.mesh import round_up
from jaxle.options import number
from jaxle.solve.tiles import bucket, tile_index, tile_rows
from jaxle.units import fits_float32

COLUMNS = 64  # concepts are padded to a multiple, so that nearly equal numbers share a program
# Of an explanation's largest weight: where its bias is larger, float32 would lose the sum's digits.
MOST_BIAS = 1000


@checks_input
def simulate(
    explanations: Explanations,
    concept_probs: Real[Array, "images concepts"],
    concepts: Sequence[str] | None = None,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    raw_features: bool = False,
) -> Float[np.ndarray, "rows neurons"]:
    """Returns simulated activations of every neuron on a simulator's images.

    Args:
      explanations: one row a neuron.
      concept_probs: (images, concepts), the simulator's probability of each concept in each image,
        0–1; whatever `jaxle.arrays.as_matrix` takes.
      concepts: the columns' names; they may be more than the explanations use; None takes those of
        a frame.
      index: (rows,) which images to simulate; None for all.
      raw_features: as in `jaxle.explain`, of which the explanations are.

    Returns:
      (rows, neurons) float32, in units of the activation; float64 where float32 could not hold the
      sum: weights of an extreme scale, a bias that dwarfs them, raw features of float64.

    Raises:
      ValueError: names and columns differ in number, a name occurs twice, a used concept is
        missing, values are not finite or, without `raw_features`, no probabilities; a formula that
        cannot be read, or is over raw features; an index that is not of these images; a result
        beyond float64.
    """
    raw = number("raw_features", raw_features, bool)
    check_kind(explanations)
    concepts = take_names(concepts, concept_probs)
    concept_probs = as_probabilities(concept_probs, "concept_probs", raw=raw)
    check_columns(concepts, concept_probs.shape[1])
    index = check_index(index, concept_probs.shape[0])
    explanations, matrix = over_columns(explanations, Held(concept_probs, tuple(concepts)), raw=raw)
    rows, concepts = matrix.rows, list(matrix.concepts)
    place = {concept: i for i, concept in enumerate(concepts)}
    used = np.array([place[name] for name in names(explanations) if name in place], np.int64)
    wide = raw and np.result_type(np.float32, concept_probs.dtype) == np.float64
    if wide or not all(map(_fits, explanations)):
        return _simulate_wide(explanations, rows, index, used, [concepts[j] for j in used])
    return simulate_rows(explanations, rows, index, used, concepts)


def simulate_rows(
    explanations: Explanations,
    rows: Callable[[np.ndarray, np.ndarray], Array],
    index: Int[np.ndarray, " images"],
    columns: Int[np.ndarray, " used"],
    concepts: Sequence[str],
) -> Float32[np.ndarray, "images neurons"]:
    """Returns what `simulate` does, for probabilities that are made where they are read: in a run.

    Args:
      explanations: one row a neuron.
      rows: (row index, column index) → (rows, columns) probabilities.
      index: (images,) which rows to simulate.
      columns: (used,) which columns the explanations use.
      concepts: all column names.
    """
    weights, bias = explanations.weight_matrix([concepts[int(j)] for j in columns])
    # few sizes for many counts, so that they share programs: what is added has weight 0
    used, n_neurons, n_images = len(columns), len(explanations), len(index)
    more = round_up(max(used, 1), COLUMNS) - used
    columns = np.concatenate([columns, np.zeros(more, np.int64)])
    weights = np.pad(weights, ((0, more), (0, bucket(n_neurons) - n_neurons)))
    bias = np.pad(bias, (0, bucket(n_neurons) - n_neurons))
    height = tile_rows([n_images], len(columns) + len(bias))
    out = np.empty((n_images, n_neurons), np.float32)
    for start in range(0, n_images, height):
        stop = min(start + height, n_images)
        numbers = np.asarray(tile_index(index, start, height, n_images))
        tile = jnp.asarray(rows(numbers, columns), jnp.float32)
        simulated = np.asarray(_weighted_sum(tile, weights, bias))
        out[start:stop] = simulated[: stop - start, :n_neurons]
    return out


def _fits(row: Explanation) -> bool:
    """Whether float32 holds an explanation's weights, and the sum of them and its bias."""
    most = max((abs(weight) for weight in row.weights), default=np.inf)
    return bool(fits_float32([*row.weights, row.bias]).all()) and abs(row.bias) <= MOST_BIAS * most


def _simulate_wide(explanations, rows, index, used, concepts) -> np.ndarray:
    """What `simulate_rows` gives, in float64 on the host."""
    weights, bias = explanations.weight_matrix(concepts, np.float64)
    out = np.empty((len(index), len(bias)))
    for block in row_blocks(len(index), 8 * (len(used) + len(bias))):
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.asarray(rows(index[block], used)).astype(np.float64)
            out[block] = values @ weights + bias
    if not np.isfinite(out).all():
        k = int(np.flatnonzero(~np.isfinite(out).all(axis=0))[0])
        raise ValueError(f"simulated activations of neuron {k} exceed float64: {explanations[k]}.")
    return out


def names(explanations: Explanations) -> tuple[str, ...]:
    """Returns every name that occurs, once, in order of first use; formulas, too."""
    return tuple(dict.fromkeys(name for row in explanations for name in row.concepts))


@dataclass(frozen=True, eq=False)
class Held:
    """A concept matrix that is an array, (images, concepts)."""

    probs: Array
    concepts: tuple[str, ...]

    def rows(self, index: np.ndarray, columns: np.ndarray | slice | None = None) -> Array:
        """Some rows and columns."""
        return self.probs[index][:, slice(None) if columns is None else columns]


def simulable(explanations: Explanations, concepts: Collection[str]) -> Explanations:
    """Returns the explanations; formulas that cannot be made of `concepts` are unexplained."""
    known = frozenset(concepts)
    rows = (
        row
        if row.kind != "formula" or all(_formula(text, known) for text in row.texts)
        else Explanation(row.unit, (), (), 0.0, None, "unexplained")
        for row in explanations
    )
    return Explanations(tuple(rows))


def over_columns(
    explanations: Explanations, matrix: ConceptRows, *, raw: bool = False
) -> tuple[Explanations, ConceptRows]:
    """Returns the same sums over the columns of a matrix that has one for each of their names.

    Both are as they were where there are no formulas.

    Args:
      explanations: one row a neuron.
      matrix: of concepts. Where it has a column of exactly the text of a formula, which cannot be
        read or has unknown words, that column is the formula's.
      raw: whether its values are no probabilities.

    Raises:
      ValueError: a formula that cannot be made of the matrix's concepts, or of raw features.
    """
    formulas = [row for row in explanations if row.kind == "formula"]
    if not formulas:
        return explanations, matrix
    if raw:
        raise ValueError(
            f"neuron {formulas[0].unit} is explained by the formula {formulas[0].concepts[0]!r}, "
            "whose arithmetic is that of probabilities: leave out raw_features."
        )
    known = frozenset(matrix.concepts)
    made: dict[str, Formula] = {}
    for row in explanations:
        for name, text in zip(row.concepts, row.texts, strict=True):
            found = made.get(text) or _formula(text, known)
            if found is None:
                raise ValueError(_cannot(row, name, known))
            made[text] = found
    written = {text: write(found) for text, found in made.items()}
    rows = (
        replace(row, concepts=tuple(written[text] for text in row.texts)) for row in explanations
    )
    columns = {written[text]: found for text, found in made.items()}
    return replace(explanations, rows=tuple(rows)), FormulaRows(matrix, tuple(columns.values()))


def _formula(text: str, known: Collection[str]) -> Formula | None:
    """A text as a formula over known names; the name of a column where it is none, or None."""
    if is_known(text, known):
        return find_formula(text)
    return Name(text) if text in known else None


def _cannot(row: Explanation, name: str, known: Collection[str]) -> str:
    """Why a name of an explanation cannot be made of known ones."""
    missing = [word for word in row.words if word not in known]
    if row.kind != "formula":
        return (
            f"the simulator lacks {len(missing)} concepts that the explanations use, "
            f"such as {missing[:5]}."
        )
    start = f"neuron {row.unit} is explained by the formula {name!r}"
    try:
        parse(name)
    except ValueError as error:
        return f"{start}, for which the simulator has no column, and {error}"
    return f"{start}: the simulator lacks {len(missing)} of its concepts, such as {missing[:5]}."


@checks_input
def check_kind(explanations: Explanations) -> None:
    """Raises a ValueError unless these are explanations."""
    if not isinstance(explanations, Explanations):
        raise ValueError(
            f"explanations must be jaxle.Explanations, got {type(explanations).__name__}."
        )


@checks_input
def check_index(
    index: Int[np.ndarray, " rows"] | None, n_images: int
) -> Int64[np.ndarray, " rows"]:
    """Returns the numbers of some images, or those that a mask picks; of all for None.

    Raises:
      ValueError: neither, or a number that no image has.
    """
    if index is None:
        return np.arange(n_images)
    found = np.asarray(index)
    if found.dtype == bool and found.shape == (n_images,):
        return np.flatnonzero(found)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(
            f"index must be image numbers, or a mask of {n_images} bools, "
            f"got {found.dtype} of shape {found.shape}."
        )
    outside = found[(found < 0) | (found >= n_images)]
    if outside.size:
        raise ValueError(f"index must be image numbers from 0 to {n_images - 1}, got {outside[0]}.")
    return found.astype(np.int64)


@checks_input
def check_columns(concepts: Sequence[str], n_columns: int) -> None:
    """Raises a ValueError unless `concepts` names each column of concept_probs once."""
    if isinstance(concepts, (str, bytes)) or not isinstance(concepts, Collection):
        raise ValueError(f"concepts must be a list of names, got {type(concepts).__name__}.")
    others = [name for name in concepts if not isinstance(name, str)]
    if others:
        raise ValueError(f"concepts must be named by text, got {others[0]!r}.")
    if len(concepts) != n_columns or len(set(concepts)) != len(concepts):
        raise ValueError(
            f"concepts must name each of the {n_columns} columns of concept_probs once, "
            f"got {len(concepts)} names, {len(set(concepts))} of them different."
        )


@jax.jit
def _weighted_sum(probabilities, weights, bias):
    return jnp.matmul(probabilities, weights, precision=jax.lax.Precision.HIGHEST) + bias[None, :]
