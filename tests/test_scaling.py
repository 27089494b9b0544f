"""The cost model of benchmarks/scaling.py: its counts, its fit, and the sums of accumulation.py."""

import jax
import numpy as np
import pytest

from benchmarks import accumulation, scaling
from benchmarks.scaling import Cost, Size
from jaxle.solve import accumulate


def test_operations_of_moments_are_those_that_xla_counts():
    """On one tile; the triangle is of 2 × 2 blocks, and XLA counts a loop's body once."""
    n, m, k = 128, 512, 64
    sums = jax.eval_shape(lambda: accumulate.zeros(m, k))
    shapes = [jax.ShapeDtypeStruct((width, n), np.float32) for width in (m, k)]
    shift = tuple(jax.ShapeDtypeStruct((width,), np.float32) for width in (m, k))
    count = jax.ShapeDtypeStruct((), np.int32)
    columns = accumulate._add_columns(None).lower(sums[:-1], shift, *shapes, count)
    parts = [jax.ShapeDtypeStruct((256, n), np.float32)] * 2
    rows = accumulate._add_rows(None).lower(sums.triangle, parts)
    once = sum(program.cost_analysis()["flops"] for program in (columns, rows))
    counted = once + (1 - 1 / 2) * n * 2 * m * k
    expected = scaling.work("moments", Size(n + n // 4, m, k)).flops
    assert expected == n * (5 / 4 * m * m + 2 * m * k)
    assert counted == pytest.approx(expected, rel=0.02)  # the rest are sums of columns


def test_a_planted_cost_is_fitted():
    """Of every stage, so that the size that is left out is predicted."""
    planted = Cost(2e-12, 3e-11, 0.01)
    sizes = scaling.grid(small=False)
    for stage in scaling.STAGES:
        taken = [planted.seconds(scaling.work(stage, size)) for size in sizes]
        points = [(size, {stage: seconds}) for size, seconds in zip(sizes, taken, strict=True)]
        fitted = scaling.fit(stage, points[:-1])
        assert fitted.seconds(scaling.work(stage, sizes[-1])) == pytest.approx(taken[-1], rel=1e-3)


def test_rounds_and_support_grow_by_the_doubling(capsys):
    sizes = [Size(1, 2**k, 1, rounds=k, support=2 * k) for k in (7, 8, 10)]
    filled = scaling.growing(sizes)(Size(1, 2**14, 1))
    assert (filled.rounds, filled.support) == pytest.approx((14, 28))
    assert "+1.00 rounds and +2.0 concepts" in capsys.readouterr().out


def test_a_machine_needs_the_longer_of_products_and_traffic():
    machine = scaling.Machine("m", 2, 100.0, 0.0, 10.0, 0.0)
    assert scaling.floor(scaling.Work(1000, 10), machine) == 5
    assert scaling.floor(scaling.Work(10, 1000), machine) == 50


def test_four_ways_to_add_up():
    """2¹⁴ terms near 1: parts and pairs err less than one accumulator, Kahan hardly."""
    rng = np.random.default_rng(0)
    quarters = (0.25 + 1e-3 * rng.standard_normal((64, 40))).astype(np.float32)
    sums = accumulation.accumulate(quarters, [1 << 13, 1 << 14])[1 << 14]
    plain, parts, halves, kahan = (
        np.sqrt(np.mean((got / sums.exact - 1) ** 2)) for got in sums[1:]
    )
    random = 0.24 * 2.0**-24 * 2**7
    assert 0.3 * random < plain and parts < plain and halves < 0.2 * plain
    assert kahan < 2 * 2.0**-24
