"""The network without what it learned: the control that a score of its neurons must beat.

    every parameter tensor keeps its values, in permuted places
    BatchNorm's statistics are measured again, layer after layer

Unlike fresh initial weights this keeps each layer's distribution of weights, hence its scale and
sparsity. The trained network's statistics would not fit the permuted one (most channels would be
pushed to zero or far above), so they are measured on images.
Source: method.md §8; Adebayo et al. 2018, Sanity Checks for Saliency Maps (arXiv 1810.03292);
Bennett et al. 2009 (the "dead salmon").
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, overload, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, UInt8

from jaxle.arrays import Array
from jaxle.models.model import Model
from jaxle.models.two_tower import TwoTower

Variables = Mapping[str, Any]
STATISTICS, BATCH = 512, 64  # images on which batch statistics are measured, at most; and at once


@runtime_checkable
class Images(Protocol):
    """Fitted images that are read one by one: an array, a list, or what fits them when read."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, i: int, /) -> UInt8[np.ndarray, "size size 3"]:
        """Returns one image, uint8, 0–255, fitted (`preprocess.fit`)."""
        ...


@overload
def shuffled_network(network: Model, images: Images, seed: int) -> Model: ...


@overload
def shuffled_network(network: TwoTower, images: Images, seed: int) -> TwoTower: ...


@overload
def shuffled_network(network: Model | TwoTower, images: Images, seed: int) -> Model | TwoTower: ...


def shuffled_network(network: Model | TwoTower, images: Images, seed: int) -> Model | TwoTower:
    """Returns the network with permuted parameters, and batch statistics to match.

    Args:
      network: a classifier or a two-tower model; both towers of the latter are permuted.
      images: uint8 (images, size, size, 3), 0–255, fitted (`preprocess.fit`), such as those of
        train. At most `STATISTICS` are read, whole batches of `BATCH` only, and none where the
        network has no BatchNorm.
      seed: integer from 0 to 2⁶⁴ − 1.

    Returns:
      A network of the same type; its `weights_hash` names the seed and the original.

    Raises:
      ValueError: the network has BatchNorm, and there is no image.
    """
    model = network.image if isinstance(network, TwoTower) else network
    recompute = None
    if model.variables.get("batch_stats"):
        n_images = min(len(images), STATISTICS)
        step = max(1, min(BATCH, n_images))
        batches = [
            model.preprocess.normalise(np.stack([images[i] for i in range(start, start + step)]))
            for start in range(0, n_images - step + 1, step)
        ]
        recompute = functools.partial(batch_statistics, model.module, batches=batches, **model.call)
    variables = permute_parameters(model.variables, seed, recompute)
    return network.with_variables(variables, f"shuffled:{seed}:{network.weights_hash}")


def permute_parameters(
    variables: Variables, seed: int, recompute: Callable[[Variables], Any] | None = None
) -> dict[str, Any]:
    """Returns variables in which every parameter tensor's values are permuted.

    Args:
      variables: the network's `params`, and `batch_stats` if it has BatchNorm.
      seed: integer from 0 to 2⁶⁴ − 1.
      recompute: permuted variables → their `batch_stats`, such as `batch_statistics` with the
        module and some images.

    Returns:
      Variables of the same tree, shapes and dtypes.

    Raises:
      ValueError: the network has BatchNorm and `recompute` is missing.
    """
    if variables.get("batch_stats") and recompute is None:
        raise ValueError(
            "the network has BatchNorm, whose statistics must be measured again: "
            "give recompute, such as batch_statistics."
        )
    leaves: dict[Any, Any] = dict(flatten_dict(variables["params"]))
    orders = {
        path: _order(leaves[path].size, seed, number) for number, path in enumerate(sorted(leaves))
    }
    result = {**variables, "params": unflatten_dict(_permute(leaves, orders))}
    return result if recompute is None else {**result, "batch_stats": recompute(result)}


def batch_statistics(
    module: nn.Module,
    variables: Variables,
    batches: Iterable[Float[Array, "images h w 3"]],
    **call: Any,
) -> dict[str, Any]:
    """Returns BatchNorm's means and variances on images.

    Each layer is fed what the layers before it give when they normalise by the batch itself.

    Args:
      module: a Linen module (or an nnx one as such, models/bridge.py), its BatchNorms running on
        stored statistics or not.
      variables: its parameters; stored statistics are not read.
      batches: normalised images (images, h, w, 3), batches of one size; a few hundred images are
        enough.
      call: further arguments of the module's `__call__`.

    Returns:
      The tree `batch_stats`: mean and variance over all images of the batches.

    Raises:
      ValueError: no batch, or statistics that are of no BatchNorm of Flax.
    """

    @jax.jit
    def step(variables, images):
        means, variances = _measure(module, variables, images, call)
        return {"mean": means, "square": jax.tree.map(lambda m, v: v + m * m, means, variances)}

    total, n = None, 0
    for images in batches:
        part = step(variables, images)
        total, n = part if total is None else _added(total, part), n + 1
    if total is None:
        raise ValueError("batch statistics need at least one batch of images, got none.")
    means, variances = _means_and_variances(total, n)
    both = {(*path, "mean"): m for path, m in means.items()} | {
        (*path, "var"): v for path, v in variances.items()
    }
    known = flatten_dict(variables.get("batch_stats", {}))
    if other := sorted(path for path in known if path not in both):
        raise ValueError(
            f"the statistics {'/'.join(other[0])} cannot be measured anew: expected those of "
            "Flax's BatchNorm; leave evaluation.shuffled out."
        )
    return unflatten_dict(both)


@jax.jit
def _added(total, part):
    return jax.tree.map(jnp.add, total, part)


@jax.jit
def _means_and_variances(total, n):
    """Sums of means and of mean squares over n batches → means, variances."""
    total = jax.tree.map(lambda x: x / n, total)
    variances = jax.tree.map(
        lambda square, m: jnp.maximum(square - m * m, 0.0), total["square"], total["mean"]
    )
    return total["mean"], variances


def _measure(module: nn.Module, variables, images, call):
    """Path → mean, path → variance, of one pass in which every BatchNorm uses its batch's own."""
    means, variances = {}, {}

    def by_batch(next_function, args, kwargs, context):
        norm = _norm(context, kwargs)
        if norm is None:
            return next_function(*args, **kwargs)
        if norm.layer.axis != -1:
            raise ValueError(
                f"BatchNorm {'/'.join(norm.path)} keeps axis {norm.layer.axis}: expected the last."
            )
        x = args[0].astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        mean, variance = jnp.mean(x, axis=axes, keepdims=True), jnp.var(x, axis=axes, keepdims=True)
        means[norm.path], variances[norm.path] = jnp.ravel(mean), jnp.ravel(variance)
        scale, bias = (
            value if isinstance(value, float) else value.reshape(mean.shape)
            for value in (norm.scale, norm.bias)
        )
        normal = (x - mean) * jax.lax.rsqrt(variance + norm.layer.epsilon)
        return (normal * scale + bias).astype(args[0].dtype)

    with nn.intercept_methods(by_batch):
        module.apply(variables, images, **call)
    return means, variances


class _Norm(NamedTuple):
    """A BatchNorm that is called: its place in the variables, and its factors."""

    layer: Any
    path: tuple[str, ...]
    scale: Any
    bias: Any


def _norm(context, kwargs) -> _Norm | None:
    """The BatchNorm whose call this is, of Linen, or of nnx (models/bridge.py); None for others."""
    layer = context.module
    if context.method_name != "__call__":
        return None
    if isinstance(layer, nn.BatchNorm):
        scale = layer.get_variable("params", "scale") if layer.use_scale else 1.0
        bias = layer.get_variable("params", "bias") if layer.use_bias else 0.0
        return _Norm(layer, layer.path, scale, bias)
    own: Any = getattr(kwargs.get("function"), "args", (None,))[0]
    if not any(base.__qualname__ == "BatchNorm" for base in type(own).__mro__):
        return None
    scale = own.scale[...] if own.use_scale else 1.0
    bias = own.bias[...] if own.use_bias else 0.0
    return _Norm(own, tuple(layer.path[0].split("/")), scale, bias)


def _order(n: int, seed: int, number: int) -> np.ndarray:
    """A random order of n values."""
    stream = np.random.Philox(key=np.array([seed, number], np.uint64))
    return np.argsort(stream.random_raw(n), kind="stable")


@jax.jit
def _permute(leaves, orders):
    """Path → values in their order: one program for all tensors of a network."""
    return {
        path: jnp.ravel(values)[orders[path]].reshape(values.shape)
        for path, values in leaves.items()
    }
