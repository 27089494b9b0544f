"""Formulas as candidate columns: which A AND B, A AND NOT B are worth a column beside the concepts.

    n₁₁ = n E[P_A P_B]   images where both hold, by one Gram matrix of the train images

A pair gives A AND B where each of A with B, A without B, B without A holds of at least
`LEAST_IMAGES`, and A AND NOT B where the first two do. Those columns come first that are least a
sum of their parts: by the variance that a least-squares fit on A and B leaves of A AND B (and so of
A AND NOT B), which follows from the counts. Where nothing is left, as of `animal AND NOT bird` =
animal − bird, two concepts say what the formula of two words says, and more: it is no column. At
most `MOST` are kept, and of columns that are equal on train, such as `animal AND flying thing` and
`bird`, only the first, concepts before formulas.

Columns are made as tiles where they are read (`explanations.formula.FormulaRows`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, Int64

from jaxle.explanations.formula import And, ConceptRows, Formula, FormulaRows, Name, Not
from jaxle.solve import tiles
from jaxle.solve.moments import second_moments
from jaxle.solve.screen import screen

LEAST_IMAGES = 10  # of train: fewer say nothing of a pair
MOST = 2000  # formulas, since a fit's memory grows with the square of all columns
BLOCK = 512  # concepts whose pairs with all others are compared at a time
LEFT = 1e-4  # of its variance: a column of which A and B leave less is a sum of them


class Pairs(NamedTuple):
    """Pairs of concepts that become columns, best first."""

    first: Int64[np.ndarray, " pairs"]  # columns of the matrix
    second: Int64[np.ndarray, " pairs"]
    negated: Int64[np.ndarray, " pairs"]  # 1: AND NOT
    n_found: int  # before `most` and equal columns took their part


def find_pairs(
    matrix: ConceptRows,
    train: Int[np.ndarray, " images"],
    *,
    min_top5: float,
    most: int = MOST,
    mesh: Mesh | None = None,
) -> Pairs:
    """Returns the pairs of a matrix's concepts whose formulas become columns.

    Args:
      matrix: of probabilities.
      train: the images that decide; no other is read.
      min_top5: of screening, which concepts must pass (`solve.screen`).
      most: formulas at most.
      mesh: images are split over its axis `data`.
    """
    kept = np.flatnonzero(screen(matrix.rows, train, len(matrix.concepts), min_top5).kept)
    none = np.zeros(0, np.int64)
    if len(kept) < 2:
        return Pairs(none, none, none, 0)
    nothing = np.zeros((int(train.max()) + 1, 1), np.float32)
    moments = second_moments(lambda i: matrix.rows(i, kept), nothing, train, mesh=mesh)
    mean, gram = np.asarray(moments.mean_x, np.float64), np.asarray(moments.gram)
    parts = [
        _worth(gram, mean, len(train), slice(start, start + BLOCK), most)
        for start in range(0, len(kept), BLOCK)
    ]
    pairs, left, n_found = (list(each) for each in zip(*parts, strict=True))
    order = np.argsort(-np.concatenate(left), kind="stable")[:most]
    first, second, negated = np.concatenate(pairs)[order].T
    found = Pairs(kept[first], kept[second], negated, sum(n_found))
    different = _different(matrix, kept, with_pairs(matrix, found), train)
    first, second, negated = (part[different] for part in found[:3])
    return Pairs(first, second, negated, found.n_found)


def with_pairs(matrix: ConceptRows, pairs: Pairs) -> FormulaRows:
    """Returns the concepts of a matrix, and after them their pairs, as one matrix of formulas."""
    names = [Name(concept) for concept in matrix.concepts]
    formulas: list[Formula] = list(names)
    for i, j, negated in zip(pairs.first, pairs.second, pairs.negated, strict=True):
        formulas.append(And((names[i], Not(names[j]) if negated else names[j])))
    return FormulaRows(matrix, formulas)


def _worth(
    gram: Float[np.ndarray, "kept kept"],
    mean: Float[np.ndarray, " kept"],
    n: int,
    rows: slice,
    most: int,
) -> tuple[Int64[np.ndarray, "best 3"], Float[np.ndarray, " best"], int]:
    """The best pairs whose first concept is in a block of rows.

    Returns:
      (best, 3): first, second, whether AND NOT. (best,): what their parts leave of them. How many
      there were.
    """
    cov = gram[rows].astype(np.float64)
    own, every = mean[rows, None], mean[None, :]
    both = cov + own * every
    numbers = np.arange(len(mean))
    apart = numbers[rows, None] != numbers[None, :]
    least = LEAST_IMAGES - 0.5  # a Gram of float32 counts ten images as 9.9999997
    with_without = apart & (both * n >= least) & ((own - both) * n >= least)
    later = numbers[rows, None] < numbers[None, :]
    able = np.stack([with_without & later & ((every - both) * n >= least), with_without])
    var = np.diagonal(gram).astype(np.float64)
    left = _left(both, cov, (own, every), (var[rows, None], var[None, :]))
    negated, first, second = np.nonzero(able & (left > 0))
    left = left[first, second]
    best = np.argsort(-left, kind="stable")[:most]
    first = first + rows.start
    return np.stack([first, second, negated], axis=1)[best], left[best], len(first)


def _left(both: np.ndarray, cov: np.ndarray, mean: tuple, var: tuple) -> np.ndarray:
    """What the best a + b A + c B leaves of the variance of A AND B, if both are labels."""
    (mean_a, mean_b), (var_a, var_b) = mean, var
    with_a, with_b = both * (1 - mean_a), both * (1 - mean_b)  # covariances with A AND B
    determinant = var_a * var_b - cov**2
    able = determinant > LEFT * var_a * var_b
    explained = with_a**2 * var_b - 2 * with_a * with_b * cov + with_b**2 * var_a
    own = both * (1 - both)
    left = np.where(able, own - explained / np.where(able, determinant, 1.0), 0.0)
    return np.where(left > LEFT * own, left, 0.0)


def _different(
    matrix: ConceptRows, kept: np.ndarray, columns: FormulaRows, train: np.ndarray
) -> np.ndarray:
    """Which formulas equal, on train, no concept and no formula before them.

    By two sums with random whole weights, which are exact in float64 for labels.
    """
    start = len(matrix.concepts)
    which = np.concatenate([kept, np.arange(start, len(columns.concepts))])
    weights = np.random.default_rng(0).integers(1, 1 << 30, (len(train), 2)).astype(np.float64)
    height, sums = tiles.tile_rows([len(train)], 4 * len(which)), np.zeros((len(which), 2))
    for begin in range(0, len(train), height):
        numbers = np.asarray(tiles.tile_index(train, begin, height, len(train)))
        count = min(height, len(train) - begin)
        tile = np.asarray(columns.rows(numbers, which), np.float64)[:count]
        sums += tile.T @ weights[begin : begin + count]
    _, first = np.unique(sums, axis=0, return_index=True)
    return np.sort(first[first >= len(kept)]) - len(kept)
