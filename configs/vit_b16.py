"""LE(Label) and LE(SigLIP) for the 3,072 hidden units of the last MLP of an ImageNet ViT-B/16, on
the 50,000 validation images.

    python -m jaxle.launch --config configs/vit_b16.py

Mean test correlation by SigLIP-So400m (explainer SigLIP-L/16-384), and mean length, to compare with
the paper's Table 2:

    LE(Label) .3243, 1.97 concepts      LE(SigLIP) .3489, 1.82 concepts      CLIP-Dissect .1722

A neuron is a hidden unit after GELU at the class token; the paper finds 5.27 % of them dead.

The paper's code took about 4 s a neuron on a V100 and 30 minutes for SigLIP. Weights: torchvision's
(IMAGENET1K_V1) and the hub's SigLIPs; images: tensorflow-datasets' imagenet2012, which asks for
ImageNet's own archive. `:dry` rehearses the run without either.

Variants of its own (the paper's Table 13): `residual` adds the residual stream after the last
block, at the class token; `block10` takes MLP and residual stream of the block before, as means
over all tokens; the rest in configs/paper.py.
"""

from configs import paper


def get_config(variant: str = ""):
    config = paper.get_config()
    config.data.source = "tfds:imagenet2012"
    config.data.split = "validation"
    config.target.model = "vit_b_16_imagenet"
    config.target.taps = ("encoder.layers.encoder_layer_11.mlp[1]",)
    config.target.pool = "first"
    config.concepts.hierarchy = "wordnet"
    own = {"residual": _residual, "block10": _block10}
    return paper.vary(config, variant, own, apart=[("residual", "block10")])


def _residual(config):
    config.target.taps = (*config.target.taps, "encoder.layers.encoder_layer_11")


def _block10(config):
    config.target.taps = (
        "encoder.layers.encoder_layer_10.mlp[1]",
        "encoder.layers.encoder_layer_10",
    )
    config.target.pool = "avg"
