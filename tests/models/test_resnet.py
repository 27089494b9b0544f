"""ResNet-18 to -152 against a torch restatement with torchvision's names, and against transformers'
own network."""

import jax
import numpy as np
import pytest

from jaxle.models import checkpoints, resnet

IMAGES = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)


def torch_resnet(torch, config):
    """torchvision's layout restated (v1.5: stride in the bottleneck's 3×3)."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inside, width, stride):
            super().__init__()
            outside = width * (4 if config.bottleneck else 1)
            shapes = [(inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1)]
            if not config.bottleneck:
                shapes = [(inside, width, 3, stride), (width, width, 3, 1)]
            self.n = len(shapes)
            for i, (a, b, size, step) in enumerate(shapes, 1):
                setattr(self, f"conv{i}", nn.Conv2d(a, b, size, step, size // 2, bias=False))
                setattr(self, f"bn{i}", nn.BatchNorm2d(b))
            if stride > 1 or inside != outside:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x):
            h = x
            for i in range(1, self.n + 1):
                h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
                h = torch.relu(h) if i < self.n else h
            return torch.relu(h + (self.downsample(x) if hasattr(self, "downsample") else x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = (
                nn.Conv2d(3, config.width, 7, 2, 3, bias=False),
                nn.BatchNorm2d(config.width),
            )
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            inside = config.width
            for i, blocks in enumerate(config.blocks):
                width, layers = config.width * 2**i, []
                for j in range(blocks):
                    layers.append(Block(inside, width, 2 if i and not j else 1))
                    inside = width * (4 if config.bottleneck else 1)
                setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
            self.fc = nn.Linear(inside, config.num_classes)

        def forward(self, x):
            x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
            for i in range(1, 5):
                x = getattr(self, f"layer{i}")(x)
            return self.fc(x.mean((2, 3)))

    return Net()


def outputs(torch, net, images, *modules):
    """What modules give on a forward pass, channels last, and the logits."""
    held = []
    handles = [
        m.register_forward_hook(lambda _, __, out: held.append(out.permute(0, 2, 3, 1).numpy()))
        for m in modules
    ]
    with torch.no_grad():
        logits = net(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    for handle in handles:
        handle.remove()
    return held, logits


@pytest.mark.parametrize("bottleneck", [False, True])
def test_torchvisions_layout_stage_by_stage(parity, torch, bottleneck):
    config = resnet.ResNetConfig((1, 2, 1, 1), bottleneck, width=8, num_classes=11)
    net = parity.randomise(torch, torch_resnet(torch, config))
    module = resnet.ResNet(config)
    source = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    variables = parity.variables(module, IMAGES, source, resnet.LAYOUTS)
    names = ("conv1", "layer1", "layer2", "layer3", "layer4")
    values, logits = parity.recorded(module, variables, IMAGES, resnet.ALIASES, names)
    held, expected = outputs(
        torch, net, IMAGES, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4
    )
    for name, value in zip(names, held, strict=True):
        parity.close(values[name], value)
    parity.close(logits, expected)
    for name in ("layer2", "layer4"):
        parity.hook_agrees(
            torch, module, variables, IMAGES, resnet.ALIASES, name, net, getattr(net, name), 1
        )
    if not bottleneck:
        parity.every_alias(
            module, variables, IMAGES, {**resnet.ALIASES, **{name: name for name in names[1:]}}
        )


def test_transformers_layout(parity, torch, tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 2, 1, 1],
        layer_type="bottleneck",
        num_labels=7,
    )
    net = parity.randomise(torch, ResNetForImageClassification(config))
    net.save_pretrained(tmp_path)
    module = resnet.ResNet(
        resnet.ResNetConfig((1, 2, 1, 1), bottleneck=True, width=8, num_classes=7)
    )
    variables = parity.variables(
        module, IMAGES, checkpoints.read(tmp_path / "model.safetensors"), resnet.LAYOUTS
    )
    with torch.no_grad():
        expected = net(torch.tensor(IMAGES).permute(0, 3, 1, 2)).logits.numpy()
    parity.close(jax.jit(module.apply)(variables, IMAGES), expected)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_full_size(parity, torch, name):
    config = getattr(resnet, name)()
    net = parity.randomise(torch, torch_resnet(torch, config))
    images = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    module = resnet.ResNet(config)
    variables = parity.variables(
        module, images, {key: t.numpy() for key, t in net.state_dict().items()}, resnet.LAYOUTS
    )
    values, logits = parity.recorded(module, variables, images, resnet.ALIASES, ("conv1", "layer2"))
    (stem, middle), expected = outputs(torch, net, images, net.maxpool, net.layer2)
    shares = (
        parity.close(values["conv1"], stem),
        parity.close(values["layer2"], middle),
        parity.close(logits, expected),
    )
    print(
        f"\n{name}: stem {shares[0]:.1e}, layer2 {shares[1]:.1e}, "
        f"logits {shares[2]:.1e} of the scale"
    )
