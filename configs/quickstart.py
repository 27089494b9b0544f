"""Every neuron of a small network that ships with jaxle, on a procedural world: no download, about a minute on two cores.

    python -m jaxle.launch --config configs/quickstart.py

6,000 rendered images of the scenes world, the trained scenes network, concepts from the world's exact labels. Beside each layer's score
stand the dense-ridge ceiling (the best that these concepts can do at any length) and the same run on the untrained network.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.data.source = "scenes"
    config.target.model = "scenes_resnet"
    config.target.taps = ("layer1", "layer2", "layer3")
    config.evaluation.untrained = True
    return config
