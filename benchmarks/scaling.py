"""What a run costs as images N, concepts M and neurons K grow: measured, modelled, extrapolated.

    python benchmarks/scaling.py            about two minutes on two cores
    python benchmarks/scaling.py --small    the same program on sizes of seconds
    python benchmarks/scaling.py --plan     large runs at the peaks of accelerators, none measured

Measured: CPU seconds of each stage, warm, on generated problems (benchmarks/problems.py), as one
size at a time doubles. Modelled: arithmetic and memory traffic of each stage, counted from the
code, and one cost for each kind of work, fitted (least squares of relative errors, no cost below
0); a last size, larger in all directions, is left out of the fit and predicted. Extrapolated: the
same counts at the peaks of accelerators, and at the shares of peak that this machine reached. No
accelerator has been run.

    stage          arithmetic                            traffic, bytes
    probabilities  2 n M D                               8 n M
    moments        n (25/24 M² + 2 M K)                  12 n (M + K) + 8 tiles (13/24 M² + M K)
    fit            5,000·64² a round and neuron          4 M (support + 20) a round and neuron
    search                                               8 v² pool a neuron
    intervals      10 draws n_test K                     80 n_test K
    null                                                 12 draws n_test K

n: train and val images; v = 10 concepts at most, out of a pool of 100; a round is one working set
and one check of a neuron's fit.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import nnls

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks import problems  # noqa: E402
from jaxle.concepts.contrastive import ContrastiveConcepts  # noqa: E402
from jaxle.evaluation.intervals import bootstrap  # noqa: E402
from jaxle.evaluation.permutation import permutation_test  # noqa: E402
from jaxle.explainers import rank, search  # noqa: E402
from jaxle.solve import accumulate, tiles  # noqa: E402
from jaxle.solve.moments import second_moments  # noqa: E402

STAGES = ("probabilities", "moments", "fit", "search", "intervals", "null")
LIMITS = {"n_candidates": 10, "max_concepts": 10, "min_gain": 0.02}
POOL, SET, PASSES = 100, 64, 20


class Size(NamedTuple):
    """How large a run is, and what of its fit the sizes alone do not say."""

    images: int
    concepts: int
    neurons: int
    numbers: int = 256  # of an embedding
    draws: int = 1000
    rounds: float = 5.0  # of a neuron's fit
    support: float = 20.0  # non-zero weights of a neuron's fit
    scored: int = 0  # test images that are scored; 0: a fifth of all

    @property
    def fitted(self) -> int:
        """Images of train and val."""
        return self.images - self.images // 5

    @property
    def test(self) -> int:
        """Images that are scored."""
        return self.scored or self.images // 5


class Work(NamedTuple):
    """What one stage does: float32 operations in products, bytes to and from memory."""

    flops: float
    bytes: float


def triangle(n_concepts: int) -> tuple[float, float]:
    """Returns the entries of XᵀX that are multiplied out, and those that are held."""
    sizes = [stop - start for start, stop in accumulate.bounds(n_concepts)]
    diagonal = sum(size**2 for size in sizes)
    above = (n_concepts**2 - diagonal) / 2
    return above + 3 / 4 * diagonal, above + diagonal


def work(stage: str, size: Size) -> Work:
    """Returns the counts of a stage; the module's docstring has them in letters."""
    n, m, k = float(size.fitted), float(size.concepts), float(size.neurons)
    if stage == "probabilities":
        return Work(2 * n * m * size.numbers, 8 * n * m)
    if stage == "moments":
        rows = tiles.tile_rows([size.fitted], size.concepts + tiles.bucket(size.neurons))
        products, blocks = triangle(size.concepts)
        state = blocks + m * k
        return Work(n * 2 * (products + m * k), 12 * n * (m + k) + 8 * state * n / rows)
    if stage == "fit":
        each = k * size.rounds
        return Work(5000 * SET**2 * each, 4 * m * (size.support + PASSES) * each)
    if stage == "search":
        return Work(0, 8 * LIMITS["max_concepts"] ** 2 * POOL * k)
    if stage == "intervals":
        return Work(10.0 * size.draws * size.test * k, 80.0 * size.test * k)
    return Work(0, 12.0 * size.draws * size.test * k)


# --- measured -----------------------------------------------------------------------------------


def measure(size: Size) -> tuple[Size, dict[str, float]]:
    """Returns the size, with the rounds and support of its fit, and the CPU seconds of each stage.

    Every stage runs three times; the faster of the last two counts.
    """
    features, targets = problems.similarity(size.images, size.concepts, size.neurons)
    order = np.random.default_rng(0).permutation(size.images)
    test, val, train = np.split(np.sort(order), [size.test, size.test + size.images // 10])
    both = np.concatenate([val, train])
    rng = np.random.default_rng(1)
    images, texts = (
        _unit(rng.standard_normal((n, size.numbers), np.float32))
        for n in (size.images, size.concepts)
    )
    names = [str(j) for j in range(size.concepts)]
    towers = ContrastiveConcepts.make(names, images, texts, 60.0, -0.09)
    rows = tiles.tile_rows([len(both)], size.concepts + size.neurons)

    def probabilities() -> Any:
        last = None
        for start in range(0, len(both), rows):
            last = jax.block_until_ready(towers.rows(both[start : start + rows]))
        return last

    seconds: dict[str, float] = {}
    seconds["probabilities"], _ = timed(probabilities)
    seconds["moments"], (first, second) = timed(
        lambda: tuple(second_moments(features, targets, part) for part in (train, val))
    )
    seconds["fit"], ranked = timed(lambda: rank.candidates(first, 0.05 / 0.99, 0.99))
    seconds["search"], found = timed(lambda: search.greedy(first, second, ranked.order, **LIMITS))
    weights = np.where(found.selected >= 0, found.weights, 0)
    chosen = features[test][:, np.maximum(found.selected, 0).T.reshape(-1)]
    chosen = chosen.reshape(len(test), -1, size.neurons)
    simulated = np.einsum("nvk,kv->nk", chosen, weights) + found.bias
    pair = simulated.astype(np.float32), targets[test]
    seconds["intervals"], _ = timed(lambda: bootstrap(*pair, draws=size.draws))
    seconds["null"], _ = timed(lambda: permutation_test(*pair, draws=size.draws))
    rounds, support = float(np.mean(ranked.iterations)), float(np.mean(ranked.support))
    return size._replace(rounds=rounds, support=support), seconds


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the CPU seconds of the faster of two calls after a first, and the result."""
    result = jax.block_until_ready(function())
    best = math.inf
    for _ in range(2):
        start = time.process_time()
        result = jax.block_until_ready(function())
        best = min(best, time.process_time() - start)
    return best, result


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def peaks() -> tuple[float, float]:
    """Returns this machine's float32 operations and bytes per CPU second, at their best.

    Products of 1,536² matrices; sums of arrays of 128 MiB, three times their bytes.
    """
    a, x = jax.random.normal(jax.random.key(0), (1536, 1536)), jax.numpy.ones(1 << 25)
    product = jax.jit(lambda a: jax.lax.fori_loop(0, 8, lambda i, b: a @ b, a))
    add = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda i, y: x + y, x))
    flops = max(8 * 2 * 1536**3 / timed(lambda: product(a))[0] for _ in range(3))
    return flops, max(8 * 3 * x.nbytes / timed(lambda: add(x))[0] for _ in range(3))


def grid(small: bool) -> list[Size]:
    """Returns the sizes to measure; one axis changes at a time, and the last is for prediction."""
    base = Size(2000, 128, 64, draws=20) if small else Size(20_000, 1024, 512, draws=100)
    factors = (
        {"images": (1 / 2, 1, 2), "concepts": (2,), "neurons": (2,)}
        if small
        else {"images": (1 / 2, 1, 2, 4), "concepts": (1 / 2, 2, 4), "neurons": (1 / 2, 2, 4, 8)}
    )
    sizes = [
        base._replace(**{axis: int(getattr(base, axis) * factor)})
        for axis, some in factors.items()
        for factor in some
    ]
    last = base._replace(
        images=2 * base.images, concepts=2 * base.concepts, neurons=4 * base.neurons
    )
    return [*sizes, last]


# --- modelled -----------------------------------------------------------------------------------


class Cost(NamedTuple):
    """CPU seconds of a stage: per operation, per byte, and whatever the size."""

    per_flop: float
    per_byte: float
    start: float

    def seconds(self, done: Work) -> float:
        """What the work takes."""
        return self.per_flop * done.flops + self.per_byte * done.bytes + self.start


def fit(stage: str, points: list[tuple[Size, dict[str, float]]]) -> Cost:
    """Returns the costs that fit the measured seconds best, in relative error, none below 0."""
    rows = np.array([[*work(stage, size), 1.0] for size, _ in points])
    taken = np.array([seconds[stage] for _, seconds in points])
    unit = np.maximum(rows.max(axis=0), 1.0)
    scaled, _ = nnls(rows / unit / taken[:, None], np.ones(len(taken)))
    return Cost(*(scaled / unit))


def compare(points: list[tuple[Size, dict[str, float]]]) -> dict[str, Cost]:
    """Prints measured seconds beside the model's, stage by stage, and returns the costs."""
    costs = {stage: fit(stage, points[:-1]) for stage in STAGES}
    print("\nCPU seconds measured, and how far the model is from them:")
    head = ["images", "concepts", "neurons", "rounds", "support"]
    print("".join(f"{name:>9}" for name in head) + "".join(f"{name:>20}" for name in STAGES))
    for place, (size, seconds) in enumerate(points):
        line = f"{size.images:9d}{size.concepts:9d}{size.neurons:9d}"
        line += f"{size.rounds:9.2f}{size.support:9.1f}"
        for stage in STAGES:
            off = costs[stage].seconds(work(stage, size)) / seconds[stage] - 1
            line += f"{seconds[stage]:12.3f} {100 * off:+6.0f}%"
        print(line + ("   predicted, not fitted" if place == len(points) - 1 else ""))
    return costs


def shares(costs: dict[str, Cost], flops: float, bandwidth: float) -> None:
    """Prints what share of this machine's peaks each stage's fitted costs are."""
    print(f"\nThis machine: {flops / 1e9:.0f} Gflop and {bandwidth / 1e9:.1f} GB per CPU second.")
    print(f"{'':15}{'products, of peak':>20}{'traffic, of peak':>20}{'start, s':>12}")
    for stage, cost in costs.items():
        parts = [
            f"{100 / (each * peak):.0f} %" if each else "–"
            for each, peak in ((cost.per_flop, flops), (cost.per_byte, bandwidth))
        ]
        print(f"{stage:15}{parts[0]:>20}{parts[1]:>20}{cost.start:12.3f}")


def growing(sizes: list[Size]) -> Callable[[Size], Size]:
    """Returns what fills in rounds and support: straight lines over log₂ M, as measured."""
    x = np.log2([size.concepts for size in sizes])
    lines = [np.polyfit(x, [getattr(s, name) for s in sizes], 1) for name in ("rounds", "support")]
    more = f"{lines[0][0]:+.2f} rounds and {lines[1][0]:+.1f} concepts of support"
    print(f"\nFor the fit of large runs: {more} where the concepts double.")

    def filled(size: Size) -> Size:
        rounds, support = (float(np.polyval(line, math.log2(size.concepts))) for line in lines)
        return size._replace(rounds=rounds, support=support)

    return filled


# --- extrapolated -------------------------------------------------------------------------------


class Machine(NamedTuple):
    """Devices of one kind, each with its peaks; float32 products at the precision of `solve/`."""

    name: str
    devices: int
    float32: float  # operations per second
    bfloat16: float
    bandwidth: float  # bytes per second
    memory: float  # bytes


# H100 SXM: https://www.nvidia.com/en-us/data-center/h100/ (bfloat16 without sparsity is half the
# figure there). TPUs: https://cloud.google.com/tpu/docs/v5e and …/v5p; v5p-64 counts cores, it has
# 32 chips. Products of float32 at HIGHEST are six passes of bfloat16 on a TPU (jax.lax.Precision).
MACHINES = (
    Machine("1×H100", 1, 67e12, 989e12, 3.35e12, 80e9),
    Machine("v5e-8", 8, 197e12 / 6, 197e12, 819e9, 16e9),
    Machine("v5p-64", 32, 459e12 / 6, 459e12, 2765e9, 95e9),
)
# operations of one image, twice the multiply-adds: ResNet-50, and the two SigLIPs of the paper
FORWARD = {"resnet50": 8.2e9, "siglip_l_16_384": 3.8e11, "siglip_so400m_14_384": 6.7e11}
FORWARD_SHARE = 0.4  # of the bfloat16 peak: an assumption, nothing here measures it
SCORED = 250_000  # test images, where a fifth of all is more than any score needs


class Plan(NamedTuple):
    """A large run."""

    name: str
    size: Size
    networks: tuple[str, ...] = tuple(FORWARD)


PLANS = (
    Plan("the paper: 50,000 images", Size(50_000, 8438, 2048, 1024)),
    Plan("ImageNet-train", Size(1_281_167, 8438, 2048, 1024)),
    Plan("ImageNet-train, 20,000 concepts", Size(1_281_167, 20_000, 2048, 1024)),
    Plan("ImageNet-train, 100,000 SAE features", Size(1_281_167, 8438, 100_000, 1024)),
    Plan(
        "LAION-400M embeddings, 20,000 concepts, 100,000 SAE features",
        Size(400_000_000, 20_000, 100_000, 512, scored=SCORED),
        (),
    ),
)


def floor(done: Work, machine: Machine) -> float:
    """Returns the seconds that a machine needs at its peaks: the longer of products and traffic."""
    each = done.flops / machine.float32, done.bytes / machine.bandwidth
    return max(each) / machine.devices


def at_shares(
    stage: str,
    done: Work,
    machine: Machine,
    costs: dict[str, Cost] | None,
    here: tuple[float, float],
) -> float:
    """Returns the seconds at the shares of peak that this machine reached; NaN without costs."""
    if costs is None:
        return math.nan
    flops, bandwidth = here
    cost = costs[stage]
    products = cost.per_flop * flops * done.flops / machine.float32
    return (products + cost.per_byte * bandwidth * done.bytes / machine.bandwidth) / machine.devices


def held(size: Size) -> dict[str, float]:
    """Returns the largest things that a run holds, bytes: on each device, the host or the disk."""
    m, k = float(size.concepts), float(size.neurons)
    return {
        "moments, each device": 4 * (25 / 16 * m * m + 2 * m * k),
        "search, each device": 8 * (m * m + m * k),
        "activations, disk": 4.0 * size.images * k,
        "embeddings, disk": 4.0 * size.images * size.numbers,
        "scored pairs, host": 8.0 * size.test * k,
        "resamples, host": 1.0 * size.draws * size.test,
    }


def plan(
    costs: dict[str, Cost] | None = None,
    here: tuple[float, float] = (math.nan, math.nan),
    fits: Callable[[Size], Size] = lambda size: size,
) -> None:
    """Prints operations, bytes and times of large runs.

    Args:
      costs: of `fit`; None: times at peak alone.
      here: what `peaks` gave.
      fits: fills in the rounds and support of a size; otherwise they are the defaults of `Size`.
    """
    print(
        "Times at the peaks of each machine" + ", then at the shares measured here." * bool(costs)
    )
    for name, size, networks in PLANS:
        size = fits(size)
        rows = tiles.tile_rows([size.fitted], size.concepts + size.neurons)
        print(f"\n== {name}: {size.images:,} × {size.concepts:,} × {size.neurons:,} ==")
        print(f"   {size.test:,} images scored; moments in tiles of {rows} rows")
        columns = "".join(f"{machine.name:>22}" for machine in MACHINES)
        print(f"{'':15}{'operations':>12}{'bytes':>10}{columns}")
        total = np.zeros((2, len(MACHINES)))
        for stage in ("networks", *STAGES) if networks else STAGES:
            if stage == "networks":
                done = Work(size.images * sum(FORWARD[network] for network in networks), math.nan)
                peak = np.array([done.flops / m.bfloat16 / m.devices for m in MACHINES])
                real = peak / FORWARD_SHARE
            else:
                done = work(stage, size)
                peak = np.array([floor(done, machine) for machine in MACHINES])
                real = np.array([at_shares(stage, done, m, costs, here) for m in MACHINES])
            total += [peak, real]
            print(_line(stage, done, peak, real))
        print(_line("all", Work(math.nan, math.nan), *total))
        for what, n_bytes in held(size).items():
            small = [m.name for m in MACHINES if "device" in what and n_bytes > m.memory]
            print(f"   {what}: {_short(n_bytes)}B" + "".join(f", more than {m} has" for m in small))


def _line(name: str, done: Work, peak: np.ndarray, real: np.ndarray) -> str:
    times = "".join(f"{_time(a):>11}{_time(b):>11}" for a, b in zip(peak, real, strict=True))
    return f"{name:15}{_short(done.flops):>12}{_short(done.bytes):>10}{times}"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    if seconds < 0.01:
        return "<0.01 s"
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def _short(x: float) -> str:
    if math.isnan(x) or not x:
        return "–"
    power = min(int(math.log10(x) // 3), 6)
    return f"{x / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P', 'E')[power]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="sizes of seconds")
    parser.add_argument("--plan", action="store_true", help="large runs at peak, nothing measured")
    options = parser.parse_args()
    if options.plan:
        plan()
        return
    start = time.perf_counter()
    device = jax.devices()[0].device_kind
    print(f"{os.cpu_count()} cores {platform.machine()}, {device}, jax {jax.__version__}")
    points = [measure(size) for size in grid(options.small)]
    here = peaks()
    costs = compare(points)
    shares(costs, *here)
    plan(costs, here, growing([size for size, _ in points]))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
