"""Taps: read or replace any module's output or input, by its path, on any Linen module.

A tap is written `path`, `path:in`, `path#1` or `path#1:in`: the path of a module
("layer1/0/conv1"), its output or (`:in`) its first argument, and for a module called several times
the number of the call. The root's own input and output are not taps. The network contains no code
for it: `flax.linen.intercept_methods` (https://flax-linen.readthedocs.io) sees every `__call__`
whose tensors have the images as first axis.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import current_trace
from jaxtyping import Float, Num, Shaped

from jaxle.arrays import Array

POOLS = ("avg", "max", "first", "patches", "none")
_SHOWN = 40  # names in an error message, shallow ones first
_NEAREST = 5
# An odd number of images, so that a tensor with another first axis is not taken for a tap.
_LISTING_IMAGES = 7
_LIFTED = (
    "lies inside nn.scan, nn.remat or another lifted transform, where values cannot be read: "
    "unroll the module or tap around it"
)


class Tap(NamedTuple):
    """One point of a network: module path, side ("out" or "in"), number of the call."""

    path: str
    side: str = "out"
    call: int = 0


class Site(NamedTuple):
    """A tap as found in a network: the shape of one image's value, and a sentence where it cannot
    be used."""

    shape: tuple[int, ...]
    refused: str | None = None


def forward(
    module: nn.Module,
    variables: Mapping[str, Any],
    *args: Any,
    record: Iterable[Tap] = (),
    replace: Mapping[Tap, Shaped[Array, "..."] | Callable[[Any], Any]] | None = None,
    **kwargs: Any,
) -> tuple[Any, dict[Tap, Any]]:
    """Runs a network once while some taps are read and others replaced; pure, for use inside jit.

    Args:
      module: any Linen module.
      variables: its variables.
      args, kwargs: go to its `__call__`.
      record: taps to read (a replaced one is read after replacing).
      replace: tap → the value to put there, or a function of the value that the network computed.

    Returns:
      The module's output, and tap → value, images first.

    Raises:
      ValueError: a tap does not occur, or lies inside nn.scan, nn.remat or another lifted
        transform.
    """
    record, replace = tuple(record), dict(replace or {})
    values: dict[Tap, Any] = {}
    met: set[Tap] = set()

    def meet(tap: Tap, value, lifted: bool):
        if tap not in replace and tap not in record:
            return value
        if lifted:
            raise ValueError(f"tap {write(tap)!r} {_LIFTED}")
        met.add(tap)
        if tap in replace:
            put = replace[tap]
            value = put(value) if callable(put) else put
        if tap in record:
            values[tap] = value
        return value

    with nn.intercept_methods(_interceptor(meet)):
        output = module.apply(variables, *args, **kwargs)
    if missing := [tap for tap in (*record, *replace) if tap not in met]:
        raise ValueError(f"the network never reached tap {write(missing[0])!r}")
    return output, values


def sites(
    module: nn.Module, variables: Mapping[str, Any], *args: Any, **kwargs: Any
) -> dict[Tap, Site]:
    """Returns every tap of a network, in the order of a forward pass; nothing is computed.

    Args:
      module: any Linen module.
      variables: its variables, as arrays or ShapeDtypeStructs.
      args: arrays or ShapeDtypeStructs, the images as first axis.
      kwargs: further arguments of its `__call__`.

    Returns:
      Tap → Site, whose shape leaves out the axis of images.
    """
    args = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((_LISTING_IMAGES, *x.shape[1:]), x.dtype), args
    )
    found: dict[Tap, Site] = {}

    def meet(tap: Tap, value, lifted: bool):
        shape = getattr(value, "shape", ())
        if (
            len(shape) >= 2
            and shape[0] == _LISTING_IMAGES
            and jnp.issubdtype(value.dtype, jnp.floating)
        ):
            found[tap] = Site(tuple(shape[1:]), _LIFTED if lifted else None)
        return value

    def run(variables, *args):
        with nn.intercept_methods(_interceptor(meet)):
            return module.apply(variables, *args, **kwargs)

    jax.eval_shape(run, variables, *args)
    return found


def _interceptor(meet: Callable[[Tap, Any, bool], Any]):
    """Calls `meet(tap, value, lifted)` on each module's first argument and output; what it returns
    takes the value's place."""
    calls: dict[str, int] = {}
    outside = current_trace()

    def interceptor(call, args, kwargs, context):
        if context.method_name != "__call__" or not context.module.path:
            return call(*args, **kwargs)
        path = "/".join(context.module.path)
        number = calls.get(path, 0)
        calls[path] = number + 1
        lifted = current_trace() != outside
        if args:
            args = (meet(Tap(path, "in", number), args[0], lifted), *args[1:])
        return meet(Tap(path, "out", number), call(*args, **kwargs), lifted)

    return interceptor


def write(tap: Tap, calls: int = 1) -> str:
    """Returns the tap's text: "path", "path:in", and "path#1" where its module is called several
    times (`calls`)."""
    number = f"#{tap.call}" if calls > 1 or tap.call else ""
    return tap.path + number + (":in" if tap.side == "in" else "")


def names(found: Mapping[Tap, Site]) -> dict[str, Tap]:
    """Returns text → tap of all usable sites, as a user writes them."""
    calls: dict[str, int] = {}
    for tap in found:
        calls[tap.path] = max(calls.get(tap.path, 0), tap.call + 1)
    return {write(tap, calls[tap.path]): tap for tap, site in found.items() if site.refused is None}


def resolve(text: str, found: Mapping[Tap, Site], aliases: Mapping[str, str] | None = None) -> Tap:
    """Returns the tap that a user's text names.

    Args:
      text: as in `names(found)`, or an alias; torch's dots are taken for either ("layer1.0.conv1",
        "blocks.3" for the alias "blocks[3]").
      found: the network's taps, from `sites`.
      aliases: alias → text.

    Raises:
      ValueError: unknown (the nearest names and the valid ones are listed), called several times
        and given without a number, or inside a lifted transform.
    """
    valid, aliases = names(found), aliases or {}
    for spelling in (text, _bracketed(text), text.replace(".", "/")):
        spelling = _aliased(spelling, aliases)
        if spelling in valid:
            return valid[spelling]
    text = _aliased(text, aliases)
    path, _, side = text.partition(":")
    path, _, number = path.partition("#")
    side = side or "out"
    if number in ("", "0") and (tap := Tap(path, side, 0)) in found:
        if found[tap].refused:
            raise ValueError(f"tap {text!r} {found[tap].refused}")
        if write(tap) in valid:
            return tap
        several = [name for name, tap in valid.items() if tap.path == path and tap.side == side]
        raise ValueError(
            f"tap {text!r} is called {len(several)} times; say which: {', '.join(several)}"
        )
    outputs = sorted(
        (name for name, tap in valid.items() if tap.side == "out"), key=lambda name: name.count("/")
    )
    shown = [*aliases, *outputs][:_SHOWN]
    more = len(aliases) + len(outputs) - len(shown)
    rest = f" and {more} deeper ones (model.taps lists all)" if more > 0 else ""
    near = difflib.get_close_matches(text, [*aliases, *valid], n=_NEAREST)
    hint = f" (nearest: {', '.join(near)})" if near else ""
    raise ValueError(
        f"unknown tap {text!r}{hint}; valid taps: {', '.join(shown)}{rest}; "
        "each also with ':in' for its input"
    )


def _aliased(text: str, aliases: Mapping[str, str]) -> str:
    """What an alias means, or an alias with ":in"."""
    name, _, side = text.partition(":")
    if side == "in" and ":" not in aliases.get(name, ":"):
        return f"{aliases[name]}:in"
    return aliases.get(text, text)


def _bracketed(text: str) -> str:
    """torch's "blocks.3.mlp" as "blocks[3].mlp"."""
    return re.sub(r"\.(\d+)(?=\.|$|:)", r"[\1]", text)


def pool(value: Num[jax.Array, "images *positions"], mode: str) -> Float[jax.Array, "images ..."]:
    """Returns a tapped value as images × neurons.

    Args:
      value: (images, neurons), (images, tokens, neurons) or (images, height, width, neurons).
      mode: "avg" or "max" over positions, "first" (the first token), "patches" (the mean over
        tokens of a square grid, without those before it), "none" (as it is). Two axes need no
        pooling, whatever the mode.

    Returns:
      float32 (images, neurons); with "none" the value's own shape.

    Raises:
      ValueError: an unknown mode, or one that does not suit the shape.
    """
    if mode not in POOLS:
        raise ValueError(f"unknown pool {mode!r}; valid pools: {', '.join(POOLS)}")
    value = value.astype(jnp.float32)
    if mode == "none" or value.ndim == 2:
        return value
    value = covered(value, mode)
    over = jnp.max if mode == "max" else jnp.mean
    return over(value, axis=tuple(range(1, value.ndim - 1)))


def covered(value: Num[jax.Array, "images ..."], mode: str) -> Num[jax.Array, "images ..."]:
    """Returns the tapped values at the positions that a pool covers, all axes kept.

    Args:
      value: as for `pool`.
      mode: "avg", "max", "first" or "patches".

    Raises:
      ValueError: a pool that does not suit the shape.
    """
    if mode in ("avg", "max", "none") or value.ndim == 2:
        return value
    if value.ndim != 3:
        what = "the first" if mode == "first" else "the patches"
        raise ValueError(
            f"pool {mode!r} takes {what} of (images, tokens, neurons); got shape "
            f"{value.shape}; use avg or max"
        )
    return value[:, :1] if mode == "first" else value[:, leading(value.shape[1]) :]


def leading(tokens: int) -> int:
    """Returns how many tokens stand before those of a square grid: a class token, registers."""
    return tokens - math.isqrt(tokens) ** 2
