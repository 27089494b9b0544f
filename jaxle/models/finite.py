"""Whether a network's numbers are finite, seen where no activation function can hide that they are
not: at the output of every module.

XLA on a CPU may fuse a rectifier with what reads it so that max(NaN, 0) is 0, and a rectifier makes
0 of −∞ anywhere: a tap, the logits and every score then look sound. The modules that a network is
made of (convolutions, normalisations, dense layers) hand on what they compute, and one flag an
image and module, made in the same program, costs a tenth of a small network's pass at most.

Not seen is a value that a network's own code makes between two modules and rectifies at once, and
one inside nn.scan, nn.remat or another lifted transform. So variables that are not finite are
refused before anything is computed with them (`check_variables`, and the loader for files).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import current_trace
from flax.traverse_util import flatten_dict
from jax.core import Tracer
from jaxtyping import Bool, Float, UInt8

from jaxle.arrays import Array
from jaxle.models.network import Network

_NAMED = 5  # variables in an error
_Values = list[tuple[str, jax.Array]]  # module path → output, in the order of a forward pass


def check_variables(name: str, variables: Mapping[str, Any]) -> None:
    """Raises a ValueError that names the variables of a network that hold NaN or infinity.

    Variables that are being traced, or that lie on other hosts, are taken as they are.
    """
    wrong = []
    for path, leaf in flatten_dict(variables, sep="/").items():
        if isinstance(leaf, Tracer) or not getattr(leaf, "is_fully_addressable", True):
            continue
        values = np.asarray(leaf)
        if jnp.issubdtype(values.dtype, jnp.inexact) and not (finite := np.isfinite(values)).all():
            wrong.append(f"{values[~finite][0]} in {path}")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ValueError(
            f"the variables of network {name!r} hold {', '.join(wrong[:_NAMED])}{more}; "
            "expected finite numbers"
        )


def probe_finite(
    network: Network,
    images: UInt8[Array, "images height width 3"],
    pools: Mapping[str, str],
    variables: Mapping[str, Any] | None = None,
) -> tuple[
    dict[str, Float[jax.Array, "images ..."]],
    Float[jax.Array, "images outputs"],
    Bool[jax.Array, "images modules"],
]:
    """Returns what `network.probe` does, and which modules' outputs are finite; inside jit.

    The last column is the network's own output.
    """
    values, output, found = _probe(network, images, pools, variables)
    return values, output, jnp.stack([_finite(value, len(images)) for _, value in found], axis=1)


def check_finite(
    network: Network,
    finite: Bool[np.ndarray, "images modules"],
    batch_size: int,
    first: int = 0,
    names: Sequence[str] = (),
) -> None:
    """Raises a ValueError for the first image that made a module's output not finite.

    Args:
      network: whose modules they are.
      finite: as `probe_finite` gave it, rows of padding left out.
      batch_size: images of that call.
      first: the number of the first image.
      names: of all images, for the error.
    """
    if finite.all():
        return
    row = int(np.flatnonzero(~finite.all(axis=1))[0])
    path = _paths(network, batch_size)[int(np.flatnonzero(~finite[row])[0])]
    where = f"first in module {path!r}" if path else "in its output"
    name = f" ({names[first + row]})" if names else ""
    raise ValueError(
        f"network {network.name!r} gives a value that is not finite for image {first + row}{name}, "
        f"{where}; expected finite ones: its weights are damaged or too large for its dtype"
    )


def _probe(network, images, pools, variables) -> tuple[dict[str, jax.Array], jax.Array, _Values]:
    n = len(images)
    with _watching() as found:
        values, output = network.probe(images, pools, variables)
    every = [*found, ("", output)]
    # a value of other rows, such as one position embedding for all, is seen in what is made of it
    return values, output, [(path, v) for path, v in every if v.ndim and v.shape[0] % n == 0]


def _paths(network: Network, n: int) -> list[str]:
    """The modules of the columns of `probe_finite`."""
    found: list[str] = []

    def trace(variables, images):
        *_, values = _probe(network, images, {}, variables)
        found.extend(path for path, _ in values)

    size = network.preprocess.size
    images = jax.ShapeDtypeStruct((n, size, size, 3), jnp.uint8)
    jax.eval_shape(trace, network.variables, images)
    return found


@contextlib.contextmanager
def _watching() -> Iterator[_Values]:
    """Collects the output of each module that calls no other one."""
    found: _Values = []
    calls, outside = 0, current_trace()

    def interceptor(call, args, kwargs, context):
        nonlocal calls
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        calls += 1
        before, output = calls, call(*args, **kwargs)
        if calls == before and context.module.path and current_trace() == outside:
            path = "/".join(context.module.path)
            leaves = [x for x in jax.tree.leaves(output) if isinstance(x, jax.Array)]
            found.extend((path, x) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))
        return output

    with nn.intercept_methods(interceptor):
        yield found


def _finite(value: jax.Array, n: int) -> jax.Array:
    # one reduction over the numbers as they are: NaN is below nothing
    return jnp.max(jnp.abs(value.reshape(n, -1)), axis=1) < jnp.inf
