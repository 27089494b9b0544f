"""One model as the zoo lists it, or your own: what it is made of, and the making of its module."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxle.images import Preprocess
from jaxle.models.declared import Declared
from jaxle.models.weights import FLAX, Layout
from jaxle.references import load_reference

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Text(NamedTuple):
    """A text tower's tokenizer: where it is found, its style, and tokens a text."""

    source: str
    style: str
    length: int


class Entry(NamedTuple):
    """One model.

    Attributes:
      module: makes the Linen module; or a flax.nnx module, class or object, of your own.
      preprocess: how its images are resized and normalised.
      weights: a file, a URL, a hub id or a tree of variables.
      parameters: the published count.
      class_names: one name a logit; none for two towers.
      layouts: checkpoint format → how it names the tensors.
      aliases: friendly tap names → taps.
      call: further arguments of the module's `__call__`.
      text: of two towers, the text tower's tokenizer.
      adapt: the entry for a checkpoint of another number of classes, image size or config.json.
    """

    module: Callable[..., nn.Module]
    preprocess: Preprocess
    weights: str | Path | Mapping[str, Any] | None = None
    parameters: int = 0
    class_names: tuple[str, ...] = ()
    layouts: Mapping[str, Layout] = {"flax": FLAX}
    aliases: Mapping[str, str] = {}
    call: Mapping[str, Any] = {}
    text: Text | None = None
    adapt: Callable[[Declared], Entry] | None = None


class Making(NamedTuple):
    """A module and what its parameters are made with.

    Attributes:
      module: the Linen module.
      size: pixels of its input.
      length: tokens of a text; None without a text tower.
      call: further arguments of its `__call__`.
    """

    module: nn.Module
    size: int
    length: int | None
    call: Mapping[str, Any]

    def expected(self) -> dict[str, Any]:
        """Returns the variables' shapes and dtypes; nothing is computed."""
        return jax.eval_shape(partial(_initial, self.module, **self._options()), jax.random.key(0))

    def draw(self, seed: int) -> dict[str, Any]:
        """Returns variables drawn by the module's own initialisers, the same for the same seed.

        Raises:
          ValueError: a flax.nnx object, which has its arrays already.
        """
        if not getattr(self.module, "can_be_drawn", True):
            raise ValueError(
                "a flax.nnx object cannot be drawn anew (random_init_seed): expected its class, as "
                "'package.module:Class', and what it is made with in `arguments`"
            )
        # threefry takes five times as long to compile
        return _draw(self.module, jax.random.key(seed, impl="rbg"), **self._options())

    def _options(self) -> dict[str, Any]:
        images = (1, self.size, self.size, 3)
        shapes = (images,) if self.length is None else (images, (1, self.length))
        return {"shapes": shapes, "call": tuple(self.call.items())}


def make(
    entry: Entry,
    name: str,
    size: int,
    dtype: str,
    arguments: Mapping[str, Any],
    call: Mapping[str, Any],
) -> Making:
    """Returns an entry's module.

    Args:
      entry: the model.
      name: what an error calls it.
      size: pixels of its input.
      dtype: a key of `DTYPES`, for a module that has this field.
      arguments: keyword arguments of the module.
      call: further arguments of its `__call__`.

    Raises:
      ValueError: an argument that the module does not take.
    """
    fields = set(inspect.signature(entry.module).parameters) - {"parent", "name"}
    if unknown := sorted(set(arguments) - fields):
        raise ValueError(
            f"{name} takes no argument {unknown[0]!r}; "
            f"its arguments: {', '.join(sorted(fields)) or 'none'}"
        )
    own = {"dtype": DTYPES[dtype]} if "dtype" in fields else {}
    module = entry.module(**(own | dict(arguments)))
    length = entry.text.length if entry.text else None
    return Making(module, size, length, {**entry.call, **call})


def own_entry(name: str, preprocess: Preprocess | None) -> Entry:
    """Returns the entry of "package.module:name": made for a class, taken as it is where it is one.

    Raises:
      ValueError: no such object, or neither a Linen class, nor of flax.nnx, nor an entry.
    """
    found = load_reference(name, "model")
    if isinstance(found, Entry):
        return _bridged(found) if _is_nnx(found.module) else found
    of_linen = isinstance(found, type) and issubclass(found, nn.Module)
    if not of_linen and not _is_nnx(found):
        raise ValueError(
            f"model {name!r} is {type(found).__name__}; expected a flax.linen.Module class, "
            "a flax.nnx.Module (class or object), or a jaxle.models.zoo.Entry"
        )
    if preprocess is None:
        raise ValueError(
            f"your own network {name!r} needs `preprocess`: "
            "how its images are resized and normalised"
        )
    entry = Entry(found, preprocess)
    return entry if of_linen else _bridged(entry)


def _is_nnx(found: Any) -> bool:
    """Whether it is a class or an object of flax.nnx, which this asks without importing it."""
    kind = found if isinstance(found, type) else type(found)
    return any(base.__module__ == "flax.nnx.module" for base in kind.__mro__)


def _bridged(entry: Entry) -> Entry:
    """The entry of a flax.nnx module, as a Linen one; an object's weights are its own arrays."""
    from jaxle.models import bridge

    module, own = bridge.as_linen(entry.module)
    return entry._replace(
        module=module,
        weights=own if entry.weights is None else entry.weights,
        layouts={"nnx": bridge.LAYOUT},
    )


def preprocess_of(fields: Mapping[str, Any]) -> Preprocess:
    """Returns the preprocessing that a config writes as a dict.

    Raises:
      ValueError: a field that there is not, or no `resize` or `size`.
    """
    valid = [field.name for field in dataclasses.fields(Preprocess)]
    if not {"resize", "size"} <= set(fields) <= set(valid):
        raise ValueError(
            f"preprocess has the fields {', '.join(fields)}; "
            f"expected resize, size and others of {', '.join(valid)}"
        )
    return Preprocess(**fields)


def cast(variables: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Returns parameters in the network's dtype; scalars (the towers' temperature and bias) and
    batch statistics stay float32."""

    def one(kind: str, leaf):
        narrow = kind == "params" and leaf.size > 1
        return leaf.astype(DTYPES[dtype] if narrow else jnp.float32, copy=False)

    return {kind: jax.tree.map(partial(one, kind), tree) for kind, tree in variables.items()}


def _initial(
    module: nn.Module,
    key: jax.Array,
    shapes: tuple[tuple[int, ...], ...],
    call: tuple[tuple[str, Any], ...],
) -> dict[str, Any]:
    images, *tokens = (
        jnp.zeros(shape, jnp.int32 if i else jnp.float32) for i, shape in enumerate(shapes)
    )
    return dict(module.init(key, images, *tokens, **dict(call)))


_draw = jax.jit(_initial, static_argnums=0, static_argnames=("shapes", "call"))
