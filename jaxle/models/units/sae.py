"""Sparse autoencoders as they are published: which format a file has, and one guard for all.

    saev                  sae.pt: a line of JSON, then torch
    dictionary_learning   ae.pt and config.json
    SAELens               cfg.json and sae_weights.safetensors
    Prisma                n_images_*.pt, or any weights, and config.json

No pickled object is loaded (`checkpoints.read`). Tensors may stand in a .safetensors file in place
of torch's, of the same name. What a wrong tap, other tokens, another normalisation or b_dec would
do shows in the explained variance of the reconstruction, which a run measures on its probe images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from jaxle.models.download import locate
from jaxle.models.units import sae_dictionary, sae_lens, sae_prisma, sae_saev
from jaxle.models.units.sae_parts import CONFIGS, Parts, found_in, given_inputs, sae_map
from jaxle.models.units.unit_map import UnitMap
from jaxle.options import option

_OURS = Path(__file__).parents[2] / "scenes" / "checkpoints"
SHIPPED = {"scenes_layer3": _OURS / "sae_layer3"}  # of scenes_resnet; tools/train_sae.py
WHAT = "the SAE"
# in this order: the first that knows a file reads it
FORMATS: dict[str, ModuleType] = {
    "saev": sae_saev,
    "SAELens": sae_lens,
    "dictionary_learning": sae_dictionary,
    "Prisma": sae_prisma,
}


@dataclass(frozen=True)
class Sae:
    """Options of `sae:FILE`."""

    format: str = option("", "empty = by the file", choices=("", *FORMATS))
    subtract_decoder_bias: str = option(
        "auto",
        "b_dec in the encoder: auto = as the file's format says",
        choices=("auto", "yes", "no"),
    )
    inputs: str = option("", "file (.npz) of `mean` and `scale`: x = (clip(v) − mean) / scale")
    check_metadata: bool = option(True, "refuse a file whose metadata name another layer or model")


def read_sae(path: str | Path, width: int, options: Sae) -> UnitMap:
    """Returns the features of a sparse autoencoder.

    Args:
      path: a file, the folder that holds it and its config, a name of `SHIPPED`, an address, or
        "org/name[@revision]:file" of the hub, whose config is fetched with it.
      width: columns of the tap.
      options: see `Sae`.

    Raises:
      ValueError: no file, a format that is not known, a damaged file, tensors that are missing or
        of another shape, a config that asks for what is not known, another width than the tap's.
      ImportError: torch is needed and absent; the extra is named.
      ConnectionError: it cannot be fetched.
    """
    path = SHIPPED.get(str(path)) or locate(path, WHAT, CONFIGS)
    file, config = found_in(path)
    name = options.format or next(
        (name for name, format in FORMATS.items() if format.knows(file, config)), ""
    )
    if not name:
        raise ValueError(
            f"the SAE {path} is of no known format: expected saev (sae.pt with its header), "
            "SAELens (cfg.json), dictionary_learning (ae.pt, config.json) or Prisma (config.json "
            "with hook_point), or target.unit_options.format."
        )
    parts: Parts = FORMATS[name].read(file, config)
    if options.subtract_decoder_bias != "auto":
        parts = parts.replace(subtract=options.subtract_decoder_bias == "yes")
    if options.inputs:
        parts = given_inputs(parts, options.inputs, width)
    found = sae_map(parts, file, name)
    if found.form.width != width:
        raise ValueError(
            f"the SAE {path} reads {found.form.width} values, and the tap has {width}: expected "
            "the tap that it was trained on."
        )
    return found
