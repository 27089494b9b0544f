"""Planted neurons: activations made from known concepts of a real concept matrix.

    s = Σ_{j in S} w_j x_j,   a = s + σ ε   or   a = max(0, s + σ ε − t)

with σ such that R(a | S) is the wanted ceiling. R(a | S) is the correlation of a and its
least-squares fit on the true concepts S; without rectification it is that of a and s. An
explanation of such a neuron can be marked right or wrong.

The truth S must be identifiable. Over the columns: one-hot classes sum to 1, a vehicle is whatever
is no animal, a superclass can be the exact sum of its classes. `identifiable` picks columns of
which each keeps a share of its variance that all others together with an intercept leave
unexplained; neurons are planted over those, and the search is given no other. Independence makes
the weights, and with them S, unique. And within a neuron: each true concept carries a stated share
of R² by itself, and no other column adds more than a stated share to it. The second is no limit for
plain sums; a rectified sum depends on products of true concepts as well, and "red circle" may be a
column. The first is measured on the activation, since rectification hides what lowers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64, Real

from jaxle.arrays import checks_input

KINDS = ("plain", "distractor", "hierarchy", "polysemantic")
RIVAL = 0.4  # |correlation| from which a column is a distractor
UNRELATED = 0.2  # |correlation| up to which two columns are unrelated
_TRIES = 400  # draws of concepts and weights per neuron, before giving up
_ROUNDS = 60  # draws of neurons, before giving up
_FEW = 3000  # images
_NOISES = np.geomspace(1e-2, 30.0, 25)  # standard deviations tried, in units of the signal's


class Planted(NamedTuple):
    """Neurons whose truth is known. Signals have mean 0 and standard deviation 1."""

    activations: Float32[np.ndarray, "images neurons"]
    signal: Float32[np.ndarray, "images neurons"]  # s, before noise and rectification
    # on raw columns: w, non-zero on the true concepts only
    weights: Float32[np.ndarray, "concepts neurons"]
    # on raw columns: least squares of the activation on the true concepts
    fitted: Float32[np.ndarray, "concepts neurons"]
    noise: Float32[np.ndarray, " neurons"]  # σ
    # R(a | S), the best that an explanation by the truth can reach
    ceiling: Float32[np.ndarray, " neurons"]


@checks_input
def identifiable(
    concept_probs: Real[np.ndarray, "images concepts"],
    prefer: Sequence[int] | np.ndarray | None = None,
    *,
    least_left: float = 0.05,
    least_std: float = 0.14,
) -> Int64[np.ndarray, " kept"]:
    """Returns columns over which planted truth is unique: those that `plant` and the search get.

    Columns are taken in the order `prefer`. One is kept when, with it, every kept column still has
    at least `least_left` of its variance left after least squares with intercept on all other kept
    columns (1 / its variance inflation factor).

    Args:
      concept_probs: (images, concepts), probabilities or 0/1 labels.
      prefer: all column numbers, those to keep rather first; None takes them as they come.
      least_left: share of a column's variance, above 0.
      least_std: columns that vary less are left out (0.14: a label that holds of 2 % of the
        images).

    Returns:
      int64 (kept,), ascending.

    Raises:
      ValueError: `prefer` is no order of all columns, `least_left` is not in (0, 1], or no column
        varies enough.
    """
    x = np.asarray(concept_probs, np.float64)
    order = np.arange(x.shape[1]) if prefer is None else np.asarray(prefer)
    if not np.array_equal(np.sort(order), np.arange(x.shape[1])):
        raise ValueError(
            f"prefer must name each of the {x.shape[1]} columns once, got {len(order)} numbers."
        )
    if not 0 < least_left <= 1:
        raise ValueError(f"least_left must be in (0, 1], got {least_left}.")
    varied = x.std(0) >= max(least_std, 1e-6)
    if not varied.any():
        raise ValueError(
            f"no column has a standard deviation of at least {least_std}; "
            f"the largest is {x.std(0).max():.3g}."
        )
    correlations = _correlations(x)
    kept: list[int] = []
    # of the kept columns' correlation matrix; its diagonal is the variance inflation
    inverse = np.zeros((0, 0))
    for j in order[varied[order]]:
        c = correlations[kept, j]
        shadow = inverse @ c
        left = 1.0 - c @ shadow
        if left < least_left or np.any(np.diag(inverse) + shadow**2 / left > 1 / least_left):
            continue
        corner = -shadow[:, None] / left
        inverse = np.block(
            [[inverse + corner * corner.T * left, corner], [corner.T, np.full((1, 1), 1 / left)]]
        )
        kept.append(int(j))
    return np.sort(np.array(kept, np.int64))


@checks_input
def plant(
    concept_probs: Real[np.ndarray, "images concepts"],
    sizes: Sequence[int],
    *,
    kind: str = "plain",
    ceiling: float = 0.8,
    zeros: float = 0.0,
    least_share: float = 0.1,
    most_other: float = 0.05,
    negative: float = 0.2,
    implies: Bool[np.ndarray, "concepts concepts"] | None = None,
    seed: int = 0,
) -> Planted:
    """Returns neurons with a known truth over columns that `identifiable` chose.

    Args:
      concept_probs: (images, concepts).
      sizes: (neurons,) int, how many concepts each neuron is made of; "polysemantic" needs 2.
      kind: "plain": any concepts. "distractor": each true concept has a column of |correlation| ≥
        0.4 that is not in the truth. "hierarchy": the first true concept has a superclass or a
        subclass among the columns, and none of these is in the truth. "polysemantic": two concepts
        of |correlation| ≤ 0.2, neither above the other, with equal and positive standardised
        weights.
      ceiling: wanted correlation of the activation and its least-squares fit on the true concepts,
        0–1.
      zeros: share of images whose activation is cut to 0; 0 leaves it unrectified.
      least_share: least share of ceiling² that goes when a true concept goes and the others are
        fitted again.
      most_other: largest share of ceiling² that any column outside the truth may add to it.
      negative: probability that a weight is negative, from the second concept on.
      implies: bool (concepts, concepts), row concept holds ⇒ column concept holds, as
        `scenes.vocabulary.IMPLIES`; None: no hierarchy.
      seed: all draws.

    Returns:
      Planted.

    Raises:
      ValueError: an unknown kind, sizes or shares out of range, or columns among which no such
        neuron can be found.
    """
    x = np.asarray(concept_probs, np.float64)
    n_images, n_concepts = x.shape
    _check(sizes, n_concepts, kind, ceiling, zeros, least_share)
    rng = np.random.default_rng(seed)
    correlations = _correlations(x)
    related = (
        np.eye(n_concepts, dtype=bool)
        if implies is None
        else np.asarray(implies, bool) | np.asarray(implies, bool).T
    )
    related = related & ~np.eye(n_concepts, dtype=bool)
    z = (x - x.mean(0)) / x.std(0)

    effects, fitted = np.zeros((n_concepts, len(sizes))), np.zeros((n_concepts, len(sizes)))
    signal, activations = np.empty((n_images, len(sizes))), np.empty((n_images, len(sizes)))
    noise, reached = np.empty(len(sizes)), np.zeros(len(sizes))
    open_ = np.arange(len(sizes))
    # a rectified neuron may miss its ceiling at any noise, or its shares: drawn again
    for _ in range(_ROUNDS):
        for k in open_:
            effects[:, k] = _draw(
                rng, sizes[int(k)], kind, correlations, related, least_share, negative
            )
        signal[:, open_] = z @ effects[:, open_]
        draws = rng.standard_normal((n_images, len(open_)))
        project = _projections(correlations, effects[:, open_] != 0)
        true = effects[:, open_] != 0
        keep = np.arange(len(open_))
        sigma = None
        # first on a few of the images, on which most that fall short do so
        for step in (max(1, n_images // _FEW), 1):
            part = signal[::step, open_[keep]]
            a, sigma, r = _reach(
                z[::step], part, draws[::step, keep], project[keep], ceiling, zeros, sigma
            )
            weights, own, other = _shares(z[::step], a, true[:, keep], correlations, project[keep])
            good = (np.abs(r - ceiling) <= 1e-3) & (own >= least_share) & (other <= most_other)
            keep, sigma = keep[good], sigma[good]
        done = open_[keep]
        activations[:, done], fitted[:, done], noise[done], reached[done] = (
            a[:, good],
            weights[:, good],
            sigma,
            r[good],
        )
        open_ = np.delete(open_, keep)
        if not len(open_):
            break
    else:
        left = sorted({int(sizes[int(k)]) for k in open_})
        raise ValueError(
            f"no {kind} neuron of {left} concepts of these has a ceiling of {ceiling}, "
            f"{least_share:.0%} of it by each true concept, {most_other:.0%} by others at most, "
            f"with a share of zeros of {zeros}."
        )
    std = x.std(0)[:, None]
    return Planted(
        *(
            part.astype(np.float32)
            for part in (activations, signal, effects / std, fitted / std, noise, reached)
        )
    )


def _check(
    sizes, n_concepts: int, kind: str, ceiling: float, zeros: float, least_share: float
) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; valid: {', '.join(KINDS)}.")
    if not len(sizes) or min(sizes) < 1 or max(sizes) > n_concepts:
        raise ValueError(
            f"sizes must be one or more numbers from 1 to the {n_concepts} concepts, "
            f"got {tuple(sizes)[:10]}."
        )
    if kind == "polysemantic" and set(sizes) != {2}:
        raise ValueError(f"a polysemantic neuron has two concepts, got sizes {sorted(set(sizes))}.")
    if not 0 < ceiling < 1 or not 0 <= zeros < 1 or not 0 <= least_share * max(sizes) < 1:
        raise ValueError(
            f"ceiling must be in (0, 1), zeros in [0, 1), least_share in [0, 1/{max(sizes)}); "
            f"got {ceiling}, {zeros}, {least_share}."
        )


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    std = np.where(x.std(0) > 0, x.std(0), 1.0)
    return centred.T @ centred / len(x) / (std[:, None] * std[None, :])


def _draw(
    rng, size: int, kind: str, correlations, related, least_share: float, negative: float
) -> np.ndarray:
    """(concepts,) standardised weights of one neuron; its signal has variance 1."""
    n_concepts = len(correlations)
    rivals = (np.abs(correlations) >= RIVAL) & ~np.eye(n_concepts, dtype=bool)
    # beside a true concept
    barred = {"distractor": rivals, "hierarchy": related}.get(kind, np.zeros_like(related))
    if kind == "polysemantic":
        barred = related | (np.abs(correlations) > UNRELATED)
    starts = (
        np.flatnonzero(barred.any(1))
        if kind in ("distractor", "hierarchy")
        else np.arange(n_concepts)
    )
    for _ in range(_TRIES if len(starts) else 0):
        chosen = [int(rng.choice(starts))]
        while len(chosen) < size:
            free = ~barred[chosen].any(0)
            free[chosen] = False
            if kind == "distractor":
                free &= rivals.any(1)
            if not free.any():
                break
            chosen.append(int(rng.choice(np.flatnonzero(free))))
        if len(chosen) < size:
            continue
        sign = np.where(np.arange(size) > 0, np.where(rng.random(size) < negative, -1.0, 1.0), 1.0)
        effect = np.ones(size) if kind == "polysemantic" else sign * rng.uniform(0.5, 1.0, size)
        inner = correlations[np.ix_(chosen, chosen)]
        effect /= np.sqrt(effect @ inner @ effect)
        if np.all(effect**2 / np.diag(np.linalg.inv(inner)) >= least_share):
            weights = np.zeros(n_concepts)
            weights[chosen] = effect
            return weights
    raise ValueError(
        f"found no {kind} neuron of {size} concepts, each with {least_share:.0%} of the signal, "
        f"among {n_concepts} columns."
    )


def _projections(correlations: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(neurons, concepts, concepts): inverse correlations of true concepts, zero elsewhere."""
    project = np.zeros((true.shape[1], *correlations.shape))
    for k in range(true.shape[1]):
        of = np.flatnonzero(true[:, k])
        project[k][np.ix_(of, of)] = np.linalg.inv(correlations[np.ix_(of, of)])
    return project


def _cross(z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(concepts, neurons) correlations of columns and activations; 0 for a constant activation."""
    a = a - a.mean(0)
    spread = np.sqrt(np.mean(a**2, axis=0))
    return z.T @ (a / np.where(spread > 0, spread, 1.0)) / len(a)


def _reach(
    z: np.ndarray,
    signal: np.ndarray,
    draws: np.ndarray,
    project: np.ndarray,
    ceiling: float,
    zeros: float,
    near=None,
):
    """Activations, σ and R reached, of all neurons at once.

    σ is the largest noise at which R is the wanted one, or one close to `near`.
    """

    def activate(noise):
        drive = signal + draws * noise[None, :]
        return np.maximum(0.0, drive - np.quantile(drive, zeros, axis=0)) if zeros else drive

    def reached(noise):
        cross = _cross(z, activate(noise))
        return np.sqrt(np.einsum("ik,kij,jk->k", cross, project, cross, optimize=True))

    if near is None:
        low, high = np.zeros(signal.shape[1]), np.full(signal.shape[1], _NOISES[0])
        for i, noise in enumerate(_NOISES[:-1]):
            enough = reached(np.full(signal.shape[1], noise)) >= ceiling
            low, high = np.where(enough, noise, low), np.where(enough, _NOISES[i + 1], high)
    else:
        low, high = 0.75 * near, 1.25 * near
    for _ in range(12):
        middle = (low + high) / 2
        enough = reached(middle) >= ceiling
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return activate(low), low, reached(low)


def _shares(
    z: np.ndarray,
    activations: np.ndarray,
    true: np.ndarray,
    correlations: np.ndarray,
    project: np.ndarray,
):
    """Least squares on the truth (concepts, neurons), standardised columns, and two shares of R².

    The least that a true concept adds to it, and the most that another column would: (neurons,).
    """
    cross = _cross(z, activations)
    weights = np.einsum("kij,jk->ik", project, cross)
    explained = np.sum(weights * cross, axis=0)
    # 1 / what the other true concepts leave of a true one
    diagonal = np.diagonal(project, axis1=1, axis2=2).T
    own = np.where(true, weights**2 / np.where(true, diagonal, 1.0), np.inf).min(axis=0)
    rest = cross - correlations @ weights
    left = 1.0 - np.einsum("ji,kil,jl->jk", correlations, project, correlations, optimize=True)
    other = np.where(true, 0.0, rest**2 / np.where(true, 1.0, np.maximum(left, 1e-9))).max(axis=0)
    size = np.where(explained > 0, explained, 1.0)
    return weights * activations.std(axis=0)[None, :], own / size, other / size
