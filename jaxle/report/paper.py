"""What the paper reports of its targets, to stand beside a run of the same network and layer.

Oikarinen & Weng, Linear Explanations for Individual Neurons, ICML 2024, Tables 2–4:
https://arxiv.org/abs/2405.06855. Means over all neurons of the layer; standard errors .002 to .005.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# network, layer → method → mean correlation of simulated and real activations
CORRELATION = {
    ("resnet50_imagenet", "layer4"): {
        "Network Dissection": 0.1242,
        "MILAN": 0.0920,
        "CLIP-Dissect": 0.1871,
        "LE(Label)": 0.2924,
        "LE(SigLIP)": 0.3772,
    },
    ("resnet50_imagenet", "layer3"): {"LE(Label)": 0.1308, "LE(SigLIP)": 0.2652},
    ("resnet50_imagenet", "layer2"): {"LE(Label)": 0.1037, "LE(SigLIP)": 0.2180},
    ("resnet50_imagenet", "layer1"): {"LE(Label)": 0.1008, "LE(SigLIP)": 0.2313},
    ("resnet18_places365", "layer4"): {
        "Network Dissection": 0.2038,
        "MILAN": 0.1557,
        "CLIP-Dissect": 0.2208,
        "LE(Label)": 0.3388,
        "LE(SigLIP)": 0.4372,
    },
    ("vgg16_bn_cifar100", "classifier[4]"): {
        "CLIP-Dissect": 0.2298,
        "LE(Label)": 0.4330,
        "LE(SigLIP)": 0.4970,
    },
    ("vit_b_16_imagenet", "encoder.layers.encoder_layer_11.mlp[1]"): {
        "CLIP-Dissect": 0.1722,
        "LE(Label)": 0.3243,
        "LE(SigLIP)": 0.3489,
    },
    ("vit_l_32_imagenet", "encoder.layers.encoder_layer_23.mlp[1]"): {
        "CLIP-Dissect": 0.0549,
        "LE(Label)": 0.1879,
        "LE(SigLIP)": 0.2182,
    },
}


def beside(model: str, taps: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the paper's figures for the layers of a run: records of tap, method, correlation."""
    return [
        {"tap": tap, "method": method, "correlation": value}
        for tap in taps
        for method, value in CORRELATION.get((model, tap), {}).items()
    ]
