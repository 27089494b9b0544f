"""Whether the network is linear after a tap, so that an edit of neuron k moves the logits by (v − q_k) · W_k; and the edit itself.

Linear is what passes two checks on a few images, with W the Jacobian of the logits at the first of them:

    all neurons replaced at once by random values r   →   the change of the logits is the Jacobian's, as one joint random edit predicts
    neuron k alone replaced, on the first image       →   it is (v − q_k) · W_k with q_k the pooled value, for every k

Both fail where the logits do not depend on a neuron through its pooled value alone (pool "max" before an average, say); then, and for a
network in bfloat16, whose round-off is coarser than the test, the suffix is run.
Source: method.md §6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.models import taps
from jaxle.models.suffix import Carried, Suffix

_LINEAR = 1e-4  # of the change: float32's round-off is below, any nonlinearity above


def edited(value: jax.Array, neuron, new: jax.Array, pool: str) -> jax.Array:
    """A tapped value, images, ..., neurons, in which one neuron has the value `new` (images,) wherever `pool` covers it."""
    chosen = jnp.arange(value.shape[-1]) == neuron
    shape = (1,) * (value.ndim - 1) + chosen.shape
    return jnp.where(
        chosen.reshape(shape) & covered_by(value, pool),
        spread(new[:, None], value.ndim).astype(value.dtype),
        value,
    )


def linear_weights(
    suffix: Suffix, variables, carried: Carried, pool: str, n_classes: int
) -> jax.Array | None:
    """Use it once a tap; costs at most one run of the suffix a neuron, on one image, and only where the first check is passed.

    Args:
      suffix: the network cut at the tap; its variables.
      carried: what `suffix.record` gave for a few images.
      pool: "avg", "max", "first" or "none".
      n_classes: logits.

    Returns:
      W (neurons, classes) float32, the change of the logits when a neuron's value grows by one wherever the pool covers it; None where
      the tail is not linear.
    """
    pooled, draw = taps.pool(carried.value, pool), np.random.default_rng(0)
    size = float(jnp.max(jnp.abs(pooled))) or 1.0
    n, neurons = pooled.shape
    random = jnp.asarray(
        size * draw.standard_normal((n, neurons)) * draw.choice([1.0, 4.0], (n, 1)), jnp.float32
    )
    covered = covered_by(carried.value, pool)

    @jax.jit
    def all_at_once(variables, carried, random):
        new = carried._replace(
            value=jnp.where(
                covered,
                spread(random, carried.value.ndim).astype(carried.value.dtype),
                carried.value,
            )
        )
        moved = suffix(variables, new).astype(jnp.float32) - suffix(variables, carried).astype(
            jnp.float32
        )
        first = jax.tree.map(lambda x: jnp.repeat(x[:1], n, axis=0), carried)
        return moved, jax.jvp(
            _growth(suffix, variables, first, pool), (jnp.zeros_like(pooled),), (random - pooled,)
        )[1]

    @jax.jit
    def jacobian(variables, carried):
        first = jax.tree.map(lambda x: x[:1], carried)
        _, back = jax.vjp(
            _growth(suffix, variables, first, pool), jnp.zeros((1, neurons), jnp.float32)
        )
        rows = jax.lax.map(lambda row: back(row[None])[0][0], jnp.eye(n_classes), batch_size=32)
        return rows.T

    with jax.default_matmul_precision("highest"):
        if not _agree(*all_at_once(variables, carried, random)):
            return None
        weights = jacobian(variables, carried)
    one = jax.tree.map(lambda x: x[:1], carried)

    @jax.jit
    def one_by_one(variables, carried, weights, random):
        with jax.default_matmul_precision("highest"):
            base = suffix(variables, carried).astype(jnp.float32)

            def edit(part):
                k, v, before = part
                new = carried._replace(value=edited(carried.value, k, v[None], pool))
                return (suffix(variables, new).astype(jnp.float32) - base)[0], (
                    v - before
                ) * weights[k]

            return jax.lax.map(edit, (jnp.arange(neurons), random[0], pooled[0]))

    return weights if _agree(*one_by_one(variables, one, weights, random)) else None


def _growth(suffix, variables, carried, pool):
    """The suffix's logits as a function of what is added to each neuron, images, neurons, wherever the pool covers it."""
    value, covered = carried.value, covered_by(carried.value, pool)

    def logits(added):
        grown = value + jnp.where(covered, spread(added, value.ndim), 0.0).astype(value.dtype)
        return suffix(variables, carried._replace(value=grown)).astype(jnp.float32)

    return logits


def _agree(found, predicted) -> bool:
    return bool(jnp.max(jnp.abs(found - predicted)) <= _LINEAR * jnp.max(jnp.abs(predicted)))


def covered_by(value, pool):
    """Which positions a pool covers, 1, ..., 1; all but with "first"."""
    everywhere = jnp.ones((1,) * value.ndim, bool)
    return (
        (jnp.arange(value.shape[1]) == 0)[None, :, None]
        if pool == "first" and value.ndim == 3
        else everywhere
    )


def spread(x, ndim):
    """images, neurons as images, 1, ..., 1, neurons."""
    return x.reshape(x.shape[0], *(1,) * (ndim - 2), x.shape[1])
