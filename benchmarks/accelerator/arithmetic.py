"""Which arithmetic the moments need: cheaper products beside float32 at HIGHEST.

A product of float32 numbers can be put together of products of bfloat16 parts, which tensor cores
multiply many times faster:

    x = h + m + l + …   parts of 8 bits each
    three products      h·h' + h·m' + m·h'
    six products        and h·l' + m·m' + l·h'

Cheaper moments G + δG, c + δc move the objective of weights w by at most

    max|δ| (½ ‖w‖₁² + ‖w‖₁)

which adds to the gap that certifies a fit. Correlations are compared, since the fit takes those:
an error that all entries of a column share does not count.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.section import Out, best
from benchmarks.accelerator.table import short

HIGHEST, DEFAULT = jax.lax.Precision.HIGHEST, jax.lax.Precision.DEFAULT
CHECKED = 256  # columns that are compared with all others
CONTRACT = (((0,), (0,)), ((), ()))  # the images of both


def measure(out: Out) -> None:
    """Rows of the table "arithmetic"."""
    n, m = (512, 256) if out.small else (4096, 8448)
    rng = np.random.default_rng(0)
    images, words = (rng.standard_normal((rows, 64), np.float32) for rows in (n, m))
    probs = 1 / (1 + np.exp(4 - images @ words.T / 2))  # seldom near 1, as SigLIP's are
    x = probs - probs.mean(axis=0)
    exact = x[:, :CHECKED].astype(np.float64).T @ x.astype(np.float64)
    size = np.sqrt((x.astype(np.float64) ** 2).sum(axis=0))
    exact /= size[:CHECKED, None] * size[None, :]
    given = jax.device_put(x)
    products: dict[str, Callable[[jax.Array], jax.Array]] = {
        "float32 at HIGHEST": lambda x: _dot(x, x, HIGHEST),
        "six of bfloat16 parts": lambda x: _of_parts(x, 3),
        "three of bfloat16 parts": lambda x: _of_parts(x, 2),
        "float32 by default": lambda x: _dot(x, x, DEFAULT),
    }
    for name, product in products.items():
        run = jax.jit(product)
        rate = 2 * n * m * m / best(lambda run=run: run(given))
        gram = np.asarray(run(given), np.float64)
        size = np.sqrt(np.diagonal(gram))
        error = np.abs(gram[:CHECKED] / (size[:CHECKED, None] * size[None, :]) - exact)
        worst = error.max()
        out.row(
            "arithmetic",
            {
                "product": name,
                "TFLOP/s": short(rate / 1e12),
                "worst correlation": f"{worst:.1e}",
                "root mean square": f"{np.sqrt((error**2).mean()):.1e}",
                "adds to the gap at most": f"{2 * 1.5 * worst:.1e}",
            },
        )


def _dot(a, b, precision=None):
    return jax.lax.dot_general(
        a, b, CONTRACT, precision=precision, preferred_element_type=jnp.float32
    )


def _of_parts(x: jax.Array, count: int) -> jax.Array:
    """xᵀx of the sum of `count` bfloat16 parts; products below the last part's size are left out,
    and the smallest are added first."""
    parts = []
    for _ in range(count):
        part = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
        parts.append(part.astype(jnp.bfloat16))
        x = x - part
    orders = [(i, j) for i in range(count) for j in range(count - i)]
    total = jnp.zeros((x.shape[1], x.shape[1]), jnp.float32)
    for i, j in sorted(orders, key=sum, reverse=True):
        total = total + _dot(parts[i], parts[j])
    return total
