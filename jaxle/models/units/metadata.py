"""What a file's metadata say of the network and the layer, against what a run reads.

Only what both name counts: a family (CLIP, DINOv2, …), a size and patch (B/16), a block's number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# longest first, so that "dinov2" is not taken for "dino"
FAMILIES = (
    "bioclip", "dinov2", "dinov3", "dino", "siglip2", "siglip", "metaclip", "clip", "convnext",
    "resnet", "vgg", "mae", "ijepa", "gpt2", "gpt", "pythia", "gemma", "llama", "qwen", "mistral",
)  # fmt: skip
_SIZE = re.compile(
    r"(?<![a-z])(tiny|small|base|large|huge|giant|[tsblhg])[-_/]?(?:patch[-_]?)?(8|14|16|32)(?!\d)"
)
_BLOCK = re.compile(r"(?:encoderblock|blocks?|layers?|stages?)[_\[/.]*(\d+)")


def contradiction(about: Mapping[str, str], target: str, tap: str) -> str:
    """Returns a sentence where metadata name another model or layer than a run's, else "".

    Args:
      about: `model` and `layer` as a file names them; either may be missing or empty.
      target: all that names the run's network: model, weights.
      tap: the resolved tap.
    """
    model, layer = about.get("model", ""), about.get("layer", "")
    block = _BLOCK.search(tap.lower())
    if layer and block and layer != block[1]:
        return f"was trained on layer {layer}, and tap {tap!r} is of layer {block[1]}"
    for named in (_families, _sizes):
        theirs, ours = named(model), named(target)
        if theirs and ours and not theirs & ours:
            return f"was trained on {model!r}, and the target is {target.strip()!r}"
    return ""


def _families(text: str) -> set[str]:
    text, found = text.lower().replace("dino_v", "dinov"), set()
    for family in FAMILIES:
        if family in text:
            found.add(family)
            text = text.replace(family, " ")
    return found


def _sizes(text: str) -> set[tuple[str, str]]:
    return {(size[0], patch) for size, patch in _SIZE.findall(text.lower())}
