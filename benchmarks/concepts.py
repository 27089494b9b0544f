"""Concept probabilities of 50,000 images × 8,000 concepts, consumed as they are made.

    python benchmarks/concepts.py [--images 50000] [--concepts 8000] [--numbers 1024]
                                  [--neurons 256]

They are screened, and their second moments accumulated. Claims:

1. The probabilities, 1.6 GB as a matrix, are consumed under 1.5 GB peak, embeddings and everything
   else included: on two cores 0.62 GB screened, 1.12 GB with the moments of all 8,000. glibc is
   set to return freed buffers, as MALLOC_MMAP_THRESHOLD_=1048576 in the environment does; with
   --no-release it keeps some 0.4 GB of them: 1.55 GB.
2. Screening by groups of rows beside a full sort.
3. Calibration by Newton's method beside the paper's grid search on the same tiles (one evaluation
   is timed and multiplied).

Random embeddings of unit length; what is measured does not depend on their values.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import platform
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import ratio  # noqa: E402
from jaxle.arrays import BLOCK_BYTES
from jaxle.concepts.calibration import calibrate
from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.solve import logistic, moments
from jaxle.solve import screen as screening

GRID = 81 * 201  # evaluations of the paper's search


def main():
    parser = argparse.ArgumentParser(description="Concept probabilities, consumed as they are made")
    for name, value in (
        ("images", 50_000),
        ("concepts", 8_000),
        ("numbers", 1024),
        ("neurons", 256),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--moments",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="second moments too: most of the time",
    )
    parser.add_argument(
        "--release",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="freed buffers go back to the system",
    )
    args = parser.parse_args()
    if args.release and platform.system() == "Linux":
        ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
    device = jax.devices()[0]
    print(
        f"{args.images:,} images × {args.concepts:,} concepts, "
        f"{args.numbers} numbers an embedding; "
        f"{os.cpu_count()} cores {platform.machine()}, {device.device_kind}, jax {jax.__version__}"
    )
    print(
        f"the matrix would be {4e-9 * args.images * args.concepts:.2f} GB; "
        f"at the start {peak():.2f} GB peak"
    )

    made = concepts(args)
    index = np.arange(args.images)
    row("embeddings made", 0.0)
    before = peak()
    seconds, _ = timed(lambda: consume(made.rows, index, args.concepts))
    row("probabilities made, not used", seconds)
    seconds, screened = timed(lambda: screening.screen(made.rows, index, args.concepts, 0.0))
    row("… and screened", seconds)
    if args.moments:
        targets = (
            np.random.default_rng(2).normal(size=(args.images, args.neurons)).astype(np.float32)
        )
        kept = np.flatnonzero(screened.kept)
        seconds, found = timed(
            lambda: moments.second_moments(lambda i: made.rows(i, kept), targets, index)
        )
        row(f"… and their moments ({len(kept):,} kept, {args.neurons} neurons)", seconds)
        del found
    more = 1000 * (peak() - before)
    compare_sorts(args.concepts)
    compare_calibration(made, args)
    ratio("peak memory above embeddings, MB", more)


def concepts(args) -> ContrastiveConcepts:
    rng = np.random.default_rng(0)
    images, texts = (np.empty((n, args.numbers), np.float32) for n in (args.images, args.concepts))
    for array in (images, texts):
        for start in range(0, len(array), 1000):
            part = rng.standard_normal((len(array[start : start + 1000]), args.numbers), np.float32)
            array[start : start + 1000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    names = [f"concept {j}" for j in range(args.concepts)]
    return ContrastiveConcepts.make(names, images, texts, 60.0, -0.09)


def consume(rows, index, n_concepts):
    total = jnp.zeros(n_concepts)
    step = BLOCK_BYTES // (4 * n_concepts)
    for start in range(0, len(index), step):
        total = total + jnp.sum(rows(index[start : start + step]), axis=0)
    return total.block_until_ready()


@functools.partial(jax.jit, static_argnames="top_k")
def by_sorting(largest, shift, total, squares, tile, *, top_k):
    both = jnp.concatenate([largest, tile], axis=0)
    centred = tile - shift[None, :]
    return (
        jax.lax.top_k(both.T, top_k)[0].T,
        shift,
        total + jnp.sum(centred, axis=0),
        squares + jnp.sum(centred**2, axis=0),
    )


def compare_sorts(n_concepts):
    n_rows = BLOCK_BYTES // (4 * n_concepts * screening.GROUP) * screening.GROUP
    tile = jax.random.uniform(jax.random.key(0), (n_rows, n_concepts)) ** 8
    state = (
        jnp.full((5, n_concepts), -jnp.inf),
        tile[0],
        jnp.zeros(n_concepts),
        jnp.zeros(n_concepts),
    )
    ours = best_of(lambda: screening._update(*state, tile, jnp.int32(n_rows)))
    other = best_of(lambda: by_sorting(*state, tile, top_k=5))
    print(
        f"\none tile of {n_rows} rows into the screening state: by groups {1e3 * ours:.0f} ms, "
        f"by top-k of all {1e3 * other:.0f} ms, ratio {other / ours:.1f}"
    )
    ratio("top-k of all / screening by groups, CPU seconds", other / ours)


def compare_calibration(made, args):
    """Labels drawn from the probabilities of the first 400 concepts and 5,000 images.

    One evaluation of the grid is timed.
    """
    index, n = np.arange(min(5000, args.images)), min(400, args.concepts)
    columns = np.arange(n)
    true = np.asarray(jax.nn.sigmoid(80 * (made.cosines(index, columns) - 0.06)))
    labels = (np.random.default_rng(1).random(true.shape) < true).astype(np.uint8)
    rows = lambda i, j: labels[i] if j is None else labels[np.ix_(i, j)]  # noqa: E731
    seconds, found = timed(lambda: calibrate(made.cosines, rows, index))
    assert found.quality is not None, "fitted on labels"
    x, y = made.cosines(index, columns), jnp.asarray(labels, jnp.float32)
    one = best_of(lambda: logistic.loss(lambda: [(x, y)], 60.0, -5.0))
    print(
        f"calibration on {len(index):,} × {n}: Newton {found.evaluations} passes, {seconds:.1f} s, "
        f"nll {found.quality.nll:.6f} at ({found.scale:.1f}, {found.shift:.4f}), drawn at "
        f"(80, -0.06); the grid's {GRID:,} evaluations would take {GRID * one:.0f} s, "
        f"ratio of evaluations {GRID / found.evaluations:.0f}"
    )
    ratio("the grid's evaluations / Newton's passes", GRID / found.evaluations)


def best_of(function, times=5):
    """CPU seconds of the best of some calls after a first."""
    function()
    return min(
        timed(lambda: jax.block_until_ready(function()), time.process_time)[0] for _ in range(times)
    )


def timed(function, clock=time.perf_counter):
    start = clock()
    result = function()
    return clock() - start, result


def row(what, seconds):
    print(f"{what:55s} {seconds:8.1f} s   {peak():.2f} GB peak")


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
