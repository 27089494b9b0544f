"""LE(Label) for the three stages of a CIFAR-10 ResNet-20, on the 10,000 test images.

    python -m jaxle.launch --config configs/resnet20_cifar10.py

The weights are Idelbayev's (github.com/akamaster/pytorch_resnet_cifar10), fetched once and checked
by hash; the images come from tensorflow-datasets. With both at hand:

    python -m jaxle.launch --config configs/resnet20_cifar10.py \
        --config.data.source=folder:PATH/TO/IMAGES \
        --config.target.weights=PATH/TO/resnet20-12fca82f.th

where the folder holds one subfolder a class. The paper has no figure for this network. `label` is
the paper's search, `preconditioned` jaxle's own at no greater mean length. Under a minute on two
cores. `:dry` rehearses the run without weights and images.

    --config.target.taps=layer3 --config.evaluation.ablation=best
                 ablation scores: seconds after layer3, whose tail is linear
    --config.evaluation.impact=True
                 Top Impact of all three stages: minutes

`:baselines` adds INVERT, the one other method that needs neither an encoder nor pixel masks.
"""

from configs import paper
from jaxle.pipeline import defaults


def get_config(variant: str = ""):
    config = defaults.get_config()
    config.data.source = "tfds:cifar10"
    config.data.split = "test"
    config.target.model = "resnet20_cifar10"
    config.target.taps = ("layer1", "layer2", "layer3")
    config.methods.preconditioned = defaults.label("preconditioned", no_longer_than="label")
    config.concepts.superclasses = {
        "animal": ("mammal", "bird", "frog"),
        "mammal": ("pet", "hoofed animal"),
        "pet": ("cat", "dog"),
        "hoofed animal": ("deer", "horse"),
        "four-legged animal": ("mammal", "frog"),
        "vehicle": ("road vehicle", "craft"),
        "road vehicle": ("automobile", "truck"),
        "craft": ("airplane", "ship"),
        "flying thing": ("airplane", "bird"),
    }
    return paper.apply(config, variant, {"baselines": _baselines, "dry": paper.dry})


def _baselines(config):
    config.methods.invert = defaults.label("invert")
