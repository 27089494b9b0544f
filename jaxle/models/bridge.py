"""flax.nnx modules as Linen modules, so that they are loaded, probed and cut like any other.

    nnx module or class --split--> Graph;   Graph + variables --merge--> module, called on images
    collections   "params" (nnx.Param), "batch_stats" (nnx.BatchStat), others by their type's name
    taps          calls of submodules, by their path of attributes and positions: "blocks/0/mlp"

A module runs in evaluation mode (`module.eval()`). States of random numbers are no variables: they
are the same in every call. A submodule that nnx.jit, nnx.scan or nnx.vmap copies is no tap.
flax.nnx.bridge.ToLinen wraps in the same way, but shows Linen's interceptors no submodule.

Source: https://flax.readthedocs.io/en/latest/guides/bridge_guide.html.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from jaxle.models.weights import Layout, Rename

_COLLECTIONS = {nnx.Param: "params", nnx.BatchStat: "batch_stats"}
# Of the module that runs: id of a submodule → the Linen module that stands for its calls.
_CALLS: contextvars.ContextVar[Mapping[int, nn.Module]] = contextvars.ContextVar("calls")


class Leaf(NamedTuple):
    """One nnx variable: where it stands, its type, shape and dtype."""

    path: tuple[Any, ...]
    kind: type
    shape: tuple[int, ...]
    dtype: Any

    @property
    def collection(self) -> str:
        """The Linen collection that holds it."""
        kinds = (name for kind, name in _COLLECTIONS.items() if issubclass(self.kind, kind))
        return next(kinds, self.kind.__name__)


class Graph(NamedTuple):
    """An nnx module without its arrays."""

    kind: type
    definition: Any
    leaves: tuple[Leaf, ...]

    def empty(self, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module with zeros for arrays."""
        del rngs
        found: dict[str, dict[tuple[str, ...], Any]] = {}
        for leaf in self.leaves:
            if not issubclass(leaf.kind, nnx.RngState):
                zeros = jnp.zeros(leaf.shape, leaf.dtype)
                found.setdefault(leaf.collection, {})[_text(leaf.path)] = zeros
        return self.filled({n: traverse_util.unflatten_dict(flat) for n, flat in found.items()})

    def filled(self, variables: Mapping[str, Any]) -> nnx.Module:
        """Returns the module with these variables, collection → tree."""
        flat = {name: traverse_util.flatten_dict(tree) for name, tree in variables.items()}

        def value(leaf: Leaf):
            if not issubclass(leaf.kind, nnx.RngState):
                return flat[leaf.collection][_text(leaf.path)]
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jnp.broadcast_to(jax.random.key(0), leaf.shape)
            return jnp.zeros(leaf.shape, leaf.dtype)

        state = nnx.from_flat_state([(leaf.path, leaf.kind(value(leaf))) for leaf in self.leaves])
        return nnx.merge(self.definition, state)


class Bridged(nn.Module):
    """An nnx module as a Linen one: normalised images to its output.

    Attributes:
      graph: what it is.
      make: draws it from random numbers; None for zeros.
    """

    graph: Graph
    make: Callable[[nnx.Rngs], nnx.Module] | None = None

    @property
    def can_be_drawn(self) -> bool:
        """Whether its initialisers draw anything: not where an object was given."""
        return self.make is not None

    @property
    def outside(self) -> type:
        """The class that this stands for."""
        return self.graph.kind

    @nn.compact
    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        if self.is_initializing():
            make = self.make or self.graph.empty
            module = make(nnx.Rngs(self.make_rng("params")))
            for collection, tree in variables_of(module).items():
                for name, value in tree.items():
                    self.put_variable(collection, name, value)
        else:
            module = self.graph.filled(dict(self.variables))
        module.eval()
        calls = {}
        for path, submodule in nnx.iter_modules(module):
            if path and callable(submodule):
                calls[id(submodule)] = _Call(name="/".join(_text(path)))
                object.__setattr__(submodule, "__class__", _tapped(type(submodule)))
        token = _CALLS.set(calls)
        try:
            return module(images, *args, **kwargs)
        finally:
            _CALLS.reset(token)


class _Call(nn.Module):
    """Stands for the calls of one nnx submodule, where taps are read and replaced."""

    def __call__(self, *args: Any, function: Callable[..., Any], **kwargs: Any) -> Any:
        return function(*args, **kwargs)


@functools.cache
def _tapped(kind: type) -> type:
    """A class whose calls go through the Linen module that stands for them."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        function = functools.partial(kind.__call__, self)
        through = _CALLS.get().get(id(self))
        if through is None:  # a copy that a transform of nnx made
            return function(*args, **kwargs)
        return through(*args, function=function, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def as_linen(found: Any) -> tuple[Callable[..., Bridged], dict[str, Any] | None]:
    """Returns what makes a Linen module of an nnx one, and the arrays that it holds already.

    Args:
      found: an nnx.Module, or a class; what is returned then takes the class's own keyword
        arguments, but for `rngs`, and the arrays are None.
    """
    if isinstance(found, type):
        return _of_class(found), None
    made = Bridged(graph_of(found))
    return (lambda: made), variables_of(found)


def _of_class(kind: type) -> Callable[..., Bridged]:
    signature = inspect.signature(kind.__init__)  # the class's own is that of its metaclass
    own = [p for name, p in signature.parameters.items() if name not in ("self", "rngs")]
    needed = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

    def bridged(**arguments: Any) -> Bridged:
        missing = [
            p.name
            for p in own
            if p.default is p.empty and p.kind in needed and p.name not in arguments
        ]
        if missing:
            raise ValueError(
                f"nnx class {kind.__name__} lacks the arguments {', '.join(missing)}; "
                "expected them in `arguments`"
            )
        make = _Maker(kind, tuple(sorted(arguments.items())), "rngs" in signature.parameters)
        return Bridged(graph_of(nnx.eval_shape(lambda: make(nnx.Rngs(0)))), make)

    # what `load_model` lists as the network's arguments
    bridged.__signature__ = signature.replace(parameters=own)  # pyright: ignore[reportFunctionMemberAccess]
    return bridged


class _Maker(NamedTuple):
    """A class and its arguments, to be compared by what they are."""

    kind: type
    arguments: tuple[tuple[str, Any], ...]
    random: bool

    def __call__(self, rngs: nnx.Rngs) -> nnx.Module:
        given = {"rngs": rngs} if self.random else {}
        return self.kind(**dict(self.arguments), **given)


def graph_of(module: nnx.Module) -> Graph:
    """Returns a module without its arrays."""
    definition, state = nnx.split(module)
    leaves = tuple(_leaf(*item) for item in nnx.to_flat_state(state))
    return Graph(type(module), definition, leaves)


def variables_of(module: nnx.Module) -> dict[str, Any]:
    """Returns collection → tree of a module's arrays, keys as text; without random states."""
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.RngState))):
        found.setdefault(_leaf(path, variable).collection, {})[_text(path)] = variable[...]
    return {name: traverse_util.unflatten_dict(flat) for name, flat in found.items()}


def _leaf(path: tuple[Any, ...], variable: Any) -> Leaf:
    return Leaf(path, type(variable), tuple(variable.shape), variable.dtype)


def _text(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(map(str, path))


def _slashes(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not any("/" in name for name in source):
        source = {name.replace(".", "/"): tensor for name, tensor in source.items()}
    return source


# A file may hold one tree for all collections, each array alone or as the "value" of its variable.
LAYOUT = Layout(
    (
        Rename(r"(?:params/|batch_stats/)?(.+?)(?:/value)?", r"params/\1"),
        Rename(r"(?:params/|batch_stats/)?(.+?)(?:/value)?", r"batch_stats/\1"),
        Rename(r"(.+?)(?:/value)?", r"\1"),
    ),
    ignored=(r"(?:.*/)?rngs/.*",),
    prepare=_slashes,
)
