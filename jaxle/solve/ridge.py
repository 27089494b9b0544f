"""Dense ridge of every neuron on all concepts, from second moments: the ceiling of what a concept set can express.

    W_δ = (G + δ I)⁻¹ C   on standardised moments, δ per neuron from a logarithmic grid

`solve`: δ by validation correlation ρ(w) = wᵀc_val / √(wᵀ G_val w · v_val); one Cholesky factor per strength serves all neurons.
`teach`: δ by generalised cross-validation on the same images that fit; one eigendecomposition G = U Λ Uᵀ serves all strengths:

    GCV(δ) = RSS(δ) / (1 − (1 + f(δ))/n)²,   RSS(δ)/n = v − Σ_i z_i² (λ_i + 2δ)/(λ_i + δ)²,   f(δ) = Σ_i λ_i/(λ_i + δ),   z = Uᵀ c

Sources: Hoerl & Kennard 1970 (https://doi.org/10.2307/1267351); Golub, Heath & Wahba 1979 (https://doi.org/10.2307/1268518).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxle.solve.moments import HIGHEST, ROWS, WHOLE, Moments, block_size, blocks, scales, split_jit

STRENGTHS = tuple(
    10.0**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5)
)  # in units of a standardised concept's variance
MOST_FREEDOM = 0.5  # of the images: where a fit has more degrees of freedom, GCV says little and the strength is not considered


class Dense(NamedTuple):
    """A dense linear fit on raw columns."""

    weights: jax.Array  # (concepts, neurons) float32
    bias: jax.Array  # (neurons,) float32
    strength: jax.Array  # (neurons,) float32: δ chosen
    val_correlation: jax.Array  # (neurons,) float32


def solve(train: Moments, val: Moments, strengths: tuple[float, ...] = STRENGTHS) -> Dense:
    """Ridge with each neuron's own strength, the one of largest validation correlation; use it as the ceiling of sparse explanations.

    Args:
      train, val: moments of the images that fit and of those that choose.
      strengths: δ > 0 to choose from, in units of a standardised concept's variance.

    Returns:
      Dense; a constant concept or target has weights 0.

    Raises:
      ValueError: no strength, or one that is not positive.
    """
    _check_strengths(strengths)
    gram, cross, size = _standardise(train)
    best = (
        jnp.zeros_like(cross),
        jnp.zeros_like(train.mean_y),
        jnp.full_like(train.mean_y, -jnp.inf),
    )
    for strength in strengths:
        best = _improve(best, gram, cross, size, val, jnp.float32(strength))
    weights, strength, rho = best
    return Dense(
        weights, train.mean_y - jnp.matmul(train.mean_x, weights, precision=HIGHEST), strength, rho
    )


def _check_strengths(strengths: tuple[float, ...]) -> None:
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be one or more positive numbers, got {strengths}.")


class Teacher(NamedTuple):
    """A dense linear fit on raw columns, and how it was regularised."""

    weights: jax.Array  # (concepts, neurons) float32
    bias: jax.Array  # (neurons,) float32
    strength: jax.Array  # (neurons,) float32: δ chosen
    freedom: jax.Array  # (neurons,) float32: degrees of freedom f(δ)


class Spectrum(NamedTuple):
    """G = U Λ Uᵀ of a standardised Gram matrix: what `teach` needs of the concepts alone."""

    values: np.ndarray  # (concepts,) float64, none negative
    vectors: np.ndarray  # (concepts, concepts) float64


def spectrum(moments: Moments) -> Spectrum:
    """Returns the spectrum of the standardised Gram matrix; one serves all neurons and layers."""
    return Spectrum(*_eigen(moments.gram, scales(moments).inv_x))


def teach(
    moments: Moments,
    strengths: tuple[float, ...] = STRENGTHS,
    *,
    spectrum: Spectrum | None = None,
    mesh: Mesh | None = None,
    block: int | None = None,
) -> Teacher:
    """Ridge with each neuron's own strength by generalised cross-validation; use it where one image set both fits and chooses.

    The eigendecomposition is float64 on the host, the products with it float32. With more concepts than images, strengths whose fit has
    over `MOST_FREEDOM` n degrees of freedom are left out (but never the largest), since GCV tends to 0/0 there. A choice by mean
    correlation over five folds needs an eigendecomposition a fold; on the scenes network (500 and 6,000 images) and a
    CIFAR-10 ResNet-20, three layers each, it gave test correlations of dense fit and explanations within .004 and .003 of these.

    Args:
      moments: of the images that fit and choose.
      strengths: δ > 0 to choose from, in units of a standardised concept's variance.
      spectrum: of these moments' Gram matrix, where it is at hand; None computes it.
      mesh: split the neurons over its axis `data`.
      block: neurons per block; None asks how much memory is free.

    Returns:
      Teacher; a constant concept or target has weights 0.

    Raises:
      ValueError: no strength, or one that is not positive.
    """
    _check_strengths(strengths)
    n_concepts, n_neurons = moments.cross.shape
    n_devices = 1 if mesh is None else mesh.shape["data"]
    size = scales(moments)
    values, vectors = _eigen(moments.gram, size.inv_x) if spectrum is None else spectrum
    grid = np.sort(np.asarray(strengths, np.float64))
    freedom = (values[:, None] / (values[:, None] + grid[None, :])).sum(0)
    allowed = 1 + freedom <= MOST_FREEDOM * moments.n
    allowed[-1] = True
    grid, freedom = grid[allowed], freedom[allowed]
    rest = np.maximum(1 - (1 + freedom) / moments.n, 1.0 / (1 + moments.n))
    shrink = (values[:, None] + 2 * grid[None, :]) / (values[:, None] + grid[None, :]) ** 2
    table = [
        jnp.asarray(part, jnp.float32) for part in (vectors, values, shrink, grid, 1 / rest**2)
    ]
    program = _program(mesh)
    weights, chosen = np.zeros((n_concepts, n_neurons), np.float32), np.zeros(n_neurons, np.int32)
    block = min(n_neurons, block or block_size(n_concepts, n_devices))
    for start, some in blocks(moments, block):
        part, best = program(
            _cross_rows(some, size.inv_x, -(-block // n_devices) * n_devices), *table
        )
        weights[:, start : start + block], chosen[start : start + block] = (
            np.asarray(part)[:block].T,
            np.asarray(best)[:block],
        )
    return _raw(
        weights,
        moments,
        size,
        jnp.asarray(grid[chosen], jnp.float32),
        jnp.asarray(freedom[chosen], jnp.float32),
    )


def _eigen(gram, inv_x):
    """Eigenvalues, none negative, and eigenvectors of the standardised Gram matrix; NumPy, float64."""
    scale = np.asarray(inv_x, np.float64)
    values, vectors = np.linalg.eigh(np.asarray(gram) * scale[:, None] * scale[None, :])
    return np.maximum(values, 0.0), vectors


@functools.partial(jax.jit, static_argnames="n_padded")
def _cross_rows(moments: Moments, inv_x, n_padded: int):
    inv_y = scales(moments).inv_y
    return jnp.pad(
        (moments.cross * inv_x[:, None] * inv_y[None, :]).T, ((0, n_padded - len(inv_y)), (0, 0))
    )


@functools.cache
def _program(mesh: Mesh | None):
    return split_jit(_teach, mesh, (ROWS, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE), ROWS)


def _teach(cross, vectors, values, shrink, grid, inflation):
    """Standardised weights (neurons, concepts), and the place of each one's strength in the grid."""
    z = jnp.matmul(cross, vectors, precision=HIGHEST)
    residual = jnp.maximum(
        1 - jnp.matmul(z**2, shrink, precision=HIGHEST), 1e-6
    )  # 1e-6: what float32 resolves
    best = jnp.argmin(residual * inflation[None, :], axis=1).astype(jnp.int32)
    filtered = z / (values[None, :] + grid[best][:, None])
    return jnp.matmul(filtered, vectors.T, precision=HIGHEST), best


@jax.jit
def _raw(weights, moments: Moments, size, strength, freedom):
    weights = weights * size.inv_x[:, None] * size.std_y[None, :]
    return Teacher(
        weights,
        moments.mean_y - jnp.matmul(moments.mean_x, weights, precision=HIGHEST),
        strength,
        freedom,
    )


@jax.jit
def _standardise(train: Moments):
    size = scales(train)
    gram = train.gram * size.inv_x[:, None] * size.inv_x[None, :]
    return gram, train.cross * size.inv_x[:, None] * size.inv_y[None, :], size


@functools.partial(jax.jit, donate_argnums=0)
def _improve(best, gram, cross, size, val: Moments, strength):
    """Solve at one strength; keep it for the neurons whose validation correlation it raises."""
    factor = jnp.linalg.cholesky(
        gram + strength * jnp.eye(len(gram), dtype=jnp.float32), symmetrize_input=False
    )
    weights = (
        jax.scipy.linalg.cho_solve((factor, True), cross)
        * size.inv_x[:, None]
        * size.std_y[None, :]
    )
    spread = jnp.sum(weights * jnp.matmul(val.gram, weights, precision=HIGHEST), axis=0) * val.var_y
    cov = jnp.sum(weights * val.cross, axis=0)
    rho = jnp.where(spread > 0, cov / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)
    better = rho > best[2]
    return (
        jnp.where(better[None, :], weights, best[0]),
        jnp.where(better, strength, best[1]),
        jnp.where(better, rho, best[2]),
    )
