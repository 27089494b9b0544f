"""What a checkpoint declares of its network: its tensors' shapes, and the config.json beside it.

Each architecture's `adapted` follows it, or refuses a difference that would change what the network
computes.

Source: transformers' configuration classes (configuration_clip.py, …), whose defaults stand for
what a config.json leaves out; open_clip's open_clip_config.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONFIG_FILES = ("config.json", "open_clip_config.json")
# transformers' and open_clip's activations by the names of models/vit.py.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


class Declared(NamedTuple):
    """What is read of a checkpoint before its network is made.

    Attributes:
      name: for messages.
      shapes: parameter path → shape that the file gives it, of the layout that fits best.
      config: the contents of the config.json beside it; empty where there is none.
      any_size: whether the caller asked for an image size of its own.
      tensors: name → shape of every tensor, as the file names them.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]] = {}
    config: Mapping[str, Any] = {}
    any_size: bool = False
    tensors: Mapping[str, tuple[int, ...]] = {}

    def outputs(self, layer: str, known: int | None) -> int | None:
        """Returns the number of outputs of a dense layer by its tensors; `known` without them."""
        kernel = self.shapes.get(f"params/{layer}/kernel", ())
        bias = self.shapes.get(f"params/{layer}/bias", ())
        return kernel[1] if len(kernel) == 2 and bias == kernel[1:] else known

    def head(self, names: Sequence[str]) -> tuple[int, int] | None:
        """Returns outputs and inputs of a dense layer of one of these names, where the file has
        one, whatever stands before the name: of networks that come with and without a head."""
        for name, shape in self.tensors.items():
            *_, layer, kind = ["", *name.replace("/", ".").split(".")]
            if layer in names and len(shape) == 2 and kind in ("weight", "kernel"):
                outputs, inputs = shape if kind == "weight" else shape[::-1]
                return outputs, inputs
        return None

    def size(self, positions: str, patch: int, known: int) -> int:
        """Returns the pixels of the input that position embeddings are made for, a square grid of
        patches; `known` where the caller asked for a size or they are no such grid."""
        shape = self.shapes.get(positions, ())
        side = math.isqrt(shape[1]) if len(shape) == 3 and not self.any_size else 0
        return side * patch if side and side * side == shape[1] else known

    def is_of(self, model_type: str) -> bool:
        """Whether the config.json is transformers' for this kind of model."""
        return self.config.get("model_type") == model_type

    def get(self, key: str, default: Any) -> Any:
        """Returns a value of the config.json, nested keys joined by "."; `default` without it."""
        found: Any = self.config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def activation(self, key: str, default: str) -> str:
        """Returns an activation by jaxle's name.

        Raises:
          ValueError: one that jaxle's networks do not have.
        """
        found = self.get(key, default)
        if found not in _ACTIVATIONS:
            raise ValueError(
                f"config.json beside weights {self.name} has {key} {found!r}; "
                f"expected one of {', '.join(_ACTIVATIONS)}"
            )
        return _ACTIVATIONS[found]

    def require(self, key: str, default: Any, ours: Any) -> None:
        """Checks that a value of the config.json (`default` where it is left out) is `ours`.

        Raises:
          ValueError: it differs, so that the network would compute something else.
        """
        if (found := self.get(key, default)) != ours:
            raise ValueError(
                f"config.json beside weights {self.name} has {key} {found!r}, and the network has "
                f"{ours!r}; expected weights that agree, or another model name"
            )

    def require_size(self, key: str, default: int, ours: int) -> None:
        """As `require`, of an image size; nothing where the caller asked for one."""
        if not self.any_size:
            self.require(key, default, ours)

    def class_names(self, n: int | None, known: Sequence[str]) -> tuple[str, ...]:
        """Returns a network's class names: those of its name where it has as many outputs, else
        those of the config.json (`id2label`), else none."""
        if n == len(known):
            return tuple(known)
        named = self.config.get("id2label")
        if isinstance(named, Mapping) and set(named) == {str(i) for i in range(n or 0)}:
            return tuple(str(named[str(i)]) for i in range(len(named)))
        return ()


def config_json(path: Path) -> dict[str, Any]:
    """Returns the contents of the config.json in the folder of a weights file (or in the weights
    folder), or of open_clip's; empty where there is none.

    Raises:
      ValueError: one that is no JSON object.
    """
    folder = path if path.is_dir() else path.parent
    file = next((folder / name for name in CONFIG_FILES if (folder / name).is_file()), None)
    if file is None:
        return {}
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(held, dict):
        raise ValueError(f"{file} holds a {type(held).__name__}; expected a JSON object")
    return held
