"""LE(Label) and LE(SigLIP) for the 4,096 hidden units of the last MLP of an ImageNet ViT-L/32, on
the 50,000 validation images.

    python -m jaxle.launch --config configs/vit_l32.py

Mean test correlation by SigLIP-So400m (explainer SigLIP-L/16-384), and mean length, to compare with
the paper's Table 2:

    LE(Label) .1879, 1.53 concepts      LE(SigLIP) .2182, 1.51 concepts      CLIP-Dissect .0549

A neuron is a hidden unit after GELU at the class token; the paper finds 6.57 % of them dead (and
all of ViT-L/16's).

The paper's code took about 4 s a neuron on a V100 and 30 minutes for SigLIP. Weights: torchvision's
(IMAGENET1K_V1) and the hub's SigLIPs; images: tensorflow-datasets' imagenet2012, which asks for
ImageNet's own archive. `:dry` rehearses the run without either.

Variants: configs/paper.py.
"""

from configs import paper


def get_config(variant: str = ""):
    config = paper.get_config()
    config.data.source = "tfds:imagenet2012"
    config.data.split = "validation"
    config.target.model = "vit_l_32_imagenet"
    config.target.taps = ("encoder.layers.encoder_layer_23.mlp[1]",)
    config.target.pool = "first"
    config.concepts.hierarchy = "wordnet"
    return paper.vary(config, variant, {})
