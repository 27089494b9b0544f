"""Dense ridge of every neuron on all concepts: the ceiling of what a concept set can express.

    W_δ = (G + δ I)⁻¹ C   on standardised moments, δ per neuron from a logarithmic grid

`solve`: δ by validation correlation ρ(w) = wᵀc_val / √(wᵀ G_val w · v_val); one Cholesky factor per
strength serves all neurons.
`teach`: δ by generalised cross-validation on the same images that fit; one eigendecomposition
G = U Λ Uᵀ serves all strengths:

    GCV(δ) = RSS(δ) / (1 − (1 + f(δ))/n)²,   f(δ) = Σ_i λ_i/(λ_i + δ),   z = Uᵀ c
    RSS(δ)/n = v − Σ_i z_i² (λ_i + 2δ)/(λ_i + δ)²

Sources: Hoerl & Kennard 1970 (https://doi.org/10.2307/1267351); Golub, Heath & Wahba 1979
(https://doi.org/10.2307/1268518).
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from jaxle.arrays import Array
from jaxle.mesh import data_size, round_up
from jaxle.solve import tiles
from jaxle.solve.moments import HIGHEST, ROWS, WHOLE, Moments, block_size, blocks, scales, split_jit

# In units of a standardised concept's variance.
STRENGTHS = tuple(10.0**e for e in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5))
# Of the images: where a fit has more degrees of freedom, GCV says little and the strength is not
# considered.
MOST_FREEDOM = 0.5
# Of an eigendecomposition, half of which reads the whole matrix for each column: more threads wait
# for memory, and for one another by spinning, three to ten times the work on two busy cores.
MOST_THREADS = 4


class Dense(NamedTuple):
    """A dense linear fit on raw columns."""

    weights: Float[jax.Array, "concepts neurons"]
    bias: Float[jax.Array, " neurons"]
    strength: Float[jax.Array, " neurons"]  # δ chosen
    val_correlation: Float[jax.Array, " neurons"]


def solve(train: Moments, val: Moments, strengths: tuple[float, ...] = STRENGTHS) -> Dense:
    """Returns ridge with each neuron's own strength, that of largest validation correlation.

    Its correlation on test images is the ceiling of sparse explanations.

    Args:
      train, val: moments of the images that fit and of those that choose.
      strengths: δ > 0 to choose from, in units of a standardised concept's variance.

    Returns:
      Dense; a constant concept or target has weights 0.

    Raises:
      ValueError: no strength, or one that is not positive.
    """
    _check_strengths(strengths)
    n_concepts, n_neurons = train.cross.shape
    train, val = train.padded().wide(), val.padded().wide()
    gram, cross, size, best = _start(train.arrays())
    for strength in strengths:
        best = _improve(best, gram, cross, size, val.arrays(), np.float32(strength))
    weights, strength, rho = best
    bias = _bias(train.mean_x, train.mean_y, weights)
    parts = (tiles.cut_rows(weights, n_concepts), bias, strength, rho)
    return Dense(*(tiles.cut_columns(part, slice(0, n_neurons)) for part in parts))


def _check_strengths(strengths: tuple[float, ...]) -> None:
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be one or more positive numbers, got {strengths}.")


class Teacher(NamedTuple):
    """A dense linear fit on raw columns, and how it was regularised."""

    weights: Float[jax.Array, "concepts neurons"]
    bias: Float[jax.Array, " neurons"]
    strength: Float[jax.Array, " neurons"]  # δ chosen
    freedom: Float[jax.Array, " neurons"]  # degrees of freedom f(δ)


class Spectrum(NamedTuple):
    """G = U Λ Uᵀ of a standardised Gram matrix: what `teach` needs of the concepts alone."""

    values: Float[np.ndarray, " concepts"]  # float64, none negative
    vectors: Float[np.ndarray, "concepts concepts"]  # float64


def spectrum(moments: Moments) -> Spectrum:
    """Returns the spectrum of the standardised Gram matrix; one serves all neurons and layers."""
    return Spectrum(*_eigen(moments.gram, scales(moments.padded()).inv_x))


def teach(
    moments: Moments,
    strengths: tuple[float, ...] = STRENGTHS,
    *,
    spectrum: Spectrum | None = None,
    mesh: Mesh | None = None,
    block: int | None = None,
) -> Teacher:
    """Returns ridge with each neuron's own strength by generalised cross-validation.

    One image set both fits and chooses. The eigendecomposition is float64 on the host, the products
    with it float32. With more concepts than images, strengths whose fit has over `MOST_FREEDOM` n
    degrees of freedom are left out (but never the largest), since GCV tends to 0/0 there. A choice
    by mean correlation over five folds needs an eigendecomposition a fold; on the scenes network
    (500 and 6,000 images) and a CIFAR-10 ResNet-20, three layers each, it gave test correlations of
    dense fit and explanations within .004 and .003 of these.

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
    n_neurons, n_devices = moments.cross.shape[1], data_size(mesh)
    moments = moments.padded(n_devices)
    n_concepts, n_padded = moments.cross.shape
    size = scales(moments)
    values, vectors = _eigen(moments.gram, size.inv_x) if spectrum is None else spectrum
    grid = np.sort(np.asarray(strengths, np.float64))
    freedom = (values[:, None] / (values[:, None] + grid[None, :])).sum(0)
    allowed = 1 + freedom <= MOST_FREEDOM * moments.n
    allowed[-1] = True
    grid, freedom = grid[allowed], freedom[allowed]
    rest = np.maximum(1 - (1 + freedom) / moments.n, 1.0 / (1 + moments.n))
    shrink = (values[:, None] + 2 * grid[None, :]) / (values[:, None] + grid[None, :]) ** 2
    parts = (vectors, values, shrink, grid, 1 / rest**2)
    table = [jax.device_put(np.asarray(part, np.float32)) for part in parts]
    program = _program(mesh)
    weights, chosen = np.zeros((n_concepts, n_padded), np.float32), np.zeros(n_padded, np.int32)
    n_block = min(n_padded, block or block_size(n_concepts, n_devices))
    for start, some in blocks(moments, n_block):
        rows = _cross_rows(some.arrays(), size.inv_x, round_up(n_block, n_devices))
        part, best = program(rows, *table)
        weights[:, start : start + n_block] = np.asarray(part)[:n_block].T
        chosen[start : start + n_block] = np.asarray(best)[:n_block]
    chosen_parts = (np.asarray(part[chosen], np.float32) for part in (grid, freedom))
    teacher = _raw(weights, moments.arrays(), size, *chosen_parts)
    return Teacher(*(tiles.cut_columns(part, slice(0, n_neurons)) for part in teacher))


def at_strength(
    moments: Moments,
    strength: Float[Array, " neurons"],
    spectrum: Spectrum,
    *,
    mesh: Mesh | None = None,
    block: int | None = None,
) -> Float[np.ndarray, "concepts neurons"]:
    """Returns the weights of ridge at given strengths, raw columns, without a factorisation.

    Args:
      moments: of some of the images that `spectrum` is of. Which images the Gram matrix is of says
        nothing about activations, so that a fold's are held out though their concepts are in it.
      strength: δ of each neuron.
      spectrum: from `spectrum`.
      mesh, block: as for `teach`.
    """
    n_neurons, n_devices = moments.cross.shape[1], data_size(mesh)
    moments = moments.padded(n_devices)
    n_concepts, n_padded = moments.cross.shape
    size = scales(moments)
    strength = np.pad(np.asarray(strength), (0, n_padded - n_neurons), constant_values=1.0)
    vectors, values = (np.asarray(part, np.float32) for part in spectrum[::-1])
    program, weights = _apply_program(mesh), np.zeros((n_concepts, n_padded), np.float32)
    n_block = min(n_padded, block or block_size(n_concepts, n_devices))
    for start, some in blocks(moments, n_block):
        rows = _cross_rows(some.arrays(), size.inv_x, round_up(n_block, n_devices))
        own = np.pad(
            strength[start : start + n_block],
            (0, round_up(n_block, n_devices) - n_block),
            constant_values=1.0,
        )
        part = program(rows, vectors, values, own)
        weights[:, start : start + n_block] = np.asarray(part)[:n_block].T
    inv_x, std_y = np.asarray(size.inv_x), np.asarray(size.std_y)
    return (weights * inv_x[:, None] * std_y[None, :])[:, :n_neurons]


def _eigen(gram, inv_x):
    """Eigenvalues, none negative, and eigenvectors of the standardised Gram matrix, in float64."""
    scale = np.asarray(inv_x, np.float64)
    standardised = np.asarray(gram) * scale[:, None] * scale[None, :]
    with threadpool_limits(min(MOST_THREADS, max(1, (os.cpu_count() or 1) // 2)), "blas"):
        values, vectors = np.linalg.eigh(standardised)
    return np.maximum(values, 0.0), vectors


@functools.partial(jax.jit, static_argnames="n_padded")
def _cross_rows(moments: Moments, inv_x, n_padded: int):
    inv_y = scales(moments).inv_y
    rows = (moments.cross * inv_x[:, None] * inv_y[None, :]).T
    return jnp.pad(rows, ((0, n_padded - len(inv_y)), (0, 0)))


@functools.cache
def _program(mesh: Mesh | None):
    return split_jit(_teach, mesh, (ROWS, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE), ROWS)


def _teach(cross, vectors, values, shrink, grid, inflation):
    """Standardised weights (neurons, concepts), and each one's place in the grid of strengths."""
    z = jnp.matmul(cross, vectors, precision=HIGHEST)
    # 1e-6: what float32 resolves
    residual = jnp.maximum(1 - jnp.matmul(z**2, shrink, precision=HIGHEST), 1e-6)
    best = jnp.argmin(residual * inflation[None, :], axis=1).astype(jnp.int32)
    return _filter(z, vectors, values, grid[best]), best


@functools.cache
def _apply_program(mesh: Mesh | None):
    return split_jit(_apply, mesh, (ROWS, WHOLE, WHOLE, ROWS), ROWS)


def _apply(cross, vectors, values, strength):
    return _filter(jnp.matmul(cross, vectors, precision=HIGHEST), vectors, values, strength)


def _filter(z, vectors, values, strength):
    filtered = z / (values[None, :] + strength[:, None])
    return jnp.matmul(filtered, vectors.T, precision=HIGHEST)


@jax.jit
def _raw(weights, moments: Moments, size, strength, freedom):
    weights = weights * size.inv_x[:, None] * size.std_y[None, :]
    return weights, _bias(moments.mean_x, moments.mean_y, weights), strength, freedom


@jax.jit
def _bias(mean_x, mean_y, weights):
    return mean_y - jnp.matmul(mean_x, weights, precision=HIGHEST)


@jax.jit
def _start(train: Moments):
    """Standardised moments, scales, and the best fit so far: none."""
    size = scales(train)
    gram = train.gram * size.inv_x[:, None] * size.inv_x[None, :]
    cross = train.cross * size.inv_x[:, None] * size.inv_y[None, :]
    zero = jnp.zeros_like(train.mean_y)
    return gram, cross, size, (jnp.zeros_like(cross), zero, zero - jnp.inf)


@functools.partial(jax.jit, donate_argnums=0)
def _improve(best, gram, cross, size, val: Moments, strength):
    """Solve at one strength; keep it for the neurons whose validation correlation it raises."""
    matrix = gram + strength * jnp.eye(len(gram), dtype=jnp.float32)
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    weights = jax.scipy.linalg.cho_solve((factor, True), cross)
    weights = weights * size.inv_x[:, None] * size.std_y[None, :]
    spread = jnp.sum(weights * jnp.matmul(val.gram, weights, precision=HIGHEST), axis=0) * val.var_y
    cov = jnp.sum(weights * val.cross, axis=0)
    rho = jnp.where(spread > 0, cov / jnp.sqrt(jnp.where(spread > 0, spread, 1.0)), 0.0)
    better = rho > best[2]
    return (
        jnp.where(better[None, :], weights, best[0]),
        jnp.where(better, strength, best[1]),
        jnp.where(better, rho, best[2]),
    )
