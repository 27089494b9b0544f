"""dictionary_learning's `ae.pt` and `config.json`.

    AutoEncoder                              f = relu(E (x − bias) + b_enc)
    AutoEncoderNew                           f = relu(E x + b_enc)
    AutoEncoderTopK                          the k largest of relu(E (x − b_dec) + b_enc)
    BatchTopKSAE, MatryoshkaBatchTopKSAE     what of it is above the threshold
    JumpReluAutoEncoder                      relu(a) where a = x W_enc + b_enc > threshold
    GatedAutoEncoder                         (a + gate_bias > 0) · relu(a e^r_mag + mag_bias)

Source: github.com/saprmarks/dictionary_learning, dictionary.py and trainers/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxle.models import checkpoints
from jaxle.models.units.sae_parts import Parts, about_file, tensors

# class → tensors that it alone has, for files without a config
CLASSES = {
    "GatedAutoEncoder": ("r_mag", "gate_bias"),
    "MatryoshkaBatchTopKSAE": ("W_enc", "group_sizes"),
    "JumpReluAutoEncoder": ("W_enc", "threshold"),
    "AutoEncoderTopK": ("encoder.weight", "b_dec", "k"),
    "BatchTopKSAE": ("encoder.weight", "b_dec", "threshold"),
    "AutoEncoderNew": ("encoder.weight", "decoder.bias"),
    "AutoEncoder": ("encoder.weight", "bias"),
}


def knows(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a file is called ae, or a config is dictionary_learning's."""
    return file.stem == "ae" or "dict_class" in _trainer(config)


def read(file: Path, config: Mapping[str, Any]) -> Parts:
    """Returns the parts. Raises a ValueError for a class or tensors that are not known."""
    held, own = checkpoints.read(file), _trainer(config)
    name = own.get("dict_class") or next(
        (name for name, names in CLASSES.items() if all(n in held for n in names)), ""
    )
    if name not in CLASSES:
        raise ValueError(
            f"the SAE {file} is of the class {name or 'unknown'!r}, with "
            f"{', '.join(sorted(held)) or 'nothing'}: expected one of {', '.join(CLASSES)}."
        )
    about = about_file(own.get("lm_name"), own.get("layer"), own.get("submodule_name", ""))
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        encoder, bias, decoder, decoder_bias, threshold = tensors(
            held, file, "W_enc", "b_enc", "W_dec", "b_dec", "threshold"
        )
        subtract, more = name == "MatryoshkaBatchTopKSAE", {"threshold": threshold}
        return Parts(
            encoder.T, bias, decoder, decoder_bias, subtract, "threshold", more=more, about=about
        )
    encoder, decoder = tensors(held, file, "encoder.weight", "decoder.weight")
    if name == "GatedAutoEncoder":
        bias, decoder_bias, gate, scale = tensors(
            held, file, "mag_bias", "decoder_bias", "gate_bias", "r_mag"
        )
        more = {"gate": gate, "scale": np.exp(scale)}
        return Parts(
            encoder, bias, decoder.T, decoder_bias, True, "gated_relu", more=more, about=about
        )
    (bias,) = tensors(held, file, "encoder.bias")
    biases = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}
    (decoder_bias,) = tensors(held, file, biases.get(name, "b_dec"))
    kind, k, more = "relu", 0, {}
    if name == "AutoEncoderTopK":
        kind, k = "top_k", int(own.get("k") or held.get("k", np.zeros(())).reshape(()))
        if not k:
            raise ValueError(f"the SAE {file} has no k: expected it in config.json or the file.")
    if name == "BatchTopKSAE":
        kind, (more["threshold"],) = "threshold", tensors(held, file, "threshold")
    subtract = name != "AutoEncoderNew"
    return Parts(
        encoder, bias, decoder.T, decoder_bias, subtract, kind, k=k, more=more, about=about
    )


def _trainer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    own = config.get("trainer", config)
    return own if isinstance(own, Mapping) else {}
