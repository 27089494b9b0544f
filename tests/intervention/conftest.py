"""Networks whose neurons are edited; and the plainest way to do it, the whole network at a time."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.images import Preprocess, decode
from jaxle.models import cifar_resnet, class_names, taps, vit, zoo
from jaxle.models.model import Model


def random_model(module: nn.Module, aliases=None) -> Model:
    """A network of random weights on 16×16 images, with logits so large that losses differ."""
    variables = jax.jit(module.init)(jax.random.key(1, impl="rbg"), jnp.zeros((1, 16, 16, 3)))
    head = "linear" if "linear" in variables["params"] else "head"
    variables["params"][head]["kernel"] = 0.7 * jax.random.normal(
        jax.random.key(2), variables["params"][head]["kernel"].shape
    )
    return Model("random", module, variables, Preprocess("none", 16), (), aliases or {}, "random")


@pytest.fixture(scope="session")
def small_resnet():
    return random_model(
        cifar_resnet.CifarResNet(
            cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(4, 6, 8), num_classes=5)
        )
    )


@pytest.fixture(scope="session")
def small_vit():
    config = vit.ViTConfig(patch=8, width=12, depth=2, mlp_dim=16, heads=2, num_classes=5)
    return random_model(vit.ViT(config), vit.aliases(config))


@pytest.fixture(scope="session")
def small_images():
    """60 random images, uint8, and labels of five classes."""
    draw = np.random.default_rng(3)
    return draw.integers(0, 256, (60, 16, 16, 3), np.uint8), draw.integers(0, 5, 60)


@pytest.fixture(scope="session")
def resnet20(test_data, torch):
    return zoo.load_model("resnet20_cifar10", test_data / "cifar10" / "resnet20-12fca82f.th")


@pytest.fixture(scope="session")
def cifar10(test_data):
    """2,400 real test images in random order, and their labels."""
    files = [
        file
        for c in class_names.CIFAR10
        for file in sorted((test_data / "cifar10/test" / c).iterdir())[:240]
    ]
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
    return np.stack([decode(file) for file in files]), np.array(
        [class_names.CIFAR10.index(file.parent.name) for file in files]
    )


def losses(logits, labels, temperature):
    """Cross-entropy in float64, image by image."""
    z = np.asarray(logits, np.float64) / temperature
    return (
        np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1))
        + z.max(-1)
        - z[..., np.arange(len(labels)), labels]
    )


@pytest.fixture(scope="session")
def brute_force():
    """Edits by the whole network, one neuron and one image at a time.

    (model, tap, pool, images, labels, neurons, values (images, neurons), T) → ΔL, right before,
    right after (images, neurons)
    """

    @functools.cache
    def network(model, tap, pool):
        def put(value, k, v):
            if pool == "first" and value.ndim == 3:
                return value.at[:, 0, k].set(v)
            return value.at[..., k].set(v)

        def run(variables, image, k, v):
            images, found = (
                model.preprocess.normalise(image[None]),
                taps.resolve(tap, model.sites, model.aliases),
            )
            edited, _ = taps.forward(
                model.module, variables, images, replace={found: lambda value: put(value, k, v)}
            )
            return edited[0], model.module.apply(variables, images)[0]

        return jax.jit(run)

    def run(model, tap, pool, images, labels, neurons, values, temperature):
        after, before = np.empty((2, len(neurons), len(images), 5 if len(images[0]) == 16 else 10))
        for j, k in enumerate(neurons):
            for i, image in enumerate(images):
                after[j, i], before[j, i] = network(model, tap, pool)(
                    model.variables, image, int(k), np.float32(values[i, j])
                )
        change = losses(after, labels, temperature) - losses(before, labels, temperature)
        return change.T, (before.argmax(-1) == labels).T, (after.argmax(-1) == labels).T

    return run
