"""INVERT of a whole layer: time a neuron and peak memory, beside a plain NumPy loop.

    python benchmarks/invert.py

Formulas of up to 3 words, beam 3, of 512 neurons, 500 labels and 20,000 images. jaxle's time is
that of the search (`explainers.invert.explain`, without the moments that every explainer gets), and
includes compilation. The loop goes over neurons and over formulas, as the paper's method is
written: the ranks of a neuron once, then for each formula of the beam and each label AND, AND NOT,
OR, OR NOT by a vector of truth; it is run on `--loop-neurons` neurons, on train alone. Both must
reach the same AUROC on train.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

import jax
import numpy as np
from scipy.stats import rankdata

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import ratio  # noqa: E402
from jaxle.data.splits import make_split
from jaxle.explainers import invert
from jaxle.explainers.protocol import ArrayRows, Problem
from jaxle.solve import auroc
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments

SIZES = {"neurons": 512, "concepts": 500, "images": 20_000, "loop-neurons": 2}
OPTIONS = invert.Invert()


def made(sizes: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Activations and labels; every neuron follows two labels, with noise."""
    rng = np.random.default_rng(0)
    labels = rng.random((sizes.images, sizes.concepts)) < rng.uniform(0.005, 0.3, sizes.concepts)
    pair = rng.integers(0, sizes.concepts, (2, sizes.neurons))
    activations = rng.standard_normal((sizes.images, sizes.neurons), np.float32)
    activations += labels[:, pair[0]] | labels[:, pair[1]]
    return activations, labels.astype(np.uint8)


def posed(activations: np.ndarray, labels: np.ndarray) -> Problem:
    """The problem with the moments that `invert` asks for alone: which neurons vary."""
    n_concepts, n_neurons = labels.shape[1], activations.shape[1]
    ones, none = np.ones(n_neurons, np.float32), np.zeros((0, 0), np.float32)
    moments = Moments(1, np.zeros(0, np.float32), 0 * ones, none, none, ones)
    names = tuple(f"c{j}" for j in range(n_concepts))
    measured = Measured(np.arange(n_concepts), moments, moments)
    split = make_split(len(labels), 0)
    return Problem(activations, names, ArrayRows(labels, names), split, measured)


def loop(activations: np.ndarray, labels: np.ndarray) -> list[float]:
    """Best AUROC on train of each neuron, formula by formula."""
    truth, n, best = labels.astype(bool).T, len(labels), []
    literals = [*truth, *~truth]
    for q in activations.T:
        ranks = rankdata(q) - (n + 1) / 2

        def score(holds: np.ndarray, ranks: np.ndarray = ranks) -> float:
            size = holds.sum()
            if not OPTIONS.min_fraction * n <= size <= OPTIONS.max_fraction * n:
                return -np.inf
            return 0.5 + ranks[holds].sum() / (size * (n - size))

        beam = sorted(((score(one), i, one) for i, one in enumerate(literals)), reverse=True)[:3]
        for _ in range(2):
            found = {value: (value, i, holds) for value, i, holds in beam}
            for _, _, holds in beam:
                for i, one in enumerate(literals):
                    for new in (holds & one, holds | one):
                        found.setdefault(value := score(new), (value, i, new))
            beam = sorted(found.values(), key=lambda own: -own[0])[:3]
        best.append(beam[0][0])
    return best


def main() -> None:
    """Runs both sides and prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    sizes = parser.parse_args()
    activations, labels = made(sizes)
    problem = posed(activations, labels)
    before, began = peak(), time.perf_counter()
    invert.explain(problem, OPTIONS)
    seconds, most = time.perf_counter() - began, peak()
    began, busy = time.perf_counter(), time.process_time()
    invert.explain(problem, OPTIONS)
    again, busy = time.perf_counter() - began, time.process_time() - busy
    train, some = problem.split.train, slice(0, sizes.loop_neurons)
    of = auroc.images(activations[train][:, some], lambda i: labels[i], train, sizes.concepts)
    beam = auroc.search(
        of,
        sizes.concepts,
        most=3,
        width=3,
        fractions=(OPTIONS.min_fraction, OPTIONS.max_fraction),
    )
    own = np.asarray(beam.score).max(axis=1)
    began, loop_busy = time.perf_counter(), time.process_time()
    other = loop(activations[train][:, some], labels[train])
    each = (time.perf_counter() - began) / sizes.loop_neurons
    loop_busy = (time.process_time() - loop_busy) / sizes.loop_neurons
    print(
        f"{sizes.neurons} neurons, {sizes.concepts} labels, {sizes.images} images; "
        f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}"
    )
    print(f"jaxle  {1000 * seconds / sizes.neurons:.1f} ms a neuron, then {again:.1f} s in all")
    print(f"       peak {most:.2f} GB of host memory, {before:.2f} of it before")
    print(f"loop   {1000 * each:.0f} ms a neuron: {each * sizes.neurons / again:.0f} times")
    print(f"largest difference in AUROC on train: {np.abs(own - other).max():.1e}")
    ratio("NumPy's loop / jaxle warm, CPU seconds", loop_busy * sizes.neurons / busy)
    ratio("peak memory above inputs, MB", 1000 * (most - before))


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
