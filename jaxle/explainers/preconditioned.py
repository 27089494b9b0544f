"""The preconditioned explainer: concepts that predict what a dense fit predicts.

    teach     ridge of every neuron on all concepts, w_R                  (`solve.ridge.teach`)
    select    forward selection on the prediction X w_R, over all concepts;
              length by the mean correlation over folds with the real activation,
              less `min_gain` a concept                                   (`solve.forward`)
    exchange  each concept gives way to whichever explains more of the
              prediction beside the others; least squares on train ∪ val  (`solve.exchange`)

jaxle's own procedure, not the paper's: method.md §9. The idea of selecting on a denoised target is
Paul, Bair, Hastie & Tibshirani's, Annals of Statistics 2008
(https://doi.org/10.1214/009053607000000578). What each part gains: docs/recovery.md. Train and val
serve alike, in folds; test images are not read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxle.arrays import Array
from jaxle.explainers import table
from jaxle.explainers.protocol import Problem
from jaxle.explainers.search import Found
from jaxle.explanations import Explanations
from jaxle.options import option
from jaxle.solve import exchange, forward, least_squares, ridge
from jaxle.solve.measure import Measured

MOST_EXCHANGES = 100  # each explains more, so that they end by themselves long before


@dataclass(frozen=True)
class Preconditioned:
    """Options of `preconditioned`."""

    max_concepts: int = option(10, "most concepts in an explanation", low=1)
    min_gain: float = option(
        0.02, "what one more concept must add to the mean correlation over folds", low=0, high=1
    )
    mean_length: float | None = option(
        None, "set min_gain so that explanations are no longer than this on average", low=1
    )
    teacher: bool = option(True, "select on the dense ridge's prediction, not on the activation")
    exchanges: int = option(
        exchange.ROUNDS, "rounds in which each concept may give way to a better one", low=0
    )


def explain(problem: Problem, options: Preconditioned) -> Explanations:
    """Returns explanations that predict better than the paper's at the same length.

    `val_correlation` is the mean over folds of the correlation, in a fold, of the activation and
    the fit of these concepts on the other folds. `facts` hold the `min_gain` used, and the
    teacher's strengths.
    """
    measured, live = problem.measured, table.counted(problem)
    n_images = measured.train.n + measured.val.n
    most = problem.most_concepts(options.max_concepts, n_images)
    if options.mean_length is None and options.min_gain > 0:
        # the length of largest ρ − min_gain · length, where ρ moves by at most 2
        most = min(most, 1 + int(2 / options.min_gain))
    rounds = min(options.exchanges, MOST_EXCHANGES)
    options = dataclasses.replace(options, max_concepts=most, exchanges=rounds)
    teacher = teach(measured, mesh=problem.mesh) if options.teacher else None
    weights = None if teacher is None else teacher.weights
    found, used = search(measured, weights, options, live=live, mesh=problem.mesh)
    facts: dict[str, Any] = {
        "n_concepts": len(measured.kept),
        "n_folds": len(measured.folds),
        "min_gain": used,
        "mean_length": float(found.count[live].mean()) if live.any() else 0.0,
    }
    if teacher is not None:
        facts["teacher"] = _teacher_facts(teacher, live)
    return Explanations(table.rows(found, problem), split=problem.split, facts=facts)


def teach(measured: Measured, *, mesh: Mesh | None = None) -> ridge.Teacher:
    """Returns the dense fit on train ∪ val, raw columns.

    Args:
      measured: from `solve.measure.measure` with folds.
      mesh: neurons are split over its axis `data`.
    """
    assert measured.total is not None, "moments with folds"
    return ridge.teach(measured.total, spectrum=measured.spectrum, mesh=mesh)


def search(
    measured: Measured,
    weights: Float[Array, "concepts neurons"] | None,
    options: Preconditioned,
    *,
    live: Bool[np.ndarray, " neurons"],
    mesh: Mesh | None = None,
) -> tuple[Found, float]:
    """Returns the selection as arrays, beside `search.greedy`'s, and the `min_gain` used.

    Args:
      measured: moments with folds.
      weights: the teacher's, raw columns; None selects for the activation itself.
      options: the method's.
      live: whose lengths count for `mean_length`.
      mesh: neurons are split over its axis `data`.
    """
    total, most = measured.total, options.max_concepts
    assert total is not None, "moments with folds"
    min_gain = options.min_gain
    selected = forward.path(total, weights, most=most, mesh=mesh)
    rho = forward.judge(measured.folds, selected)
    if options.mean_length is not None:
        min_gain = forward.gain_for(rho, options.mean_length, live)
    count = forward.lengths(rho, min_gain)
    selected = np.where(np.arange(most) < count[:, None], selected, -1).astype(np.int32)
    better = exchange.exchange(total, selected, weights, rounds=options.exchanges, mesh=mesh)
    if (better != selected).any():
        selected, rho = better, forward.judge(measured.folds, better)
    fitted, bias, _ = least_squares.refit(total, total, selected)
    last = np.take_along_axis(rho, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    parts = (fitted, bias, np.where(count > 0, last, 0.0))
    return Found(selected, count, *(part.astype(np.float32) for part in parts)), float(min_gain)


def _teacher_facts(teacher: ridge.Teacher, live: np.ndarray) -> dict[str, float | None]:
    parts = (teacher.strength, teacher.freedom)
    strength, freedom = (np.asarray(part, np.float64)[live] for part in parts)
    if not live.any():
        names = ("least_strength", "median_strength", "largest_strength", "mean_freedom")
        return dict.fromkeys(names)
    return {
        "least_strength": float(strength.min()),
        "median_strength": float(np.median(strength)),
        "largest_strength": float(strength.max()),
        "mean_freedom": float(freedom.mean()),
    }
