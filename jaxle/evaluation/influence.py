"""What images contribute to a block of neurons' correlations, and bootstrap draws of them.

    columns  [a, a², s, s², a∘s, …]   W·columns/n  →  ρ* (draws × neurons)
    u_i      âŝ − ρ(â² + ŝ²)/2        moments seen, and by the product (`evaluation.sparse`)
    c_q      (θ(w₊) + θ(w₋) − 2θ)/2 in its sd,   w± = 1 ± u/√(n·mean u²)

A target is what an interval is made for: z = atanh ρ of each side and, of two sides, ρ_a − ρ_b.
Columns are standardised once; everything but the draws is elementwise or a mean over images. c_q
is how much a target bends along the way on which it is steepest; source: Efron 1987
(https://doi.org/10.1080/01621459.1987.10478410), section 6.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Real

from jaxle.arrays import Array
from jaxle.evaluation import sparse
from jaxle.stats import pearson, standardise

MOST = 1 - 1e-6  # a correlation beyond is as good as 1 in float32
LEFT = 1e-5  # share of a draw's mean square that its variance must keep, else it holds one value
LEAST_SD = 1e-4  # of a target; below, its bend is round-off


class Target(NamedTuple):
    """What the limits of one target are made of, a value a neuron."""

    seen: sparse.Law
    product: sparse.Law  # in the target's unit
    bend: Float[Array, " neurons"]


class Mean(NamedTuple):
    """What images contribute to the share-weighted sum of the last target over neurons."""

    seen: Float[Array, " images"]
    permuted: Float[Array, "permutations images"]  # with residuals of other images
    closed: Float[Array, "3"]  # by how much closed moments exceed those of the permutations


class Block(NamedTuple):
    """A block of neurons."""

    columns: Float[Array, "images sums"]  # neurons·(2 + 3·sides), of which a draw takes the mean
    rho: Float[Array, "sides neurons"]
    varies: Bool[Array, "sides neurons"]  # neither this side nor a is constant
    targets: tuple[Target, ...]  # one a side, then the difference
    mean: Mean


def measure(
    simulated: tuple[Real[Array, "images neurons"], ...],
    activations: Real[Array, "images neurons"],
    share: Float[Array, " neurons"],
    order: Int[Array, "permutations images"],
) -> Block:
    """Returns what a block of neurons gives to its draws and its limits.

    Args:
      simulated: one side or two.
      activations: of the same images and neurons.
      share: weight of each neuron in the mean.
      order: permutations of the images.
    """
    columns, rho, varies, contributions, products, units = _contributions(simulated, activations)
    # small programs, which the targets share
    seen = [sparse.law_of(u) for u in contributions]
    laws = [sparse.product_law(product) for product in products]
    bends = [
        _bend(columns, rho, u, law, unit, index)
        for index, (u, law, unit) in enumerate(zip(contributions, seen, units, strict=True))
    ]
    targets = tuple(map(Target, seen, laws, bends))
    mean = _mean(contributions[-1], products[-1], laws[-1], share, units[-1], order)
    return Block(columns, rho, varies, targets, mean)


@jax.jit
def _contributions(simulated, activations):
    """Columns, ρ and which vary; and for each target u, its product and what it is in ρ."""
    a = standardise(activations.astype(jnp.float32))[0]
    sides = tuple(standardise(side.astype(jnp.float32))[0] for side in simulated)
    columns = [a, a * a, *(part for s in sides for part in (s, s * s, a * s))]
    rho = jnp.stack([pearson(a, s) for s in sides])
    varies = jnp.stack([jnp.any(s != 0, axis=0) & jnp.any(a != 0, axis=0) for s in sides])
    u = [a * s - r[None, :] / 2 * (a * a + s * s) for s, r in zip(sides, rho, strict=True)]
    products = [sparse.product_of_one(a, s, r) for s, r in zip(sides, rho, strict=True)]
    units = [jnp.maximum(1 - r**2, sparse.EXACT) for r in rho]
    if len(sides) == 2:
        u.append(u[0] - u[1])
        products.append(sparse.product_of_two(a, (sides[0], sides[1]), rho))
        units.append(jnp.ones_like(rho[0]))
    return jnp.concatenate(columns, axis=1), rho, varies, u, products, units


@jax.jit
def _mean(u, product, law, share, unit, order):
    share_of_rho = share * unit
    permuted, own = sparse.product_of_mean(product, share_of_rho, order)
    closed = [
        jnp.sum(share_of_rho**p * part) - drawn
        for p, part, drawn in zip((2, 3, 4), law, own, strict=True)
    ]
    seen = jnp.matmul(u, share, precision=jax.lax.Precision.HIGHEST)
    return Mean(seen, permuted, jnp.stack(closed))


@jax.jit
def draw(
    weights: Real[Array, "draws images"],
    columns: Float[Array, "images sums"],
    rho: Float[Array, "sides neurons"],
    share: Float[Array, " neurons"],
) -> tuple[Float[jax.Array, "targets draws neurons"], Float[jax.Array, " draws"]]:
    """Returns how far the targets move in some draws, and the last one's mean over neurons."""
    w = weights.astype(jnp.float32)
    moments = jnp.matmul(w, columns, precision=jax.lax.Precision.HIGHEST) / w.shape[1]
    parts = jnp.split(moments, 2 + 3 * len(rho), axis=1)
    drawn = _correlations(parts)
    moved = [
        _fisher(r) - _fisher(observed)[None, :] for r, observed in zip(drawn, rho, strict=True)
    ]
    value = drawn[0]
    if len(rho) == 2:
        value = drawn[0] - drawn[1]
        moved.append(value)
    return jnp.stack(moved), jnp.matmul(value, share, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _bend(columns, rho, u, law, unit, index):
    """c_q of target `index`, with the moments as weights follow its u."""
    columns = jnp.split(columns, 2 + 3 * len(rho), axis=1)
    n = len(columns[0])
    sd = jnp.sqrt(law.square / n)
    way = u / jnp.where(sd > 0, sd, 1.0)[None, :] / n
    middle = jnp.stack([jnp.mean(part, axis=0) for part in columns])
    slope = jnp.stack([jnp.mean(way * part, axis=0) for part in columns])

    def value(step):
        sides = _correlations(middle + step * slope)
        values = [_fisher(side) for side in sides]
        if len(sides) == 2:
            values.append(sides[0] - sides[1])
        return jnp.stack(values)[index]

    up, down, still = jax.vmap(value)(jnp.array([1.0, -1.0, 0.0]))
    second = (up + down - 2 * still) / 2
    sd = sd / unit
    return jnp.where(sd > LEAST_SD, second / jnp.where(sd > LEAST_SD, sd, 1.0), 0.0)


def _correlations(moments):
    """ρ of each side by the means of its columns."""
    a, aa, *rest = moments
    return [_correlation(a, aa, *rest[i : i + 3]) for i in range(0, len(rest), 3)]


def _correlation(a, aa, s, ss, cross):
    var_a, var_s = aa - a * a, ss - s * s
    varies = (var_a > LEFT * aa) & (var_s > LEFT * ss)
    root = jnp.sqrt(jnp.where(varies, var_a * var_s, 1.0))
    return jnp.where(varies, jnp.clip((cross - a * s) / root, -1.0, 1.0), 0.0)


def _fisher(rho):
    return jnp.arctanh(jnp.clip(rho, -MOST, MOST))
