"""Flax compares a parameter's shape with its initialiser's once, not in every trace of a network.

`Scope.param` traces the initialiser to learn the shape that it would give: a third of the time in
which a network is traced. An initialiser, its arguments and a shape that have been compared are
not compared again. Most initialisers are made anew in every trace, so one is known by its code and
by what it holds.
"""

import functools
import types
from collections.abc import Hashable

import flax.linen as nn
import numpy as np
from flax.core.scope import Scope


def compare_parameters_once() -> None:
    """Replaces `Scope.param` in this process."""
    given, compared = Scope.param, set()

    @functools.wraps(given)
    def param(self, name, init_fn, *args, **kwargs):
        if args and self.has_variable("params", name):
            shape = np.shape(self.get_variable("params", name))
            known = (_content(init_fn), args, tuple(kwargs.items()), shape)
            try:
                if known in compared:
                    self.reserve(name, "params")
                    return self.get_variable("params", name)
            except TypeError:  # arguments that cannot be looked up
                return given(self, name, init_fn, *args, **kwargs)
            value = given(self, name, init_fn, *args, **kwargs)
            compared.add(known)
            return value
        return given(self, name, init_fn, *args, **kwargs)

    Scope.param = param


def _content(value: object) -> Hashable:
    """Equal for functions of the same code that hold the same values."""
    if isinstance(value, types.FunctionType):
        held = tuple(_content(cell.cell_contents) for cell in value.__closure__ or ())
        return value.__module__, value.__code__, value.__defaults__, held
    if isinstance(value, nn.Module):  # whose place in the network decides no shape
        fields = sorted(set(type(value).__dataclass_fields__) - {"parent", "name"})
        return type(value), tuple((name, _content(getattr(value, name))) for name in fields)
    return value
