"""Every neuron's elastic net at once, from second moments; a duality gap certifies each.

    min_w  ½ wᵀGw − cᵀw + ½v + Σ_j α_j |w_j| + ½ Σ_j β_j w_j²,   α_j = λη a_j t,  β_j = λ(1−η) a_j²

on standardised moments (unit diagonal of G, v = 1); a_j = t = 1 penalises standardised columns
(method.md §4), a_j = 1/std(x_j) and t = 1/std(y) penalise raw ones. The duality gap is that of
`solve.block`.

A round gathers each neuron's working set (its support and the largest |h_j|/a_j), improves it by a
few FISTA steps, ends it by block principal pivoting (exchange every coordinate that breaks its
optimality condition, solve the face by Cholesky), and then checks the gap against all concepts with
one product W ↦ WG. Neurons sit in a fixed number of slots: a finished one makes room for the next,
so every shape compiles once. Only neurons whose support outgrows the working set run again with a
larger one. Constant neurons never take a slot.
Sources: Beck & Teboulle 2009 and O'Donoghue & Candès 2015 (FISTA, restart); Kim & Park, AISTATS
2010 (pivoting for L1); Massias, Gramfort & Salmon, ICML 2018 (working sets, gaps).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.mesh import all_rows, data_size, local, own_rows
from jaxle.solve import tiles
from jaxle.solve.block import ROUND_OFF, duality_gap, solve_block
from jaxle.solve.moments import HIGHEST, Moments, scales
from jaxle.solve.split import ROWS, WHOLE, split_jit
from jaxle.units import fits_float32

WORKING_SET = 64
WIDTH = 128  # concepts are padded to a multiple: sets of nearly one size share their programs
# Neurons under way in one batch: what fills two cores; an accelerator waits for the host between
# batches (H100, 2,048 neurons × 8,438 concepts: 300 ms with 128, 169 with 512, 150 with 2,048).
SLOTS, ACCELERATOR_SLOTS = 128, 512
DENSE_SHARE = 8  # rows of G are gathered for working sets below this part of all concepts
UNROLL = 8  # rows of G per pass over the gradient
IN_FLIGHT = 2  # batches under way, so that one computes while the host books the other
MAX_ROUNDS = 40  # per neuron and working-set size
# In standardised units, where no gradient exceeds 1: from 1 on a weight is 0, and far below
# float32's round-off it is not penalised.
ALPHA = 1e-20, 1e6
MOST_RIDGE = 1e12  # of β: a weight shrunk more explains nothing


class Solution(NamedTuple):
    """Weights of all neurons with the certificate of each; one column per neuron."""

    weights: Float[Array, "concepts neurons"]
    bias: Float[Array, " neurons"]
    # signed gradient Xᵀr/n of the fit, the order among zero weights
    gradient: Float[Array, "concepts neurons"]
    gap: Float[Array, " neurons"]  # ≥ suboptimality, in units of the objective
    # gap within tol of the objective at zero, or at float32's round-off
    converged: Bool[Array, " neurons"]
    iterations: Int[Array, " neurons"]  # rounds of working set and check


class Rows(NamedTuple):
    """`Solution` with a row for each neuron and without bias, as the fit leaves it.

    Of standardised columns; concepts and neurons may be padded at the end.
    """

    weights: Float[jax.Array, "neurons concepts"]
    gradient: Float[jax.Array, "neurons concepts"]
    gap: Float[np.ndarray, " neurons"]
    converged: Bool[np.ndarray, " neurons"]
    iterations: Int[np.ndarray, " neurons"]


class Problem(NamedTuple):
    """Standardised moments of a block of neurons, one row a neuron, and its penalties."""

    gram: Any  # (concepts, concepts), unit diagonal, 0 for a constant column
    cross: Any  # (neurons, concepts)
    var: Any  # (neurons,): 1, or 0 for a constant target
    l1: Any  # (concepts,)
    l2: Any  # (concepts,)
    unit: Any  # (neurons,): t, the factor of l1


class Slots(NamedTuple):
    """The neurons at work: the sparse weights and what the last check said."""

    cross: Float[Array, "slots concepts"]
    var: Float[Array, " slots"]
    unit: Float[Array, " slots"]
    slope: Float[Array, "slots concepts"]  # h = c − Gw − βw
    index: Int[Array, "slots set"]
    weights: Float[Array, "slots set"]


def solve(
    moments: Moments,
    lam: float,
    l1_ratio: float,
    *,
    tol: float = 1e-6,
    standardise: bool = True,
    start: Solution | None = None,
    mesh: Mesh | None = None,
    sizes: tuple[np.ndarray, np.ndarray] | None = None,
) -> Solution:
    """Returns the elastic net of every neuron, fitted on second moments.

    Args:
      moments: of concepts and targets over the training images.
      lam, l1_ratio: λ > 0 and η in (0, 1] of the objective.
      tol: stop at gap ≤ tol · (objective at zero).
      standardise: penalise (and return) weights of standardised concepts and targets, as method.md
        §4 does; False works on raw columns.
      start: a solution near by, of a larger λ, to start from.
      mesh: split the neurons over its axis `data`.
      sizes: (concepts,) and (neurons,) float64, what one unit of these moments' columns is in the
        units in which raw columns are penalised; None: they are those.

    Returns:
      Solution; a constant concept has weight 0; a constant target has weights 0, gap 0 and no
      iterations.

    Raises:
      ValueError: lam or l1_ratio outside its range.
    """
    _check(lam, l1_ratio)
    n_concepts, n_neurons = moments.cross.shape
    moments = moments.padded(data_size(mesh)).wide()
    n_wide, n_padded = moments.cross.shape
    scale = scales(moments)
    l1, l2, unit = lam * l1_ratio, lam * (1 - l1_ratio), 1.0
    if not standardise:
        l1, l2, unit = _raw_penalties(scale, l1, l2, sizes)
    problem = _problem(moments, scale, l1, l2, unit)
    weights0 = None
    if start is not None:
        near = tiles.pad_rows(tiles.pad_columns(start.weights, n_padded), n_wide)
        weights0 = _start(near, scale, standardise, n_padded)
    weights, slope, gap, *certificate = _share(problem, weights0, tol, mesh)
    gradient = _gradient(slope, weights, problem.l2)
    means = moments.mean_x, moments.mean_y
    parts = (*_finish(weights, gradient, gap, scale, *means, standardise), *certificate)
    found = Solution(*(tiles.cut_columns(part, slice(0, n_neurons)) for part in parts))
    weights, gradient = (tiles.cut_rows(x, n_concepts) for x in (found.weights, found.gradient))
    return found._replace(weights=weights, gradient=gradient)


def rows(
    moments: Moments,
    lam: float,
    l1_ratio: float,
    *,
    tol: float = 1e-6,
    mesh: Mesh | None = None,
) -> Rows:
    """Returns what `solve` does of standardised columns, in less memory: nothing is transposed.

    Arguments and errors as for `solve`.
    """
    _check(lam, l1_ratio)
    moments = moments.padded(data_size(mesh)).wide()
    problem = _problem(moments, scales(moments), lam * l1_ratio, lam * (1 - l1_ratio), 1.0)
    weights, slope, *certificate = _share(problem, None, tol, mesh)
    gap, converged, iterations = (np.asarray(part) for part in certificate)
    return Rows(weights, _gradient(slope, weights, problem.l2), gap, converged, iterations)


def _check(lam: float, l1_ratio: float) -> None:
    if not lam > 0:
        raise ValueError(
            f"lam must be greater than 0 (the fit without penalty is least squares), got {lam}."
        )
    if not 0 < l1_ratio <= 1:
        raise ValueError(
            f"l1_ratio must be in (0, 1] (without L1 the fit is ridge), got {l1_ratio}."
        )


def _problem(moments: Moments, scale, l1, l2, unit) -> Problem:
    n_concepts, n_padded = moments.cross.shape
    penalties = (
        np.broadcast_to(np.asarray(part, np.float32), n)
        for part, n in ((l1, n_concepts), (l2, n_concepts), (unit, n_padded))
    )
    return _standardise(moments.arrays(), scale, *penalties)


def lam_max(
    moments: Moments, l1_ratio: float, *, standardise: bool = True
) -> Float[jax.Array, " neurons"]:
    """Returns the smallest λ at which a neuron's weights are all zero, max_j |c_j| / η.

    Args:
      moments, l1_ratio, standardise: as in `solve`.

    Returns:
      (neurons,) float32; a path starts at its maximum.
    """
    largest = _lam_max(moments.padded().arrays(), np.float32(l1_ratio), standardise)
    return tiles.cut_columns(largest, slice(0, moments.cross.shape[1]))


def path(
    moments: Moments,
    lams: Sequence[float],
    l1_ratio: float,
    *,
    tol: float = 1e-6,
    standardise: bool = True,
    mesh: Mesh | None = None,
    sizes: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Solution]:
    """Returns the solutions for a decreasing sequence of λ, each started from the one before.

    Arguments as in `solve`.

    Raises:
      ValueError: the sequence is empty or does not decrease.
    """
    lams = [float(lam) for lam in lams]
    if not lams or any(b >= a for a, b in zip(lams, lams[1:], strict=False)):
        raise ValueError(f"lam must be one number or a decreasing sequence, got {lams}.")
    solutions = []
    for lam in lams:
        start = solutions[-1] if solutions else None
        options = {"tol": tol, "standardise": standardise, "mesh": mesh, "sizes": sizes}
        solutions.append(solve(moments, lam, l1_ratio, start=start, **options))
    return solutions


def _raw_penalties(scale, l1, l2, sizes):
    """Penalties on raw columns as penalties on standardised ones, in float64 on the host.

    λη a_j and t_k, whose product float32 must hold although each may lie far beyond it: a common
    factor of all t_k moves into all λη a_j.
    """
    std_x, std_y = (np.asarray(std, np.float64) for std in (scale.std_x, scale.std_y))
    size_x, size_y = np.ones(len(std_x)), np.ones(len(std_y))
    if sizes is not None:
        size_x[: len(sizes[0])], size_y[: len(sizes[1])] = sizes
    with np.errstate(over="ignore"):
        a, t = (
            np.clip(1 / np.where(std > 0, std, 1.0) / np.where(std > 0, size, 1.0), 0, 1e300)
            for std, size in ((std_x, size_x), (std_y, size_y))
        )
        l1, l2 = l1 * a, l2 * a * a
        if not fits_float32(l1).all() or not fits_float32(t).all():
            shift = 2.0 ** np.round(np.log2(t[std_y > 0]).mean()) if (std_y > 0).any() else 1.0
            l1, t = (np.clip(part, 1e-37, 1e37) for part in (l1 * shift, t / shift))
    # where the ridge leaves less than 1/MOST_RIDGE of the variance to explain, nothing is explained
    return np.where(l2 > MOST_RIDGE, 1e37, l1), np.minimum(l2, MOST_RIDGE), t


@functools.partial(jax.jit, static_argnames="standardise")
def _lam_max(moments: Moments, l1_ratio, standardise: bool):
    size = scales(moments)
    unit = size.inv_y[None, :] * size.inv_x[:, None] if standardise else size.inv_x[:, None] > 0
    return jnp.max(jnp.abs(moments.cross) * unit, axis=0) / l1_ratio


@jax.jit
def _standardise(moments: Moments, size, l1, l2, unit):
    gram = moments.gram * size.inv_x[:, None] * size.inv_x[None, :]
    gram = jnp.where(
        jnp.eye(len(gram), dtype=bool), jnp.where(size.inv_x > 0, 1.0, 0.0)[:, None], gram
    )
    cross = (moments.cross * size.inv_x[:, None] * size.inv_y[None, :]).T
    wide = (0, -len(l1) % WIDTH)
    rates = jnp.pad(l1, wide, constant_values=1.0), jnp.pad(l2, wide), unit
    var = jnp.where(size.inv_y > 0, 1.0, 0.0)
    return Problem(jnp.pad(gram, (wide, wide)), jnp.pad(cross, ((0, 0), wide)), var, *rates)


@functools.partial(jax.jit, static_argnames=("standardise", "n_padded"))
def _start(weights, size, standardise: bool, n_padded: int):
    weights = weights if standardise else weights * size.std_x[:, None] * size.inv_y[None, :]
    return jnp.pad(weights.T, ((0, n_padded - weights.shape[1]), (0, -len(weights) % WIDTH)))


@functools.partial(jax.jit, donate_argnums=0)
def _gradient(slope, weights, l2):
    return slope + l2[None, :] * weights


@functools.partial(jax.jit, static_argnames=("standardise",))
def _finish(weights, gradient, gap, size, mean_x, mean_y, standardise: bool):
    n, m = len(mean_y), len(mean_x)
    weights, gradient = weights[:n, :m].T, gradient[:n, :m].T
    if standardise:
        return weights, jnp.zeros_like(mean_y), gradient, gap
    weights = weights * size.inv_x[:, None] * size.std_y[None, :]
    bias = mean_y - jnp.matmul(mean_x, weights, precision=HIGHEST)
    return weights, bias, gradient * size.std_x[:, None] * size.std_y[None, :], gap * size.std_y**2


def _share(problem: Problem, weights0, tol: float, mesh: Mesh | None):
    """What `_queue` gives for all neurons, of which each process passes its own."""
    own = {name: own_rows(mesh, getattr(problem, name)) for name in ("cross", "var", "unit")}
    start = None if weights0 is None else own_rows(mesh, weights0)
    found = _queue(problem._replace(**own), start, tol, None if mesh is None else local(mesh))
    return (all_rows(mesh, part) for part in found)


def _queue(problem: Problem, weights0, tol: float, mesh: Mesh | None):
    """Pass all neurons through the slots, with working sets that grow where a support does.

    Every device has its own queue.
    """
    n_rows, n_concepts = problem.cross.shape
    n_devices = data_size(mesh)
    n_local, warm = n_rows // n_devices, weights0 is not None
    weights, slope = (np.zeros((n_rows, n_concepts), np.float32) for _ in range(2))
    shape = n_devices, n_local
    gap, rounds = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    varies = np.asarray(problem.var).reshape(shape) > 0
    converged = ~varies
    waiting = [np.flatnonzero(row)[::-1].tolist() for row in varies]
    size = WORKING_SET
    while any(waiting):
        most = SLOTS if jax.default_backend() == "cpu" else ACCELERATOR_SLOTS
        # from half a batch on, neurons are shared out to all batches under way
        share = max(-(-n_local // IN_FLIGHT), most // 2)
        n_slots = min(n_local, share, max(4, most * WORKING_SET**2 // size**2))
        ids = np.full((IN_FLIGHT, n_devices, n_slots), -1, np.int32)
        age = np.zeros((IN_FLIGHT, n_devices, n_slots), np.int32)
        slots = [_empty(n_devices * n_slots, n_concepts, size) for _ in range(IN_FLIGHT)]
        reports: list[tuple | None] = [None] * IN_FLIGHT
        grown: list[list[int]] = [[] for _ in range(n_devices)]
        for batch in itertools.cycle(range(IN_FLIGHT)):
            report = reports[batch]
            if report is not None:
                slot_gap, solved, stuck, full = (
                    np.asarray(part).reshape(n_devices, n_slots) for part in report
                )
                age[batch] += 1
                grow = ~solved & ~stuck & (full | (age[batch] >= MAX_ROUNDS))
                ready = (ids[batch] >= 0) & (solved | stuck | grow)
                if ready.any():
                    places = np.where(ready, ids[batch], n_local).reshape(-1)
                    weights, slope = _store(mesh)(weights, slope, places, slots[batch])
                for device, slot in zip(*np.nonzero(ready), strict=True):
                    number = ids[batch, device, slot]
                    rounds[device, number] += age[batch, device, slot]
                    gap[device, number] = slot_gap[device, slot]
                    converged[device, number] = solved[device, slot]
                    if grow[device, slot] and size < n_concepts:
                        grown[device].append(number)
                ids[batch][ready] = -1
            free = ids[batch] < 0
            for device, slot in zip(*np.nonzero(free), strict=True):
                ids[batch, device, slot] = waiting[device].pop() if waiting[device] else -1
            reports[batch] = None
            if (ids[batch] >= 0).any():
                if free.any():
                    slots[batch] = _refill(mesh, warm)(
                        problem, weights0, slots[batch], ids[batch].reshape(-1), free.reshape(-1)
                    )
                    age[batch][free] = 0
                slots[batch], reports[batch] = _round(mesh)(
                    problem.gram, problem.l1, problem.l2, slots[batch], np.float32(tol)
                )
            elif all(report is None for report in reports):
                break
        waiting, size = grown, min(4 * size, n_concepts)
    return weights, slope, gap.reshape(-1), converged.reshape(-1), rounds.reshape(-1)


def _empty(n_slots: int, n_concepts: int, size: int) -> Slots:
    wide, narrow = (np.zeros((n_slots, n), np.float32) for n in (n_concepts, size))
    zero, one = np.zeros(n_slots, np.float32), np.ones(n_slots, np.float32)
    return Slots(wide, zero, one, wide, np.zeros((n_slots, size), np.int32), narrow)


def _dense(index, weights, n_concepts: int):
    rows = jnp.arange(len(index), dtype=jnp.int32)[:, None]
    return jnp.zeros((len(index), n_concepts), jnp.float32).at[rows, index].add(weights)


def _slope(gram, l2, cross, index, weights):
    """h = c − Gw − βw of sparse weights: rows of G where they are few, else one product."""
    dense = _dense(index, weights, len(gram))
    if DENSE_SHARE * index.shape[1] > len(gram):
        return dense, cross - jnp.matmul(dense, gram, precision=HIGHEST) - l2[None, :] * dense
    # the largest first: the loop ends with the largest support
    _, order = jax.lax.top_k(jnp.abs(weights), index.shape[1])
    pad = ((0, 0), (0, -order.shape[1] % UNROLL))
    index, weights = (jnp.pad(jnp.take_along_axis(z, order, axis=1), pad) for z in (index, weights))

    def body(j, slope):
        rows = [
            weights[:, j * UNROLL + i][:, None] * gram[index[:, j * UNROLL + i]]
            for i in range(UNROLL)
        ]
        return slope - functools.reduce(jnp.add, rows)

    count = jnp.max(jnp.sum(weights != 0, axis=1))
    return dense, jax.lax.fori_loop(
        0, (count + UNROLL - 1) // UNROLL, body, cross - l2[None, :] * dense
    )


def _fill(problem: Problem, weights0, slots: Slots, ids, free) -> Slots:
    """Put neurons `ids` (−1: none) into the free slots, at their starting weights."""
    row = jnp.maximum(ids, 0)
    used = ids >= 0
    cross = jnp.where(used[:, None], problem.cross[row], 0.0)
    if weights0 is None:
        index, weights, slope = jnp.zeros_like(slots.index), jnp.zeros_like(slots.weights), cross
    else:
        dense = jnp.where(used[:, None], weights0[row], 0.0)
        index = jax.lax.top_k(jnp.abs(dense), slots.index.shape[1])[1]
        weights = jnp.take_along_axis(dense, index, axis=1)
        _, slope = _slope(problem.gram, problem.l2, cross, index, weights)
    new = Slots(
        cross, jnp.where(used, problem.var[row], 0.0), problem.unit[row], slope, index, weights
    )
    return jax.tree.map(
        lambda a, b: jnp.where(free if a.ndim == 1 else free[:, None], a, b), new, slots
    )


def _alpha(l1, unit):
    """α within a range that float32 divides by; beyond it nothing is penalised, or all is."""
    return jnp.clip(l1 * unit, *ALPHA)


def _work(gram, l1, l2, slots: Slots, tol):
    """One round: new working sets, their solution, and the check against all concepts."""
    n_slots, size = slots.index.shape
    dense = _dense(slots.index, slots.weights, len(gram))
    _, index = jax.lax.top_k(
        jnp.where(dense != 0, jnp.inf, jnp.abs(slots.slope) / _alpha(l1[None, :], 1.0)), size
    )
    weights = jnp.take_along_axis(dense, index, axis=1)
    block = gram[index[:, :, None], index[:, None, :]]
    cross = jnp.take_along_axis(slots.cross, index, axis=1)
    weights = solve_block(
        block, cross, slots.var, _alpha(l1[index], slots.unit[:, None]), l2[index], weights
    )

    dense, slope = _slope(gram, l2, slots.cross, index, weights)
    alpha = _alpha(l1[None, :], slots.unit[:, None])
    gap = duality_gap(slots.cross, slots.var, alpha, l2[None, :], dense, slope)
    norm = jnp.sum(jnp.abs(dense), axis=1)
    noise = ROUND_OFF * (1 + norm)
    broken = (
        jnp.where(dense != 0, jnp.abs(slope - alpha * jnp.sign(dense)), jnp.abs(slope) - alpha)
        > noise[:, None]
    )
    stuck = ~jnp.any(broken, axis=1)  # optimal within float32's round-off
    solved = (gap <= 0.5 * tol * slots.var) | (stuck & (gap <= 10 * noise * norm))
    full = jnp.sum(weights != 0, axis=1) >= size - size // 8
    return slots._replace(slope=slope, index=index, weights=weights), (gap, solved, stuck, full)


def _save(weights, slope, ids, slots: Slots):
    dense = _dense(slots.index, slots.weights, weights.shape[1])
    return weights.at[ids].set(dense, mode="drop"), slope.at[ids].set(slots.slope, mode="drop")


_PROBLEM = Problem(WHOLE, ROWS, ROWS, WHOLE, WHOLE, ROWS)


@functools.cache
def _refill(mesh: Mesh | None, warm: bool):
    return split_jit(_fill, mesh, (_PROBLEM, ROWS if warm else WHOLE, ROWS, ROWS, ROWS), ROWS)


@functools.cache
def _round(mesh: Mesh | None):
    return split_jit(_work, mesh, (WHOLE, WHOLE, WHOLE, ROWS, WHOLE), ROWS, donate=3)


@functools.cache
def _store(mesh: Mesh | None):
    return split_jit(_save, mesh, (ROWS, ROWS, ROWS, ROWS), ROWS, donate=(0, 1))
