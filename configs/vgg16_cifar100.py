"""LE(Label) and LE(SigLIP) for all 512 neurons of classifier[4] of a CIFAR-100 VGG-16-BN, on the
10,000 test images.

    python -m jaxle.launch --config configs/vgg16_cifar100.py

Mean test correlation by SigLIP-So400m (explainer SigLIP-L/16-384), and mean length, to compare with
the paper's Table 2:

    LE(Label) .4330, 7.60 concepts      LE(SigLIP) .4970, 6.08 concepts      CLIP-Dissect .2298

Superclasses are CIFAR-100's own coarse labels, vehicles 1 and 2 merged as in the paper's code.

The paper's code took about 4 s a neuron on a V100 and 30 minutes for SigLIP. Weights:
pytorch-cifar-models', which are torch's format and need the extra `torch`, and the hub's SigLIPs;
images: tensorflow-datasets' cifar100. `:dry` rehearses the run without either.

Variant of its own: `features` (the paper's Table 12: features[43], what leaves the last pool); the
rest in configs/paper.py.
"""

from configs import paper


def get_config(variant: str = ""):
    config = paper.get_config()
    config.data.source = "tfds:cifar100"
    config.data.split = "test"
    config.target.model = "vgg16_bn_cifar100"
    config.target.taps = ("classifier[4]",)
    config.target.pool = "none"
    config.concepts.hierarchy = "coarse"
    return paper.vary(config, variant, {"features": _features})


def _features(config):
    config.target.taps = ("features[43]",)
    config.target.pool = "avg"
