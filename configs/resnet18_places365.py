"""LE(Label) and LE(SigLIP) for all 512 neurons of layer4 of a Places365 ResNet-18, on the 36,500
validation images.

    python -m jaxle.launch --config configs/resnet18_places365.py

Mean test correlation by SigLIP-So400m (explainer SigLIP-L/16-384), and mean length, to compare with
the paper's Table 2:

    LE(Label) .3388, 4.70 concepts      LE(SigLIP) .4372, 4.25 concepts
    Network Dissection .2038            MILAN .1557            CLIP-Dissect .2208

As in the paper there are no superclasses: the labels are the 365 classes alone.

The paper's code took about 4 s a neuron on a V100 and 30 minutes for SigLIP. Weights: CSAIL's,
which are torch's format and need the extra `torch`, and the hub's SigLIPs; images:
tensorflow-datasets' places365_small. `:dry` rehearses the run without either.

Variants of its own: `layers` (layer1 to layer4 in one pass), `conv1` (adds what leaves the stem's
pool); the rest in configs/paper.py.
"""

from configs import paper


def get_config(variant: str = ""):
    config = paper.get_config()
    config.data.source = "tfds:places365_small"
    config.data.split = "validation"
    config.target.model = "resnet18_places365"
    config.target.taps = ("layer4",)
    config.concepts.sets = tuple(name for name in config.concepts.sets if name != "superclasses")
    return paper.vary(config, variant, {"layers": _layers, "conv1": _conv1})


def _layers(config):
    config.target.taps = ("layer1", "layer2", "layer3", "layer4")


def _conv1(config):
    config.target.taps = ("conv1", *config.target.taps)
