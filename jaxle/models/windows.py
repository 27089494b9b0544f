"""Only what the output reads: each value of a program computed in the window that is needed of it.

    y = f(x)[:, 0]   with f the same for each position   →   y = f(x[:, :1])

A classifier reads one token of its last block; the others, traced all the same, are most of what
its suffix costs there. Backward through the program, each value gets the smallest box (a range an
axis) that holds what is read of it; forward, each operation runs on the boxes of its operands.
Every number that is computed is the same sum of the same terms as before. An operation without a
rule here is run whole. Source: the jaxpr, as https://docs.jax.dev/en/latest/jaxpr.html describes
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

Window = tuple[tuple[int, int], ...]  # first and one past the last, an axis
Run = Callable[..., list[Any]]  # of an operation: what it reads → what it gives
# each element is made of the operands' elements at its place, or of axes of length 1
_ELEMENTWISE = frozenset(
    "abs add add_any and cbrt ceil convert_element_type copy cos div eq erf erf_inv exp exp2 expm1 "
    "floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow "
    "reduce_precision rem rsqrt select_n sign sin sqrt square stop_gradient sub tan tanh".split()
)
_REDUCTIONS = frozenset("reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum".split())


class Step(NamedTuple):
    """One operation.

    Attributes:
      eqn: of the jaxpr.
      reads: the window of each operand; None for one that is not read.
      run: the operation on those.
      gives: the window of each result.
    """

    eqn: Any
    reads: list[Window | None]
    run: Run
    gives: list[Window]


class Plan(NamedTuple):
    """A program whose inputs are windows, `reads` of them, and whose outputs are windows, too."""

    inputs: list[Any]
    outputs: list[tuple[Any, Window]]
    steps: list[Step]
    needed: dict[Any, Window]  # of each variable that is read

    @property
    def reads(self) -> list[Window | None]:
        """The window of each input; None for one that is not read."""
        return [self.needed.get(var) for var in self.inputs]

    def __call__(self, *arrays: Any) -> list[Any]:
        """Returns the outputs' windows for those of the inputs."""
        held = dict(zip(self.inputs, arrays, strict=True))

        def read(var: Any, window: Window | None) -> Any:
            if isinstance(var, core.Literal):
                return var.val
            return None if window is None else _cut(held[var], self.needed[var], window)

        for step in self.steps:
            found = step.run(*map(read, step.eqn.invars, step.reads))
            for var, window, value in zip(step.eqn.outvars, step.gives, found, strict=True):
                if var in self.needed:
                    held[var] = _cut(value, window, self.needed[var])
        return [read(var, window) for var, window in self.outputs]


def narrowed(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    eqns: Sequence[Any],
    whole: Callable[[Any], Run],
    given: Mapping[Any, Window] | None = None,
    asked: Sequence[Window] | None = None,
) -> Run:
    """Returns a part of a jaxpr as a function that computes no more of a value than is read.

    Args:
      inputs, outputs: its variables.
      eqns: its operations, in order.
      whole: makes a function of one operation as it stands, of all its operands.
      given: inputs of which the function gets a window, which holds all that is read of them.
      asked: the windows of the outputs; None for all of them.

    Returns:
      A function from arrays of the inputs to a list of arrays of the outputs.
    """
    found = plan(inputs, outputs, eqns, whole, asked)
    held = [(given or {}).get(var, _all(var)) for var in inputs]

    def run(*arrays: Any) -> list[Any]:
        parts = zip(arrays, held, found.reads, strict=True)
        return found(*(w if w is None else _cut(x, h, w) for x, h, w in parts))

    return run


def plan(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    eqns: Sequence[Any],
    whole: Callable[[Any], Run],
    windows: Sequence[Window] | None = None,
) -> Plan:
    """Returns the plan of `narrowed`, for some windows of the outputs or for all of them."""
    windows = [_all(var) for var in outputs] if windows is None else windows
    needed: dict[Any, Window] = {}
    steps: list[Step] = []

    def need(var: Any, window: Window | None) -> None:
        if window is not None and not isinstance(var, core.Literal):
            needed[var] = _hull(needed.get(var, window), window)

    for var, window in zip(outputs, windows, strict=True):
        need(var, window)
    for eqn in reversed(eqns):
        if any(var in needed for var in eqn.outvars):
            step = _step(eqn, [needed.get(var) for var in eqn.outvars], whole)
            steps.append(step)
            for var, window in zip(eqn.invars, step.reads, strict=True):
                need(var, window)
    return Plan(list(inputs), list(zip(outputs, windows, strict=True)), steps[::-1], needed)


def _step(eqn: Any, windows: list[Window | None], whole: Callable[[Any], Run]) -> Step:
    name, asked = eqn.primitive.name, [window for window in windows if window is not None]
    if len(asked) == len(windows):
        if name in ("jit", "pjit"):
            inner = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
            if not inner.constvars:
                part = plan(inner.invars, inner.outvars, inner.eqns, whole, asked)
                return Step(eqn, part.reads, part, asked)
        rule = _elementwise if name in _ELEMENTWISE else _RULES.get(name)
        rule = _reduce if name in _REDUCTIONS else rule
        found = None if rule is None else rule(eqn, asked[0])
        if found is not None:
            return Step(eqn, *found, asked)
    every = [None if isinstance(var, core.Literal) else _all(var) for var in eqn.invars]
    return Step(eqn, every, whole(eqn), [_all(var) for var in eqn.outvars])


Found = tuple[list[Window | None], Run] | None  # reads and run, or no rule


def _elementwise(eqn: Any, window: Window) -> Found:
    shape, reads = eqn.outvars[0].aval.shape, []
    for var in eqn.invars:
        sizes = var.aval.shape
        if sizes and len(sizes) != len(shape):
            return None
        reads.append(
            tuple(w if n == m else (0, 1) for n, m, w in zip(sizes, shape, window, strict=False))
        )
    return reads, _bind(eqn)


def _dot_general(eqn: Any, window: Window) -> Found:
    reads, at = [], len(eqn.params["dimension_numbers"][1][0])
    for var, contracted, batch in zip(eqn.invars, *eqn.params["dimension_numbers"], strict=True):
        read = list(_all(var))
        for axis in range(len(read)):
            if axis in batch:
                read[axis] = window[batch.index(axis)]
            elif axis not in contracted:
                read[axis], at = window[at], at + 1
        reads.append(tuple(read))
    return reads, _bind(eqn)


def _reduce(eqn: Any, window: Window) -> Found:
    read, kept = list(_all(eqn.invars[0])), iter(window)
    for axis in range(len(read)):
        if axis not in eqn.params["axes"]:
            read[axis] = next(kept)
    return [tuple(read)], _bind(eqn)


def _broadcast_in_dim(eqn: Any, window: Window) -> Found:
    (var, *dynamic), places = eqn.invars, eqn.params["broadcast_dimensions"]
    if dynamic:
        return None
    sizes = zip(var.aval.shape, places, strict=True)
    read = tuple((0, 1) if n == 1 else window[place] for n, place in sizes)
    return [read], _bind(eqn, shape=_sizes(window))


def _reshape(eqn: Any, window: Window) -> Found:
    """Where each axis that is cut is one of the operand's, with as much before it."""
    (var, *dynamic), shape = eqn.invars, eqn.outvars[0].aval.shape
    if dynamic or eqn.params["dimensions"] is not None:
        return None
    read = list(_all(var))
    for axis, (n, part) in enumerate(zip(shape, window, strict=True)):
        if part != (0, n):
            before = math.prod(shape[:axis])
            same = [
                other
                for other, m in enumerate(var.aval.shape)
                if m == n and math.prod(var.aval.shape[:other]) == before
            ]
            if not same:
                return None
            read[same[0]] = part
    return [tuple(read)], _bind(eqn, new_sizes=_sizes(window))


def _transpose(eqn: Any, window: Window) -> Found:
    order = eqn.params["permutation"]
    return [tuple(window[order.index(axis)] for axis in range(len(order)))], _bind(eqn)


def _squeeze(eqn: Any, window: Window) -> Found:
    read, kept = list(_all(eqn.invars[0])), iter(window)
    for axis in range(len(read)):
        if axis not in eqn.params["dimensions"]:
            read[axis] = next(kept)
    return [tuple(read)], _bind(eqn)


def _slice(eqn: Any, window: Window) -> Found:
    if eqn.params["strides"] is not None:
        return None
    starts = zip(eqn.params["start_indices"], window, strict=True)
    return [tuple((start + a, start + b) for start, (a, b) in starts)], lambda x: [x]


def _concatenate(eqn: Any, window: Window) -> Found:
    axis, at, reads = eqn.params["dimension"], 0, []
    for var in eqn.invars:
        low, high = (min(max(edge - at, 0), var.aval.shape[axis]) for edge in window[axis])
        reads.append((*window[:axis], (low, high), *window[axis + 1 :]) if low < high else None)
        at += var.aval.shape[axis]
    run = _bind(eqn)
    return reads, lambda *parts: run(*(part for part in parts if part is not None))


_RULES: dict[str, Callable[[Any, Window], Found]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "dot_general": _dot_general,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": _transpose,
}


def _bind(eqn: Any, **changed: Any) -> Run:
    return lambda *operands: [eqn.primitive.bind(*operands, **{**eqn.params, **changed})]


def _all(var: Any) -> Window:
    return tuple((0, n) for n in var.aval.shape)


def _sizes(window: Window) -> tuple[int, ...]:
    return tuple(b - a for a, b in window)


def _hull(one: Window, other: Window) -> Window:
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))


def _cut(x: Any, held: Window, window: Window) -> Any:
    """The window of an array that holds another, larger one."""
    if held == window:
        return x
    edges = [(a - c, b - c) for (a, b), (c, _) in zip(window, held, strict=True)]
    return jax.lax.slice(x, *zip(*edges, strict=True))
