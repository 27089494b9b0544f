"""The affine map from a simulated activation to the network: value = c · s + d, one (c, d) a neuron, chosen on validation images.

    Norm:   c = ρ σ(q) / σ(s),   d = μ(q) − c μ(s)            all on validation images; the same as least squares of q on s
    Optim:  min_{c,d}  Σ |ΔL(c s + d)| / Σ |ΔL(μ)|            that is, the ablation score at its best; by Adam

The paper's procedure is 100 steps of Adam, rate 1e-2, from c = 1, d = 0 in the activation's units, and its last point ("reference"). It
depends on the units of s. "best" follows that very path and two more, in units in which s and q have mean 0 and deviation 1 (from Norm's
point and from the constant μ, with a rate that falls to 0), and keeps the best of all points met: never below "reference" on the images it
is given. Source: method.md §6.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxle.stats import CONSTANT

STEPS, RATE = 100, 1e-2  # the paper's
_UNIT_RATE = 0.05  # in standardised units, falling to 0 along a half cosine
_ADAM = optax.scale_by_adam()
Change = Callable[
    [np.ndarray, np.ndarray], tuple[jax.Array, jax.Array]
]  # values (images, columns), neurons (columns,) → ΔL, slope


def norm(simulated: np.ndarray, activations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The closed form (c, d).

    Args:
      simulated, activations: (images, neurons), any real dtype, validation images.

    Returns:
      c, d (neurons,) float64; where the simulation is constant c = 0, d = μ(q). A perfect simulation gives exactly 1, 0.
    """
    s, q = np.asarray(simulated, np.float64), np.asarray(activations, np.float64)
    mean_s, mean_q = s.mean(axis=0), q.mean(axis=0)
    variance = ((s - mean_s) ** 2).mean(axis=0)
    constant = np.sqrt(variance) <= CONSTANT * np.abs(s).max(axis=0)
    covariance = ((s - mean_s) * (q - mean_q)).mean(axis=0)
    scale = np.where(constant, 0.0, covariance / np.where(constant, 1.0, variance))
    return scale, mean_q - scale * mean_s


def optim(
    change: Change,
    simulated: np.ndarray,
    activations: np.ndarray,
    neurons: np.ndarray,
    *,
    reference: bool = False,
):
    """(c, d) by gradient descent.

    Args:
      change: what replacing values does to the loss, image by image, and its derivative by the value.
      simulated, activations: (images, neurons) float, validation images.
      neurons: (neurons,) the network's numbers of these columns, handed to `change`.
      reference: the paper's procedure and its last point; else the best point of several paths.

    Returns:
      c, d (neurons,) float64. Unless `reference`, a constant simulation gives c = 0, d = μ(q).
    """
    s, q = np.asarray(simulated, np.float64), np.asarray(activations, np.float64)
    n = s.shape[1]
    mean_s, mean_q, std_s, std_q = s.mean(axis=0), q.mean(axis=0), s.std(axis=0), q.std(axis=0)
    constant = std_s <= CONSTANT * np.abs(s).max(axis=0)
    unit = np.where(constant, 1.0, std_s)
    at_mean = total_change(change, np.broadcast_to(mean_q, s.shape), neurons)
    weight = 1 / np.where(at_mean > 0, at_mean, 1.0)
    one, zero = np.ones(n), np.zeros(n)
    if reference:
        x, gain, offset, start = s, one, zero, (one, zero)
    else:
        fit, _ = norm(s, q)
        z, std = np.where(constant, 0.0, (s - mean_s) / unit), np.where(std_q > 0, std_q, 1.0)
        x, gain, offset = (
            np.hstack([s, z, z]),
            np.hstack([one, std, std]),
            np.hstack([zero, mean_q, mean_q]),
        )
        start = np.hstack([one, fit * unit / std, zero]), np.zeros(3 * n)
    ways = len(gain) // n
    in_units = np.arange(len(gain)) >= n
    arrays = [jnp.asarray(a, jnp.float32) for a in (x, gain, offset, np.tile(weight, ways))]
    last, best = _descend(
        change,
        np.tile(neurons, ways),
        *arrays,
        jnp.asarray(in_units),
        jnp.asarray(np.stack(start), jnp.float32),
    )
    if reference:
        return last[0], last[1]

    candidates = []
    for point, way in ((last, 0), (best, 0), (best, 1), (best, 2)):
        slope, intercept = point[:, way * n : (way + 1) * n]
        if way:
            slope, intercept = (
                slope * std / unit,
                mean_q + intercept * std - slope * std / unit * mean_s,
            )
        candidates.append((slope, intercept))
    totals = np.stack(
        [total_change(change, slope * s + intercept, neurons) for slope, intercept in candidates]
    )
    chosen = np.argmin(totals, axis=0)[None]
    scale, shift = (
        np.take_along_axis(np.stack(part), chosen, 0)[0] for part in zip(*candidates, strict=True)
    )
    return np.where(constant, 0.0, scale), np.where(constant, mean_q, shift)


def total_change(change: Change, values: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """Σ |ΔL| over images (neurons,) float64, for values (images, neurons)."""
    return np.abs(np.asarray(change(values.astype(np.float32), neurons)[0], np.float64)).sum(axis=0)


def _descend(change, neurons, x, gain, offset, weight, in_units, start):
    """The last point and the best point met, each (2, columns) float64."""
    params, state = start, _ADAM.init(start)
    best = (jnp.full(start.shape[1], jnp.inf), start)
    for step in range(STEPS + 1):
        rate = jnp.where(in_units, _UNIT_RATE * (1 + np.cos(np.pi * step / STEPS)) / 2, RATE)
        delta, slope = change(_values(x, gain, offset, params), neurons)
        last, (params, state, best) = (
            params,
            _step(x, gain, weight, rate, delta, slope, params, state, best),
        )
    return np.asarray(last, np.float64), np.asarray(best[1], np.float64)


@jax.jit
def _values(x, gain, offset, params):
    return offset[None] + gain[None] * (params[:1] * x + params[1:])


@jax.jit
def _step(x, gain, weight, rate, delta, slope, params, state, best):
    loss = jnp.sum(jnp.abs(delta), axis=0) * weight
    better = loss < best[0]
    best = jnp.where(better, loss, best[0]), jnp.where(better[None], params, best[1])
    pull = jnp.sign(delta) * slope * (gain * weight)[None]
    updates, state = _ADAM.update(
        jnp.stack([jnp.sum(pull * x, axis=0), jnp.sum(pull, axis=0)]), state
    )
    return params - rate[None] * updates, state, best
