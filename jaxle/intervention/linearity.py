"""Whether the network is linear after a tap.

Where it is linear, setting neuron k to v changes the logits by (v − q_k) · W_k. It counts as linear
if it passes two checks on a few images, with W the Jacobian of the logits at the first of them:

    all neurons set at once to random values r     →   the logits change as the Jacobian says
    neuron k alone set to r_k, on the first image  →   they change by (r_k − q_k) · W_k, for every k

q_k is the pooled value. Both checks fail where the logits do not depend on a neuron through its
pooled value alone (pool "max" before an average, say). They also fail for a network in bfloat16,
whose round-off is coarser than the test. Then the suffix is run. Neurons stand for the tap's
columns, units of a map included (`columns`). Source: method.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from jaxle.intervention.columns import Columns
from jaxle.models.recorded import AnySuffix
from jaxle.models.suffix import Carried

_LINEAR = 1e-4  # of the change: float32's round-off is below, any nonlinearity above


def linear_weights(
    suffix: AnySuffix,
    variables: Mapping[str, Any],
    carried: Carried,
    columns: Columns,
    n_classes: int,
) -> Float32[jax.Array, "neurons classes"] | None:
    """Returns the weights of a linear tail; None where the tail is not linear.

    Costs at most one run of the suffix a neuron, on one image, and only where the first check is
    passed.

    Args:
      suffix: the network cut at the tap; its variables.
      carried: what `suffix.record` gave for a few images.
      columns: of the tap.
      n_classes: number of logits.

    Returns:
      W (neurons, classes) float32: the change of the logits when a neuron's value grows by one
      wherever the pool covers it.
    """
    pooled = np.asarray(jax.jit(columns.pooled)(variables, carried.value))
    draw = np.random.default_rng(0)
    size = float(np.max(np.abs(pooled))) or 1.0
    n, neurons = pooled.shape
    random = np.asarray(
        size * draw.standard_normal((n, neurons)) * draw.choice([1.0, 4.0], (n, 1)), np.float32
    )

    @jax.jit
    def all_at_once(variables, carried, random):
        new = carried._replace(value=columns.set_all(variables, carried.value, random))
        after, before = (suffix(variables, x).astype(jnp.float32) for x in (new, carried))
        first = jax.tree.map(lambda x: jnp.repeat(x[:1], n, axis=0), carried)
        grow = _growth(suffix, variables, first, columns)
        return after - before, jax.jvp(grow, (jnp.zeros_like(pooled),), (random - pooled,))[1]

    @jax.jit
    def jacobian(variables, carried):
        first = jax.tree.map(lambda x: x[:1], carried)
        _, back = jax.vjp(
            _growth(suffix, variables, first, columns), jnp.zeros((1, neurons), jnp.float32)
        )
        rows = jax.lax.map(lambda row: back(row[None])[0][0], jnp.eye(n_classes), batch_size=32)
        return rows.T

    with jax.default_matmul_precision("highest"):
        if not _agree(*all_at_once(variables, carried, random)):
            return None
        weights = jacobian(variables, carried)

    @jax.jit
    def one_by_one(variables, carried, weights, random):
        carried = jax.tree.map(lambda x: x[:1], carried)
        with jax.default_matmul_precision("highest"):
            base = suffix(variables, carried).astype(jnp.float32)
            prepared = columns.prepare(variables, carried.value)

            def edit(part):
                k, v, before = part
                value = columns.set_one(variables, carried.value, prepared, k, v[None])
                new = carried._replace(value=value)
                moved = suffix(variables, new).astype(jnp.float32) - base
                return moved[0], (v - before) * weights[k]

            return jax.lax.map(edit, (jnp.arange(neurons), random[0], pooled[0]))

    return weights if _agree(*one_by_one(variables, carried, weights, random)) else None


def _growth(suffix, variables, carried, columns):
    """The suffix's logits as a function of what is added to each neuron, (images, neurons)."""

    def logits(added):
        grown = columns.grown(variables, carried.value, added)
        return suffix(variables, carried._replace(value=grown)).astype(jnp.float32)

    return logits


def _agree(found, predicted) -> bool:
    found, predicted = np.asarray(found), np.asarray(predicted)
    return bool(np.max(np.abs(found - predicted)) <= _LINEAR * np.max(np.abs(predicted)))
