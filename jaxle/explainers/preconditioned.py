"""The preconditioned explainer: concepts that predict what a dense fit predicts, as many as five folds find worth their length.

    teach    ridge of every neuron on all concepts, w_R                                      (`solve.ridge.teach`; its ceiling, too)
    select   forward selection on the teacher's prediction X w_R, over all concepts; the path's length by mean correlation over the
             folds with the real activation, less `min_gain` a concept                                             (`solve.forward`)
    exchange each concept gives way to whichever explains more of the prediction beside the others; least-squares weights on
             train ∪ val                                                                                           (`solve.exchange`)

jaxle's own procedure, not the paper's: method.md §9. The idea of selecting on a denoised target is Paul, Bair, Hastie & Tibshirani, Annals
of Statistics 2008 (https://doi.org/10.1214/009053607000000578). The exchanges earned their place in docs/recovery.md; `exchanges=0`
leaves them out. Train and val serve alike, in folds; test images are never seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from jaxle.data.splits import Split
from jaxle.explainers import table
from jaxle.solve.measure import Measured
from jaxle.explainers.search import Found
from jaxle.explanations import Explanations
from jaxle.solve import exchange, forward, least_squares, ridge
from jaxle.solve.exchange import ROUNDS
from jaxle.solve.folds import N_FOLDS
from jaxle.solve.moments import merge

__all__ = ["N_FOLDS", "explain", "search", "select", "teach"]


def explain(
    measured: Measured,
    concepts: Sequence[str],
    maxima: np.ndarray,
    split: Split,
    *,
    max_concepts: int,
    min_gain: float,
    mean_length: float | None = None,
    teacher: bool = True,
    exchanges: int = ROUNDS,
    dead_threshold: float,
    mesh: Mesh | None = None,
) -> Explanations:
    """Teach, then select; arguments as in `select`, but for `teacher`: whether there is one."""
    return select(
        measured,
        concepts,
        maxima,
        split,
        max_concepts=max_concepts,
        min_gain=min_gain,
        mean_length=mean_length,
        teacher=teach(measured, mesh=mesh) if teacher else None,
        exchanges=exchanges,
        dead_threshold=dead_threshold,
        mesh=mesh,
    )


def teach(measured: Measured, *, mesh: Mesh | None = None) -> ridge.Teacher:
    """The dense fit on train ∪ val, raw columns; its test correlation is the ceiling of what the concepts can express.

    Args:
      measured: from `measure` with folds.
      mesh: neurons are split over its axis `data`.
    """
    return ridge.teach(merge([measured.train, measured.val]), mesh=mesh)


def select(
    measured: Measured,
    concepts: Sequence[str],
    maxima: np.ndarray,
    split: Split,
    *,
    max_concepts: int,
    min_gain: float,
    mean_length: float | None = None,
    teacher: ridge.Teacher | None,
    exchanges: int = ROUNDS,
    dead_threshold: float,
    mesh: Mesh | None = None,
) -> Explanations:
    """Select the concepts and put the table together.

    Args:
      measured: from `measure` with folds.
      concepts: names of the kept columns.
      maxima: (neurons,) each neuron's largest activation over all probe images.
      split: kept with the explanations.
      max_concepts: most concepts in an explanation.
      min_gain: what one more concept must add to the mean correlation over the folds.
      mean_length: set `min_gain` instead, so that the mean length over neurons neither dead nor constant does not exceed this; at least 1.
      teacher: from `teach`; None selects for the activation itself.
      exchanges: rounds in which each concept may give way to a better one; 0 for none.
      dead_threshold: see `linear.explain`.
      mesh: neurons are split over its axis `data`.

    Returns:
      Explanations; `val_correlation` is the mean over the folds of the correlation, in a fold, of the activation and the fit of these
      concepts on the other folds. `facts` hold the `min_gain` used and the teacher's strengths.
    """
    live = table.live(maxima, dead_threshold, measured.train)
    weights = None if teacher is None else teacher.weights
    limits = {"max_concepts": max_concepts, "min_gain": min_gain, "mean_length": mean_length}
    found, used = search(measured, weights, **limits, exchanges=exchanges, live=live, mesh=mesh)
    facts = {
        "n_concepts": len(measured.kept),
        "n_folds": len(measured.folds),
        "min_gain": used,
        "mean_length": float(found.count[live].mean()) if live.any() else 0.0,
    }
    if teacher is not None:
        strength, freedom = (
            np.asarray(part, np.float64)[live] for part in (teacher.strength, teacher.freedom)
        )
        facts["teacher"] = {
            "least_strength": float(strength.min(initial=np.inf)) if live.any() else None,
            "median_strength": float(np.median(strength)) if live.any() else None,
            "largest_strength": float(strength.max(initial=0)) if live.any() else None,
            "mean_freedom": float(freedom.mean()) if live.any() else None,
        }
    return Explanations(
        table.rows(found, concepts, maxima, dead_threshold, measured.train),
        split=split,
        facts=facts,
    )


def search(
    measured: Measured,
    weights: jax.Array | None,
    *,
    max_concepts: int,
    min_gain: float,
    mean_length: float | None = None,
    exchanges: int = ROUNDS,
    live: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> tuple[Found, float]:
    """The selection as arrays, beside `search.greedy`; arguments as in `select`.

    Args:
      weights: (concepts, neurons) the teacher's, raw columns; None selects for the activation itself.
      live: (neurons,) bool, whose lengths count for `mean_length`; None: all.

    Returns:
      What was found, and the `min_gain` used.

    Raises:
      ValueError: fewer than two folds.
    """
    total = merge([measured.train, measured.val])
    selected = forward.path(total, weights, most=max_concepts, mesh=mesh)
    rho = forward.judge(measured.folds, selected)
    if mean_length is not None:
        min_gain = forward.gain_for(
            rho, mean_length, np.ones(len(rho), bool) if live is None else live
        )
    count = forward.lengths(rho, min_gain)
    selected = np.where(np.arange(max_concepts) < count[:, None], selected, -1).astype(np.int32)
    better = exchange.exchange(total, selected, weights, rounds=exchanges, mesh=mesh)
    if (better != selected).any():
        selected, rho = better, forward.judge(measured.folds, better)
    weights, bias, _ = least_squares.refit(total, total, selected)
    last = np.take_along_axis(rho, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    return Found(
        selected,
        count,
        *(part.astype(np.float32) for part in (weights, bias, np.where(count > 0, last, 0.0))),
    ), float(min_gain)
