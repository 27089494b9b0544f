"""LE(Label) and LE(SigLIP) for all 2,048 neurons of layer4 of an ImageNet ResNet-50, on the 50,000
validation images.

    python -m jaxle.launch --config configs/resnet50.py

Mean test correlation by SigLIP-So400m (explainer SigLIP-L/16-384), and mean length, to compare with
the paper's Table 2:

    LE(Label) .2924, 4.37 concepts      LE(SigLIP) .3772, 4.68 concepts
    Network Dissection .1242            MILAN .0920            CLIP-Dissect .1871

Its other layers (`:layers`), Label / SigLIP: layer1 .1008 / .2313, layer2 .1037 / .2180, layer3
.1308 / .2652.

The paper's code took about 4 s a neuron on a V100 and 30 minutes for SigLIP. Weights: torchvision's
(IMAGENET1K_V1, as safetensors from the hub: no torch is needed) and the hub's SigLIPs; images:
tensorflow-datasets' imagenet2012, which asks for ImageNet's own archive. `:dry` rehearses the run
without either.

Variants of its own: `layers` (layer1 to layer4 in one pass), `conv1` (adds what leaves the stem's
pool); the rest in configs/paper.py.
"""

from configs import paper


def get_config(variant: str = ""):
    config = paper.get_config()
    config.data.source = "tfds:imagenet2012"
    config.data.split = "validation"
    config.target.model = "resnet50_imagenet"
    config.target.taps = ("layer4",)
    config.concepts.hierarchy = "wordnet"
    return paper.vary(config, variant, {"layers": _layers, "conv1": _conv1})


def _layers(config):
    config.target.taps = ("layer1", "layer2", "layer3", "layer4")


def _conv1(config):
    config.target.taps = ("conv1", *config.target.taps)
