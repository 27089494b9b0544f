"""The network cut at a tap: suffix(record) is the network, at the suffix's cost, with whatever goes round the cut recorded."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import cifar_resnet, taps
from jaxle.models.suffix import Suffix


class Around(nn.Module):
    """A residual path that bypasses the tapped block, a skip of the images themselves, and a product of parameters alone."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(8, name="first")(x)
        scale = self.param("scale", nn.initializers.ones, (8,))
        y = nn.gelu(nn.Dense(8, name="block")(h)) * (scale * 2)[None]
        return nn.Dense(3, name="head")(y + h) + x[:, :3]


@pytest.fixture(scope="module")
def resnet():
    module = cifar_resnet.CifarResNet(cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(4, 8, 16)))
    x = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    return module, jax.jit(module.init)(jax.random.key(1, impl="rbg"), x), x


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_every_tap_of_a_residual_network_gives_the_logits_back(resnet):
    module, variables, x = resnet
    expected = module.apply(variables, x)
    found = taps.sites(module, variables, x)
    for name, tap in taps.names(found).items():
        if name.endswith(":in") and name.count("/") > 1:
            continue  # what leaves the module before it
        suffix = Suffix(module, tap, (x,))
        carried = suffix.record(variables, x)
        np.testing.assert_array_equal(carried.value, taps.forward(module, variables, x, record=[tap])[1][tap], err_msg=name)
        np.testing.assert_array_equal(suffix(variables, carried), expected, err_msg=name)


def test_what_goes_round_the_tap_is_recorded_and_nothing_else():
    module, x = Around(), jnp.arange(40.0).reshape(5, 8)
    variables = module.init(jax.random.key(0), x)
    block, head = (Suffix(module, taps.Tap(name), (x,)) for name in ("block", "head"))
    carried = block.record(variables, x)
    assert sorted(a.shape for a in carried.around) == [(5, 3), (5, 8)]  # the slice of x, and h
    assert [a.shape for a in head.record(variables, x).around] == [(5, 3)]
    np.testing.assert_allclose(block(variables, carried), module.apply(variables, x), rtol=1e-6)
    edited = carried._replace(value=carried.value.at[:, 2].set(1.5))
    whole, _ = taps.forward(module, variables, x, replace={taps.Tap("block"): lambda value: value.at[:, 2].set(1.5)})
    np.testing.assert_allclose(block(variables, edited), whole, rtol=1e-6)
    assert not np.allclose(whole, module.apply(variables, x))


def test_an_edited_channel_equals_replacing_it_in_the_whole_forward_pass_under_vmap(resnet):
    module, variables, x = resnet
    tap = taps.Tap("layer2/0")
    suffix = Suffix(module, tap, (x,))
    carried = suffix.record(variables, x)
    zeroed = jax.jit(jax.vmap(lambda k: suffix(variables, carried._replace(value=carried.value.at[..., k].set(0)))))(jnp.arange(8))
    for k in (0, 5):
        whole, _ = taps.forward(module, variables, x, replace={tap: lambda value, k=k: value.at[..., k].set(0)})
        np.testing.assert_allclose(zeroed[k], whole, rtol=1e-4, atol=1e-5)
    assert not np.allclose(zeroed[0], zeroed[5])


def test_the_cost_is_that_of_the_layers_after_the_tap(resnet):
    """Against the convolutions' own count, pixels × 9 × in × out; what is not convolution is small."""
    module, variables, x = resnet
    cost = {"stem": 256 * 27 * 4, "layer1": 2 * 256 * 9 * 4 * 4, "layer2": 64 * 9 * 8 * (4 + 8), "layer3": 16 * 9 * 16 * (8 + 16)}
    whole = flops(module.apply, variables, x)
    for name, later in {"layer1": ("layer2", "layer3"), "layer2": ("layer3",), "linear:in": ()}.items():
        suffix = Suffix(module, taps.resolve(name, taps.sites(module, variables, x)), (x,))
        carried = jax.eval_shape(suffix.record, variables, x)
        after, before = flops(suffix, variables, carried), flops(suffix.record, variables, x)
        assert abs(after / whole - sum(cost[stage] for stage in later) / sum(cost.values())) < 0.06
        assert abs(after + before - whole) < 0.05 * whole


def test_any_number_of_images_and_gradients(resnet):
    module, variables, x = resnet
    suffix = Suffix(module, taps.Tap("layer3"), (x,))
    for n in (1, 2):
        np.testing.assert_allclose(suffix(variables, suffix.record(variables, x[:n])), module.apply(variables, x[:n]), rtol=1e-5, atol=1e-6)
    carried = suffix.record(variables, x)
    gradient = jax.grad(lambda value: suffix(variables, carried._replace(value=value))[:, 0].sum())(carried.value)
    expected = jnp.broadcast_to(variables["params"]["linear"]["kernel"][:, 0] / 16, carried.value.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
