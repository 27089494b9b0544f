"""Where an interval ends when few images decide: skewed limits, and events that a sample lacks.

    seen:     u_i, what image i contributes to ρ                     (the sample as it is)
    product:  a = m(s) + τ·ê,  u_ij = x_i + y_i·ê_j + c·ê_j²         (its residuals on other images)

A neuron that fires on 5 % of the images and a concept on 0.1 % of them meet on one image in
20,000. A sample of 10,000 lacks that image in 60 of 100 cases; a bootstrap then never makes it, and
reports no spread where it should report most. The product keeps the images' simulated values, and
gives each the residual ê of any other image. It holds all such meetings, weighted as they would be
if residual and simulation were independent, and its moments are closed forms in the columns'
own: nothing is drawn.

    limits:   ρ + sd·(Γ⁻¹(p; k + ½) − k)/√k,  k = 1/g²,   g = skewness of u / √n

A weighted sum of few events has a skewed distribution whose spread grows with it. The gamma limits
are Fay & Feuer's for such sums (of k equal events: a Poisson count's mid-P limits), and agree with
BCa to second order as k grows. Either law gives its limits, and the interval ends at the outer
ones. With many events the product fades to what was seen, by the weight 1/(1 + n/(κ·c)), κ being
the kurtosis of u under the product. What was seen has Student's quantile, with 2n/(κ − 1 − g²n)
degrees of freedom, as its sd is uncertain; and follows the estimate where it bends (BCa's c_q).

`few_positives`: k < 6 or n/κ < 4.5 by either law. So are some six positive images on which a neuron
always fires alike, a dozen on which it varies, or twenty-five meetings of sparse and rare. There
the interval also holds the exact limits (Garwood's: one event more), unbent, with the whole
skewness of the sample.

Sources: Fay & Feuer 1997, Statistics in Medicine 16, 791–801; Garwood 1936
(https://doi.org/10.1093/biomet/28.3-4.437); Efron 1987
(https://doi.org/10.1080/01621459.1987.10478410) for what second order asks. The constants are
chosen by coverage (benchmarks/evaluation.py).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammainccinv, gammaincinv, ndtr, ndtri, stdtrit

from jaxle.arrays import Array

LEAST_EVENTS = 6.0  # 1/g², below which few events decide
LEAST_IMAGES = 4.5  # n/κ, likewise
FADE_SPREAD, FADE_SKEW = 2.0, 8.0  # c above
LEAST_SKEW = 1e-3  # of an estimate; below, a gamma is a normal
MOST_DEVIATIONS = 30.0  # beyond, a tail underflows
EXACT = 2e-6  # of a's variance: a residual below is round-off


class Law(NamedTuple):
    """Second to fourth central moments of what an image contributes, a value a neuron."""

    square: Float[Array, " neurons"]
    cube: Float[Array, " neurons"]
    fourth: Float[Array, " neurons"]


class Product(NamedTuple):
    """u_ij = x_i + y_i·ê_j + c·ê_j², with ê of mean 0 and variance 1 (or 0 throughout)."""

    x: Float[Array, "images neurons"]  # of mean 0
    y: Float[Array, "images neurons"]  # of mean 0
    residual: Float[Array, "images neurons"]
    c: Float[Array, " neurons"]


class Limits(NamedTuple):
    """How far an interval reaches below and above the estimate, and whether few events decide."""

    below: Float[np.ndarray, " neurons"]
    above: Float[np.ndarray, " neurons"]
    few: Bool[np.ndarray, " neurons"]


@jax.jit
def law_of(values: Float[Array, "images neurons"]) -> Law:
    """Returns the moments of contributions of mean 0."""
    square = values * values
    return Law(*(jnp.mean(part, axis=0) for part in (square, square * values, square * square)))


def product_of_one(
    a: Float[Array, "images neurons"],
    s: Float[Array, "images neurons"],
    rho: Float[Array, " neurons"],
) -> Product:
    """Returns the product for one simulation, in units of z = atanh ρ. Runs inside jit.

    There x = ρ/2·(s² − 1), y = √(1 − ρ²)·s and c = −ρ/2: with normal columns the moments are those
    of Fisher's z, E u² = 1.

    Args:
      a, s: of mean 0 and variance 1, or 0 throughout.
      rho: their correlation.
    """
    residual, scale = _standard(a - rho[None, :] * s)
    return Product(_centre(rho[None, :] / 2 * s * s), scale[None, :] * s, residual, -rho / 2)


def product_of_two(
    a: Float[Array, "images neurons"],
    s: tuple[Float[Array, "images neurons"], Float[Array, "images neurons"]],
    rho: Float[Array, "2 neurons"],
) -> Product:
    """Returns the product for the difference of two simulations' correlations. Runs inside jit.

    m(s) is the regression of a on both, which keep their joint values: what they share cancels.
    """
    one, two = s
    shared = jnp.mean(one * two, axis=0)
    apart = 1 - shared**2
    alike = apart < 1e-4  # then one weight for both: their own are round-off
    safe = jnp.where(alike, 1.0, apart)
    both = (rho[0] + rho[1]) / 2 / (1 + shared)
    weights = [
        jnp.where(alike, both, (rho[i] - shared * rho[1 - i]) / safe)[None, :] for i in (0, 1)
    ]
    fitted = weights[0] * one + weights[1] * two
    residual, scale = _standard(a - fitted)
    apart, gain = one - two, (rho[0] - rho[1])[None, :]
    x = fitted * apart - gain / 2 * fitted**2 - (rho[:1] * one**2 - rho[1:] * two**2) / 2
    y = scale[None, :] * (apart - gain * fitted)
    return Product(_centre(x), y, residual, -(rho[0] - rho[1]) / 2 * scale**2)


@jax.jit
def product_law(product: Product) -> Law:
    """Returns the moments of u_ij over all i and j, in closed form.

    With d = ê² − E ê²: E u² = E x² + E y²·E ê² + c²·E d², and so on by the multinomial theorem,
    where x, y, ê and d have mean 0 and (x, y) is independent of (ê, d).
    """
    x, y, e, c = product
    d = e * e - jnp.mean(e * e, axis=0)[None, :]
    xs, ys, es, ds = ([jnp.ones_like(z), z, z * z, z**3, z**4] for z in (x, y, e, d))

    def both(i, j):  # of images
        return jnp.mean(xs[i] * ys[j], axis=0)

    def other(i, j):  # of residuals, with their weight
        return c**j * jnp.mean(es[i] * ds[j], axis=0)

    square = both(2, 0) + both(0, 2) * other(2, 0) + other(0, 2)
    cube = both(3, 0) + both(0, 3) * other(3, 0) + other(0, 3)
    cube += 3 * both(1, 2) * other(2, 0) + 3 * both(0, 2) * other(2, 1)
    cube += 6 * both(1, 1) * other(1, 1)
    fourth = both(4, 0) + both(0, 4) * other(4, 0) + other(0, 4)
    fourth += 6 * both(2, 2) * other(2, 0) + 6 * both(2, 0) * other(0, 2)
    fourth += 6 * both(0, 2) * other(2, 2) + 4 * both(1, 3) * other(3, 0)
    fourth += 4 * both(0, 3) * other(3, 1) + 12 * both(2, 1) * other(1, 1)
    fourth += 12 * both(1, 2) * other(2, 1) + 12 * both(1, 1) * other(1, 2)
    return Law(square, cube, fourth)


def product_of_mean(
    product: Product, share: Float[Array, " neurons"], order: Int[Array, "permutations images"]
) -> tuple[Float[jax.Array, "permutations images"], Law]:
    """Returns what image i with the residuals of image order[i] contributes to a mean of neurons.

    All neurons take the residuals of one and the same image: what they have in common stays.
    Runs inside jit.

    Args:
      product: of a block of neurons.
      share: weight of each neuron.
      order: permutations of the images.

    Returns:
      (permutations, images) Σ share·u, and the sums over neurons of share², share³, share⁴ times
      the moments by these permutations, by which the closed ones replace them.
    """
    x, y, residual, c = product

    def one(index):
        e = residual[index]
        u = x + y * e + c[None, :] * (e * e - jnp.mean(e * e, axis=0)[None, :])
        total = jnp.matmul(u, share, precision=jax.lax.Precision.HIGHEST)
        return total, jnp.stack(law_of(u))

    total, laws = jax.lax.map(one, order)
    laws = jnp.mean(laws, axis=0)
    return total, Law(*(jnp.sum(share**p * part) for p, part in zip((2, 3, 4), laws, strict=True)))


def limits(
    spread: Float[np.ndarray, " neurons"],
    seen: Law,
    product: Law,
    bend: Float[Array, " neurons"],
    n: int,
    level: float,
) -> Limits:
    """Returns how far intervals reach, by the sample and by the product.

    Args:
      spread: standard deviation of the estimate over bootstrap draws.
      seen: moments of the sample's contributions, in any unit.
      product: moments by the product, in the unit of `spread`.
      bend: what the estimate gains beyond a straight line, in standard deviations, one standard
        deviation along the steepest way (BCa's c_q).
      n: images.
      level: share of intervals that are to hold the true value.
    """
    seen, product = (
        Law(*(np.asarray(part, np.float64) for part in law)) for law in (seen, product)
    )
    (skew, kurtosis), (own, tails) = _shape(seen), _shape(product)
    skew, own = skew / np.sqrt(n), own / np.sqrt(n)
    floor = np.sqrt(np.maximum(product.square, 0.0) / max(1, n - 3))
    # given its mean, a sum of few equal events has a known variance: skewness is not kurtosis
    sure = np.where(skew * own > 0, np.minimum(abs(skew), abs(own)), 0.0) ** 2 * n
    freedom = np.maximum(2.0, 2 * n / np.maximum(kurtosis - 1 - sure, 1e-3))
    quantile = np.sqrt(1 + 1 / freedom) * stdtrit(freedom, (1 + level) / 2)
    few = np.maximum(abs(skew), abs(own)) > LEAST_EVENTS**-0.5
    few |= n < LEAST_IMAGES * np.maximum(kurtosis, tails)
    # the skewness of a sample is itself uncertain
    held = skew * skew**2 / np.maximum(skew**2 + (kurtosis / n) ** 2, 1e-30)
    below, above = _bent(_ends(spread, held, quantile), spread, bend)
    # where few events decide, neither correction is sure of itself
    cautious = _ends(spread, skew, quantile, more=1.0)
    below = np.where(few, np.maximum(below, cautious[0]), below)
    above = np.where(few, np.maximum(above, cautious[1]), above)
    # what the sample lacks, which fades as events grow
    events = n / np.maximum(tails, 1.0)
    missing = np.maximum(floor**2 - spread**2, 0.0) / (1 + events / FADE_SPREAD)
    faded = np.sqrt(np.minimum(spread, floor) ** 2 + missing)
    weight = 1 / (1 + events / FADE_SKEW)
    size = weight * own * floor + (1 - weight) * skew * spread  # of an event
    size = size / np.where(faded > 0, faded, 1.0)
    more = _ends(faded, size, float(ndtri((1 + level) / 2)))
    return Limits(np.maximum(below, more[0]), np.maximum(above, more[1]), few)


def _shape(law: Law):
    """Skewness and kurtosis; 0 where nothing varies."""
    varies = law.square > 1e-20
    square = np.where(varies, law.square, 1.0)
    skew, kurtosis = law.cube / square**1.5, law.fourth / square**2
    return np.where(varies, skew, 0.0), np.where(varies, kurtosis, 0.0)


def _ends(spread, skew, quantile, more=0.5):
    """How far down and up the limits of a gamma with this skewness of the estimate lie.

    The upper one has `more` events than the sample, the lower one 1 − `more`: ½ is the mid-P limit
    of a count, 1 the exact one.
    """
    k = 1 / np.maximum(abs(skew), LEAST_SKEW) ** 2
    p = ndtr(-np.minimum(quantile, MOST_DEVIATIONS))
    down = spread * (k - gammaincinv(k + 1 - more, p)) / np.sqrt(k)
    up = spread * (gammainccinv(k + more, p) - k) / np.sqrt(k)
    return np.where(skew >= 0, down, up), np.where(skew >= 0, up, down)


def _bent(ends, spread, bend):
    """The limits of an estimate that follows λ + bend·λ² where a straight one follows λ."""
    safe, bend = np.where(spread > 0, spread, 1.0), np.asarray(bend)

    def move(distance, bend):
        more = bend * distance / safe
        return distance * np.where(more > 0, 1 + more, 1 / (1 - np.minimum(more, 0.0)))

    return move(ends[0], -bend), move(ends[1], bend)


def _standard(residual):
    """The residual at variance 1, or 0 where it is round-off, and its standard deviation."""
    square = jnp.mean(residual * residual, axis=0)
    varies = square > EXACT
    scale = jnp.sqrt(jnp.where(varies, square, 0.0))
    return residual * jnp.where(varies, 1 / jnp.where(varies, scale, 1.0), 0.0)[None, :], scale


def _centre(x):
    return x - jnp.mean(x, axis=0)[None, :]
