"""What is settled before the first image: names of encoders, and the network whose knowledge is shuffled away."""

import numpy as np

from jaxle.data.sources import open_source
from jaxle.data.splits import make_split
from jaxle.models.zoo import load_model
from jaxle.run import _shuffled, tower_id


def test_an_encoder_is_named_by_what_it_is():
    plain = {"model": "siglip_b_16_224", "weights": "", "dtype": "float32"}
    assert tower_id(plain) == "siglip_b_16_224"
    assert tower_id(plain | {"weights": "w.npz"}) == "siglip_b_16_224 w.npz"
    assert tower_id(plain | {"dtype": "bfloat16"}) == "siglip_b_16_224 bfloat16"


def test_a_shuffled_network_keeps_its_values_and_loses_what_it_knew():
    source = open_source("scenes", limit=200, seed=3)
    model, split = load_model("scenes_resnet"), make_split(200, 0)
    shuffled, again = (_shuffled(model, source, split, seed=0) for _ in range(2))
    images = np.stack([source[i][0] for i in range(200)])
    right = [
        (np.argmax(network.logits(images), 1) == source.labels).mean()
        for network in (model, shuffled)
    ]
    assert right[0] > 0.9 and right[1] < 0.4
    assert (
        shuffled.weights_hash != model.weights_hash and shuffled.weights_hash == again.weights_hash
    )
    np.testing.assert_array_equal(shuffled.logits(images[:8]), again.logits(images[:8]))
    activations = shuffled.activations(images, "layer3")
    assert np.isfinite(activations).all() and (activations.std(0) > 0).mean() > 0.5
    kernel, other = (
        np.sort(np.ravel(network.variables["params"]["linear"]["kernel"]))
        for network in (model, shuffled)
    )
    np.testing.assert_array_equal(kernel, other)
