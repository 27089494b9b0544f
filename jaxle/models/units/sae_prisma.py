"""Prisma's weights and `config.json`.

    f = act((norm(x) − b_dec) W_enc + b_enc)
    gated: f = (a + b_gate > 0) · act(a e^r_mag + b_mag),   a = (norm(x) − b_dec) W_enc
    norm: none; x · √width / ‖x‖; (x − mean) / (deviation + 1e-5), the deviation unbiased

act is ReLU, tanh(ReLU) or the k largest and then ReLU. A file that pickles its config is refused:
save its `state_dict` alone. Source: github.com/Prisma-Multimodal/ViT-Prisma, sae/sae.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxle.models import checkpoints
from jaxle.models.units.sae_parts import Parts, about_file, one_of, tensors

KINDS = {"relu": "relu", "tanh-relu": "tanh_relu", "topk": "top_k"}
NORMS = {
    "none": "none",
    "null": "none",
    "": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}
ARCHITECTURES = {"standard": "standard", "vanilla": "standard", "gated": "gated"}
_OWN = ("hook_point", "hook_point_layer", "activation_fn_str", "expansion_factor")


def knows(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a config is Prisma's."""
    return any(name in config for name in _OWN)


def read(file: Path, config: Mapping[str, Any]) -> Parts:
    """Returns the parts. Raises a ValueError for settings or tensors that are not known."""
    held = checkpoints.read(file)
    activation = one_of(config.get("activation_fn_str", "relu"), KINDS, "activation", file)
    norm = one_of(config.get("normalize_activations"), NORMS, "normalisation", file)
    gated = "r_mag" in held or config.get("architecture") == "gated"
    one_of(config.get("architecture", "standard"), ARCHITECTURES, "architecture", file)
    encoder, decoder, decoder_bias = tensors(held, file, "W_enc", "W_dec", "b_dec")
    k = 0
    if activation == "top_k":
        k = int((config.get("activation_fn_kwargs") or {}).get("k", 0))
        if not k or gated:
            raise ValueError(
                f"the SAE {file} asks for topk {'behind a gate' if k else 'without k'}: expected "
                "activation_fn_kwargs.k and the architecture standard."
            )
    hook = config.get("hook_point", "")
    about = about_file(config.get("model_name"), config.get("hook_point_layer"), hook)
    own = {"norm": norm, "k": k, "about": about}
    if not gated:
        (bias,) = tensors(held, file, "b_enc")
        return Parts(encoder.T, bias, decoder, decoder_bias, True, activation, **own)
    gate, scale, bias = tensors(held, file, "b_gate", "r_mag", "b_mag")
    more = {"gate": gate, "scale": np.exp(scale)}
    kind = f"gated_{activation}"
    return Parts(encoder.T, bias, decoder, decoder_bias, True, kind, more=more, **own)
