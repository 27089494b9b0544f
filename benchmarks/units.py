"""Claim: units need little memory beyond the columns that they give, however many they are.

    python benchmarks/units.py [--units 100000] [--concepts 8000]

A probe of an SAE's features at a tap of 14 × 14 + 1 tokens of 768 values, pooled a tile at a time,
beside the same with all units of all positions held at once (at a size where that is possible); and
explaining as many columns by so many concepts (`benchmarks/wide.py`). Memory is in GiB.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import jax
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks import problems  # noqa: E402
from benchmarks.ratios import cpu, ratio  # noqa: E402
from benchmarks.solver import memory, ours  # noqa: E402
from jaxle.models import taps  # noqa: E402
from jaxle.models.units.linear import unit_map  # noqa: E402

WIDTH, TOKENS, BATCH = 768, 197, 8


def main() -> None:
    parser = argparse.ArgumentParser(description="memory and time of many units")
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--concepts", type=int, default=8000, help="0 leaves explaining out")
    parser.add_argument("--activation", default="top_k", choices=("relu", "top_k"))
    own = parser.parse_args()
    random = np.random.default_rng(0)
    print(f"before anything: {memory():.2f} GiB")
    encoder = random.standard_normal((own.units, WIDTH), np.float32) / np.sqrt(WIDTH)
    arrays = {"encoder": encoder, "decoder": encoder, "bias": np.zeros(own.units, np.float32)}
    arrays["decoder_bias"] = np.zeros(WIDTH, np.float32)
    k = 32 if own.activation == "top_k" else 0
    units = unit_map("sae", arrays, activation=own.activation, k=k, reconstructs=True)
    placed = jax.tree.map(jax.numpy.asarray, units.arrays)
    values = random.standard_normal((BATCH, TOKENS, WIDTH), np.float32)
    ready = memory()

    def whole(arrays, x):
        return taps.pool(units.form.every(arrays, units.form.prepare(arrays, x)), "patches")

    def tiled(arrays, x):
        return units.form.read(arrays, x, "patches", True)

    print(f"probe: {BATCH} images × {TOKENS} positions × {own.units:,} units, {own.activation}")
    few, busy, more = own.units * BATCH * TOKENS * 4 < 2 << 30, {}, {}
    for name, function in {"a tile at a time": tiled, **({"whole": whole} if few else {})}.items():
        run = jax.jit(function)
        jax.block_until_ready(run(placed, values))
        begin, busy[name] = time.perf_counter(), cpu()
        jax.block_until_ready(run(placed, values))
        seconds, busy[name] = (time.perf_counter() - begin) / BATCH, cpu() - busy[name]
        peak = memory()
        more[name] = peak - ready
        print(
            f"    {name:17s} {seconds:7.3f} s an image, peak {peak:.2f} GiB (+{peak - ready:.2f})"
        )
    ratio("peak memory above arrays, a tile at a time, MB", 1024 * more["a tile at a time"])
    if few:
        ratio("whole / a tile at a time, CPU seconds", busy["whole"] / busy["a tile at a time"])

    if own.concepts == 0:
        return
    features, base = problems.similarity(3500, own.concepts, min(2048, own.units))
    targets = np.empty((len(base), own.units), np.float32)
    for start in range(0, own.units, base.shape[1]):  # pairs of columns, mixed
        n = min(base.shape[1], own.units - start)
        a, b = (random.permutation(base.shape[1])[:n] for _ in range(2))
        targets[:, start : start + n] = 0.7 * base[:, a] + 0.3 * base[:, b]
    order, seconds = random.permutation(len(base)), {}
    begin = time.perf_counter()
    train, val = np.sort(order[:2450]), np.sort(order[2450:2800])
    *_, found = ours(features, targets, train, val, seconds)
    total = time.perf_counter() - begin
    print(
        f"explain: 3,500 images × {own.concepts:,} concepts × {own.units:,} units: {total:.1f} s, "
        f"{np.mean(found.count):.2f} concepts an explanation, peak {memory():.2f} GiB"
    )


if __name__ == "__main__":
    main()
