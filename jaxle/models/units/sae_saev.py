"""saev's `sae.pt`: one line of JSON, then a torch state dict.

    f = act((x − b_dec) W_enc + b_enc)       no schema, or 1: until September 2025
    f = act(x W_enc + b_enc)                 schema 2 and later

ReLU; TopK keeps the k largest of either sign; BatchTopK at inference keeps what is above its
threshold, and the k largest where the file has none. Source: github.com/OSU-NLP-Group/saev,
src/saev/nn/modeling.py and its history.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxle.models import checkpoints
from jaxle.models.units.sae_parts import Parts, one_of, tensors

KINDS = {"relu": "relu", "topk": "signed_top_k", "batchtopk": "signed_threshold"}
LAST_SUBTRACTING = 1  # schema


def knows(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a file begins with a line of JSON, or has such a line beside it."""
    if (file.parent / f"{file.stem}.header.json").is_file():
        return True
    with file.open("rb") as handle:
        return handle.read(1) == b"{"


def read(file: Path, config: Mapping[str, Any]) -> Parts:
    """Returns the parts. Raises a ValueError for a header that is not saev's, or tensors."""
    beside = file.parent / f"{file.stem}.header.json"
    if beside.is_file():
        line, tail = beside.read_bytes(), None
    else:
        with file.open("rb") as handle:
            line, tail = handle.readline(), io.BytesIO(handle.read())
    try:
        header = json.loads(line)
        own = header["cfg"] if "schema" in header else header
        schema = int(header.get("schema", 0))
        activation, k = _activation(header, own, schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the header of the SAE {file} is not saev's: {error!r}.") from error
    held = checkpoints.read(file) if tail is None else checkpoints.read_torch(file, tail)
    encoder, bias, decoder, decoder_bias = tensors(held, file, "W_enc", "b_enc", "W_dec", "b_dec")
    kind, more = one_of(activation, KINDS, "activation", file), {}
    if kind == "signed_threshold":
        if "activation.threshold" in held:
            (more["threshold"],) = tensors(held, file, "activation.threshold")
            k = 0
        else:
            kind = "signed_top_k"
    subtract = schema <= LAST_SUBTRACTING
    folders = "/".join(file.parts[-3:-1])  # published as layer_N/RUN/sae.pt
    layer = re.search(r"layer[_-]?(\d+)", folders)
    about = {"layer": layer[1]} if layer else {}
    did = "subtracted" if subtract else "did not subtract"
    note = f"saev of schema {schema or 'none'}, whose encoder {did} b_dec"
    size = k if kind == "signed_top_k" else 0
    return Parts(
        encoder.T, bias, decoder, decoder_bias, subtract, kind, k=size, more=more, about=about,
        note=note,
    )  # fmt: skip


def _activation(header: Mapping[str, Any], own: Mapping[str, Any], schema: int) -> tuple[str, int]:
    """Name and k of the activation."""
    if schema == 0:
        return "relu", 0
    named = header.get("cls", "")
    if schema == 1 and str(named).lower() in KINDS:
        return named, int(own.get("top_k", 32))
    held = own.get("activation", {"cls": "Relu", "params": {}})
    return held["cls"], int(held.get("params", {}).get("top_k", 32))
