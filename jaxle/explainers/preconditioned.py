"""The preconditioned explainer: concepts that predict what a dense fit predicts.

    teach     ridge of every neuron on all concepts, w_R                  (`solve.ridge.teach`)
    select    forward selection on the prediction X w_R, over all concepts;
              length by the mean correlation over folds with the real activation,
              less `min_gain` a concept, and no longer than noise allows  (`solve.forward`)
    exchange  each concept gives way to whichever explains more of the
              prediction beside the others                                (`solve.exchange`)
    reword    of wordings of equal value one with fewer negative terms    (`solve.wording`)
    nested    all of this once more for each fold, without its activations,
              judged on it: noise is not explained, and ρ̄ is honest

Weights are least squares on train ∪ val. jaxle's own procedure, not the paper's: method.md §9. The
idea of selecting on a denoised target is Paul, Bair, Hastie & Tibshirani's, Annals of Statistics
2008 (https://doi.org/10.1214/009053607000000578). What each part gains: docs/recovery.md and
benchmarks/noise.py. Train and val serve alike, in folds; test images are not read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxle.explainers import table
from jaxle.explainers.protocol import Problem
from jaxle.explainers.search import Found
from jaxle.explanations import Explanations
from jaxle.mesh import of_first
from jaxle.options import option
from jaxle.solve import exchange, forward, least_squares, ridge, wording
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments, correlations, merge

MOST_EXCHANGES = 100  # each explains more, so that they end by themselves long before


@dataclass(frozen=True)
class Preconditioned:
    """Options of `preconditioned`."""

    max_concepts: int = option(10, "most concepts in an explanation", low=1)
    min_gain: float = option(
        0.02, "what one more concept must add to the mean correlation over folds", low=0, high=1
    )
    mean_length: float | None = option(
        None, "set min_gain so that explanations are no longer than this on average", low=0
    )
    teacher: bool = option(True, "select on the dense ridge's prediction, not on the activation")
    exchanges: int = option(
        exchange.ROUNDS, "rounds in which each concept may give way to a better one", low=0
    )


def explain(problem: Problem, options: Preconditioned) -> Explanations:
    """Returns explanations that predict better than the paper's at the same length.

    `val_correlation` is the mean over folds of the correlation, in a fold, of the activation and
    the explanation of this length that the other folds give. `facts` hold the `min_gain` used, the
    `least` of such a mean that counts as more than noise, and the teacher's strengths.
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
    words = problem.lengths
    how = {"live": live, "skewness": problem.skewness, "words": words, "mesh": problem.mesh}
    found, limits = search(measured, teacher, options, **how)
    facts: dict[str, Any] = {
        "n_concepts": len(measured.kept),
        "n_folds": len(measured.folds),
        **limits._asdict(),
        "mean_length": float(_words(found.selected, words, 0)[live, -1].mean())
        if live.any()
        else 0.0,
    }
    if teacher is not None:
        facts["teacher"] = _teacher_facts(teacher, live)
    return Explanations(table.rows(found, problem), split=problem.split, facts=facts)


def teach(measured: Measured, *, mesh: Mesh | None = None) -> ridge.Teacher:
    """Returns what the dense fit on train ∪ val predicts.

    Args:
      measured: from `solve.measure.measure` with folds.
      mesh: neurons are split over its axis `data`.
    """
    assert measured.total is not None, "moments with folds"
    return ridge.teach(measured.total, known=measured.spectrum, mesh=mesh)


def search(
    measured: Measured,
    teacher: ridge.Teacher | None,
    options: Preconditioned,
    *,
    live: Bool[np.ndarray, " neurons"],
    skewness: Float[np.ndarray, " neurons"],
    words: Int[np.ndarray, " concepts"] | None = None,
    mesh: Mesh | None = None,
) -> tuple[Found, forward.Limits]:
    """Returns the selection as arrays, beside `search.greedy`'s, and what decided its lengths.

    Args:
      measured: moments with folds.
      teacher: from `teach`; None selects for the activation itself.
      options: the method's.
      live: whose lengths count for `mean_length`.
      skewness: of each neuron (`Problem.skewness`).
      words: of each concept (`Problem.lengths`); None: one.
      mesh: neurons are split over its axis `data`.
    """
    total, most, spectrum = measured.total, options.max_concepts, measured.spectrum
    assert total is not None and spectrum is not None, "moments with folds"
    how = {"words": words, "gram": correlations(total), "mesh": mesh}
    # of formulas also paths that take them sooner: which is better, the folds say
    prices = (0.0,) if words is None or not options.min_gain else (0.0, options.min_gain)
    find = [functools.partial(forward.path, most=most, price=price, **how) for price in prices]
    aim = None if teacher is None else teacher.aim
    paths = [[path(total, aim)] for path in find]
    own = [_judged_own(measured, found[0], skewness=skewness, words=words) for found in paths]
    rho, every = (np.concatenate(part, axis=1) for part in zip(*own, strict=True))
    wanted: list[np.ndarray | None] = [None] * len(find)
    if options.mean_length is None:  # the lengths are known, and what of a fold's paths is of use
        length = of_first(mesh, np.argmax(rho - options.min_gain * every, axis=1))
        some = np.isfinite(rho).any(axis=1)
        wanted = [
            np.where(some & (length // most == i), length % most + 1, 0) for i in range(len(find))
        ]
    spectrum = spectrum._replace(vectors=jax.device_put(spectrum.vectors))
    aims = []
    for i in range(len(measured.folds)):
        rest, smoothed = _rest(measured, i), None
        if teacher is not None:
            smoothed = ridge.smooth(rest, teacher.strength, spectrum, mesh=mesh)
        aims.append(smoothed)
        for path, found, counts in zip(find, paths, wanted, strict=True):
            found.append(path(rest, smoothed, wanted=counts))
    nested = [_judged(measured.folds, inner) for _, *inner in paths]
    judged = forward.Judged(rho, np.concatenate(nested, axis=1), every)
    limits = _limits(judged, measured.folds, options, live)
    length = of_first(mesh, forward.lengths(judged, limits))
    which, last = np.divmod(np.maximum(length - 1, 0), most)
    count = np.where(length > 0, last + 1, 0).astype(np.int32)
    selected, *inner = (_of(which, some) for some in zip(*paths, strict=True))
    rho = _of(which, nested)
    improve = functools.partial(_improve, count=count, rounds=options.exchanges, **how)
    better = [
        improve(_rest(measured, i), *part) for i, part in enumerate(zip(aims, inner, strict=True))
    ]
    if any((a != _cut(b, count)).any() for a, b in zip(better, inner, strict=True)):
        rho = _judged(measured.folds, better)
    selected = improve(total, aim, selected)
    fitted, bias, _ = least_squares.refit(total, total, selected)
    last = np.take_along_axis(rho, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    parts = (fitted, bias, np.where(count > 0, last, 0.0))
    return Found(selected, count, *(part.astype(np.float32) for part in parts)), limits


def _judged_own(
    measured: Measured, selected: np.ndarray, *, skewness, words
) -> tuple[np.ndarray, np.ndarray]:
    """ρ̄ of every length of a path on all images, −inf where that is noise; and its words."""
    rho = np.mean(forward.judge_folds(measured.folds, selected), axis=0)
    assert measured.total is not None, "moments with folds"
    real = forward.beyond_noise(measured.total, selected, skewness)
    return np.where(real, rho, -np.inf), _words(selected, words, 1)


def _of(which: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Each neuron's rows of one of several arrays."""
    return np.stack(parts)[which, np.arange(len(which))]


def _rest(measured: Measured, i: int) -> Moments:
    """Moments of all folds but one, with the Gram matrix of all: it says nothing of activations."""
    assert measured.total is not None, "moments with folds"
    folds = [fold for j, fold in enumerate(measured.folds) if j != i]
    return merge(folds, measured.total.gram)


def _judged(folds: Sequence[Moments], paths: Sequence[np.ndarray]) -> np.ndarray:
    """ρ̄ of every length, (neurons, most): each fold by the path that the others select."""
    each = [
        forward.judge([*folds[:i], *folds[i + 1 :]], fold, path)
        for i, (fold, path) in enumerate(zip(folds, paths, strict=True))
    ]
    return np.mean(each, axis=0)


def _limits(judged, folds, options: Preconditioned, live) -> forward.Limits:
    least = forward.least_nested(folds)
    if options.mean_length is None:
        return forward.Limits(options.min_gain, least)
    return forward.limits_for(judged, options.mean_length, live, least)


def _improve(moments: Moments, aim, selected, *, count, rounds: int, **how) -> np.ndarray:
    """The path cut to its length, after exchanges, in its best wording."""
    selected = _cut(selected, count)
    selected = exchange.exchange(moments, selected, aim, rounds=rounds, **how)
    return wording.reword(moments, selected, **how) if rounds else selected


def _words(selected: np.ndarray, words: np.ndarray | None, empty: int) -> np.ndarray:
    """(neurons, most): words of every length of a path, so many for an empty slot."""
    each = np.ones_like(selected) if words is None else words[np.maximum(selected, 0)]
    return np.cumsum(np.where(selected >= 0, each, empty), axis=1)


def _cut(selected: np.ndarray, count: np.ndarray) -> np.ndarray:
    places = np.arange(selected.shape[1])
    return np.where(places < count[:, None], selected, -1).astype(np.int32)


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
