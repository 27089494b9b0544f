"""The affine map from a simulated activation to the value that replaces the neuron: c · s + d.

    Norm:   c = ρ σ(q) / σ(s),   d = μ(q) − c μ(s)     that is, least squares of q on s
    Optim:  min_{c,d}  Σ |ΔL(c s + d)| / Σ |ΔL(μ)|     that is, the best ablation score; by Adam
    Constant:  min_d   Σ |ΔL(d)|                       what needs no simulation: the zero of Optim

One (c, d) a neuron, chosen on validation images. The paper's procedure is 100 steps of Adam at rate
1e-2 from c = 1, d = 0 in the activation's units; its last point counts ("reference"). It depends on
the units of s. "best" follows that path and two more, in units in which s and q have mean 0 and
deviation 1 (from Norm's point and from the best constant, with a rate that falls to 0), and keeps
the best of all points that it met, the constant among them. So it is below neither "reference" nor
the constant on the validation images. The constant is searched on the quantiles of the neuron's own
activations, and then between the neighbours of the best. Source: method.md §6.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float64, Int, Real

from jaxle.arrays import Array
from jaxle.stats import is_constant

STEPS, RATE = 100, 1e-2  # the paper's
QUANTILES = 17  # of the activation on val, from its least to its largest value
ROUNDS, BETWEEN = 4, 4  # of refinement: so many values between the best one's neighbours
_UNIT_RATE = 0.05  # in standardised units, falling to 0 along a half cosine
_ADAM = optax.scale_by_adam()
# values (images, columns), neurons (columns,) → ΔL and its derivative by the value, as the values
Change = Callable[[Array, np.ndarray], tuple[Array, Array | None]]


def norm(
    simulated: Real[Array, "images neurons"], activations: Real[Array, "images neurons"]
) -> tuple[Float64[np.ndarray, " neurons"], Float64[np.ndarray, " neurons"]]:
    """Returns the closed form (c, d).

    Args:
      simulated, activations: (images, neurons), any real dtype, validation images.

    Returns:
      c, d (neurons,) float64; where the simulation is constant c = 0, d = μ(q). A perfect
      simulation gives exactly 1, 0.
    """
    s, q = np.asarray(simulated, np.float64), np.asarray(activations, np.float64)
    mean_s, mean_q = s.mean(axis=0), q.mean(axis=0)
    variance = ((s - mean_s) ** 2).mean(axis=0)
    constant = is_constant(np.sqrt(variance), mean_s)
    covariance = ((s - mean_s) * (q - mean_q)).mean(axis=0)
    scale = np.where(constant, 0.0, covariance / np.where(constant, 1.0, variance))
    return scale, mean_q - scale * mean_s


def optim(
    change: Change,
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
    neurons: Int[np.ndarray, " neurons"],
    *,
    constant: Float64[np.ndarray, " neurons"] | None = None,
    reference: bool = False,
) -> tuple[Float64[np.ndarray, " neurons"], Float64[np.ndarray, " neurons"]]:
    """Returns (c, d) by gradient descent.

    Args:
      change: what replaced values do to the loss, image by image, and its derivative by the value.
      simulated, activations: (images, neurons), any real dtype, validation images.
      neurons: the network's numbers of these columns, passed on to `change`.
      constant: each neuron's best constant, from `best_constant`; None searches it.
      reference: the paper's procedure and its last point; else the best point of several paths.

    Returns:
      c, d (neurons,) float64. Unless `reference`, a constant simulation gives c = 0 and the best
      constant as d.
    """
    s, q = np.asarray(simulated, np.float64), np.asarray(activations, np.float64)
    n = s.shape[1]
    mean_s, mean_q, std_s, std_q = s.mean(axis=0), q.mean(axis=0), s.std(axis=0), q.std(axis=0)
    still = is_constant(std_s, mean_s)
    unit = np.where(still, 1.0, std_s)
    std = np.where(std_q > 0, std_q, 1.0)
    at_mean = total_change(change, np.broadcast_to(mean_q, s.shape), neurons)
    weight = 1 / np.where(at_mean > 0, at_mean, 1.0)
    one, zero = np.ones(n), np.zeros(n)
    if reference:
        x, gain, offset, start = s, one, zero, (one, zero)
    else:
        fit, _ = norm(s, q)
        if constant is None:
            constant = best_constant(change, q, neurons)
        z = np.where(still, 0.0, (s - mean_s) / unit)
        x = np.hstack([s, z, z])
        gain, offset = np.hstack([one, std, std]), np.hstack([zero, mean_q, constant])
        start = np.hstack([one, fit * unit / std, zero]), np.zeros(3 * n)
    paths = len(gain) // n
    x, gain, offset, weight = (
        np.asarray(a, np.float32) for a in (x, gain, offset, np.tile(weight, paths))
    )
    in_units = np.arange(len(gain)) >= n
    first = np.asarray(np.stack(start), np.float32)
    last, best = _descend(change, np.tile(neurons, paths), x, gain, offset, weight, in_units, first)
    if reference:
        return last[0], last[1]

    assert constant is not None, "searched above"
    candidates = [(zero, constant)]
    for point, path in ((last, 0), (best, 0), (best, 1), (best, 2)):
        slope, intercept = point[:, path * n : (path + 1) * n]
        if path:
            slope = slope * std / unit
            centre = mean_q if path == 1 else constant
            intercept = centre + intercept * std - slope * mean_s
        candidates.append((slope, intercept))
    totals = np.stack(
        [total_change(change, slope * s + intercept, neurons) for slope, intercept in candidates]
    )
    chosen = np.argmin(totals, axis=0)[None]
    scale, shift = (
        np.take_along_axis(np.stack(part), chosen, 0)[0] for part in zip(*candidates, strict=True)
    )
    return np.where(still, 0.0, scale), np.where(still, constant, shift)


def best_constant(
    change: Change,
    activations: Real[Array, "images neurons"],
    neurons: Int[np.ndarray, " neurons"],
) -> Float64[np.ndarray, " neurons"]:
    """Returns the constant that changes the loss least in each neuron's place.

    Args:
      change: as in `optim`; only ΔL is read.
      activations: (images, neurons), any real dtype, validation images.
      neurons: the network's numbers of these columns.

    Returns:
      (neurons,) float64, never worse on these images than the mean; the mean itself where nothing
      is better, and where the neuron has no effect.
    """
    q = np.asarray(activations, np.float64)
    values = np.quantile(q, np.linspace(0, 1, QUANTILES), axis=0)
    best = q.mean(axis=0)
    least = total_change(change, np.broadcast_to(best, q.shape), neurons)
    for _ in range(1 + ROUNDS):
        totals = np.stack(
            [total_change(change, np.broadcast_to(value, q.shape), neurons) for value in values]
        )
        place = np.argmin(totals, axis=0)
        columns = np.arange(q.shape[1])
        better = totals[place, columns] < least
        best = np.where(better, values[place, columns], best)
        least = np.where(better, totals[place, columns], least)
        low, high = np.maximum(place - 1, 0), np.minimum(place + 1, len(values) - 1)
        values = np.linspace(values[low, columns], values[high, columns], BETWEEN + 2)
    return best


def total_change(
    change: Change, values: Real[np.ndarray, "images neurons"], neurons: Int[np.ndarray, " neurons"]
) -> Float64[np.ndarray, " neurons"]:
    """Returns Σ |ΔL| over images, for each neuron set to its column of values."""
    return np.abs(np.asarray(change(values.astype(np.float32), neurons)[0], np.float64)).sum(axis=0)


def _descend(change, neurons, x, gain, offset, weight, in_units, start):
    """The last point and the best point that was met, each (2, columns) float64."""
    params, state = start, _ADAM.init(start)
    best = (np.full(start.shape[1], np.inf, np.float32), start)
    last = start
    for step in range(STEPS + 1):
        falling = _UNIT_RATE * (1 + np.cos(np.pi * step / STEPS)) / 2
        rate = np.where(in_units, falling, RATE).astype(np.float32)
        delta, slope = change(_values(x, gain, offset, params), neurons)
        last = params
        params, state, best = _step(x, gain, weight, rate, delta, slope, params, state, best)
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
