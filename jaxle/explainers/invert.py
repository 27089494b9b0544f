"""INVERT: the logical formula over labels that separates a neuron's high activations from its low.

    rank     doubled, centred ranks of train activations, ties sharing their mean  (`solve.auroc`)
    search   beam search by AUROC on train: concepts and negated concepts, then one more literal by
             AND or OR at a time; only formulas that hold of a share of the images from
             `min_fraction` to `max_fraction`
    choose   of the beam's formulas of all lengths the one of largest AUROC on val; of ties that of
             largest AUROC on train, then the shorter

Source: Bykov et al. 2023, "Labeling Neural Representations with Inverse Recognition"
(https://arxiv.org/abs/2311.13594). The paper searches, chooses the length and reports on the same
images; here test images are not read, and val decides what is worth a longer formula.

A formula counts as an explanation of weight 1 and bias 0. A correlation does not depend on these,
nor do ablation scores that fit scale and shift on val; ablation by the paper's procedure starts its
hundred steps from them. A concept alone is a `description`, any other formula a `formula`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from jaxle.explainers.protocol import Problem
from jaxle.explanations import Explanation, Explanations, FormulaRows
from jaxle.explanations.formula import And, Formula, Name, Not, Or, write
from jaxle.options import option
from jaxle.solve import auroc, tiles
from jaxle.units import InUnits

MOST_WORDS = 3  # of which every formula is a chain of literals
TIE = 1e-9  # of AUROC on val


@dataclass(frozen=True)
class Invert:
    """Options of `invert`; `min_fraction` is that of the paper's Figure 1."""

    max_length: int = option(3, "most words in a formula (L)", low=1, high=MOST_WORDS)
    width: int = option(3, "formulas kept of each length (the beam, B)", low=1, high=128)
    min_fraction: float = option(
        0.0035, "least share of train images where a formula holds (α)", low=0, high=1
    )
    max_fraction: float = option(0.5, "largest such share", above=0, high=1)


def explain(problem: Problem, options: Invert) -> Explanations:
    """Returns the formula of largest AUROC of every neuron.

    The score `val auroc` is what chose it. A neuron without a formula of AUROC above ½ on val is
    unexplained.

    Raises:
      ValueError: concepts that are no labels of 0 and 1, or no concept that holds of as many images
        as asked for.
    """
    if options.min_fraction > options.max_fraction:
        raise ValueError(
            f"invert's min_fraction={options.min_fraction} is above "
            f"max_fraction={options.max_fraction}: expected a share of images between them."
        )
    _check_labels(problem)
    found, on_train, on_val = _search(problem, options)
    tied = on_val >= on_val.max(axis=1, keepdims=True) - TIE
    best = np.argmax(np.where(tied, on_train, -np.inf), axis=1)
    score = np.take_along_axis(on_val, best[:, None], axis=1)[:, 0]
    dead, varies = problem.dead, problem.measured.train.varies()
    explained = (score > 0.5) & ~dead & varies
    formulas = [
        _formula(found, k, i, problem.concepts) if yes else None
        for k, (i, yes) in enumerate(zip(best.tolist(), explained.tolist(), strict=True))
    ]
    rho = _val_correlation(problem, formulas)
    rows = []
    for k, formula in enumerate(formulas):
        flag = "dead" if dead[k] else "constant" if not varies[k] else "unexplained"
        if formula is None:
            rows.append(Explanation(k, (), (), 0.0, 0.0, flag))
        elif isinstance(formula, Name):
            rows.append(Explanation(k, (formula.name,), (1.0,), 0.0, rho[k], "", "description"))
        else:
            rows.append(Explanation(k, (write(formula),), (1.0,), 0.0, rho[k], "", "formula"))
    facts = {
        "n_concepts": len(problem.concepts),
        "mean_val_auroc": float(score[explained].mean()) if explained.any() else 0.5,
    }
    scores = {"val auroc": np.where(explained, score, 0.5)}
    return Explanations(tuple(rows), scores, split=problem.split, facts=facts)


def _check_labels(problem: Problem) -> None:
    """Raises a ValueError where train or val has a probability that is neither 0 nor 1."""
    width = len(problem.concepts)
    for index in problem.split[:2]:
        height = tiles.tile_rows([len(index)], width)
        for start in range(0, len(index), height):
            some = index[start : start + height]
            tile = np.asarray(problem.matrix.rows(some, problem.measured.kept))
            wrong = np.argwhere((tile != 0) & (tile != 1))
            if len(wrong):
                image, j = wrong[0]
                raise ValueError(
                    "invert explains with labels of 0 and 1, got "
                    f"{float(tile[image, j]):.4g} of {problem.concepts[j]!r} in image "
                    f"{some[image]}: give it a method on labels, or probabilities > 0.5."
                )


def _search(
    problem: Problem, options: Invert
) -> tuple[auroc.Formulas, Float[np.ndarray, "neurons found"], Float[np.ndarray, "neurons found"]]:
    """All formulas of the beams, and their AUROC on train and on val; −inf where there is none."""
    kept, (train, val, _) = problem.measured.kept, problem.split
    units = problem.units[1]
    values = problem.activations if units is None else InUnits(problem.activations, units)
    n_neurons, n_concepts = values.shape[1], len(problem.concepts)
    size = auroc.block_size(max(len(train), len(val)), n_concepts, options.width)
    size = min(size, tiles.bucket(n_neurons))
    parts = []

    def rows(index: np.ndarray) -> np.ndarray:
        return np.asarray(problem.matrix.rows(index, kept))

    for start in range(0, n_neurons, size):
        # past the end the last neuron repeats
        neurons = np.minimum(np.arange(start, start + size), n_neurons - 1)
        on_train, on_val = (
            auroc.images(np.asarray(values[index])[:, neurons], rows, index, n_concepts)
            for index in (train, val)
        )
        beam = auroc.search(
            on_train,
            n_concepts,
            most=options.max_length,
            width=options.width,
            fractions=(options.min_fraction, options.max_fraction),
        )
        found = np.asarray(beam.score) >= 0
        judged = (np.asarray(beam.score), auroc.scores(on_val, beam.formulas))
        judged = (np.where(found, score, -np.inf) for score in judged)
        parts.append((*map(np.asarray, beam.formulas), *judged))
    whole = [np.concatenate(each)[:n_neurons] for each in zip(*parts, strict=True)]
    if not (whole[4] >= 0).any():
        raise ValueError(
            f"invert finds no concept that holds of {options.min_fraction:.3g} to "
            f"{options.max_fraction:.3g} of the {len(train)} train images: lower min_fraction, or "
            "raise max_fraction."
        )
    return auroc.Formulas(*whole[:4]), whole[4], whole[5]


def _formula(found: auroc.Formulas, k: int, i: int, concepts: tuple[str, ...]) -> Formula:
    """One formula of literals; what is joined by one operator alone is one list of parts."""
    literals: list[Formula] = []
    for j, negated in zip(found.concept[k, i], found.negated[k, i], strict=True):
        name = Name(concepts[int(j)])
        literals.append(Not(name) if negated else name)
    formula = literals[0]
    for literal, either in list(zip(literals, found.either[k, i], strict=True))[
        1 : int(found.length[k, i])
    ]:
        join = Or if either else And
        parts = formula.parts if isinstance(formula, join) else (formula,)
        formula = join((*parts, literal))
    return formula


def _val_correlation(
    problem: Problem, formulas: list[Formula | None]
) -> Float[np.ndarray, " neurons"]:
    """Pearson's correlation of each formula and its neuron on val; 0 where there is none."""
    rho, found = np.zeros(len(formulas)), [one for one in formulas if one is not None]
    if not found:
        return rho
    own = [k for k, one in enumerate(formulas) if one is not None]
    columns = list(dict.fromkeys(found))
    place = {formula: j for j, formula in enumerate(columns)}
    index, which = problem.split.val, np.array([place[formula] for formula in found])
    matrix = FormulaRows(problem.matrix, columns)
    height = tiles.tile_rows([len(index)], 4 * len(own))
    sums, shift = np.zeros((5, len(own))), None
    for start in range(0, len(index), height):
        some = index[start : start + height]
        a = np.asarray(problem.activations[some], np.float64)[:, own]
        s = np.asarray(matrix.rows(some), np.float64)[:, which]
        shift = a[:1] if shift is None else shift
        a = a - shift
        sums += [np.sum(part, axis=0) for part in (a, s, a * a, s * s, a * s)]
    a, s, aa, ss, both = sums / len(index)
    spread = np.maximum(aa - a * a, 0) * np.maximum(ss - s * s, 0)
    varies: Bool[np.ndarray, " own"] = spread > 0
    rho[own] = np.where(varies, (both - a * s) / np.sqrt(np.where(varies, spread, 1.0)), 0.0)
    return rho
