"""What the card does: the floor beside which everything else is put, measured in the same run.

A matrix product of random numbers in bfloat16, in float32 as JAX multiplies it by default (TF32 on
a GPU) and at HIGHEST, which `jaxle.solve` uses; a copy on the device; a copy to it; exponentials;
and a call of a program that does next to nothing.
"""

from __future__ import annotations

import platform
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.section import GIB, Out, best
from benchmarks.accelerator.table import short

HIGHEST = jax.lax.Precision.HIGHEST
CALLS = 20  # of the program that does next to nothing, a round


def measure(out: Out) -> None:
    """Rows of the table "hardware", and what later sections compare with."""
    device = jax.devices()[0]
    out.say(
        {
            "machine": f"{device.device_kind}, jax {jax.__version__}, "
            f"Python {platform.python_version()}, {platform.machine()}"
        }
    )
    side = 512 if out.small else 8192
    products = {
        "bfloat16": ("matrix product, bfloat16", jnp.bfloat16, None, 1 if out.small else 2),
        "float32": ("matrix product, float32 by default", jnp.float32, None, 1),
        "highest": ("matrix product, float32 at HIGHEST", jnp.float32, HIGHEST, 1),
    }
    for name, (what, dtype, precision, times) in products.items():
        rate = _product(side * times, dtype, precision)
        out.know(**{name: rate})
        size = f"{side * times:,} each way"
        out.row(
            "hardware",
            {"what": what, "size": size, "measured": f"{short(rate / 1e12)} TFLOP/s"},
        )
    size = (8 << 20) if out.small else (2 << 30)
    rows = {
        "copy": ("copy on the device, read and written", 2 * size / _copy(size)),
        "upload": ("copy from the host's memory", size / 2 / _upload(size // 2)),
    }
    for name, (what, rate) in rows.items():
        out.know(**{name: rate})
        gib = f"{short(size / GIB / (1 if name == 'copy' else 2))} GiB"
        out.row("hardware", {"what": what, "size": gib, "measured": f"{short(rate / 1e9)} GB/s"})
    rows_, columns = (512, 512) if out.small else (65_536, 8192)
    rate = rows_ * columns / _exponentials(rows_, columns)
    out.know(exponentials=rate)
    out.row(
        "hardware",
        {
            "what": "exponentials, summed as they are made",
            "size": f"{rows_:,} × {columns:,}",
            "measured": f"{short(rate / 1e9)} · 10⁹/s",
        },
    )
    call = _call()
    out.know(call=call)
    out.row(
        "hardware",
        {
            "what": "a call and its answer",
            "size": "one number",
            "measured": f"{short(1e6 * call)} µs",
        },
    )


def _product(side: int, dtype, precision) -> float:
    """Floating-point operations a second of a square product."""
    keys = jax.random.split(jax.random.key(0, impl="rbg"))
    a, b = (jax.random.normal(key, (side, side), dtype) for key in keys)
    run = jax.jit(partial(jnp.matmul, precision=precision))
    return 2 * side**3 / best(lambda: run(a, b))


def _copy(size: int) -> float:
    """Seconds to read and write so many bytes."""
    x = jnp.ones(size // 4, jnp.float32)
    run = jax.jit(lambda x: x + 1)
    return best(lambda: run(x))


def _upload(size: int) -> float:
    """Seconds from the host's memory to the device."""
    x = np.ones(size // 4, np.float32)
    return best(lambda: jax.device_put(x), rounds=3)


def _exponentials(rows: int, columns: int) -> float:
    """Seconds of rows × columns exponentials whose arguments and values are never stored."""
    a, b = jnp.linspace(0, 1, rows), jnp.linspace(-1, 0, columns)
    run = jax.jit(lambda a, b: jnp.sum(jnp.expm1(a[:, None] * b[None, :]), axis=1))
    return best(lambda: run(a, b))


def _call() -> float:
    """Seconds of a call whose result the host reads."""
    run, x = jax.jit(lambda x: x + 1), jnp.zeros(())
    return best(lambda: [float(run(x)) for _ in range(CALLS)]) / CALLS
