"""The parts of a sparse autoencoder, in one form whatever file they came from."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxle.models import checkpoints
from jaxle.models.units.linear import unit_map
from jaxle.models.units.unit_map import UnitMap

CONFIGS = ("cfg.json", "config.json")
WEIGHTS = ("sae_weights", "sae", "ae")  # names of files, without suffix, in this order
SUFFIXES = (".safetensors", ".pt", ".pth")
PER_UNIT = {"threshold": "threshold", "gate": "gate bias", "scale": "r_mag"}


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What every format is read into; shapes are checked by `sae_map`.

    Attributes:
      encoder, decoder: (units, width).
      bias: (units,), of the encoder; of a gated one its magnitude's.
      decoder_bias: (width,).
      subtract: whether the encoder subtracts `decoder_bias` first.
      activation, norm, k: as in `UnitForm`.
      more: threshold (units,) or a number, gate and scale (units,), input_mean, input_scale.
      about: model and layer that the file names.
      note: how something was chosen that the file does not say.
    """

    encoder: np.ndarray
    bias: np.ndarray
    decoder: np.ndarray
    decoder_bias: np.ndarray
    subtract: bool
    activation: str
    norm: str = "none"
    k: int = 0
    more: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""

    def replace(self, **fields: Any) -> Parts:
        """Returns the same parts with some changed."""
        return dataclasses.replace(self, **fields)


def sae_map(parts: Parts, file: Path, format: str) -> UnitMap:
    """Returns the parts as units. Raises a ValueError for shapes that do not fit, k, NaN."""
    shapes = {"encoder": parts.encoder.shape, "decoder": parts.decoder.shape}
    units, width = parts.encoder.shape if parts.encoder.ndim == 2 else (0, 0)
    wanted = {"encoder": (units, width), "decoder": (units, width)}
    shapes |= {"bias": parts.bias.shape, "decoder's bias": parts.decoder_bias.shape}
    wanted |= {"bias": (units,), "decoder's bias": (width,)}
    more = dict(parts.more)
    if "threshold" in more and more["threshold"].size == 1:
        more["threshold"] = np.full(units, float(more["threshold"].reshape(())))
    for name, value in more.items():
        if name in PER_UNIT:
            shapes[PER_UNIT[name]], wanted[PER_UNIT[name]] = value.shape, (units,)
    for name, shape in shapes.items():
        if shape != wanted[name] or 0 in shape:
            raise ValueError(
                f"the {name} of the SAE {file} has shape {shape}: expected {wanted[name]} beside "
                f"an encoder of {units} units and {width} values."
            )
    if parts.k and not 0 < parts.k <= units:
        raise ValueError(f"the SAE {file} has k={parts.k} of {units} units: expected 1 to {units}.")
    arrays = {
        "encoder": parts.encoder,
        "decoder": parts.decoder,
        "bias": parts.bias,
        "decoder_bias": parts.decoder_bias,
        **more,
    }
    if parts.subtract:
        arrays["centre"] = parts.decoder_bias
    for name, value in arrays.items():
        if not np.isfinite(np.asarray(value, np.float64)).all():
            raise ValueError(f"the {name} of the SAE {file} holds NaN or infinity.")
    facts = {
        "file": "/".join(file.parts[-2:]),
        "format": format,
        "activation": parts.activation + (f" {parts.k}" if parts.k else ""),
        "norm": parts.norm,
        "decoder_bias_subtracted": parts.subtract,
    }
    if parts.note:
        facts["note"] = parts.note
    return unit_map(
        "sae",
        arrays,
        activation=parts.activation,
        norm=parts.norm,
        k=parts.k,
        reconstructs=True,
        facts=facts,
        about=parts.about,
    )


def given_inputs(parts: Parts, path: str, width: int) -> Parts:
    """Returns the parts with the inputs' mean and scale of a file.

    Raises:
      ValueError: a file without them, or of other shapes.
    """
    held = checkpoints.read(Path(path).expanduser())
    mean, scale = held.get("mean"), held.get("scale")
    fits = mean is not None and mean.shape in ((), (width,)) and scale is not None
    if mean is None or scale is None or not fits or scale.size != 1 or not scale.min() > 0:
        raise ValueError(
            f"target.unit_options.inputs={path!r} holds "
            f"{', '.join(f'{n} {v.shape}' for n, v in held.items()) or 'nothing'}: expected mean "
            f"({width},) and scale, a number above 0."
        )
    more = {"input_mean": np.broadcast_to(mean, (width,)), "input_scale": scale.reshape(1)}
    return parts.replace(norm="affine", more={**parts.more, **more})


def found_in(path: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the file of the weights and the config beside it, {} where there is none.

    Raises:
      ValueError: a folder without weights or with several files of them, a damaged config.
    """
    folder = path if path.is_dir() else path.parent
    file = path
    if path.is_dir():
        every = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
        named = [p for stem in WEIGHTS for p in every if p.stem == stem]
        if not every or (not named and len(every) > 1):
            names = ", ".join(p.name for p in every) or "no weights"
            raise ValueError(
                f"the folder {path} holds {names}: expected sae.pt, ae.pt, "
                "sae_weights.safetensors, or one file of weights; name the file itself."
            )
        file = (named or every)[0]
    for name in CONFIGS:
        if (folder / name).is_file():
            return file, read_json(folder / name)
    return file, {}


def read_json(path: Path) -> dict[str, Any]:
    """Returns a config. Raises a ValueError where it is damaged or no dict."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds a {type(held).__name__}: expected a dict of settings.")
    return held


def tensors(
    held: Mapping[str, np.ndarray], file: Path, *names: str
) -> list[Float[np.ndarray, "..."]]:
    """Returns some tensors as float32. Raises a ValueError that names those that are missing."""
    if missing := [name for name in names if name not in held]:
        raise ValueError(
            f"the SAE {file} lacks {', '.join(missing)}: it holds {', '.join(sorted(held)) or '-'}."
        )
    return [np.asarray(held[name], np.float32) for name in names]


def one_of(value: Any, known: Mapping[str, str], what: str, file: Path) -> str:
    """Returns what a config's text means. Raises a ValueError for one that is not known."""
    text = "none" if value is None else str(value).lower()
    if text not in known:
        raise ValueError(
            f"the SAE {file} asks for {what} {value!r}: expected one of {', '.join(known)}."
        )
    return known[text]


def about_file(model: Any, layer: Any, hook: Any = "") -> dict[str, str]:
    """Returns `Parts.about` of a model's name and a layer's number, or its hook's name."""
    number = str(layer) if isinstance(layer, int) and layer >= 0 else number_of(hook)
    return {"model": str(model or ""), "layer": number}


def number_of(text: Any) -> str:
    """Returns the number of a layer in a hook's name, "" for none or several."""
    found = set(re.findall(r"\d+", str(text)))
    return found.pop() if len(found) == 1 else ""
