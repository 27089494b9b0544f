"""The shuffled network: the same values in other places, statistics that fit it, and no trace of what was learned."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.evaluation.random_network import batch_statistics, permute_parameters


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
    """Flax's own BatchNorm in training mode, momentum 0, stores the batch's statistics: an independent route to the same numbers."""
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
        first = two[
            "bn0"
        ]  # what enters the first does not depend on the batch, so its statistics merge exactly
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
