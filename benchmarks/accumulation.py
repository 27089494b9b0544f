"""Claim: one float32 accumulator per entry is not enough for the Gram matrix of a billion rows.

    python benchmarks/accumulation.py [--small]

What is summed are tiles, as in `jaxle.solve.moments`: G_t = X_tᵀX_t of the shifted rows of tile t.
With u = 2⁻²⁴ and T tiles, of which 5 % have less than s of the mean sum,

    one accumulator    rounding at random: 0.24 u √T of the sum. An addition rounds a tile's sum to
                       the last place of the accumulator; from T = 2²³ s on that is more than the
                       least sums, which are lost one and all: up to u T
    in parts           parts of p tiles, each with its accumulator, merged: 0.24 u √(p + T/p);
                       what `jaxle.solve.moments` does
    pairwise           0.3 u √(log₂ T)
    compensated        (Kahan) 2 u, whatever T

Measured: float32 products of tiles of generated concept probabilities and activations, added up in
float32 against float64. Every tile is new: four quarters, each drawn from a pool of real products.
(Tiles that repeat are rounded alike each time, and overstate the error.) Errors are in units of
correlations, |ΔG_ij|/√(G_ii G_jj). At the end, what the explanations of such moments say, against
those of the float64 sums. `tiles.tile_rows` takes 256 to 2,048 rows a tile, the fewer the wider
they are: 2²² tiles of 256 rows are a billion rows, as are 2¹⁹ of 2,048.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks import problems  # noqa: E402
from benchmarks.ratios import ratio  # noqa: E402
from jaxle.explainers import rank, search  # noqa: E402
from jaxle.solve.moments import HIGHEST, PART, Moments  # noqa: E402

N_CONCEPTS, N_NEURONS = 16, 8
QUARTERS = 4  # of a tile, each drawn from the pool
POOL = 512  # quarters
CHUNK = 1 << 16  # tiles added up by one call


class Tiles(NamedTuple):
    """Sums of tiles, one row each: of the columns, and of the products of all pairs of columns."""

    sums: np.ndarray  # (tiles, columns) float32
    products: np.ndarray  # (tiles, pairs) float32
    rows: int


def make_quarters(rows: int, n_tiles: int) -> Tiles:
    """Returns the sums of quarters of tiles of concepts and neurons, shifted by the first rows."""
    x, y = problems.similarity(rows * n_tiles, N_CONCEPTS, N_NEURONS)
    z = np.concatenate([x, y], axis=1)
    z -= z[:1024].mean(axis=0)
    z = z.reshape(n_tiles, rows, -1)
    i, j = np.triu_indices(z.shape[2])
    products = jnp.einsum("tri,trj->tij", z, z, precision=HIGHEST)
    return Tiles(z.sum(axis=1), np.asarray(products)[:, i, j], rows)


def within_a_tile(rows: int) -> float:
    """Largest error of one tile's float32 product, in units of correlations."""
    x, _ = problems.similarity(rows, 64, 1)
    x -= x.mean(axis=0)
    single = np.asarray(jnp.matmul(x.T, x, precision=HIGHEST), np.float64)
    return float(_errors(single, x.astype(np.float64).T @ x).max())


# --- four ways to add up ------------------------------------------------------------------------


def plain(total: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """One accumulator: ((s + a) + b) + …; np.cumsum adds in this order."""
    return np.cumsum(np.concatenate([total[None], terms]), axis=0, dtype=np.float32)[-1]


def in_parts(total: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Parts of PART tiles, each from zero, then added to the total in float32."""
    for start in range(0, len(terms), PART):
        total = total + plain(np.zeros_like(total), terms[start : start + PART])
    return total


def pairwise(terms: np.ndarray) -> np.ndarray:
    """Halves of halves; the number of terms is a power of two."""
    while len(terms) > 1:
        terms = terms[0::2] + terms[1::2]
    return terms[0]


@jax.jit
def compensated(carry, terms):
    """Kahan: what an addition loses is added to the next term."""

    def add(carry, term):
        total, lost = carry
        term = term - lost
        new = total + term
        return (new, (new - total) - term), None

    return jax.lax.scan(add, carry, terms)[0]


class Sums(NamedTuple):
    """The sums of one set of numbers, in float64 and four times in float32."""

    exact: np.ndarray
    plain: np.ndarray
    parts: np.ndarray
    pairwise: np.ndarray
    compensated: np.ndarray


def accumulate(quarters: np.ndarray, report_at: list[int]) -> dict[int, Sums]:
    """Adds up tiles, each of quarters that are drawn anew; the sums at some numbers of tiles.

    Args:
      quarters: (pool, numbers) float32.
      report_at: numbers of tiles, multiples of a chunk, in order.
    """
    rng, chunk = np.random.default_rng(0), min(CHUNK, report_at[0])
    zero = np.zeros(quarters.shape[1], np.float32)
    exact, one, parts, halves = zero.astype(np.float64), zero, zero, []
    kahan = (jnp.asarray(zero), jnp.asarray(zero))
    found = {}
    for stop in range(chunk, report_at[-1] + 1, chunk):
        drawn = quarters[rng.integers(0, len(quarters), chunk)]
        for _ in range(QUARTERS - 1):
            drawn += quarters[rng.integers(0, len(quarters), chunk)]
        exact = exact + drawn.sum(axis=0, dtype=np.float64)
        one, parts = plain(one, drawn), in_parts(parts, drawn)
        halves.append(pairwise(drawn))
        kahan = compensated(kahan, drawn)
        if stop in report_at:
            found[stop] = Sums(exact, one, parts, _halved(halves), np.asarray(kahan[0]))
    return found


def _halved(halves: list[np.ndarray]) -> np.ndarray:
    more = (1 << (len(halves) - 1).bit_length()) - len(halves)
    return pairwise(np.stack([*halves, *[np.zeros_like(halves[0])] * more]))


# --- what comes of it ---------------------------------------------------------------------------


def moments(sums: np.ndarray, products: np.ndarray, n: int, dtype) -> Moments:
    """Second moments of concepts and neurons from the sums over all rows."""
    size = len(sums)
    mean, full = sums.astype(dtype) / dtype(n), np.zeros((size, size), dtype)
    i, j = np.triu_indices(size)
    full[i, j] = full[j, i] = products.astype(dtype) / dtype(n)
    full -= mean[:, None] * mean[None, :]
    x, y = slice(0, N_CONCEPTS), slice(N_CONCEPTS, None)
    parts = mean[x], mean[y], full[x, x], full[x, y], np.diagonal(full)[y]
    return Moments(n, *(np.asarray(part, np.float32) for part in parts))


def explained(moments: Moments) -> search.Found:
    """The paper's fit and search, with the same moments as validation."""
    ranked = rank.candidates(moments, 0.05 / 0.99, 0.99)
    limits = {"n_candidates": 10, "max_concepts": 10, "min_gain": 0.005}
    return search.greedy(moments, moments, ranked.order, **limits)


def _errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(np.diagonal(exact))
    return np.abs(found - exact) / (deviation[:, None] * deviation[None, :])


def errors_of(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|ΔG_ij|/√(G_ii G_jj) of the upper triangle."""
    size = N_CONCEPTS + N_NEURONS
    i, j = np.triu_indices(size)
    diagonal = exact[i == j]
    return np.abs(found - exact) / np.sqrt(diagonal[i] * diagonal[j])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="2¹⁴ tiles in place of 2²²: seconds")
    small = parser.parse_args().small
    start = time.perf_counter()
    if small:
        run(256, [1 << k for k in (10, 12, 14)], pool=64)
    else:
        run(256, [1 << k for k in range(16, 23)], pool=POOL)
        run(2048, [1 << k for k in range(16, 21)], pool=POOL // 2)
    print(f"\n{time.perf_counter() - start:.0f} s")


def run(rows: int, at: list[int], pool: int) -> None:
    """Prints the errors of tiles of `rows` rows at some numbers of tiles, and what they change."""
    quarters = make_quarters(rows // QUARTERS, pool)
    n_sums = quarters.sums.shape[1]
    i, j = np.triu_indices(n_sums)
    squares = quarters.products[:, i == j]
    drawn = np.random.default_rng(1).integers(0, pool, (QUARTERS, 8192))
    least = (np.quantile(squares[drawn].sum(axis=0), 0.05, axis=0) / squares.mean(axis=0)).min()
    print(
        f"\ntiles of {rows} rows; one product alone errs by {within_a_tile(rows):.1e}\n"
        f"5 % of the tiles have a Σx² below {least / QUARTERS:.3f} of the mean, in the column "
        f"of the least: rounding is at random up to {2.0**23 * least / QUARTERS:.1e} tiles"
    )
    head = ["tiles", "rows", "plain: max", "rms", "0.24u√T", "in parts", "pairwise", "Kahan"]
    print("".join(f"{name:>12}" for name in head))
    both = np.concatenate([quarters.sums, quarters.products], axis=1)
    found = accumulate(both, at)
    for t, sums in found.items():
        exact = sums.exact[n_sums:]
        one, parts, halves, kahan = (errors_of(part[n_sums:], exact) for part in sums[1:])
        random = 0.24 * 2.0**-24 * np.sqrt(t)
        values = one.max(), np.sqrt(np.mean(one[i == j] ** 2)), random, parts.max()
        line = "".join(f"{value:12.1e}" for value in (*values, halves.max(), kahan.max()))
        print(f"{t:12,d}{t * rows:12.1e}{line}", flush=True)
    ratio(f"{at[-1]:,} tiles, one accumulator / in parts, largest error", one.max() / parts.max())
    last, n = found[at[-1]], at[-1] * rows
    wanted = explained(moments(last.exact[:n_sums], last.exact[n_sums:], n, np.float64))
    for name in ("plain", "parts", "pairwise", "compensated"):
        sums = getattr(last, name)
        got = explained(moments(sums[:n_sums], sums[n_sums:], n, np.float32))
        same = np.all(got.selected == wanted.selected, axis=1)
        moved = np.abs(got.val_correlation - wanted.val_correlation).max()
        print(
            f"    {name:12s} {same.sum()} of {N_NEURONS} neurons have the same concepts; "
            f"correlations on the same moments differ by at most {moved:.1e}"
        )


if __name__ == "__main__":
    main()
