"""The network cut at a tap: suffix(record) is the network, at the suffix's cost, with whatever goes
round the cut recorded."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxle.models import cifar_resnet, clip, resnet, siglip, taps, vgg, vit
from jaxle.models.suffix import Suffix


class Around(nn.Module):
    """A residual path that bypasses the tapped block, a skip of the images themselves, and a
    product of parameters alone."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(8, name="first")(x)
        scale = self.param("scale", nn.initializers.ones, (8,))
        y = nn.gelu(nn.Dense(8, name="block")(h)) * (scale * 2)[None]
        return nn.Dense(3, name="head")(y + h) + x[:, :3]


@pytest.fixture(scope="module")
def small():
    module = cifar_resnet.CifarResNet(
        cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(4, 8, 16))
    )
    x = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    return module, jax.jit(module.init)(jax.random.key(1, impl="rbg"), x), x


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def test_every_tap_of_a_residual_network_gives_the_logits_back(small):
    module, variables, x = small
    expected = module.apply(variables, x)
    found = taps.sites(module, variables, x)
    for name, tap in taps.names(found).items():
        if name.endswith(":in") and name.count("/") > 1:
            continue  # what leaves the module before it
        suffix = Suffix(module, tap, (x,))
        carried = suffix.record(variables, x)
        np.testing.assert_array_equal(
            carried.value, taps.forward(module, variables, x, record=[tap])[1][tap], err_msg=name
        )
        np.testing.assert_array_equal(suffix(variables, carried), expected, err_msg=name)


def test_what_goes_round_the_tap_is_recorded_and_nothing_else():
    module, x = Around(), jnp.arange(40.0).reshape(5, 8)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    block, head = (Suffix(module, taps.Tap(name), (x,)) for name in ("block", "head"))
    carried = block.record(variables, x)
    assert sorted(a.shape for a in carried.around) == [(5, 3), (5, 8)]  # the slice of x, and h
    assert [a.shape for a in head.record(variables, x).around] == [(5, 3)]
    np.testing.assert_allclose(block(variables, carried), module.apply(variables, x), rtol=1e-6)
    edited = carried._replace(value=carried.value.at[:, 2].set(1.5))
    whole, _ = taps.forward(
        module, variables, x, replace={taps.Tap("block"): lambda value: value.at[:, 2].set(1.5)}
    )
    np.testing.assert_allclose(block(variables, edited), whole, rtol=1e-6)
    assert not np.allclose(whole, module.apply(variables, x))


def test_an_edited_channel_equals_replacing_it_in_the_whole_forward_pass_under_vmap(small):
    module, variables, x = small
    tap = taps.Tap("layer2/0")
    suffix = Suffix(module, tap, (x,))
    carried = suffix.record(variables, x)
    zeroed = jax.jit(
        jax.vmap(
            lambda k: suffix(variables, carried._replace(value=carried.value.at[..., k].set(0)))
        )
    )(jnp.arange(8))
    for k in (0, 5):
        whole, _ = taps.forward(
            module, variables, x, replace={tap: lambda value, k=k: value.at[..., k].set(0)}
        )
        np.testing.assert_allclose(zeroed[k], whole, rtol=1e-4, atol=1e-5)
    assert not np.allclose(zeroed[0], zeroed[5])


def test_the_cost_is_that_of_the_layers_after_the_tap(small):
    """Against the convolutions' own count, pixels × 9 × in × out; the rest is small."""
    module, variables, x = small
    cost = {
        "stem": 256 * 27 * 4,
        "layer1": 2 * 256 * 9 * 4 * 4,
        "layer2": 64 * 9 * 8 * (4 + 8),
        "layer3": 16 * 9 * 16 * (8 + 16),
    }
    whole = flops(module.apply, variables, x)
    for name, later in {
        "layer1": ("layer2", "layer3"),
        "layer2": ("layer3",),
        "linear:in": (),
    }.items():
        suffix = Suffix(module, taps.resolve(name, taps.sites(module, variables, x)), (x,))
        carried = jax.eval_shape(suffix.record, variables, x)
        after, before = flops(suffix, variables, carried), flops(suffix.record, variables, x)
        assert abs(after / whole - sum(cost[stage] for stage in later) / sum(cost.values())) < 0.06
        assert abs(after + before - whole) < 0.05 * whole


def multiplied(module, variables, x, tap, last):
    """Flops of the kernels and attentions met after a tap, from the shapes of kernels and of what
    they read and give alone; `last` is a block of which one token is read, so that only its keys
    and values are of all tokens."""
    found = taps.sites(module, variables, x)
    place = {site: i for i, site in enumerate(found)}
    kernels = {
        path[:-1]: leaf
        for path, leaf in traverse_util.flatten_dict(variables["params"]).items()
        if path[-1] == "kernel"
    }

    def width(
        path,
    ):  # what one position gives: heads and their width together in an attention's projections
        kernel = kernels[path]
        return (
            kernel.shape[-2] * kernel.shape[-1]
            if path[-1] in ("query", "key", "value")
            else kernel.shape[-1]
        )

    total = 0
    for path, kernel in kernels.items():
        after, before = taps.Tap("/".join(path), "out"), taps.Tap("/".join(path), "in")
        if (
            place.get(after, -1) < place[tap]
        ):  # before the tap, or of the text tower, which images do not pass
            continue
        given, one = found[after].shape, last in path
        if (
            kernel.ndim == 4 and len(given) == 3
        ):  # a convolution: pairs of a pixel and a kernel's place that lie inside the image
            inside = found[before].shape[0]
            stride, pad = (
                -(-inside // given[0]),
                0 if inside == given[0] * kernel.shape[0] else kernel.shape[0] // 2,
            )
            reads = sum(
                0 <= o * stride - pad + k < inside
                for o in range(given[0])
                for k in range(kernel.shape[0])
            )
            total += 2 * reads**2 * kernel.shape[2] * kernel.shape[3]
        else:
            positions = int(np.prod(given)) // width(path)
            every = path[-1] in ("key", "value") or not one
            total += 2 * kernel.size * (positions if every else 1)
        if path[-1] == "query":  # products of queries and keys, and of those with values
            keys = found[taps.Tap("/".join((*path[:-1], "key")), "out")].shape
            total += 4 * (1 if one else given[0]) * keys[0] * width(path)
    return total * len(x)


TEXT = siglip.TextConfig(width=64, depth=1, mlp_dim=64, heads=2, vocabulary=20, length=4)
# tanh GELU: XLA counts some seventy flops an element for the exact one's erf
VIT = vit.ViTConfig(
    patch=8, width=64, depth=2, mlp_dim=256, heads=2, activation="gelu_tanh", num_classes=11
)
RESNET = resnet.ResNetConfig((1, 1, 1, 1), bottleneck=True, width=16, num_classes=11)
CIFAR = cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(16, 32, 64))
SIGLIP = siglip.SigLIPConfig(dataclasses.replace(VIT, pool="map", num_classes=None), TEXT)
CLIP = clip.CLIPConfig(8, 64, 2, 2, 64, TEXT)
VGG = vgg.VGGConfig(
    (1, 2), batch_norm=True, widths=(16, 32), pooled=4, dense_width=64, num_classes=7
)
SHRUNKEN = {  # module, aliases, the taps among them
    "resnet": (resnet.ResNet(RESNET), resnet.ALIASES, ("conv1", "layer2")),
    "vgg": (vgg.VGG(VGG), vgg.aliases(VGG), ("features[2]", "classifier[1]")),
    "vit": (vit.ViT(VIT), vit.aliases(VIT), ("blocks[0]", "encoder.layers.encoder_layer_1.mlp[1]")),
    "siglip": (siglip.SigLIP(SIGLIP), siglip.aliases(SIGLIP), ("img.blocks[0]", "img.encoder")),
    "clip": (clip.CLIP(CLIP), clip.aliases(CLIP), ("img.blocks[0]", "img.blocks[1].mlp.act")),
    "cifar_resnet": (cifar_resnet.CifarResNet(CIFAR), {}, ("layer1", "layer2")),
}
ONE_TOKEN = {"vit": "encoderblock_1", "clip": "encoderblock_1"}  # the output reads one token of it


@pytest.mark.parametrize("family", SHRUNKEN)
def test_every_familys_suffix_costs_what_its_layers_after_the_tap_multiply(family):
    """Compiled flops are those of the products after the tap and at most a twentieth more: norms,
    activations, softmax, sums."""
    module, aliases, names = SHRUNKEN[family]
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    tokens = [jax.ShapeDtypeStruct((2, TEXT.length), jnp.int32)] if "img.encoder" in aliases else []
    variables = jax.eval_shape(module.init, jax.random.key(0), x, *tokens)
    found = taps.sites(module, variables, x)
    for name in names:
        tap = taps.resolve(name, found, aliases)
        suffix = Suffix(module, tap, (x,))
        after = flops(suffix, variables, jax.eval_shape(suffix.record, variables, x))
        expected = multiplied(module, variables, x, tap, ONE_TOKEN.get(family))
        assert 1 <= after / expected < 1.05, name


def test_any_number_of_images_and_gradients(small):
    module, variables, x = small
    suffix = Suffix(module, taps.Tap("layer3"), (x,))
    for n in (1, 2):
        again, whole = jax.jit(lambda v, x: (suffix(v, suffix.record(v, x)), module.apply(v, x)))(
            variables, x[:n]
        )
        np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)
    carried = jax.jit(suffix.record)(variables, x)
    gradient = jax.jit(
        jax.grad(lambda value: suffix(variables, carried._replace(value=value))[:, 0].sum())
    )(carried.value)
    expected = jnp.broadcast_to(
        variables["params"]["linear"]["kernel"][:, 0] / 16, carried.value.shape
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "tap", "products"),
    [
        ("resnet", "layer2", 2),  # a block's first convolution, and its shortcut, of every second
        ("vit", "encoder.layers.encoder_layer_1.mlp[1]", 1),
        ("vit", "Transformer/encoderblock_1/LayerNorm_0", 3),  # queries, keys, values
        ("vit", "blocks[0]", 0),  # which is added to, too
        ("cifar_resnet", "layer1", 0),  # convolutions of three pixels
    ],
)
def test_a_channel_moves_the_first_products_by_a_row_of_their_kernels(family, tap, products):
    module, aliases, _ = SHRUNKEN[family]
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = jax.jit(module.init)(jax.random.key(1, impl="rbg"), x)
    suffix = Suffix(module, taps.resolve(tap, taps.sites(module, variables, x), aliases), (x,))

    @jax.jit
    def by_products_and_whole(variables, x):
        carried = suffix.record(variables, x)
        first = suffix.first(variables, carried)
        assert len(first) == products
        if not first:
            return ()
        more = jax.random.normal(jax.random.key(2), carried.value.shape[:-1])
        found = []
        for base, kernel, reads in first:
            read = more[:, *reads]
            moved = jnp.einsum("...,n->...n", read, kernel[3])
            found.append(base + moved.reshape(base.shape))
        edited = carried._replace(value=carried.value.at[..., 3].add(more))
        unmoved = suffix.after(variables, [base for base, *_ in first], carried.around)
        moved = suffix.after(variables, found, carried.around)
        return (moved, suffix(variables, edited)), (unmoved, suffix(variables, carried))

    for (got, expected), atol in zip(
        by_products_and_whole(variables, x), (2e-5, 2e-6), strict=False
    ):
        np.testing.assert_allclose(got, expected, atol=atol)
