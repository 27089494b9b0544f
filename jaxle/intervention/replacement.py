"""The network after an edit of one neuron: what every score does that asks what a neuron is good for.

A neuron's activation is replaced by a value v at every position that its pool covers ("avg", "max": all of them; "first": the first token;
"none" or a tap without positions: the value itself). What comes out is the change of the loss,

    ΔL = L(f_{k←v}(x), y) − L(f(x), y) = log Σ_j p_j exp(b_j) − b_y,    p = softmax(logits / T),   b = (change of the logits) / T

computed as log1p(Σ p_j expm1(b_j − b_r)) − (b_y − b_r), r the class predicted before: exactly 0 where nothing changes, and accurate to
float32's relative precision where ΔL is small, as a difference of two losses is not. Matrix products are float32 ("highest").

Where everything after the tap is linear, the change is (v − q_k) · W_k with q_k the pooled activation, and the network is not run again.
That is found out, not assumed (`linearity`). Elsewhere the network's suffix is run. Source: method.md §§6–7.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.intervention.linearity import edited, linear_weights
from jaxle.intervention.temperature import check_labels
from jaxle.models import taps
from jaxle.models.model import Model
from jaxle.models.suffix import Carried, Suffix

Images = Callable[[np.ndarray], np.ndarray]  # row index → fitted uint8 images, size, size, 3
CACHE, DEVICE = (
    4 << 20,
    1 << 30,
)  # bytes of the largest tensor of a step: what a CPU's cache and an accelerator's memory like
_ROUND_OFF = 1e-6  # of the logits: a smaller change by the suffix is two programs' round-off, and counts as none
_CHECKED = 4  # images on which linearity is checked
_TILE = 64  # images at once, more where memory allows


class Seen(NamedTuple):
    """A tile of images as the network sees it: what an edit needs."""

    activations: jax.Array  # images, neurons float32, pooled
    logits: jax.Array  # images, classes float32
    labels: jax.Array  # images int32
    carried: Carried | None  # None where the tail is linear


@dataclasses.dataclass(frozen=True, eq=False)
class Tail:
    """What lies after a tap. Make it with `open_tail`.

    Attributes:
      model, tap, pool: as given.
      suffix: the network cut at the tap.
      weights: (neurons, classes) float32, the change of the logits when a neuron's value grows by one; None where the tail is not linear.
      n_neurons, n_classes: the tap's and the network's widths.
      tile: images that are run at once.
      bytes_an_image: of the largest tensor that the suffix makes.
      memory: bytes that tensor may take for a tile of images × a block of neurons.
    """

    model: Model
    tap: str
    pool: str
    suffix: Suffix = dataclasses.field(repr=False)
    weights: jax.Array | None = dataclasses.field(repr=False)
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
    def _see(self):
        def see(variables, images):
            with jax.default_matmul_precision("highest"):
                carried = self.suffix.record(variables, self.model.preprocess.normalise(images))
                logits = self.suffix(variables, carried).astype(jnp.float32)
            return (
                taps.pool(carried.value, self.pool),
                logits,
                None if self.path == "linear" else carried,
            )

        return jax.jit(see)

    @functools.cached_property
    def _change(self):
        return jax.jit(functools.partial(_change, self), static_argnames="want")


def open_tail(
    model: Model, tap: str, pool: str, images: np.ndarray, *, memory: int | None = None
) -> Tail:
    """Use it once a tap; finds out whether the network is linear after it (`linearity`).

    Args:
      model: a classifier.
      tap: a key of `model.taps` or an alias.
      pool: "avg", "max", "first"; "none" for a tap of (images, neurons).
      images: uint8 (images, size, size, 3), fitted; the first four are used.
      memory: bytes that the largest tensor of a step may take; by default 4 MiB on a CPU (its cache), 1 GiB elsewhere.

    Raises:
      ValueError: unknown tap or pool, a pool that does not suit the tap, a network without logits, no images.
    """
    if len(images) == 0:
        raise ValueError("an edit needs at least one image, got none.")
    memory = memory or (CACHE if jax.default_backend() == "cpu" else DEVICE)
    suffix, images = model.suffix(tap), jnp.asarray(images[:_CHECKED])
    with jax.default_matmul_precision("highest"):
        carried = jax.jit(lambda v, x: suffix.record(v, model.preprocess.normalise(x)))(
            model.variables, images
        )
        pooled = taps.pool(carried.value, pool)
        if pooled.ndim != 2:
            raise ValueError(
                f"tap {tap!r} has positions, {tuple(carried.value.shape[1:])} an image: use pool avg, max or first, got {pool!r}."
            )
        logits = jax.eval_shape(suffix, model.variables, carried)
        if not hasattr(logits, "ndim") or logits.ndim != 2:
            raise ValueError(
                f"losses need a network with one row of logits an image; {model.name!r} gives none."
            )
        run = functools.partial(suffix, model.variables)
        largest = max(_bytes(jax.make_jaxpr(run)(carried).jaxpr), carried.value.nbytes) // len(
            images
        )
    tile = model.fit_batch(max(8, min(_TILE if memory <= CACHE else 16 * _TILE, memory // largest)))
    weights = linear_weights(suffix, model.variables, carried, pool, logits.shape[1])
    return Tail(
        model, tap, pool, suffix, weights, pooled.shape[1], logits.shape[1], tile, largest, memory
    )


def see(
    tail: Tail, images: Images, labels: np.ndarray, index: np.ndarray
) -> Iterator[tuple[slice, Seen]]:
    """Run the images once, tile by tile.

    Args:
      images: row index → fitted uint8 images.
      labels: (all images,) class numbers, by row.
      index: (images,) rows wanted.

    Returns:
      For each tile its place in `index` and what was seen. Tiles are of one size: the last one repeats its last image.
    """
    size = tail.model.fit_batch(min(tail.tile, len(index)))
    for start in range(0, len(index), size):
        rows = index[start : start + size]
        padded = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
        y = check_labels(
            None if labels is None else np.asarray(labels)[padded], size, tail.n_classes
        )
        activations, logits, carried = tail._see(
            tail.model.variables, tail.model.place(np.asarray(images(padded)))
        )
        yield slice(start, start + len(rows)), Seen(activations, logits, jnp.asarray(y), carried)


def change(tail: Tail, seen: Seen, values, neurons, temperature: float, want: str = "loss"):
    """What an edit does to the loss; image i's neuron `neurons[j]` is set to `values[i, j]`, one neuron at a time.

    Args:
      seen: a tile of images.
      values: (images, columns) float32.
      neurons: (columns,) which neuron each column edits; one may occur several times.
      temperature: T.
      want: "loss", "slope" or "right".

    Returns:
      ΔL (images, columns) float32; and with "slope" its derivative by the value, with "right" whether the edited network is right
      (each images, columns), else None.
    """
    values, neurons = jnp.asarray(values, jnp.float32), jnp.asarray(neurons, jnp.int32)
    return tail._change(
        tail.model.variables,
        tail.weights,
        seen,
        values,
        neurons,
        jnp.float32(temperature),
        want=want,
    )


def loss_change(logits, shift, labels, temperature):
    """ΔL (images,) of logits, images, classes, that change by `shift`, images, classes; labels (images,). See the module's equation."""
    best = jnp.argmax(logits, axis=1, keepdims=True)
    b = (shift - jnp.take_along_axis(shift, best, 1)) / temperature
    p = jax.nn.softmax(logits / temperature, axis=1)
    grown = jnp.maximum(jnp.max(b, axis=1, keepdims=True) - 30.0, 0.0)  # keeps expm1 finite
    total = jnp.sum(p * jnp.expm1(b - grown), axis=1)
    return (
        jnp.log1p(jnp.maximum(total, -1 + 1e-7))
        + grown[:, 0]
        - jnp.take_along_axis(b, labels[:, None], 1)[:, 0]
    )


def _change(tail, variables, weights, seen, values, neurons, temperature, want):
    n, columns = values.shape
    per_column = 4 * tail.n_classes if weights is not None else tail.bytes_an_image
    block = max(1, min(columns, tail.memory // (n * per_column)))
    block = -(-columns // -(-columns // block))  # blocks of one size, as little padding as can be
    padding = -columns % block
    neurons = jnp.pad(neurons, (0, padding)).reshape(-1, block)
    values = jnp.pad(values, ((0, 0), (0, padding))).T.reshape(-1, block, n)

    def logits_after(
        neurons, values
    ):  # (block,), (block, images) → change of the logits, block · images, classes
        if weights is not None:
            delta = values - seen.activations.T[neurons]
            return (delta[:, :, None] * weights[neurons][:, None, :]).reshape(-1, tail.n_classes)
        value = jax.vmap(lambda k, v: edited(seen.carried.value, k, v, tail.pool))(neurons, values)
        with jax.default_matmul_precision("highest"):
            run = tail.suffix(
                variables,
                Carried(
                    _merge(value), tuple(_merge(_repeat(x, block)) for x in seen.carried.around)
                ),
            )
        shift = run.astype(jnp.float32) - logits
        size = jnp.max(jnp.abs(logits), axis=1, keepdims=True)
        return jnp.where(
            jnp.max(jnp.abs(shift), axis=1, keepdims=True) <= _ROUND_OFF * size, 0.0, shift
        )

    logits, labels = _merge(_repeat(seen.logits, block)), _merge(_repeat(seen.labels, block))

    def one_block(part):
        neurons, values = part

        def run(values):
            shift = logits_after(neurons, values)
            right = jnp.argmax(logits + shift, axis=1) == labels if want == "right" else None
            return loss_change(logits, shift, labels, temperature).reshape(block, n), right

        if want == "slope":
            (delta, _), (slope, _) = jax.jvp(run, (values,), (jnp.ones_like(values),))
            return delta, slope
        delta, right = run(values)
        return delta, None if right is None else right.reshape(block, n)

    found = jax.lax.map(one_block, (neurons, values))
    return jax.tree.map(lambda x: x.reshape(-1, n)[:columns].T, found)


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
        found = max(
            [
                found,
                *(_bytes(j) for j in inner),
                *(v.aval.size * v.aval.dtype.itemsize for v in eqn.outvars),
            ]
        )
    return found
