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
from jaxle.models.windows import narrowed


class Carried(NamedTuple):
    """What the suffix needs of a batch.

    Attributes:
      value: the tapped value.
      around: the tensors that bypass the tap.
    """

    value: Shaped[Array, "images *positions"]
    around: tuple[Shaped[Array, "..."], ...]


class _Halves(NamedTuple):
    prefix: Callable[..., list]  # variables, args → tapped value, around
    suffix: Callable[..., list]  # variables, tapped value, around → outputs
    tree: Any  # of the output


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
    after_tap = narrowed(
        [*parameters, put, *around, *jaxpr.constvars],
        outputs,
        [eqn for eqn in jaxpr.eqns if id(eqn) in chosen],
        whole,
    )
    return _Halves(
        prefix=function([*parameters, *given], [met, *around], _needed(jaxpr.eqns, [met, *around])),
        suffix=lambda *given: after_tap(*given, *constants()),
        tree=jax.tree.structure(shapes[0]),
    )


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
