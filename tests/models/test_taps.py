"""Taps on any Linen module: listing, reading, replacing, modules called twice, lifted transforms,
pooling."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import taps
from jaxle.models.taps import Tap


class Twice(nn.Module):
    """A user's own module: one shared dense layer called twice, a block, a head; sub-modules from
    setup."""

    def setup(self):
        self.shared = nn.Dense(6)
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(3)

    def __call__(self, x):
        x = self.shared(x)
        x = nn.gelu(self.shared(self.norm(x)))
        return self.head(x)


class Lifted(nn.Module):
    """A scanned stack, a remat block and an ordinary head."""

    @nn.compact
    def __call__(self, x):
        stack = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = stack(name="stack")(x, None)
        x = nn.remat(nn.Dense)(6, name="saved")(x)
        return nn.Dense(2, name="head")(x)


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(6, name="inner")(x), None


@pytest.fixture(scope="module")
def twice():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    module = Twice()
    return module, jax.jit(module.init)(jax.random.key(1), x), x


def test_listing_is_in_the_order_of_a_forward_pass_and_leaves_the_images_axis_out(twice):
    module, variables, x = twice
    found = taps.sites(module, variables, x)
    names = [
        "shared#0:in",
        "shared#0",
        "norm:in",
        "norm",
        "shared#1:in",
        "shared#1",
        "head:in",
        "head",
    ]
    assert list(taps.names(found)) == names
    assert [found[tap].shape for tap in found] == [(6,)] * 7 + [(3,)]


def test_recording_gives_the_values_that_flow_there(twice):
    module, variables, x = twice
    record = [Tap("shared", "out", 0), Tap("shared", "in", 1), Tap("head", "in"), Tap("norm")]
    output, values = jax.jit(
        lambda variables, x: taps.forward(module, variables, x, record=record)
    )(variables, x)
    p = variables["params"]
    first = x @ p["shared"]["kernel"] + p["shared"]["bias"][None]
    np.testing.assert_allclose(values[record[0]], first, atol=1e-6)
    np.testing.assert_array_equal(values[record[1]], values[record[3]])
    np.testing.assert_allclose(
        output, values[record[2]] @ p["head"]["kernel"] + p["head"]["bias"][None], atol=1e-6
    )
    np.testing.assert_allclose(output, module.apply(variables, x), atol=1e-6)


def test_replacing_by_an_array_or_a_function(twice):
    module, variables, x = twice
    hidden = Tap("head", "in")
    zeros = jnp.zeros((5, 6))
    output, values = taps.forward(module, variables, x, record=[hidden], replace={hidden: zeros})
    np.testing.assert_array_equal(values[hidden], zeros)
    np.testing.assert_allclose(
        output, jnp.broadcast_to(variables["params"]["head"]["bias"], (5, 3)), atol=1e-6
    )
    second = Tap("shared", "out", 1)
    output, values = taps.forward(
        module,
        variables,
        x,
        record=[hidden],
        replace={second: lambda value: value.at[:, 2].set(7.0)},
    )
    assert np.allclose(values[hidden][:, 2], 7.0, atol=1e-4) and not np.allclose(
        values[hidden][:, 1], 7.0, atol=1e-1
    )


def test_the_same_in_one_forward_and_in_several(twice):
    module, variables, x = twice
    every = taps.names(taps.sites(module, variables, x)).values()
    _, together = taps.forward(module, variables, x, record=every)
    for tap in every:
        np.testing.assert_array_equal(
            together[tap], taps.forward(module, variables, x, record=[tap])[1][tap]
        )


def test_resolving_names_numbers_and_aliases(twice):
    module, variables, x = twice
    found = taps.sites(module, variables, x)
    assert taps.resolve("shared#1:in", found) == Tap("shared", "in", 1)
    assert taps.resolve("head#0", found) == Tap("head")
    assert taps.resolve("mlp[1]", found, {"mlp[1]": "head:in"}) == Tap("head", "in")
    assert taps.resolve("mlp.1", found, {"mlp[1]": "head:in"}) == Tap("head", "in")
    assert taps.resolve("a.3.b", found, {"a[3].b": "norm"}) == Tap("norm")
    assert taps.resolve("a.3.b:in", found, {"a[3].b": "norm"}) == Tap("norm", "in")
    with pytest.raises(
        ValueError, match="tap 'shared' is called 2 times; say which: shared#0, shared#1"
    ):
        taps.resolve("shared", found)
    with pytest.raises(
        ValueError,
        match=r"unknown tap 'shard' \(nearest: shared#1, shared#0, head, shared#1:in, shared#0:in\)"
        "; valid taps: mlp, shared#0, norm, shared#1, head",
    ):
        taps.resolve("shard", found, {"mlp": "head"})
    with pytest.raises(ValueError, match="never reached tap 'shared#2'"):
        taps.forward(module, variables, x, record=[Tap("shared", "out", 2)])


def test_taps_inside_lifted_transforms_are_refused_with_a_sentence():
    module, x = Lifted(), jnp.ones((4, 6))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    found = taps.sites(module, variables, x)
    valid = taps.names(found)
    assert {"head", "head:in"} <= set(valid) and not any("inner" in name for name in valid)
    with pytest.raises(
        ValueError, match="'stack/inner' lies inside nn.scan, nn.remat or another lifted transform"
    ):
        taps.resolve("stack/inner", found)
    with pytest.raises(ValueError, match="lies inside nn.scan, nn.remat"):
        taps.forward(module, variables, x, record=[Tap("stack/inner")])


def test_a_deep_networks_error_lists_shallow_taps_first():
    module = nn.Sequential([nn.Dense(4) for _ in range(100)])
    x = jnp.ones((2, 4))
    found = taps.sites(module, jax.eval_shape(module.init, jax.random.key(0), x), x)
    with pytest.raises(
        ValueError, match=r"layers_0, .*and 60 deeper ones \(model.taps lists all\)"
    ):
        taps.resolve("none", found)


def test_pooling():
    value = jnp.arange(24.0).reshape(2, 2, 3, 2)
    np.testing.assert_array_equal(taps.pool(value, "avg"), [[5, 6], [17, 18]])
    np.testing.assert_array_equal(taps.pool(value, "max"), [[10, 11], [22, 23]])
    tokens = value.reshape(2, 6, 2)
    np.testing.assert_array_equal(taps.pool(tokens, "avg"), taps.pool(value, "avg"))
    np.testing.assert_array_equal(taps.pool(tokens, "first"), [[0, 1], [12, 13]])
    for mode in taps.POOLS:
        np.testing.assert_array_equal(taps.pool(tokens[:, 0], mode), tokens[:, 0])
    assert taps.pool(value.astype(jnp.bfloat16), "none").dtype == jnp.float32
    with pytest.raises(
        ValueError, match="unknown pool 'mean'; valid pools: avg, max, first, patches, none"
    ):
        taps.pool(value, "mean")
    with pytest.raises(
        ValueError,
        match=r"pool 'first' takes the first of \(images, tokens, neurons\); "
        r"got shape \(2, 2, 3, 2\)",
    ):
        taps.pool(value, "first")
