"""The network after one neuron is set to another value: what every score of this room is made of.

A neuron's activation is replaced by a value v at every position that its pool covers ("avg", "max":
all of them; "first": the first token; "patches": those of the grid; "none" or a tap without
positions: the value itself). A unit's contribution is replaced along its decoder direction
(`columns`). What comes out is the change of the loss,

    ΔL = L(f_{k←v}(x), y) − L(f(x), y) = log Σ_j p_j exp(b_j) − b_y
    p = softmax(logits / T),   b = (change of the logits) / T

computed as log1p(Σ p_j expm1(b_j − b_r)) − (b_y − b_r), r the class predicted before. This is
exactly 0 where nothing changes, and accurate to float32's relative precision where ΔL is small,
which a difference of two losses is not; where the change is large, that difference is taken. Matrix
products are float32 ("highest").

Where all after the tap is linear, the logits change by (v − q_k) · W_k with q_k the pooled
activation, and the network is not run again. Whether it is linear is tested, not assumed
(`linearity`). Elsewhere the network's suffix is run. Source: method.md §§6–7.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Real, UInt8

from jaxle.arrays import Array, checks_input
from jaxle.intervention.columns import Columns
from jaxle.intervention.linearity import linear_weights
from jaxle.intervention.temperature import check_labels
from jaxle.models.recorded import AnyClassifier, AnySuffix
from jaxle.models.suffix import Carried, Moved, Suffix
from jaxle.models.units.unit_map import Prepared

Images = Callable[[np.ndarray], np.ndarray]  # row index → fitted uint8 images, size, size, 3
Want = Literal["loss", "slope", "right"]
Changed = tuple[
    Float32[Array, "images columns"],
    Float32[Array, "images columns"] | Bool[Array, "images columns"] | None,
]
# bytes of the largest tensor of a step: what fits a CPU's cache, an accelerator's memory
CACHE, DEVICE = 4 << 20, 1 << 30
# of the logits: a smaller change by the suffix is two programs' round-off, and counts as none
_ROUND_OFF = 1e-6
_CHECKED = 4  # images on which linearity is checked
LARGE = 0.5  # of the probability that goes: from there on a change is large
_TILE = 64  # images at once, more where memory allows


class Recorded(NamedTuple):
    """What an edit needs of a tile of images."""

    activations: Float32[Array, "images neurons"]  # pooled
    logits: Float32[Array, "images classes"]
    labels: Int[Array, " images"]
    carried: Carried | None  # what the suffix reads; None where the tail is linear
    prepared: Prepared | None = None  # what edits of units have in common


@dataclasses.dataclass(frozen=True, eq=False)
class Tail:
    """What lies after a tap, as `open_tail` returns it.

    Attributes:
      model, tap, pool: as given.
      suffix: the network cut at the tap.
      weights: the change of the logits when a neuron's value grows by one; None where the tail is
        not linear.
      n_neurons, n_classes: the tap's and the network's widths.
      tile: images that are run at once.
      bytes_an_image: of the largest tensor that an edit makes.
      memory: bytes that tensor may take for a tile of images × a block of neurons.
    """

    model: AnyClassifier
    tap: str
    pool: str
    suffix: AnySuffix = dataclasses.field(repr=False)
    weights: Float32[jax.Array, "neurons classes"] | None = dataclasses.field(repr=False)
    n_neurons: int
    n_classes: int
    tile: int
    bytes_an_image: int
    memory: int

    @property
    def path(self) -> str:
        """ "linear" or "suffix": how an edit is computed."""
        return "suffix" if self.weights is None else "linear"

    @functools.cached_property
    def columns(self) -> Columns:
        """What a neuron is at this tap."""
        return Columns.of(self.model, self.tap, self.pool)

    @functools.cached_property
    def _record(self):
        def record(variables, images):
            with jax.default_matmul_precision("highest"):
                carried = self.suffix.record(variables, self.model.preprocess.normalise(images))
                logits = self.suffix(variables, carried).astype(jnp.float32)
            pooled = self.columns.pooled(variables, carried.value)
            if self.path == "linear":
                return pooled, logits, None, None
            return pooled, logits, carried, self.columns.prepare(variables, carried.value)

        return jax.jit(record)

    @functools.cached_property
    def _suffix_change(self):
        return jax.jit(functools.partial(_suffix_change, self), static_argnames="want")


@checks_input
def open_tail(
    model: AnyClassifier,
    tap: str,
    pool: str,
    images: UInt8[np.ndarray, "images size size 3"],
    *,
    memory: int | None = None,
) -> Tail:
    """Cuts a network at a tap and tests whether it is linear after it; once a tap is enough.

    Args:
      model: a classifier.
      tap: a key of `model.taps` or an alias.
      pool: "avg", "max", "first", "patches"; "none" for a tap of (images, neurons).
      images: uint8 (images, size, size, 3), fitted (`preprocess.fit`); the first four are used.
      memory: bytes that the largest tensor of a step may take; by default 4 MiB on a CPU (its
        cache), 1 GiB elsewhere.

    Raises:
      ValueError: unknown tap or pool, a pool that does not suit the tap, a network without logits,
        no images.
    """
    if len(images) == 0:
        raise ValueError("an edit needs at least one image, got none.")
    memory = memory or _memory()
    suffix, images = model.suffix(tap), images[:_CHECKED]
    columns = Columns.of(model, tap, pool)
    with jax.default_matmul_precision("highest"):
        carried = jax.jit(lambda v, x: suffix.record(v, model.preprocess.normalise(x)))(
            model.variables, images
        )
        pooled = jax.eval_shape(columns.pooled, model.variables, carried.value)
        if pooled.ndim != 2:
            raise ValueError(
                f"tap {tap!r} has positions, {tuple(carried.value.shape[1:])} an image: "
                f"use pool avg, max or first, got {pool!r}."
            )
        logits = jax.eval_shape(suffix, model.variables, carried)
        if not hasattr(logits, "ndim") or logits.ndim != 2:
            raise ValueError(
                f"losses need a network with one row of logits an image; {model.name!r} gives none."
            )
        run = functools.partial(suffix, model.variables)
        jaxpr = jax.make_jaxpr(run)(carried).jaxpr
    held = carried.value.nbytes // len(images)
    largest = max(_bytes(jaxpr), 4 * logits.size) // len(images)
    # a neuron is edited where that is read: a suffix that reads one token edits no other
    read = (eqn for eqn in jaxpr.eqns if jaxpr.invars[0] in eqn.invars)
    if columns.form is not None or any(eqn.primitive.name != "slice" for eqn in read):
        largest = max(largest, held)
    most = _TILE if memory <= CACHE else 16 * _TILE
    tile = model.fit_batch(max(8, min(most, memory // max(largest, held))))
    weights = linear_weights(suffix, model.variables, carried, columns, logits.shape[1])
    sizes = pooled.shape[1], logits.shape[1], tile, largest, memory
    return Tail(model, tap, pool, suffix, weights, *sizes)


@checks_input
def record(
    tail: Tail,
    images: Images,
    labels: Int[Array, " all_images"],
    index: Int[np.ndarray, " images"],
) -> Iterator[tuple[slice, Recorded]]:
    """Runs the network once on some images, tile by tile.

    Args:
      tail: from `open_tail`.
      images: row index → fitted uint8 images.
      labels: (all images,) class numbers, by row.
      index: (images,) rows wanted.

    Yields:
      For each tile its place in `index` and what was recorded. Tiles are of one size: the last one
      repeats its last image.

    Raises:
      ValueError: labels missing or not class numbers.
    """
    size = tail.model.fit_batch(min(tail.tile, len(index)))
    for start in range(0, len(index), size):
        rows = index[start : start + size]
        padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
        y = None if labels is None else np.asarray(labels)[padded]
        y = check_labels(y, size, tail.n_classes)
        activations, logits, carried, prepared = tail._record(
            tail.model.variables, tail.model.place(np.asarray(images(padded)))
        )
        place = slice(start, start + len(rows))
        yield place, Recorded(activations, logits, y, carried, prepared)


def change(
    tail: Tail,
    recorded: Recorded,
    values: Real[Array, "images columns"],
    neurons: Int[Array, " columns"],
    temperature: float,
    want: Want = "loss",
) -> Changed:
    """Returns what an edit does to the loss; each column is one neuron's edit, by itself.

    Args:
      tail: from `open_tail`.
      recorded: a tile of images.
      values: image i's neuron `neurons[j]` is set to `values[i, j]`.
      neurons: which neuron each column edits; one may occur several times.
      temperature: T.
      want: "loss", "slope" or "right".

    Returns:
      ΔL (images, columns) float32; and with "slope" its derivative by the value, with "right"
      whether the edited network is right (each images, columns), else None.
    """
    if tail.weights is not None:
        return linear_change(
            tail.weights, recorded, values, neurons, temperature, want, memory=tail.memory
        )
    edits = _float32(values), np.asarray(neurons, np.int32)
    return tail._suffix_change(
        tail.model.variables, recorded, *edits, np.float32(temperature), want=want
    )


def linear_change(
    weights: Real[Array, "neurons classes"],
    recorded: Recorded,
    values: Real[Array, "images columns"],
    neurons: Int[Array, " columns"],
    temperature: float,
    want: Want = "loss",
    *,
    memory: int | None = None,
) -> Changed:
    """Returns what `change` does, for a linear tail given by its weights.

    Args:
      weights: the change of the logits when a neuron's value grows by one.
      recorded, values, neurons, temperature, want: as in `change`.
      memory: as in `open_tail`, of the changed logits.
    """
    return _linear_change(
        _float32(weights),
        recorded,
        _float32(values),
        np.asarray(neurons, np.int32),
        np.float32(temperature),
        want=want,
        memory=memory or _memory(),
    )


def _float32(x: Real[Array, "..."]) -> Real[Array, "..."]:
    """The array in float32, without a program where it is one on the host."""
    return x.astype(jnp.float32) if isinstance(x, jax.Array) else np.asarray(x, np.float32)


def loss_change(
    logits: Float[Array, "images classes"],
    shift: Float[Array, "images classes"],
    labels: Int[Array, " images"],
    temperature: float | Float[Array, ""],
) -> Float[jax.Array, " images"]:
    """Returns ΔL for logits that change by `shift`; see the module's equation."""
    best = jnp.argmax(logits, axis=1, keepdims=True)
    b = (shift - jnp.take_along_axis(shift, best, 1)) / temperature
    p = jax.nn.softmax(logits / temperature, axis=1)
    grown = jnp.maximum(jnp.max(b, axis=1, keepdims=True) - 30.0, 0.0)  # keeps expm1 finite
    total = jnp.sum(p * jnp.expm1(b - grown), axis=1)
    right = jnp.take_along_axis(b, labels[:, None], 1)[:, 0]
    is_large = (grown[:, 0] > 0) | (total < -LARGE)
    small = jnp.log1p(jnp.where(is_large, 0.0, total))
    # a large change is the plain difference of two losses, in which nothing cancels
    large = jax.nn.logsumexp(jax.nn.log_softmax(logits / temperature, axis=1) + b, axis=1)
    return jnp.where(is_large, large, small) - right


@functools.partial(jax.jit, static_argnames=("want", "memory"))
def _linear_change(weights, recorded, values, neurons, temperature, want, memory):
    def shift(neurons, values, logits):
        delta = values - recorded.activations.T[neurons]
        return (delta[:, :, None] * weights[neurons][:, None, :]).reshape(logits.shape)

    bytes_an_image = 4 * weights.shape[1]
    return _by_blocks(shift, memory // bytes_an_image, recorded, values, neurons, temperature, want)


def _suffix_change(tail, variables, recorded, values, neurons, temperature, want):
    def shift(neurons, values, logits):
        around = tuple(_merge(_repeat(x, len(neurons))) for x in recorded.carried.around)
        with jax.default_matmul_precision("highest"):
            run = _edited(tail, variables, recorded, neurons, values, products, around)
        moved = run.astype(jnp.float32) - logits
        size = jnp.max(jnp.abs(logits), axis=1, keepdims=True)
        none = jnp.max(jnp.abs(moved), axis=1, keepdims=True) <= _ROUND_OFF * size
        return jnp.where(none, 0.0, moved)

    products = []
    if tail.columns.form is None and isinstance(tail.suffix, Suffix):
        with jax.default_matmul_precision("highest"):
            products = tail.suffix.first(variables, recorded.carried)
    most = tail.memory // tail.bytes_an_image
    return _by_blocks(shift, most, recorded, values, neurons, temperature, want)


def _edited(tail, variables, recorded, neurons, values, products: list[Moved], around):
    """(block · images, classes) logits of a block of edits.

    One channel is a row of the first products' kernels; without these, the value is edited.
    """
    value = recorded.carried.value
    if not products:
        edit = functools.partial(tail.columns.set_one, variables, value, recorded.prepared)
        return tail.suffix(variables, Carried(_merge(jax.vmap(edit)(neurons, values)), around))
    added, found = jax.vmap(functools.partial(tail.columns.added, value))(neurons, values), []
    for base, kernel, reads in products:
        read = added[:, :, *reads][..., None]
        rows = kernel[neurons].reshape(len(neurons), *(1,) * (read.ndim - 2), -1)
        numbers = base.reshape(*read.shape[1:-1], -1)[None] + read * rows
        found.append(_merge(numbers.astype(base.dtype).reshape(len(neurons), *base.shape)))
    return tail.suffix.after(variables, found, around)


def _by_blocks(shift, most, recorded, values, neurons, temperature, want):
    """`change` for blocks of columns, of at most `most` images × columns each.

    shift: (block,) neurons, (block, images) values, (block · images, classes) logits → their change
    """
    n, columns = values.shape
    block = max(1, min(columns, most // n))
    block = -(-columns // -(-columns // block))  # blocks of one size, with least padding
    padding = -columns % block
    neurons = jnp.pad(neurons, (0, padding)).reshape(-1, block)
    values = jnp.pad(values, ((0, 0), (0, padding))).T.reshape(-1, block, n)
    logits, labels = (_merge(_repeat(x, block)) for x in (recorded.logits, recorded.labels))

    def one_block(part):
        neurons, values = part

        def run(values):
            moved = shift(neurons, values, logits)
            right = jnp.argmax(logits + moved, axis=1) == labels if want == "right" else None
            return loss_change(logits, moved, labels, temperature).reshape(block, n), right

        if want == "slope":
            (delta, _), (slope, _) = jax.jvp(run, (values,), (jnp.ones_like(values),))
            return delta, slope
        delta, right = run(values)
        return delta, None if right is None else right.reshape(block, n)

    found = jax.lax.map(one_block, (neurons, values))
    return jax.tree.map(lambda x: x.reshape(-1, n)[:columns].T, found)


def _memory() -> int:
    return CACHE if jax.default_backend() == "cpu" else DEVICE


def _repeat(x, block):
    return jnp.broadcast_to(x[None], (block, *x.shape))


def _merge(x):
    return x.reshape(-1, *x.shape[2:])


def _bytes(jaxpr) -> int:
    """Of the largest tensor that a program makes."""
    found = 0
    for eqn in jaxpr.eqns:
        inner = [
            getattr(p, "jaxpr", p)
            for p in eqn.params.values()
            if hasattr(getattr(p, "jaxpr", p), "eqns")
        ]
        sizes = (v.aval.size * v.aval.dtype.itemsize for v in eqn.outvars)
        found = max([found, *(_bytes(j) for j in inner), *sizes])
    return found
