"""VGG of both kinds against a torch restatement with torchvision's names; every list member is a
tap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import taps, vgg
from jaxle.models.generated import published
from jaxle.models.weights import convert


def torch_vgg(torch, config):
    """torchvision's layout restated; the CIFAR variant where `pooled` is 0."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layers, inside = [], 3
            for run, width in zip(config.convolutions, config.widths, strict=True):
                for _ in range(run):
                    layers += [
                        nn.Conv2d(inside, width, 3, padding=1),
                        *([nn.BatchNorm2d(width)] if config.batch_norm else []),
                        nn.ReLU(),
                    ]
                    inside = width
                layers.append(nn.MaxPool2d(2, 2))
            self.features, self.pool = (
                nn.Sequential(*layers),
                nn.AdaptiveAvgPool2d(config.pooled) if config.pooled else nn.Identity(),
            )
            d = config.dense_width
            self.classifier = nn.Sequential(
                nn.Linear(inside * (config.pooled or 1) ** 2, d),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(d, d),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(d, config.num_classes),
            )

        def forward(self, x):
            return self.classifier(self.pool(self.features(x)).flatten(1))

    return Net()


def check(parity, torch, config, images, stages):
    net = parity.randomise(torch, torch_vgg(torch, config))
    module, aliases = vgg.VGG(config), vgg.aliases(config)
    source = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    variables = parity.variables(module, images, source, vgg.layouts(config))
    values, logits = parity.recorded(
        module, variables, images, aliases, [f"features[{i}]" for i in stages]
    )
    x, shares = torch.tensor(images).permute(0, 3, 1, 2), []
    with torch.no_grad():
        for i, layer in enumerate(net.features):
            x = layer(x)
            if i in stages:
                shares.append(parity.close(values[f"features[{i}]"], x.permute(0, 2, 3, 1).numpy()))
        shares.append(parity.close(logits, net(torch.tensor(images).permute(0, 3, 1, 2)).numpy()))
    return net, module, variables, aliases, shares


@pytest.mark.parametrize(
    "config",
    [
        vgg.VGGConfig(
            (1, 1, 2), batch_norm=False, widths=(4, 8, 12), pooled=3, dense_width=20, num_classes=7
        ),
        vgg.VGGConfig(
            (1, 2), batch_norm=True, widths=(4, 8), pooled=8, dense_width=20, num_classes=7
        ),
        vgg.VGGConfig(
            (1, 1, 1, 1, 1),
            batch_norm=True,
            widths=(4, 6, 8, 10, 12),
            pooled=0,
            dense_width=20,
            num_classes=7,
        ),
    ],
)
def test_torchvisions_layout_stage_by_stage(parity, torch, config):
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    net, module, variables, aliases, _ = check(parity, torch, config, images, range(2, 10))
    assert len(aliases) == len(net.features) + 7
    parity.hook_agrees(
        torch, module, variables, images, aliases, "features[4]", net, net.features[4], 1
    )
    parity.hook_agrees(
        torch, module, variables, images, aliases, "classifier[4]", net, net.classifier[4], 1
    )
    if config.pooled == 3:
        parity.every_alias(module, variables, images, aliases)


def test_timms_names_hold_the_same_network():
    """Dense layers as convolutions, 7×7 and 1×1: timm/models/vgg.py."""
    config = vgg.VGGConfig(
        (1, 1), batch_norm=True, widths=(4, 8), pooled=3, dense_width=20, num_classes=7
    )
    images = jax.ShapeDtypeStruct((1, 12, 12, 3), jnp.float32)
    shapes = jax.eval_shape(vgg.VGG(config).init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    layouts = vgg.layouts(config)
    source = published(variables, layouts["torchvision"])
    given = {name.replace("classifier.6", "head.fc"): t for name, t in source.items()}
    for i, axes in ((0, (20, 8, 3, 3)), (3, (20, 20, 1, 1))):
        given[f"pre_logits.fc{i // 3 + 1}.weight"] = given.pop(f"classifier.{i}.weight").reshape(
            axes
        )
        given[f"pre_logits.fc{i // 3 + 1}.bias"] = given.pop(f"classifier.{i}.bias")
    found = convert(given, shapes, layouts, "test")
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    with pytest.raises(ValueError, match="missing from the file: params/classifier/3/bias"):
        convert({n: t for n, t in given.items() if "fc2.bias" not in n}, shapes, layouts, "test")


def test_the_papers_taps():
    """`features[43]` is VGG-16-BN's last pool, `classifier[4]` what its last dense layer reads."""
    module, aliases = vgg.VGG(vgg.cifar(16)), vgg.aliases(vgg.cifar(16))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    found = taps.sites(module, variables, images)
    assert found[taps.resolve("features[43]", found, aliases)].shape == (1, 1, 512)
    assert found[taps.resolve("classifier[4]", found, aliases)].shape == (512,)
    assert "features[44]" not in aliases


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16_bn_imagenet", "vgg16_bn_cifar100"])
def test_full_size(parity, torch, name):
    config, size = (
        (vgg.imagenet(16, True), 224) if name.endswith("imagenet") else (vgg.cifar(16), 32)
    )
    images = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype(np.float32)
    *_, shares = check(parity, torch, config, images, (2, 23))
    print(
        f"\n{name}: features[2] {shares[0]:.1e}, features[23] {shares[1]:.1e}, "
        f"logits {shares[2]:.1e} of the scale"
    )
