"""Forward selection by explained variance over all concepts, its length judged on folds.

    step:    j* = argmax_j e_j² / d_j,   d_j = var(x̃_j), e_j = cov(x̃_j, y),
             x̃_j what the chosen concepts leave of x_j
    length:  argmax_L ρ̄_L − ε L,   ρ̄_L = mean over folds of the correlation, on that fold, of the
             fit of the first L concepts on the others, up to the last step that explains more than
             the best of as many unrelated concepts would
    0 where  ρ̄ of the paths that are selected without the fold they are judged on is no more than
             noise's: a path selected on all images has seen the noise that it is judged on

Everything is read off second moments, for many neurons at once. The target y of the steps may be a
dense fit's prediction X w in place of the activation: then its cross moments are G w (`Aim`). The
lengths are always judged against the activation itself. method.md §9, `search="preconditioned"`.
Sources: Chen, Billings & Luo 1989, orthogonal least squares
(https://doi.org/10.1080/00207178908953472); Paul, Bair, Hastie & Tibshirani 2008, "Preconditioning"
for feature selection (https://doi.org/10.1214/009053607000000578).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array
from jaxle.mesh import data_size
from jaxle.solve import noise, tiles
from jaxle.solve.least_squares import PIVOT
from jaxle.solve.moments import Moments, correlations, scales
from jaxle.solve.split import ROWS, WHOLE, split_jit
from jaxle.stats import is_constant

# Of the target's variance: concepts whose explained variances are this close (and within 1 %) tie.
# Where columns depend on one another (a superclass and its complement), which is larger is the
# round-off of float32 moments, and differs by device. The first one that correlates positively
# with what is left wins, else the first: "0.22×vehicle" reads better than "−0.22×animal".
TIE = 1e-5
LEAST = 1e-6  # of the target's variance: a concept that explains less ends the path
# Of a prediction's variance: in float32 moments of a fold, less is no different from a prediction
# that does not vary there.
FLAT = 1e-6
# Standard errors of ρ̄. In pure noise ρ̄ of the length that is chosen deviates by 1.2 to 1.5 of them,
# since neighbouring folds select alike, and a length is chosen.
NOISE = 3.0
BLOCK = 256  # neurons per program and device
TOGETHER = 4  # rows that are added in one pass over their sum
LEAST_BLOCK, CACHE_BYTES = 32, 3 << 18  # on a CPU; of one number per neuron and concept
HELD_BYTES = 16 << 20  # of rows that blocks are made of; more would be new to the process each time


class Aim(NamedTuple):
    """What is selected for in place of the activation: a dense fit's prediction."""

    cross: Float[jax.Array, "concepts neurons"]  # its cross moments with the concepts
    var: Float[jax.Array, " neurons"]


def path(
    moments: Moments,
    aim: Aim | None = None,
    *,
    most: int,
    wanted: Int[np.ndarray, " neurons"] | None = None,
    words: Int[np.ndarray, " concepts"] | None = None,
    price: float = 0.0,
    gram: Float[Array, "concepts concepts"] | None = None,
    mesh: Mesh | None = None,
    block: int = BLOCK,
) -> Int[np.ndarray, "neurons most"]:
    """Returns every neuron's concepts in the order in which forward selection takes them.

    Concepts of either sign are taken.

    Args:
      moments: of the images that choose, train ∪ val.
      aim: select for this; None: for the activation.
      most: concepts per neuron.
      wanted: (neurons,) int, how many of each neuron's are of use: fewer are not given, but for
        what depends on others. None: `most`.
      words: (concepts,) int, of how many words each is, such as a formula of two. None: of one.
      price: what a word beyond a concept's first costs, in correlation: a step takes the concept of
        largest correlation less its price. 0: the one that explains most variance a word.
      gram: the concepts' correlations (`moments.correlations`), where they are at hand.
      mesh: split the neurons over its axis `data`.
      block: neurons per program and device; memory is `most` numbers per neuron of a block and
        concept.

    Returns:
      (neurons, most) int32, −1 past the end of a path: nothing is left to explain, or all that is
      left depends on what was chosen.
    """
    most_possible = min(most, moments.cross.shape[0])
    block = fitting(block, most_possible, moments.cross.shape[0]) * data_size(mesh)
    program = _program(mesh, most_possible)
    n_neurons = moments.cross.shape[1]
    wanted = np.full(n_neurons, most_possible) if wanted is None else wanted
    # like lengths share a block, which takes as many steps as its longest path
    order = np.argsort(wanted, kind="stable")[np.count_nonzero(wanted <= 0) :]
    selected = np.full((n_neurons, most), -1, np.int32)
    known = correlations(moments) if gram is None else jnp.asarray(gram)
    for held in hold(moments, aim, mesh, block):
        for neurons, rows in held.blocks(order, block):
            steps = np.int32(wanted[neurons].max())
            found = program(known, rows, words, np.float32(price), steps)
            selected[neurons, :most_possible] = np.asarray(found)
    return selected


def fitting(block: int, slots: int, n_concepts: int) -> int:
    """Returns how many neurons a program takes at a time: on a CPU as many as its caches hold.

    Args:
      block: at most so many, a power of two.
      slots: numbers per neuron and concept that the program holds.
      n_concepts: how many there are.
    """
    if jax.default_backend() == "cpu":
        most = max(LEAST_BLOCK, CACHE_BYTES // (4 * n_concepts))
        block = min(block, 1 << (most.bit_length() - 1))
    return tiles.fitting(block, 4 * slots * n_concepts)


class Held(NamedTuple):
    """Standardised cross moments of some neurons, a row for each.

    Rows are read in any order; to read columns so would cost twenty times as much on a CPU.
    """

    neurons: range
    start: int  # the neuron of the first row
    rows: Float[jax.Array, "rows concepts"]  # not standardised yet
    inv_x: Float[Array, " concepts"]
    inv_y: Float[Array, " rows"]

    def blocks(
        self, order: Int[np.ndarray, " some"], size: int
    ) -> Iterator[tuple[Int[np.ndarray, " size"], jax.Array]]:
        """Yields numbers and rows of those neurons that are held, in blocks of one size.

        Args:
          order: numbers of neurons. Past the end of those that are held the last one repeats.
          size: neurons a block, if so many rows are held.
        """
        size = min(size, len(self.rows))
        order = order[(order >= self.neurons.start) & (order < self.neurons.stop)]
        for begin in range(0, len(order), size):
            places = np.minimum(np.arange(begin, begin + size), len(order) - 1)
            neurons = order[places].astype(np.int32)
            yield neurons, _rows(*self[2:], neurons - np.int32(self.start))


def hold(moments: Moments, aim: Aim | None, mesh: Mesh | None, block: int) -> Iterator[Held]:
    """Yields the rows of all neurons, of some at a time.

    Args:
      moments, aim, mesh: as for `path`.
      block: at least so many neurons at a time, a multiple of the devices.
    """
    n_neurons, n_devices = moments.cross.shape[1], data_size(mesh)
    if aim is not None:
        moments = moments._replace(
            mean_y=np.zeros(n_neurons, np.float32), cross=aim.cross, var_y=aim.var
        )
    moments = moments.padded(n_devices)
    known, n_padded = scales(moments), moments.cross.shape[1]
    size = min(block * max(1, HELD_BYTES // (4 * block * len(moments.cross))), n_padded)
    for begin in range(0, n_neurons, size):
        start = min(begin, n_padded - size)
        neurons = range(begin, min(begin + size, n_neurons))
        rows, inv_y = _transposed(moments.cross, known.inv_y, np.int32(start), size)
        yield Held(neurons, start, rows, known.inv_x, inv_y)


def judge(
    rest: Sequence[Moments], fold: Moments, selected: Int[np.ndarray, "neurons most"]
) -> Float[np.ndarray, "neurons most"]:
    """Returns how well every prefix of a path predicts a fold that it was not selected on.

    Args:
      rest: moments of the images on which the path was selected and its weights are fitted, in
        one part or several: what a path takes of each is put together, not the Gram matrices.
      fold: of images that are not among them.
      selected: (neurons, most) int32 from `path` on `rest`.

    Returns:
      (neurons, most) float64: Pearson's correlation, in the fold, of activation and least-squares
      fit; past the path's end that of the whole path. A concept that does not vary in `rest` (or
      depends there on those before) is left out of the fit; 0 where prediction or activation does
      not vary in the fold.
    """
    return _judge([fold, *rest], selected, [0])[0]


def judge_folds(
    folds: Sequence[Moments], selected: Int[np.ndarray, "neurons most"]
) -> list[Float[np.ndarray, "neurons most"]]:
    """Returns `judge` of each fold by all others, for one path.

    Args:
      folds: moments of disjoint image sets.
      selected: (neurons, most) int32.
    """
    return _judge(folds, selected, range(len(folds)))


def _judge(folds: Sequence[Moments], selected, judged: Iterable[int]) -> list[np.ndarray]:
    n_neurons, most = selected.shape
    size = tiles.fitting(tiles.MOST, 64 * most**2)
    if n_neurons > size:
        parts = [slice(i, i + size) for i in range(0, n_neurons, size)]
        each = [_judge([fold.neurons(p) for fold in folds], selected[p], judged) for p in parts]
        return [np.concatenate(part) for part in zip(*each, strict=True)]
    longest = max(1, int((selected >= 0).sum(axis=1).max(initial=0)))
    own = [_gathered(fold, selected, longest) for fold in folds]
    found = []
    for i in judged:
        train = _union(own[:i] + own[i + 1 :], [fold.n for fold in [*folds[:i], *folds[i + 1 :]]])
        rho = _prefix_correlations(train, own[i], selected[:, :longest] >= 0)
        found.append(np.pad(rho, ((0, 0), (0, most - longest)), mode="edge"))
    return found


def least_nested(folds: Sequence[Moments]) -> float:
    """Returns the mean correlation over folds that what is found in pure noise stays below.

    Whatever the marginals, the correlation of a prediction and an activation that has nothing to do
    with it has variance 1/(n − 1) under permutation of n images, so that the mean over folds has
    about Σ 1/(n_i − 1) / F². `NOISE` times its root; benchmarks/noise.py counts what passes.
    """
    return NOISE * float(np.sqrt(sum(1 / max(fold.n - 1, 1) for fold in folds))) / len(folds)


class Limits(NamedTuple):
    """What decides the length of a path."""

    min_gain: float  # ε: what a concept must add to ρ̄
    least: float  # where ρ̄ is no more than that, nothing is explained


class Judged(NamedTuple):
    """Mean correlations over folds of every length of a path, and its words."""

    rho: Float[np.ndarray, "neurons most"]  # of the path itself; −inf where its steps are noise
    nested: Float[np.ndarray, "neurons most"]  # of paths selected without the fold
    words: Int[np.ndarray, "neurons most"] | None = None  # of every length; None: one a step

    def of(self, count: Int[np.ndarray, " neurons"]) -> Int[np.ndarray, " neurons"]:
        """Returns how many words paths of these lengths have."""
        last = np.maximum(count - 1, 0)[:, None]
        return np.where(count > 0, np.take_along_axis(self.every_words, last, axis=1)[:, 0], 0)

    @property
    def every_words(self) -> Int[np.ndarray, "neurons most"]:
        """The words of every length of every path."""
        if self.words is not None:
            return self.words
        return np.broadcast_to(np.arange(1, self.rho.shape[1] + 1), self.rho.shape)


def lengths(judged: Judged, limits: Limits) -> Int[np.ndarray, " neurons"]:
    """Returns the length with the largest ρ̄ − ε · words, the shortest of equals.

    0 where no step is more than noise, or the nested ρ̄ is not above `limits.least` there.

    Args:
      judged: ρ̄ of every length.
      limits: ε, and the least ρ̄.
    """
    rho, nested, _ = judged
    length = np.argmax(rho - limits.min_gain * judged.every_words, axis=1)
    best = np.take_along_axis(np.minimum(rho, nested), length[:, None], axis=1)[:, 0]
    return np.where(best > limits.least, length + 1, 0).astype(np.int32)


def limits_for(
    judged: Judged, mean_length: float, live: Bool[np.ndarray, " neurons"], least: float
) -> Limits:
    """Returns the least limits that keep the mean length at `mean_length` or less.

    That is the least ε (to 1e-9); where even one concept a neuron is too many, also the least ρ̄
    that leaves few enough neurons explained.

    Args:
      judged: ρ̄ of every length.
      mean_length: what the mean number of words of live neurons may not exceed, from 0.
      live: (neurons,) bool, the neurons that count.
      least: the least ρ̄ of any explanation.
    """

    def fits(limits: Limits) -> bool:
        count = lengths(judged, limits)
        return bool(not live.any() or judged.of(count)[live].mean() <= mean_length)

    low, high = 0.0, 2.0  # no concept adds 2 to a correlation
    if fits(Limits(low, least)):
        return Limits(low, least)
    if not fits(Limits(high, least)):
        shortest = np.maximum(lengths(judged, Limits(high, -np.inf)), 1)
        best = np.take_along_axis(np.minimum(*judged[:2]), shortest[:, None] - 1, axis=1)[live, 0]
        order = np.argsort(-best, kind="stable")
        spent = np.cumsum(judged.of(shortest)[live][order])
        fitting = np.searchsorted(spent, mean_length * len(best), side="right")
        return Limits(high, max(least, float(best[order][fitting])))
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if fits(Limits(middle, least)) else (middle, high)
    return Limits(high, least)


def beyond_noise(
    moments: Moments,
    selected: Int[np.ndarray, "neurons most"],
    skewness: Float[np.ndarray, " neurons"],
) -> Bool[np.ndarray, "neurons most"]:
    """Returns which lengths of a path end no later than the last step that is more than noise.

    A step is that if its partial correlation with the activation, beside the steps before, exceeds
    what the best of all concepts would reach by chance (`solve.noise`).

    Args:
      moments: of the images that chose the path.
      selected: (neurons, most) int32 from `path`.
      skewness: of each neuron over these images.
    """
    n_neurons, most = selected.shape
    size = tiles.fitting(tiles.MOST, 64 * most**2)
    if n_neurons > size:
        parts = [slice(i, i + size) for i in range(0, n_neurons, size)]
        each = [beyond_noise(moments.neurons(p), selected[p], skewness[p]) for p in parts]
        return np.concatenate(each)
    gram, cross, mean_x, _, var_y = _gathered(moments, selected, most)
    var_x = np.diagonal(gram, axis1=1, axis2=2)
    used = (selected >= 0) & (var_y > 0)[:, None]
    basis = _basis(gram, mean_x, used)
    partial = (
        np.einsum("kst,kt->ks", basis, cross) / np.sqrt(np.where(var_y > 0, var_y, 1))[:, None]
    )
    before = np.cumsum(partial**2, axis=1) - partial**2
    partial /= np.sqrt(np.maximum(1 - before, FLAT))
    gamma = noise.skewness_of_probabilities(mean_x, var_x) * skewness[:, None] / np.sqrt(moments.n)
    n_concepts = moments.cross.shape[0]
    t, freedom = np.transpose(
        [noise.quantile(moments.n, 2 * (n_concepts - step), step) for step in range(most)]
    )
    least = noise.least_correlation(t, freedom, gamma * np.sign(partial))
    passed = used & (np.abs(partial) > least)
    return np.cumsum(passed[:, ::-1], axis=1)[:, ::-1] > 0


@functools.partial(jax.jit, static_argnames="size")
def _transposed(cross, inv_y, start, size: int):
    def some(z):
        return jax.lax.dynamic_slice_in_dim(z, start, size, z.ndim - 1)

    return some(cross).T, some(inv_y)


@jax.jit
def _rows(transposed, inv_x, inv_y, places):
    # one program for this and the transpose would take eight times as long on a CPU
    return transposed[places] * inv_x[None, :] * inv_y[places][:, None]


@functools.cache
def _program(mesh: Mesh | None, most: int):
    step = functools.partial(_forward, most=most)
    return split_jit(step, mesh, (WHOLE, ROWS, WHOLE, WHOLE, WHOLE), ROWS)


def gains(
    left: Float[Array, "neurons concepts"],
    cov: Float[Array, "neurons concepts"],
    worth: Callable[[Float[Array, "neurons concepts"]], Float[Array, "neurons concepts"]]
    | None = None,
) -> tuple[
    Float[jax.Array, "neurons concepts"], Float[jax.Array, " neurons"], Int[jax.Array, " neurons"]
]:
    """Returns what each concept would explain, the most of it, and which concept that is.

    −1 for a concept that depends on those chosen; of ties the first of positive covariance. `worth`
    changes what they explain before they are compared.

    Args:
      left: d, what the chosen concepts leave of each concept's variance.
      cov: e, and of its covariance with the target.
    """
    gain = jnp.where(left > PIVOT, cov**2 / jnp.where(left > PIVOT, left, 1.0), -1.0)
    gain = gain if worth is None else jnp.where(gain > 0, worth(gain), gain)
    best = jnp.max(gain, axis=1)
    near = gain >= jnp.maximum(best - TIE, 0.99 * best)[:, None]
    # whole numbers, larger for the first ones, which float32 holds: XLA's CPU back end takes a
    # maximum forty times as fast as an argmax
    m = gain.shape[1]
    value = m - jnp.arange(m, dtype=jnp.float32)[None, :] + jnp.where(cov > 0, m, 0)
    highest = jnp.max(jnp.where(near, value, 0.0), axis=1).astype(jnp.int32)
    return gain, best, jnp.where(highest > 0, -highest % m, 0)


def _worth(explained, words, price, gain):
    """What a concept of one word would explain that is as good as one of so many words."""
    paid = jnp.sqrt(explained[:, None] + gain) - price * (words - 1)[None, :]
    priced = jnp.maximum(paid, 0.0) ** 2 - explained[:, None]
    return jnp.where(price > 0, priced, gain / words[None, :])


def _forward(gram, cross, words=None, price=0.0, steps=None, *, most: int):
    """The first steps of the paths of one block; `cross` as `blocks` gives it."""
    n, m = cross.shape
    varies = jnp.diagonal(gram)

    def step(t, carry):
        left, cov, basis, selected, active, explained = carry
        worth = None if words is None else functools.partial(_worth, explained, words, price)
        _, best, place = gains(left, cov, worth)
        active = active & (best > LEAST)

        def at(z):
            return jnp.take_along_axis(z, place[:, None], axis=1)

        moves = active[:, None]
        # 0: nothing moves
        root = jnp.where(moves, 1 / jnp.sqrt(jnp.where(moves, at(left), 1.0)), 0.0)

        def project(part, row):
            for s in range(TOGETHER):  # zero from t on
                one = basis[part * TOGETHER + s]
                row = row - at(one) * one
            return row

        parts = (t + TOGETHER - 1) // TOGETHER
        u = jax.lax.fori_loop(0, parts, project, gram[place]) * root
        own = at(cov) * root
        cov = cov - u * own
        return (
            left - u**2,
            cov,
            basis.at[t].set(u),
            selected.at[:, t].set(jnp.where(active, place, -1)),
            active,
            explained + own[:, 0] ** 2,
        )

    blank = jnp.full((n, most), -1, jnp.int32)
    basis = jnp.zeros((most + -most % TOGETHER, n, m), jnp.float32)
    left, nothing = jnp.broadcast_to(varies[None, :], (n, m)), jnp.zeros(n, jnp.float32)
    carry = (left, cross, basis, blank, jnp.ones(n, bool), nothing)
    return jax.lax.fori_loop(0, most if steps is None else steps, step, carry)[3]


class _Own(NamedTuple):
    """Each neuron's own moments, float64; those of concept 0 in unused slots."""

    gram: np.ndarray  # (neurons, slots, slots)
    cross: np.ndarray  # (neurons, slots)
    mean_x: np.ndarray  # (neurons, slots)
    mean_y: np.ndarray  # (neurons,)
    var_y: np.ndarray  # (neurons,)


def _gathered(moments: Moments, selected: np.ndarray, longest: int) -> _Own:
    """Each neuron's own moments, of the first slots of its path."""
    n_neurons, n_padded = len(selected), tiles.bucket(len(selected))
    index = np.pad(np.maximum(selected, 0), ((0, n_padded - n_neurons), (0, 0)))
    neurons = np.arange(n_padded, dtype=np.int32)
    found = (np.asarray(part) for part in _gather(moments.padded().arrays(), index, neurons))
    gram, *vectors, mean_y, var_y = found
    slots = [part[:n_neurons, :longest] for part in (gram[:, :, :longest], *vectors)]
    each = (*slots, mean_y[:n_neurons], var_y[:n_neurons])
    return _Own(*(part.astype(np.float64) for part in each))


def _union(each: Sequence[_Own], sizes: Sequence[int]) -> _Own:
    """The moments over the union of disjoint image sets of these sizes."""
    if len(each) == 1:
        return each[0]
    share = [n / sum(sizes) for n in sizes]
    mean_x, mean_y = (
        sum(a * own for a, own in zip(share, some, strict=True))
        for some in ([own.mean_x for own in each], [own.mean_y for own in each])
    )
    total = _Own(*(np.zeros_like(values) for values in each[0]))
    for a, own in zip(share, each, strict=True):
        x, y = own.mean_x - mean_x, own.mean_y - mean_y
        total.gram[:] += a * (own.gram + x[:, :, None] * x[:, None, :])
        total.cross[:] += a * (own.cross + x * y[:, None])
        total.var_y[:] += a * (own.var_y + y**2)
    return total._replace(mean_x=mean_x, mean_y=mean_y)


@jax.jit
def _gather(moments: Moments, index, neurons):
    gram = moments.gram[index[:, :, None], index[:, None, :]]
    return (
        gram,
        moments.cross[index, neurons[:, None]],
        moments.mean_x[index],
        moments.mean_y,
        moments.var_y,
    )


def _basis(gram, mean_x, used) -> np.ndarray:
    """(neurons, steps, concepts): the direction that each step adds, in terms of raw concepts.

    Zero for a step that is not used, constant, or dependent on those before.
    """
    var = np.diagonal(gram, axis1=1, axis2=2)
    varies = used & ~is_constant(np.sqrt(np.maximum(var, 0)), mean_x)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, var, 1.0)), 0.0)
    gram = gram * scale[:, :, None] * scale[:, None, :]
    basis = np.zeros_like(gram)
    for t in range(gram.shape[1]):
        before = basis[:, :t, :t]
        shared = np.einsum("kst,kt->ks", before, gram[:, :t, t])
        left = gram[:, t, t] - np.sum(shared**2, axis=1)
        unit = np.where(left > PIVOT, 1 / np.sqrt(np.where(left > PIVOT, left, 1.0)), 0.0)
        basis[:, t, :t] = -unit[:, None] * np.einsum("ks,kst->kt", shared, before)
        basis[:, t, t] = unit
    return basis * scale[:, None, :]


def _prefix_correlations(train, test, used):
    """(neurons, most): correlation on one image set of the fits of all prefixes on another."""
    gram, cross, mean_x = train[:3]
    test_gram, test_cross, test_mean, test_mean_y, test_var = test
    basis = _basis(gram, mean_x, used)
    test_std = np.sqrt(np.maximum(np.diagonal(test_gram, axis1=1, axis2=2), 0))
    varies = np.where(is_constant(test_std, test_mean), 0.0, 1.0)
    test_gram = test_gram * varies[:, :, None] * varies[:, None, :]
    test_cross = test_cross * varies
    coefficient = np.einsum("kst,kt->ks", basis, cross)
    weights = np.cumsum(coefficient[:, :, None] * basis, axis=1)  # of every prefix
    cov = np.einsum("kst,kt->ks", weights, test_cross)
    spread = np.sum((weights @ test_gram) * weights, axis=2)
    target_varies = ~is_constant(np.sqrt(np.maximum(test_var, 0)), test_mean_y)
    varies = (spread > FLAT * np.cumsum(coefficient**2, axis=1)) & target_varies[:, None]
    rho = cov / np.sqrt(np.where(varies, spread * test_var[:, None], 1.0))
    return np.where(varies, np.clip(rho, -1.0, 1.0), 0.0)
