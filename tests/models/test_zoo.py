"""Loading by name: messages that list the valid names, taps with shapes, batches, the untrained control."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxle.models import zoo


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("resnet20_cifar10", random_init_seed=0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_taps_are_listed_with_shapes(model):
    assert model.taps["layer1"] == (32, 32, 16) and model.taps["layer2"] == (16, 16, 32) and model.taps["layer3"] == (8, 8, 64)
    assert model.taps["layer3/0/conv1:in"] == (16, 16, 32) and model.taps["linear:in"] == (64,) and model.taps["linear"] == (10,)
    assert list(model.taps)[0] == "conv1:in" and list(model.taps)[-1] == "linear"


def test_activations_are_pooled_taps_in_batches_of_any_size(model, images):
    whole = model.activations(images, "layer3", "none")
    assert whole.shape == (5, 8, 8, 64) and whole.dtype == np.float32
    np.testing.assert_allclose(model.activations(images, "layer3", "avg", batch_size=2), whole.mean((1, 2)), atol=1e-4)
    np.testing.assert_allclose(model.activations(images, "layer3", "max", batch_size=5), whole.max((1, 2)), atol=1e-5)
    np.testing.assert_allclose(model.activations(images, "linear:in"), whole.mean((1, 2)), atol=1e-4)
    np.testing.assert_allclose(model.logits(images, batch_size=3), model.logits(images), atol=1e-3)


def test_probe_reads_several_taps_inside_jit(model, images):
    probe = jax.jit(lambda variables, batch: model.probe(batch, {"layer1": "avg", "layer3": "max"}, variables))
    values, logits = probe(model.variables, images)
    assert {tap: value.shape for tap, value in values.items()} == {"layer1": (5, 16), "layer3": (5, 64)}
    np.testing.assert_allclose(logits, model.logits(images), atol=1e-3)
    np.testing.assert_allclose(values["layer1"], model.activations(images, "layer1"), atol=1e-4)


def test_pil_images_of_any_size_and_mode(model):
    pictures = [Image.new("L", (40, 50), 128), Image.new("RGB", (32, 32), (1, 2, 3)), np.zeros((64, 20, 3), np.uint8)]
    assert model.logits(pictures).shape == (3, 10)


def test_unknown_names_list_the_valid_ones(model, images):
    with pytest.raises(ValueError, match="unknown model 'resnet21'; valid models: scenes_resnet, resnet20_cifar10, "):
        zoo.load_model("resnet21")
    with pytest.raises(ValueError, match="unknown tap 'layer4'; valid taps: conv1, bn1, layer1, layer2, layer3, linear"):
        model.activations(images, "layer4")
    with pytest.raises(ValueError, match="unknown pool 'mean'; valid pools: avg, max, first, none"):
        model.activations(images, "layer3", "mean")
    with pytest.raises(ValueError, match="no images"):
        model.logits([])


def test_another_architectures_file_names_every_mismatch_at_once(test_data, torch):
    with pytest.raises(ValueError) as caught:
        zoo.load_model("resnet56_cifar10", test_data / "cifar10/resnet20-12fca82f.th")
    message = str(caught.value)
    assert "180 mismatches" in message and message.count("missing from the file") == 180  # 18 blocks × (2 kernels + 2 × 4 batch norm)
    assert "params/layer3/8/conv2/kernel (3, 3, 64, 64)" in message


def test_random_init_is_the_seeds_alone():
    first, again, other = (zoo.load_model("resnet20_cifar10", random_init_seed=seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first.variables, again.variables)
    assert not np.allclose(first.variables["params"]["conv1"]["kernel"], other.variables["params"]["conv1"]["kernel"])
    assert first.weights_hash == "random_init:1" != other.weights_hash


def test_weights_hash_is_the_files(test_data, torch):
    model = zoo.load_model("resnet20_cifar10", test_data / "cifar10/resnet20-12fca82f.th")
    assert model.weights_hash.startswith("12fca82f") and len(model.weights_hash) == 64


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_entrys_resolved_aliases_and_class_names_fit(name):
    entry = zoo.ZOO[name]
    size = entry.preprocess.size
    shape = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    module = entry.module()
    variables = jax.eval_shape(module.init, jax.random.key(0), shape)
    logits = jax.eval_shape(module.apply, variables, shape)
    assert not entry.class_names or len(entry.class_names) == logits.shape[-1]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == entry.parameters
