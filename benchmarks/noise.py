"""Claim: on pure noise at least nine neurons in ten end unexplained.

    python benchmarks/noise.py [--quick]

Concepts and neurons are drawn independently of each other; whatever a search finds, chance found.
200 images × 3,000 concepts, 500 × 1,500 and 6,000 × 1,500; concepts uniform, or labels of 30 %, 5 %
or 1 % of the images, or correlated labels (20 common factors); neurons normal, rectified, active on
5 % of the images with exponential size, or lognormal. A row gives the share of neurons unexplained,
the mean length, and the mean correlation that a search reports (val) and that test images give.
`paper` is greedy as the paper has it.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import jaxle  # noqa: E402

SIZES = ((200, 3000), (500, 1500), (6000, 1500))
NEURONS = 128
SEARCHES = {
    "paper": {"search": "greedy"},
    "greedy, above_noise": {"search": "greedy", "above_noise": True},
    "preconditioned": {"search": "preconditioned"},
}
CELLS = (
    ("uniform", "normal"),
    ("30 %", "rectified"),
    ("5 %", "normal"),
    ("5 %", "sparse"),
    ("1 %", "sparse"),
    ("correlated", "lognormal"),
)


def concepts(kind: str, n: int, m: int, rng) -> np.ndarray:
    """(n, m) float32 of one kind."""
    if kind == "uniform":
        return rng.random((n, m)).astype(np.float32)
    if kind == "correlated":
        common = rng.normal(size=(n, 20)) @ rng.normal(size=(20, m)) / np.sqrt(20)
        return (common + rng.normal(size=(n, m)) > 1.5).astype(np.float32)
    return (rng.random((n, m)) < float(kind.rstrip(" %")) / 100).astype(np.float32)


def neurons(kind: str, n: int, k: int, rng) -> np.ndarray:
    """(n, k) float32 of one kind."""
    values = rng.normal(size=(n, k))
    if kind == "rectified":
        values = np.maximum(values, 0)
    elif kind == "lognormal":
        values = np.exp(values)
    elif kind == "sparse":
        values = rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.05)
    return values.astype(np.float32)


def cell(n: int, m: int, kinds: tuple[str, str], options: dict) -> tuple[float, ...]:
    """Share unexplained, mean length, mean ρ that is reported, mean ρ on test images."""
    rng = np.random.default_rng(zlib.crc32(repr((n, m, kinds)).encode()))
    probs, activations = concepts(kinds[0], n, m, rng), neurons(kinds[1], n, NEURONS, rng)
    names = [f"c{j}" for j in range(m)]
    found = jaxle.explain(activations, probs, names, min_top5=0, **options)
    test = found.split.test
    rho = jaxle.correlation(jaxle.simulate(found, probs, names)[test], activations[test])
    reported = float(np.mean([row.val_correlation or 0.0 for row in found]))
    return (found.lengths == 0).mean(), found.lengths.mean(), reported, rho.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="searches on pure noise")
    parser.add_argument(
        "--quick", action="store_true", help="two cells a size, without the paper's"
    )
    quick = parser.parse_args().quick
    print(f"{os.cpu_count()} cores; {NEURONS} neurons a cell")
    print("| images × concepts | concepts | neurons | search | unexplained | length | val | test |")
    print("|---|---|---|---|---|---|---|---|")
    for n, m in SIZES:
        for kinds in CELLS[::3] if quick else CELLS:
            for name, options in SEARCHES.items():
                if quick and name == "paper":
                    continue
                share, length, val, test = cell(n, m, kinds, options)
                print(
                    f"| {n:,} × {m:,} | {kinds[0]} | {kinds[1]} | {name} | {share:.3f} | "
                    f"{length:.2f} | {val:+.3f} | {test:+.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
