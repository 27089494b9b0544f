"""From arrays to explanations at the paper's size, cold and warm, beside the machine's floor.

    35,000 train and 5,000 val images × 8,438 concepts × 2,048 neurons

on a generated problem (benchmarks/problems.py). Concepts are made of embeddings where they are
read, as a run does; one row reads them from an array in the host's memory, as `jaxle.explain` does.

    floor of the moments   their multiplications at the rate of a large product (HIGHEST)
    floor of the fit       one product G·W, the certificate of every neuron
    floor of the search    the pools' moments read once a step, at the rate of a copy

Last come the null, which is all of it once more for permuted activations, and the preconditioned
search with its moments of folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.accelerator.section import Out, timed
from benchmarks.accelerator.table import short
from benchmarks.problems import SCALE, SHIFT, embedded
from benchmarks.rivals import L1_RATIO, LAM, LIMITS, TOL
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.data.splits import Split
from jaxle.evaluation.nulls import PermutedActivations
from jaxle.explainers import preconditioned, rank, search
from jaxle.solve import noise, ridge
from jaxle.solve.folds import N_FOLDS, fold_moments
from jaxle.solve.measure import Measured
from jaxle.solve.moments import merge, second_moments

POOL = 100  # candidates kept a neuron


class Size(NamedTuple):
    """Of the problem; `numbers` in an embedding."""

    train: int
    val: int
    concepts: int
    neurons: int
    numbers: int


PAPER = Size(35_000, 5_000, 8_438, 2_048, 1024)
SMALL = Size(1_500, 300, 200, 64, 32)


def measure(out: Out) -> None:
    """Rows of the table "solver"; hands on the seconds of the whole."""
    size = SMALL if out.small else PAPER
    n, m, k = size.train + size.val, size.concepts, size.neurons
    images, texts, targets = embedded(n, m, k, dim=size.numbers)
    names = [f"concept {i}" for i in range(m)]
    concepts = ContrastiveConcepts.make(names, images, texts, SCALE, SHIFT)
    rows = np.random.default_rng(0).permutation(n)
    train, val = rows[: size.train], rows[size.train :]
    flops = float(m * m + 2 * m * k)  # an image, the symmetric half
    made = 2.0 * m * size.numbers
    highest, copy = out.known["highest"], out.known["copy"]
    found: dict[str, Any] = {}
    stages: dict[str, tuple[Callable[[], Any], float, str]] = {
        "moments, train": (
            lambda: second_moments(concepts.rows, targets, train),
            size.train * (flops + made) / highest,
            "products, HIGHEST",
        ),
        "moments, val": (
            lambda: second_moments(concepts.rows, targets, val),
            size.val * (flops + made) / highest,
            "products, HIGHEST",
        ),
        "fit and order": (
            lambda: rank.candidates(found["moments, train"], LAM, L1_RATIO, tol=TOL, pool=POOL),
            2.0 * m * m * k / highest,
            "one product G·W",
        ),
        "search": (
            lambda: search.greedy(
                found["moments, train"],
                found["moments, val"],
                found["fit and order"].order,
                **LIMITS,
            ),
            8.0 * k * POOL * LIMITS["max_concepts"] / copy,
            "bytes of the pools",
        ),
    }
    totals = [0.0, 0.0, 0.0]
    for stage, (run, floor, of) in stages.items():
        found[stage], cold = timed(run)
        warm = min(timed(run)[1] for _ in range(2))
        totals = [total + x for total, x in zip(totals, (cold, warm, floor), strict=True)]
        _row(out, stage, cold, warm, k, floor, of)
    out.know(solver=totals[1], solver_neurons=k)
    cold, warm, floor = totals
    _row(out, "arrays to explanations", cold, warm, k, floor, "the sum")
    ranked = found["fit and order"]
    gap, length = 2 * ranked.gap.max(), found["search"].count.mean()
    _row(
        out,
        f"(worst gap {gap:.1e} of the objective at zero, all converged: {ranked.converged.all()}; "
        f"{length:.2f} concepts an explanation)",
    )
    if out.has(3 * warm + 5):
        _null(out, concepts, targets, Split(train, val, train[:0]), k)
    else:
        _row(out, "null: all of it for permuted activations (skipped: no time left)")
    found.clear()
    if out.has(60 if not out.small else 0):
        _from_host(out, concepts, targets, train, k, size, highest)
    else:
        _row(out, "moments, train, concepts from the host (skipped: no time left)")
    if out.has(60 if not out.small else 0):
        _preconditioned(out, concepts, targets, train, val, flops + made, highest)
    else:
        _row(out, "preconditioned (skipped: no time left)")


def _null(out, concepts, targets, split: Split, k: int) -> None:
    """Moments, fit and search of activations permuted over the images: programs are compiled."""
    permuted = PermutedActivations(targets, split, 0, 0)[:]

    def run():
        first, second = (second_moments(concepts.rows, permuted, i) for i in split[:2])
        ranked = rank.candidates(first, LAM, L1_RATIO, tol=TOL, pool=POOL)
        return search.greedy(first, second, ranked.order, **LIMITS)

    _row(out, "null: all of it for permuted activations", None, timed(run)[1], k)


def _from_host(out, concepts, targets, train, k, size: Size, highest: float) -> None:
    """The moments of a matrix of concepts that lies in the host's memory."""
    features = np.empty((len(targets), size.concepts), np.float32)
    for start in range(0, len(targets), 4096):
        index = np.arange(start, min(start + 4096, len(targets)))
        features[index] = np.asarray(concepts.rows(index))
    _, cold = timed(lambda: second_moments(features, targets, train))
    _, warm = timed(lambda: second_moments(features, targets, train))
    m = size.concepts
    floor = size.train * (m * m + 2.0 * m * k) / highest
    moved = 4.0 * size.train * (m + k) / out.known["upload"]
    _row(out, "moments, train, concepts from the host", cold, warm, k, floor, "products, HIGHEST")
    _row(out, "(the same: bytes from the host alone)", None, None, k, moved, "copy from the host")


def _preconditioned(out, concepts, targets, train, val, flops: float, highest: float) -> None:
    """`search="preconditioned"`, stage by stage."""
    k, m = targets.shape[1], len(concepts.concepts)
    both = np.concatenate([train, val])
    options = preconditioned.Preconditioned(LIMITS["max_concepts"], LIMITS["min_gain"])
    found: dict[str, Any] = {}

    def folds():
        moments = fold_moments(concepts.rows, targets, train, val)
        return moments, merge([moments.train, moments.val])

    def measured() -> Measured:
        (moments, total), spectrum = found["moments of folds"], found["spectrum"]
        return Measured(np.arange(m), moments.train, moments.val, moments.folds, total, spectrum)

    def select():
        live, skewness = np.ones(k, bool), noise.skewness(targets, both)
        teacher = found["teacher"]
        return preconditioned.search(measured(), teacher, options, live=live, skewness=skewness)

    stages: dict[str, tuple[Callable[[], Any], float | None, str]] = {
        "moments of folds": (folds, len(both) * flops / highest, "products, HIGHEST"),
        "spectrum": (lambda: ridge.spectrum(found["moments of folds"][1]), None, ""),
        "teacher": (lambda: preconditioned.teach(measured()), None, ""),
        "selection": (select, None, ""),
    }
    for stage, (run, floor, of) in stages.items():
        found[stage], cold = timed(run)
        warm = timed(run)[1] if out.has(1.5 * cold) else None
        of = f"{of}, {N_FOLDS} folds" if floor else of
        _row(out, f"preconditioned: {stage}", cold, warm, k, floor, of)


def _row(out: Out, stage, cold=None, warm=None, neurons=None, floor=None, of="") -> None:
    out.row(
        "solver",
        {
            "stage": stage,
            "first call, s": short(cold),
            "warm, s": short(warm),
            "ms a neuron": short(1e3 * warm / neurons) if warm and neurons else "",
            "floor, s": short(floor),
            "warm / floor": short(warm / floor) if warm and floor else "",
            "floor of": of,
        },
    )
