"""Every neuron of a small network that ships with jaxle, on a procedural world: no download, about
a minute on two cores.

    python -m jaxle.launch --config configs/quickstart.py

6,000 rendered images of the scenes world and the trained scenes network. Three methods side by
side: `label` explains with the world's exact labels and the paper's search; `preconditioned` with
jaxle's own search, at no greater mean length; `siglip` with the probabilities of a small SigLIP for
the world's words and some 400 foreign ones, which screening must throw out. All are simulated by a
second, larger SigLIP, and those by labels by the labels too. Beside each score stand the ceiling
(the best that these concepts can do at any length) and the same run on five untrained networks: how
many neurons are better explained than theirs.

    --config configs/quickstart.py:baselines
                 and beside them CLIP-Dissect, Network Dissection and INVERT: six minutes
    --config configs/quickstart.py:sae
                 the 256 features of a sparse autoencoder of layer3 that ships with jaxle, in place
                 of neurons
"""

from configs import paper
from jaxle.pipeline import defaults


def get_config(variant: str = ""):
    config = defaults.get_config()
    config.data.source = "scenes"
    config.target.model = "scenes_resnet"
    config.target.taps = ("layer1", "layer2", "layer3")
    config.concepts.sets = ("annotations", "foreign")
    config.methods.preconditioned = defaults.label("preconditioned", no_longer_than="label")
    config.methods.siglip = defaults.siglip("scenes_siglip_s")
    config.simulators.siglip = defaults.tower("scenes_siglip_m")
    config.evaluation.controls = 5
    config.evaluation.counterfactual = 400
    return paper.apply(config, variant, {"baselines": _baselines, "sae": _sae})


def _baselines(config):
    config.methods.clip_dissect = defaults.siglip("scenes_siglip_s", explainer="clip_dissect")
    config.methods.netdissect = defaults.label("network_dissection")
    config.methods.invert = defaults.label("invert")


def _sae(config):
    config.target.taps = ("layer3",)
    config.target.units = "sae:scenes_layer3"
