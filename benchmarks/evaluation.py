"""Intervals that cover: a grid of cells, paired differences, means; and what a layer costs.

    python benchmarks/evaluation.py [--quick] [--neurons 500] [--draws 200] [--only WORDS]
    python benchmarks/evaluation.py --cost [--images 10000] [--neurons 2048] [--draws 1000]

One cell is one population: images n, a concept's rate r, the share f of images on which a neuron
fires (with exponential size), their true correlation ρ. Each of its `--neurons` columns is a sample
of n images of its own. Populations:

    adds    a = ρ·s + √(1 − ρ²)·(sparse exponential), s a 0/1 label or a soft probability
    fires   the neuron fires on 70 % of the concept's images, with larger size, else on f
    dense   normal, Student's t, Laplace and exponential columns; near ±1; few images
    label   a is a 0/1 label too, of rate f

Claims, by cell: (1) coverage of the 95 % interval is 93–98 % where at most half of the columns are
flagged `few_positives`, and at least 90 % elsewhere; (2) in dense cells, of those that are not
flagged, the median width is at most 1.15 times that of the oracle, which knows ρ's standard
deviation from 20,000 fresh samples (in `--quick`, and where n is above 1,000, from 2,000); (3) of
paired differences at most 3.5 % lie beyond either end; (4) 1,000 bootstrap draws of every neuron's
correlation, and of the mean, take some 3 to 4 CPU seconds for 2,048 neurons × 10,000 images, since
they are matrix products.

`!` marks a cell that misses its bound by more than two standard errors of the count, `~` one that
misses it by less.
"""

import argparse
import os
import platform
import sys
import time
from typing import NamedTuple

import jax
import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import ratio  # noqa: E402
from jaxle.evaluation import METRICS, Evidence, score
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.intervals import bootstrap, paired, resamples
from jaxle.evaluation.permutation import permutation_test
from jaxle.evaluation.swap import swap

ON_VAL = ("cosine", "detection", "r2", "base_rate")
RHOS = (0.0, 0.1, 0.3, 0.6, 0.9)
# images, concept rate, firing rate; the first five are those of the review
SPARSE = [
    *((10_000, 0.001, 0.05), (1_200, 0.01, 0.05), (200, 0.05, 0.05)),
    *((7_300, 1 / 365, 0.05), (10_000, 0.01, 0.01)),
    *((50_000, 0.001, 0.05), (50_000, 0.01, 0.1), (10_000, 0.01, 0.3), (10_000, 0.001, 1.0)),
    *((2_000, 0.02, 0.3), (2_000, 0.1, 0.1), (2_000, 0.5, 0.01), (2_000, 0.5, 1.0)),
    *((500, 0.1, 0.5), (200, 0.5, 0.05), (200, 0.05, 1.0), (200, 0.5, 1.0)),
]
SOFT = [(10_000, 0.01, 0.05), (2_000, 0.1, 0.1), (500, 0.1, 0.5), (200, 0.5, 1.0)]
QUICK = [(1_200, 0.01, 0.05), (200, 0.05, 0.05), (2_000, 0.1, 0.1), (500, 0.1, 0.5)]
LEVELS = np.polynomial.hermite_e.hermegauss(80)  # nodes and weights of a standard normal


class Cell(NamedTuple):
    """One population and the number of images of a sample."""

    kind: str
    n: int
    rate: float
    fires: float
    rho: float

    def __str__(self) -> str:
        return f"{self.kind:12s} {self.n:7,d} {self.rate:8.4g} {self.fires:6.3g} {self.rho:7.4g}"


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the cells")
    parser.add_argument("--cost", action="store_true", help="times instead of coverage")
    parser.add_argument("--only", default="", help="cells whose line has all these words")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--neurons", type=int)
    parser.add_argument("--draws", type=int)
    args = parser.parse_args()
    print(
        f"{os.cpu_count()} cores {platform.machine()}, {jax.devices()[0].device_kind}, "
        f"jax {jax.__version__}"
    )
    if args.cost:
        cost(args.images, args.neurons or 2048, args.draws or 1000)
        return
    neurons, draws = args.neurons or 500, args.draws or 200
    coverage(neurons, draws, args.quick, args.only.split())
    if not args.only:
        differences(neurons, draws, args.quick)
        means(100 if args.quick else 200, draws)


# --- populations ---


def normal(rng, shape):
    return rng.standard_normal(shape, np.float32)


def firing(rng, shape, f):
    size = rng.standard_exponential(shape, np.float32)
    return size * (rng.random(shape, np.float32) < f)


DENSE = {
    "normal": normal,
    "Student t8": lambda rng, shape: rng.standard_t(8, shape).astype(np.float32),
    "Student t5": lambda rng, shape: rng.standard_t(5, shape).astype(np.float32),
    "Laplace": lambda rng, shape: rng.laplace(size=shape).astype(np.float32),
    "exponential": lambda rng, shape: rng.standard_exponential(shape, np.float32),
}


def logit_normal(rate):
    """(μ, variance of p) of p = sigmoid(μ + 2·normal) with mean `rate`."""
    nodes, weights = LEVELS[0], LEVELS[1] / LEVELS[1].sum()
    low, high = -20.0, 20.0
    for _ in range(60):
        mu = (low + high) / 2
        p = 1 / (1 + np.exp(-mu - 2 * nodes))
        low, high = (mu, high) if (weights * p).sum() < rate else (low, mu)
    return mu, float((weights * p * p).sum() - (weights * p).sum() ** 2)


def concept(rng, shape, rate, soft):
    """s and its variance."""
    if not soft:
        return (rng.random(shape, np.float32) < rate).astype(np.float32), rate * (1 - rate)
    mu, variance = logit_normal(rate)
    return 1 / (1 + np.exp(np.float32(-mu) - 2 * normal(rng, shape))), variance


def louder(rate, f, rho):
    """How much larger the neuron fires on the concept, and on which share of its images."""
    fires = max(f, 0.7)

    def correlation(gain):
        mean, other = fires * gain, f
        square = 2 * (rate * fires * gain**2 + (1 - rate) * f)
        variance = square - (rate * mean + (1 - rate) * other) ** 2
        return np.sqrt(rate * (1 - rate) / variance) * (mean - other)

    low, high = f / fires, 1e4
    if correlation(high) < rho:
        return None
    for _ in range(80):
        gain = np.sqrt(low * high)
        low, high = (gain, high) if correlation(gain) < rho else (low, gain)
    return gain, fires


def possible(cell: Cell) -> bool:
    """Whether the population can have this correlation."""
    rate, f, rho = cell.rate, cell.fires, cell.rho
    if cell.kind == "label fires":
        return rho > 0 and louder(rate, f, rho) is not None
    if cell.kind == "soft fires":
        truth = rho * np.sqrt(rate * (1 - rate) / logit_normal(rate)[1])
        return rho > 0 and louder(rate, f, truth) is not None
    if cell.kind == "label label":
        most = f + rho * np.sqrt(f * (1 - f) * (1 - rate) / rate)
        return most <= 1 and f >= rho * np.sqrt(f * (1 - f) * rate / (1 - rate))
    return True


def draw(cell: Cell, rng, neurons: int):
    """(simulated, activations), (n, neurons) each."""
    shape, rate, f, rho = (cell.n, neurons), cell.rate, cell.fires, np.float32(cell.rho)
    rest = np.sqrt(1 - rho**2)
    if cell.kind in DENSE:
        s, noise = DENSE[cell.kind](rng, shape), DENSE[cell.kind](rng, shape)
        return s, rho * s + rest * noise
    s, variance = concept(rng, shape, rate, cell.kind.startswith("soft"))
    if cell.kind.endswith("adds"):
        noise = firing(rng, shape, f) / np.float32(np.sqrt(2 * f - f * f))
        return s, rho / np.float32(np.sqrt(variance)) * s + rest * noise
    if cell.kind.endswith("normal"):
        return s, rho / np.float32(np.sqrt(variance)) * s + rest * normal(rng, shape)
    if cell.kind.endswith("fires"):
        shown = s if cell.kind.startswith("label") else rng.random(shape, np.float32) < s
        reached = louder(rate, f, cell.rho * np.sqrt(rate * (1 - rate) / variance))
        assert reached is not None, "cells() keeps those that are possible"
        gain, often = reached
        fires = rng.random(shape, np.float32) < np.where(shown, np.float32(often), np.float32(f))
        size = rng.standard_exponential(shape, np.float32)
        return s, fires * size * np.where(shown, np.float32(gain), np.float32(1))
    step = cell.rho * np.sqrt(f * (1 - f))
    often = f + step * np.sqrt((1 - rate) / rate)
    seldom = f - step * np.sqrt(rate / (1 - rate))
    return s, (rng.random(shape) < np.where(s > 0, often, seldom)).astype(np.float32)


def cells(quick: bool) -> list[Cell]:
    sparse, soft = (QUICK, QUICK[2:3]) if quick else (SPARSE, SOFT)
    sizes = (200,) if quick else (200, 1_000)
    grid = [Cell("label adds", *where, rho) for where in sparse for rho in RHOS]
    grid += [Cell("label fires", *where, rho) for where in sparse for rho in (0.1, 0.3, 0.6)]
    grid += [Cell("soft adds", *where, rho) for where in soft for rho in RHOS]
    grid += [Cell("soft fires", *where, rho) for where in soft for rho in (0.1, 0.3)]
    labels = [(200, 0.05), (1_000, 0.02), (2_000, 0.5)]
    grid += [Cell("label normal", *where, 1.0, rho) for where in labels for rho in (0, 0.3, 0.9)]
    both = [(1_000, 0.02, 0.02), (2_000, 0.2, 0.1), (500, 0.5, 0.3)]
    grid += [Cell("label label", *where, rho) for where in both for rho in (0, 0.3, 0.6)]
    grid += [Cell(kind, n, 0, 1, rho) for kind in DENSE for n in sizes for rho in (0, 0.3, 0.9)]
    grid += [Cell("normal", n, 0, 1, rho) for n in (20, 50) for rho in (0, 0.6)]
    grid += [Cell("normal", 300, 0, 1, rho) for rho in (0.99, 0.9999, -0.99)]
    grid = [cell for cell in grid if possible(cell)]
    return sorted(grid, key=lambda cell: (cell.n, cell.rate, cell.fires, cell.rho))


def is_dense(cell: Cell) -> bool:
    """Whether the neuron fires everywhere and the concept on at least a tenth of the images."""
    return cell.fires == 1 and (cell.kind in DENSE or cell.rate >= 0.1)


# --- tables ---


def coverage(neurons: int, draws: int, quick: bool, words: list[str]) -> None:
    print(
        f"\ncoverage of the 95 % interval, {neurons} samples a cell (twice that to 2,000 "
        f"images, a quarter at 50,000), {draws} draws\n  {'population':12s}  images     rate  "
        "fires     rho   covers  flagged   low>ρ  high<ρ    width / oracle"
    )
    missed, count, flagged_cells = [], 0, 0
    for number, cell in enumerate(cells(quick)):
        if not all(word in str(cell) for word in words):
            continue
        rng = np.random.default_rng([number, 1])
        columns = size(cell.n, neurons)
        got = bootstrap(*draw(cell, rng, columns), draws=draws)
        inside = (got.low <= cell.rho) & (cell.rho <= got.high)
        share, few = inside.mean(), got.few_positives.mean()
        width = np.median(got.high - got.low)
        ratio = width / oracle(cell, rng, quick) if is_dense(cell) else 0.0
        low, high = (0.90, 1.0) if few >= 0.5 else (0.93, 0.98)
        mark = mark_of(share, low, high, columns)
        beyond = (got.low > cell.rho).mean(), (got.high < cell.rho).mean()
        print(
            f"{mark} {cell}  {share:7.1%} {few:8.0%} {beyond[0]:8.1%} {beyond[1]:7.1%} {width:8.3f}"
            + (f" {ratio:8.2f}" if ratio else ""),
            flush=True,
        )
        missed += [mark] if mark != " " else []
        missed += ["width"] if ratio > 1.15 and few < 0.5 else []
        count, flagged_cells = count + 1, flagged_cells + (few >= 0.5)
    print(
        f"{count} cells, {flagged_cells} flagged; beyond the bounds: {missed.count('!')} clearly, "
        f"{missed.count('~')} within two standard errors; {missed.count('width')} too wide"
    )


def size(n: int, neurons: int) -> int:
    """Samples of a cell."""
    return 2 * neurons if n <= 2_000 else neurons if n < 20_000 else neurons // 4


def oracle(cell: Cell, rng, quick: bool) -> float:
    """Width of an interval by the true standard deviation of ρ̂."""
    wanted = 2_000 if quick or cell.n > 1_000 else 20_000
    step = max(1, 4_000_000 // cell.n)
    values = []
    for start in range(0, wanted, step):
        s, a = draw(cell, rng, min(step, wanted - start))
        s, a = s - s.mean(0), a - a.mean(0)
        values.append((s * a).sum(0) / np.sqrt((s * s).sum(0) * (a * a).sum(0)))
    return 3.92 * float(np.concatenate(values).std())


def mark_of(share, low, high, count) -> str:
    """Where a measured share lies against its bounds."""
    near = low if share < low else high
    if low <= share <= high:
        return " "
    return "~" if abs(share - near) <= 2 * np.sqrt(near * (1 - near) / count) else "!"


def differences(neurons: int, draws: int, quick: bool) -> None:
    """Prints the shares of paired intervals that lie beyond the true difference, on either side."""
    neurons *= 2
    print(
        f"\npaired differences ρ_a − ρ_b, {neurons} samples a cell; b has a concept of its own, or "
        "is constant\n    images     rate  fires    ρ_a    ρ_b  flagged   low>  high<   clear and "
        "wrong"
    )
    where = QUICK if quick else [*SPARSE[:5], *SPARSE[9:]]
    rhos = [(0.0, 0.0), (0.3, 0.3), (0.3, 0.1), (0.6, 0.0), (0.0, None)]
    worst = 0.0
    for number, (n, rate, f) in enumerate(where):
        for one, other in rhos:
            rng = np.random.default_rng([number, 2])
            a, b = (concept(rng, (n, neurons), rate, False)[0] for _ in range(2))
            noise = firing(rng, a.shape, f) / np.float32(np.sqrt(2 * f - f * f))
            scale = np.float32(1 / np.sqrt(rate * (1 - rate)))
            rest = np.float32(np.sqrt(1 - one**2 - (other or 0) ** 2))
            real = np.float32(one) * scale * a + np.float32(other or 0) * scale * b + rest * noise
            b = np.zeros_like(b) if other is None else b
            got = paired(a, b, real, draws=draws)
            truth = one - (other or 0.0)
            low, high = (got.low > truth).mean(), (got.high < truth).mean()
            sure = ~got.few_positives
            wrong = sure & ((got.low > 0) & (truth <= 0) | (got.high < 0) & (truth >= 0))
            wrong = wrong.mean()
            mark = mark_of(max(low, high), 0.0, 0.035, neurons)
            worst = max(worst, low, high)
            named = "const" if other is None else f"{other:5.2f}"
            print(
                f"{mark} {n:8,d} {rate:8.4g} {f:6.3g}  {one:5.2f}  {named} "
                f"{got.few_positives.mean():7.0%} {low:7.1%} {high:6.1%} {wrong:9.1%}",
                flush=True,
            )
    print(f"largest error on one side: {worst:.1%}")


def means(times: int, draws: int) -> None:
    """Prints how often the interval of a mean over 24 neurons holds the true mean."""
    print(
        f"\nmean over 24 neurons, {times} samples a cell\n    images     rate  fires    rho  "
        "concept   covers"
    )
    width = 24
    for n, rate, f, rho in [
        *((1_200, 0.01, 0.05, 0.0), (200, 0.05, 0.05, 0.0), (1_200, 0.01, 0.05, 0.3)),
        *((1_200, 0.1, 0.3, 0.3), (500, 0.5, 1.0, 0.6)),
    ]:
        for same in (False, True):
            hits = 0
            for seed in range(times):
                rng = np.random.default_rng([seed, 3])
                s = concept(rng, (n, 1 if same else width), rate, False)[0]
                s = np.broadcast_to(s, (n, width))
                noise = firing(rng, (n, width), f) / np.float32(np.sqrt(2 * f - f * f))
                real = np.float32(rho / np.sqrt(rate * (1 - rate))) * s
                real = real + np.float32(np.sqrt(1 - rho**2)) * noise
                got = bootstrap(np.ascontiguousarray(s), real, draws=draws, seed=seed)
                hits += got.mean_low <= rho <= got.mean_high
            print(
                f"  {n:8,d} {rate:8.4g} {f:6.3g} {rho:6.2f}  {'one' if same else 'own':7s} "
                f"{hits / times:8.1%}",
                flush=True,
            )


# --- what it costs ---


def cost(images: int, neurons: int, draws: int) -> None:
    print(f"{neurons:,} neurons × {images:,} images, {draws:,} draws")
    rng = np.random.default_rng(0)
    activations = rng.standard_normal((images, neurons), np.float32)
    simulated, other = (
        np.float32(part) * activations + rng.standard_normal(activations.shape, np.float32)
        for part in (0.5, 0.4)
    )
    print("\n                                                first call    again   its CPU")
    ours = {}
    ours["bootstrap"] = row(
        "bootstrap, intervals of neurons and mean",
        lambda: bootstrap(simulated, activations, draws=draws),
    )
    ours["paired"] = row(
        "paired, two methods", lambda: paired(simulated, other, activations, draws=draws)
    )
    ours["permutation null"] = row(
        "permutation null", lambda: permutation_test(simulated, activations, draws=draws)
    )
    ours["swap null"] = row(
        "swap null, all neurons × all neurons", lambda: swap(simulated, activations)
    )
    half, live = slice(images // 2), np.ones(neurons, bool)
    evidence = Evidence(simulated[half], activations[half], simulated, activations, live)
    ours["metrics"] = row(
        "cosine, AUPRC, F1, IoU, R² (val: a half)",
        lambda: score(evidence, {name: METRICS[name] for name in ON_VAL}),
    )
    p = rng.random(neurons)
    row("Benjamini–Hochberg", lambda: benjamini_hochberg(p))
    by_rows = gathered(simulated[:, :64], activations[:, :64], draws)
    counted = by_rows * neurons / 64
    print(
        f"the same draws by gathering rows would take {counted:.0f} CPU seconds "
        f"(64 neurons timed), ratio {counted / ours['bootstrap']:.0f}"
    )
    for name, seconds in ours.items():
        ratio(f"draws by gathering rows / {name}, CPU seconds", counted / seconds)


def gathered(simulated, activations, draws) -> float:
    """CPU seconds that `draws` resamples by row numbers take on these columns.

    Ten are timed, five times; the least counts.
    """
    weights, taken = resamples(10, len(activations), 0), []
    for _ in range(5):
        start = time.process_time()
        for w in weights:
            rows = np.repeat(np.arange(len(activations)), w)
            a, s = activations[rows], simulated[rows]
            a, s = a - a.mean(0), s - s.mean(0)
            _ = (a * s).mean(0) / np.sqrt((a * a).mean(0) * (s * s).mean(0))
        taken.append(time.process_time() - start)
    return min(taken) * draws / 10


def row(what, function) -> float:
    """Prints the seconds of a first call, and the least and their CPU seconds of two more.

    Returns:
      the last.
    """
    found = []
    for _ in range(3):
        start = np.array([time.perf_counter(), time.process_time()])
        function()
        found.append(np.array([time.perf_counter(), time.process_time()]) - start)
    (first, _), (again, cpu) = found[0], np.min(found[1:], axis=0)
    print(f"{what:45s} {first:10.1f} s {again:7.2f} s {cpu:7.2f} s", flush=True)
    return float(cpu)


if __name__ == "__main__":
    main()
