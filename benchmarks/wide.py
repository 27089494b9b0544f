"""Claim: many neurons and concepts need little memory beyond inputs, moments and one block.

    python benchmarks/wide.py [--neurons 100000] [--concepts 8000]

One pass of the paper's search; memory is in GiB.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks import problems  # noqa: E402
from benchmarks.ratios import ratio  # noqa: E402
from benchmarks.solver import memory, ours  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of many neurons and concepts")
    parser.add_argument("--neurons", type=int, default=100_000)
    parser.add_argument("--concepts", type=int, default=8000)
    own = parser.parse_args()
    n_neurons = own.neurons
    features, base = problems.similarity(3500, own.concepts, 2048)
    random = np.random.default_rng(1)
    targets = np.empty((len(base), n_neurons), np.float32)
    for start in range(0, n_neurons, 2048):  # pairs of neurons, mixed
        a, b = (random.permutation(2048)[: n_neurons - start] for _ in range(2))
        targets[:, start : start + 2048] = 0.7 * base[:, a] + 0.3 * base[:, b]
    order, seconds = random.permutation(len(base)), {}
    begin, before = time.perf_counter(), memory()
    train, val, ranked, found = ours(
        features, targets, np.sort(order[:2450]), np.sort(order[2450:2800]), seconds
    )
    total = time.perf_counter() - begin
    held = sum(part.nbytes for m in (train, val) for part in (m.gram, m.cross)) / 2**30
    print(
        f"similarity, 3,500 images × {own.concepts:,} concepts × {n_neurons:,} neurons: "
        f"{total:.1f} s, {1000 * total / n_neurons:.3f} ms per neuron"
    )
    for name, value in seconds.items():
        print(f"    {name:18s} {value:7.1f} s")
    given = (features.nbytes + targets.nbytes) / 2**30
    print(
        f"    inputs {given:.2f} GiB, moments {held:.2f} GiB, peak {memory():.2f} GiB "
        f"(before: {before:.2f})"
    )
    print(
        f"    all converged: {bool(np.all(ranked.converged))}, "
        f"{np.mean(found.count):.2f} concepts an explanation"
    )
    ratio("peak memory above inputs and moments, MB", 1024 * (memory() - before - held))


if __name__ == "__main__":
    main()
