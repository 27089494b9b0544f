"""The shuffled network: the same values in other places, and statistics that fit it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.evaluation.random_network import (
    STATISTICS,
    batch_statistics,
    permute_parameters,
    shuffled_network,
)
from jaxle.mesh import make_mesh
from jaxle.models import zoo
from jaxle.models.model import Model
from jaxle.models.two_tower import TwoTower
from jaxle.scenes.world import render


class Small(nn.Module):
    stored: bool = True

    @nn.compact
    def __call__(self, x, scale=1.0):
        for i, width in enumerate((8, 6)):
            x = nn.relu(
                nn.BatchNorm(use_running_average=self.stored, momentum=0.0, name=f"bn{i}")(
                    nn.Conv(width, (3, 3))(x)
                )
            )
        return nn.Dense(3)(x.mean((1, 2))) * scale


@jax.jit
def training_pass(variables, images):
    """Logits and the statistics of the batch, by flax's own BatchNorm."""
    return Small(stored=False).apply(variables, images, mutable=["batch_stats"])


@pytest.fixture(scope="module")
def network():
    """A net with parameters of unlike scale, and images."""
    images = jnp.asarray(np.random.default_rng(0).normal(1, 2, (32, 6, 6, 3)), jnp.float32)
    variables = jax.jit(Small().init)(jax.random.key(0), images)
    params = jax.tree.map(
        lambda p: p + 0.1 * jnp.arange(p.size, dtype=jnp.float32).reshape(p.shape) / p.size,
        variables["params"],
    )
    return {**variables, "params": params}, images


def test_values_stay_and_places_change(network):
    variables, images = network
    got = permute_parameters(variables, 0, lambda v: batch_statistics(Small(), v, [images]))
    assert jax.tree.structure(got) == jax.tree.structure(variables)
    for new, old in zip(
        jax.tree.leaves(got["params"]), jax.tree.leaves(variables["params"]), strict=True
    ):
        assert new.shape == old.shape and new.dtype == old.dtype
        np.testing.assert_array_equal(np.sort(new.ravel()), np.sort(old.ravel()))
        assert not np.array_equal(new, old)
    again, other = (permute_parameters({"params": variables["params"]}, seed) for seed in (0, 1))
    for x, y, z in zip(*(jax.tree.leaves(v["params"]) for v in (got, again, other)), strict=True):
        np.testing.assert_array_equal(x, y)
        assert not np.array_equal(y, z)


def test_statistics_equal_a_training_pass_and_merge_over_batches(network):
    """Flax's own BatchNorm in training mode, momentum 0, stores the batch's statistics."""
    variables, images = network
    _, trained = training_pass(variables, images)
    for module in (Small(), Small(stored=False)):
        one, two = (
            batch_statistics(module, variables, batches, scale=2.0)
            for batches in ([images], [images[:16], images[16:]])
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
            one,
            trained["batch_stats"],
        )
        # what enters the first does not depend on the batch, so its statistics merge exactly
        first = two["bn0"]
        np.testing.assert_allclose(first["var"], one["bn0"]["var"], rtol=1e-4)
        np.testing.assert_allclose(first["mean"], one["bn0"]["mean"], rtol=1e-4, atol=1e-5)


def test_channels_of_the_shuffled_network_are_alive(network):
    variables, images = network
    got = permute_parameters(variables, 0, lambda v: batch_statistics(Small(), v, [images]))
    np.testing.assert_allclose(
        jax.jit(Small().apply)(got, images), training_pass(got, images)[0], rtol=1e-3, atol=1e-4
    )


def test_what_is_missing_is_said(network):
    variables, _ = network
    with pytest.raises(ValueError, match="give recompute"):
        permute_parameters(variables, 0)
    with pytest.raises(ValueError, match="at least one batch"):
        batch_statistics(Small(), variables, [])


@pytest.fixture(scope="module")
def pictures():
    return render(np.arange(70), 3)[0]


def values(network):
    return jax.tree.leaves(network.variables["params"])


def test_a_classifier_is_shuffled(pictures):
    network = zoo.load_model("scenes_resnet")
    got = shuffled_network(network, pictures, 4)
    assert isinstance(got, Model) and got.weights_hash == f"shuffled:4:{network.weights_hash}"
    for new, old in zip(values(got), values(network), strict=True):
        np.testing.assert_array_equal(np.sort(np.ravel(new)), np.sort(np.ravel(old)))
    images = network.preprocess.normalise(pictures[:64])
    expected = permute_parameters(
        network.variables,
        4,
        lambda v: batch_statistics(network.module, v, [images], **network.call),
    )
    # 70 images: one whole batch of 64
    for new, old in zip(jax.tree.leaves(got.variables), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)
    same, other = (shuffled_network(network, pictures, seed) for seed in (4, 5))
    before, after = (x.activations(pictures[:8], "layer2") for x in (network, got))
    assert np.isfinite(after).all() and not np.allclose(before, after, atol=0.1)
    np.testing.assert_array_equal(same.activations(pictures[:8], "layer2"), after)
    assert not np.allclose(other.activations(pictures[:8], "layer2"), after, atol=0.1)


def test_a_two_tower_target_is_shuffled(pictures):
    """This ended in an AttributeError: the towers' record has no `call` and no `mesh`."""
    network = zoo.load_model("scenes_siglip_s")
    unread = Unread()
    got = shuffled_network(network, unread, 0)
    assert isinstance(got, TwoTower) and got.weights_hash == f"shuffled:0:{network.weights_hash}"
    tap = list(network.taps)[-1]
    before, after = (x.activations(pictures[:8], tap, "max") for x in (network, got))
    assert before.shape == after.shape and np.isfinite(after).all()
    assert not np.allclose(before, after, atol=0.01)
    texts = got.embed_texts(["a dog"])
    assert texts.shape == network.embed_texts(["a dog"]).shape


class Unread:
    """Images of which none may be read: a network without BatchNorm needs none."""

    def __len__(self):
        return STATISTICS

    def __getitem__(self, i):
        raise AssertionError("an image was read")


def test_a_network_on_a_mesh_stays_on_it(pictures):
    network = zoo.load_model("scenes_resnet", mesh=make_mesh())
    got = shuffled_network(network, pictures, 0)
    assert got.mesh is network.mesh
    for new, old in zip(
        jax.tree.leaves(got.variables), jax.tree.leaves(network.variables), strict=True
    ):
        assert new.sharding == old.sharding


def test_batch_norm_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one batch of images"):
        shuffled_network(zoo.load_model("scenes_resnet"), [], 0)
