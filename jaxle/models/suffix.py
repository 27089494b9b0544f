"""The network after a tap, so that an edited value costs the suffix and not a whole forward pass.

A forward pass is traced once with the tapped value as one more input. Operations that depend on
that input are the suffix. Whatever they read that was computed from the images without it (a
residual path, say) *crosses* the cut and is recorded with the value. Operations on parameters alone
are repeated in the suffix. Of each value, the suffix makes what its output reads (`windows`).
Source: the jaxpr, as https://docs.jax.dev/en/latest/jaxpr.html describes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.extend import core
from jaxtyping import Shaped

from jaxle.arrays import Array
from jaxle.models import taps
from jaxle.models.windows import narrowed, plan


class Carried(NamedTuple):
    """What the suffix needs of a batch.

    Attributes:
      value: the tapped value.
      around: the tensors that bypass the tap.
    """

    value: Shaped[Array, "images *positions"]
    around: tuple[Shaped[Array, "..."], ...]


class Moved(NamedTuple):
    """A product that reads the tapped value first, and how one channel moves it.

    Attributes:
      base: its result for the value as it was recorded, where what follows reads it.
      kernel: what an added 1 in a channel adds at one position.
      reads: which positions of the value it is of, a slice an axis.
    """

    base: Shaped[Array, "images *read numbers"]
    kernel: Shaped[Array, "channels numbers"]
    reads: tuple[slice, ...]


class _Halves(NamedTuple):
    prefix: Callable[..., list]  # variables, args → tapped value, around
    suffix: Callable[..., list]  # variables, tapped value, around → outputs
    tree: Any  # of the output
    reads: list[tuple[slice, ...]]  # of each product that reads the value first
    first: Callable[..., list]  # variables, tapped value, around → products, their kernels
    rest: Callable[..., list]  # variables, products, around → outputs


@dataclasses.dataclass(frozen=True, eq=False)
class Suffix:
    """The network cut at one tap: `record` once for a batch, then call with the edited `Carried`.

    Both are pure functions for use inside jit, vmap and grad, and

        suffix(variables, suffix.record(variables, images)) == network(images)

    Attributes:
      module: any Linen module.
      tap: where it is cut.
      args: the shapes of the arguments of its `__call__`, images first; the number of images is
        free.
      kwargs: further arguments of its `__call__`, such as `train=False`.
    """

    module: nn.Module
    tap: taps.Tap
    args: tuple[jax.ShapeDtypeStruct | Array, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    _halves: dict[int, _Halves] = dataclasses.field(default_factory=dict, repr=False)

    def record(self, variables: Mapping[str, Any], *args: Shaped[Array, "..."]) -> Carried:
        """Returns the tapped value and what crosses the cut; `args` as for the module."""
        value, *around = self._cut(variables, args[0].shape[0]).prefix(
            *jax.tree.leaves(variables), *args
        )
        return Carried(value, tuple(around))

    def __call__(self, variables: Mapping[str, Any], carried: Carried) -> Any:
        """Returns the module's output for a recorded, perhaps edited, value."""
        halves = self._cut(variables, carried.value.shape[0])
        return jax.tree.unflatten(
            halves.tree, halves.suffix(*jax.tree.leaves(variables), carried.value, *carried.around)
        )

    def first(self, variables: Mapping[str, Any], carried: Carried) -> list[Moved]:
        """Returns the products that read the value, where nothing else does; else none.

        A change of one channel is one row of their kernels: `after` then costs what lies behind.
        """
        halves = self._cut(variables, carried.value.shape[0])
        found = halves.first(*jax.tree.leaves(variables), carried.value, *carried.around)
        n = len(halves.reads)
        return [
            Moved(base, kernel.reshape(carried.value.shape[-1], -1), reads)
            for base, kernel, reads in zip(found[:n], found[n:], halves.reads, strict=True)
        ]

    def after(
        self,
        variables: Mapping[str, Any],
        products: list[Shaped[Array, "..."]],
        around: tuple[Shaped[Array, "..."], ...],
    ) -> Any:
        """Returns the module's output for the results of `first`'s products, perhaps moved."""
        halves = self._cut(variables, products[0].shape[0])
        return jax.tree.unflatten(
            halves.tree, halves.rest(*jax.tree.leaves(variables), *products, *around)
        )

    def _cut(self, variables: Mapping[str, Any], n: int) -> _Halves:
        if n not in self._halves:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
            args = [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in self.args]
            self._halves[n] = _cut(
                partial(taps.forward, self.module, **self.kwargs), self.tap, shapes, args
            )
        return self._halves[n]


def _cut(forward: Callable, tap: taps.Tap, variables, args) -> _Halves:
    def run(variables, args, put):
        met = []

        def swap(value):
            met.append(value)
            return put

        output, _ = forward(variables, *args, replace={tap: swap})
        return output, met[0]

    value = jax.eval_shape(lambda v, a: forward(v, *a, record=[tap])[1][tap], variables, args)
    traced, shapes = jax.make_jaxpr(run, return_shape=True)(variables, args, value)
    jaxpr, function = _parts(traced)

    def whole(eqn) -> Callable[..., list]:
        """One operation on all its operands; literals among them are not read."""
        places = {v: i for i, v in enumerate(eqn.invars) if isinstance(v, core.Var)}
        run = function(list(places), eqn.outvars, [eqn])
        return lambda *operands: run(*(operands[i] for i in places.values()))

    n_variables = len(jax.tree.leaves(variables))
    parameters, given, put = (
        jaxpr.invars[:n_variables],
        jaxpr.invars[n_variables:-1],
        jaxpr.invars[-1],
    )
    *outputs, met = jaxpr.outvars

    after, before = _dependents(jaxpr.eqns, {put}), _dependents(jaxpr.eqns, set(given))
    suffix = [eqn for eqn in _needed(jaxpr.eqns, outputs) if not after.isdisjoint(eqn.outvars)]
    read = [v for eqn in suffix for v in eqn.invars] + outputs
    crossing = (before | set(given)) - after
    around = list(dict.fromkeys(v for v in read if isinstance(v, core.Var) and v in crossing))
    alone = _needed(
        [
            eqn
            for eqn in jaxpr.eqns
            if before.isdisjoint(eqn.outvars) and after.isdisjoint(eqn.outvars)
        ],
        read,
    )
    chosen = {id(eqn) for eqn in (*alone, *suffix)}
    constants = function([], jaxpr.constvars, [])

    first = [] if put in outputs else _first_products(suffix, put, before | after | set(given))
    products, kernels = ([eqn.outvars[0] for eqn in first], [eqn.invars[1] for eqn in first])
    eqns = [eqn for eqn in jaxpr.eqns if id(eqn) in chosen]
    rest = [eqn for eqn in eqns if all(eqn is not other for other in first)]

    def behind(values) -> list:
        return [*parameters, *values, *around, *jaxpr.constvars]

    # of each product the positions that are read, and all its numbers
    needed, positions = plan(behind(products), outputs, rest, whole).needed, len(_all(put)) - 1
    windows = {v: (*needed[v][:positions], *_all(v)[positions:]) for v in products}

    def part(inputs, outputs, eqns, **windows) -> Callable[..., list]:
        run = narrowed(inputs, outputs, eqns, whole, **windows)
        return lambda *arrays: run(*arrays, *constants())

    asked = [*windows.values(), *map(_all, kernels)]
    return _Halves(
        prefix=function([*parameters, *given], [met, *around], _needed(jaxpr.eqns, [met, *around])),
        suffix=part(behind([put]), outputs, eqns),
        tree=jax.tree.structure(shapes[0]),
        reads=[_positions(eqn, windows[eqn.outvars[0]]) for eqn in first],
        first=part(behind([put]), [*products, *kernels], eqns, asked=asked),
        rest=part(behind(products), outputs, rest, given=windows),
    )


def _positions(eqn, window) -> tuple[slice, ...]:
    """The positions of the value that a product's window reads."""
    rank = len(eqn.invars[0].aval.shape)
    strides = eqn.params.get("window_strides", (1,) * (rank - 2))
    read = zip(window[1 : rank - 1], strides, strict=True)
    return tuple(slice(a * stride, (b - 1) * stride + 1, stride) for (a, b), stride in read)


def _all(var) -> tuple[tuple[int, int], ...]:
    return tuple((0, n) for n in var.aval.shape)


def _first_products(eqns, put, moving: set) -> list:
    """The operations that read the tapped value, if all are products of its channels alone."""
    found = [eqn for eqn in eqns if put in eqn.invars]
    rank = len(put.aval.shape)

    def of_channels(eqn) -> bool:
        name, p = eqn.primitive.name, eqn.params
        if name not in ("dot_general", "conv_general_dilated"):
            return False
        if eqn.invars[0] is not put or eqn.invars[1] in moving | {put}:
            return False
        if name == "dot_general":
            return p["dimension_numbers"] == (((rank - 1,), (0,)), ((), ()))
        axes, kernel = p["dimension_numbers"], eqn.invars[1].aval.shape
        last = (0, rank - 1, *range(1, rank - 1))
        return (
            axes.lhs_spec == axes.out_spec == last
            and axes.rhs_spec == (rank - 1, rank - 2, *range(rank - 2))
            and set(kernel[:-2]) == {1}
            and not any(map(any, p["padding"]))
            and set(p["lhs_dilation"]) == {1}
            and p["feature_group_count"] == p["batch_group_count"] == 1
        )

    return found if all(map(of_channels, found)) else []


def _parts(traced) -> tuple[core.Jaxpr, Callable[..., Callable[..., list]]]:
    """The jaxpr of what `make_jaxpr` gives, and the function that makes functions of parts of it.

    Since jax 0.12 `make_jaxpr` gives a Jaxpr that holds its constants; before, a ClosedJaxpr that
    holds a Jaxpr and the constants beside it.
    """
    if isinstance(traced, core.Jaxpr):
        jaxpr, closed = traced, lambda part: part
    else:
        jaxpr, closed = traced.jaxpr, lambda part: core.ClosedJaxpr(part, traced.consts)

    def function(invars, outvars, eqns) -> Callable[..., list]:
        return core.jaxpr_as_fun(closed(jaxpr.replace(invars=invars, outvars=outvars, eqns=eqns)))

    return jaxpr, function


def _dependents(eqns, roots: set) -> set:
    """All variables computed from `roots` (without them)."""
    found: set = set()
    for eqn in eqns:
        if any(isinstance(v, core.Var) and (v in roots or v in found) for v in eqn.invars):
            found.update(eqn.outvars)
    return found


def _needed(eqns, outputs) -> list:
    """The operations that `outputs` need, in order."""
    wanted, kept = {v for v in outputs if isinstance(v, core.Var)}, []
    for eqn in reversed(eqns):
        if not wanted.isdisjoint(eqn.outvars):
            wanted.update(v for v in eqn.invars if isinstance(v, core.Var))
            kept.append(eqn)
    return kept[::-1]
