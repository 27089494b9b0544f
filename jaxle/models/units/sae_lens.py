"""SAELens' `cfg.json` and `sae_weights.safetensors`.

    f = act((norm(x) − b_dec) W_enc + b_enc), b_dec only with apply_b_dec_to_input
    jumprelu: relu(a) where a > threshold     topk: the k largest, then ReLU
    gated: (a + b_gate > 0) · relu(a e^r_mag + b_mag)

With rescale_acts_by_decoder_norm a is multiplied by ‖d_k‖ and f divided by it before decoding;
with a scaling_factor f is multiplied by it before decoding. BatchTopK is saved as jumprelu.
Source: github.com/jbloomAus/SAELens, sae_lens/saes/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxle.models import checkpoints
from jaxle.models.units.sae_parts import Parts, about_file, one_of, tensors

ARCHITECTURES = {
    "standard": "relu",
    "topk": "top_k",
    "jumprelu": "threshold",
    "batchtopk": "threshold",
    "matryoshka_batchtopk": "threshold",
    "gated": "gated_relu",
}
KINDS = {"relu": "relu", "topk": "top_k", "tanh-relu": "tanh_relu"}
NORMS = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}


def knows(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a config is SAELens'."""
    return "d_sae" in config and "d_in" in config and file.stem.startswith("sae_weights")


def read(file: Path, config: Mapping[str, Any]) -> Parts:
    """Returns the parts. Raises a ValueError for settings or tensors that are not known."""
    held = checkpoints.read(file)
    kind = one_of(config.get("architecture", "standard"), ARCHITECTURES, "architecture", file)
    named = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if kind == "relu":
        kind = one_of(named, KINDS, "activation", file)
    norm = one_of(config.get("normalize_activations", "none"), NORMS, "normalisation", file)
    if config.get("reshape_activations", "none") not in ("none", None):
        raise ValueError(
            f"the SAE {file} reads reshaped activations "
            f"({config['reshape_activations']}): expected those of a tap as they are."
        )
    encoder, decoder, decoder_bias = tensors(held, file, "W_enc", "W_dec", "b_dec")
    encoder, more, k = encoder.T, {}, 0
    if kind == "gated_relu":
        gate, scale, bias = tensors(held, file, "b_gate", "r_mag", "b_mag")
        more |= {"gate": gate, "scale": np.exp(scale)}
    else:
        (bias,) = tensors(held, file, "b_enc")
    if kind == "threshold":
        (more["threshold"],) = tensors(held, file, "threshold")
    if kind == "top_k":
        k = int(config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k", 0))
        if not k:
            raise ValueError(f"the SAE {file} asks for topk without k: expected k in cfg.json.")
    if config.get("rescale_acts_by_decoder_norm"):
        size = np.linalg.norm(decoder, axis=1)
        encoder, bias, decoder = encoder * size[:, None], bias * size, decoder / size[:, None]
    if config.get("finetuning_scaling_factor"):
        (scaling,) = tensors(held, file, "scaling_factor")
        decoder = decoder * scaling[:, None]
    about = config.get("metadata") or config.get("meta") or config
    return Parts(
        encoder,
        bias,
        decoder,
        decoder_bias,
        bool(config.get("apply_b_dec_to_input", True)),
        kind,
        norm=norm,
        k=k,
        more=more,
        about=about_file(
            about.get("model_name"), about.get("hook_layer"), about.get("hook_name", "")
        ),
    )
