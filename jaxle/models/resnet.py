"""ResNet-18 to -152 for 224×224 images, in torchvision's layout.

It is version 1.5: a bottleneck's stride sits in its 3×3 convolution. Stem (7×7 convolution, batch
norm, relu, 3×3 max pool), four stages of blocks, global average, dense layer.

    basic(x)      = relu(x' + bn2(conv2(relu(bn1(conv1(x))))))
    bottleneck(x) = relu(x' + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))))
    x'            = x, or bn(conv(x)) where the shape changes

Source: He, Zhang, Ren & Sun, CVPR 2016 (arXiv 1512.03385); names as in
torchvision/models/resnet.py, but for the stem, which is one module here because the paper's tap
`conv1` is what leaves the pool. timm's files have the same names; transformers' are read too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.weights import FLAX, Layout, Rename, batch_norm, conv, dense


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Shape of one network: blocks a stage, kind of block, width of the first stage."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    num_classes: int = 1000


def _conv(width: int, size: int, stride: int, dtype, name: str) -> nn.Conv:
    pad = size // 2
    return nn.Conv(
        width,
        (size, size),
        (stride, stride),
        ((pad, pad), (pad, pad)),
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.kaiming_normal(),
        name=name,
    )


def _norm(dtype, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=True, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


class Stem(nn.Module):
    """7×7 convolution, batch norm, relu, max pool: images, h, w, 3 to images, h/4, w/4, width."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        x = nn.relu(_norm(self.dtype, "bn1")(_conv(self.width, 7, 2, self.dtype, "conv1")(x)))
        edges: Any = ((1, 1), (1, 1))  # Linen annotates str and takes pairs too
        return nn.max_pool(x, (3, 3), (2, 2), edges)


class Block(nn.Module):
    """A basic or bottleneck block; `width` is that of its 3×3 convolutions."""

    width: int
    stride: int
    bottleneck: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        if self.bottleneck:
            shapes = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
        else:
            shapes = ((self.width, 3, self.stride), (self.width, 3, 1))
        h = x
        for i, shape in enumerate(shapes, start=1):
            h = _norm(self.dtype, f"bn{i}")(_conv(*shape, self.dtype, f"conv{i}")(h))
            h = nn.relu(h) if i < len(shapes) else h
        if x.shape != h.shape:
            x = Downsample(h.shape[-1], self.stride, self.dtype, name="downsample")(x)
        return nn.relu(x + h)


class Downsample(nn.Module):
    """The shortcut where a stage changes the shape: 1×1 convolution and batch norm."""

    width: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        return _norm(self.dtype, "1")(_conv(self.width, 1, self.stride, self.dtype, "0")(x))


class Stage(nn.Module):
    """A run of blocks at one resolution; the first has the stage's stride."""

    blocks: int
    width: int
    stride: int
    bottleneck: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        for i in range(self.blocks):
            x = Block(
                self.width, self.stride if i == 0 else 1, self.bottleneck, self.dtype, name=str(i)
            )(x)
        return x


class ResNet(nn.Module):
    """The ImageNet and Places365 classifiers, in evaluation mode (He et al. 2016, table 1).

    Args:
      images: float (images, height, width, 3), normalised.

    Returns:
      float32 logits (images, classes).
    """

    config: ResNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images classes"]:
        c = self.config
        x = Stem(c.width, self.dtype, name="stem")(images)
        for i, blocks in enumerate(c.blocks):
            x = Stage(
                blocks,
                c.width * 2**i,
                1 if i == 0 else 2,
                c.bottleneck,
                self.dtype,
                name=f"layer{i + 1}",
            )(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(c.num_classes, dtype=self.dtype, name="fc")(x).astype(jnp.float32)


def resnet18(num_classes: int = 1000) -> ResNetConfig:
    """Returns ResNet-18: 11.7 M parameters with 1000 classes."""
    return ResNetConfig((2, 2, 2, 2), bottleneck=False, num_classes=num_classes)


def resnet34(num_classes: int = 1000) -> ResNetConfig:
    """Returns ResNet-34: 21.8 M parameters."""
    return ResNetConfig((3, 4, 6, 3), bottleneck=False, num_classes=num_classes)


def resnet50(num_classes: int = 1000) -> ResNetConfig:
    """Returns ResNet-50: 25.6 M parameters."""
    return ResNetConfig((3, 4, 6, 3), bottleneck=True, num_classes=num_classes)


def resnet101(num_classes: int = 1000) -> ResNetConfig:
    """Returns ResNet-101: 44.5 M parameters."""
    return ResNetConfig((3, 4, 23, 3), bottleneck=True, num_classes=num_classes)


def resnet152(num_classes: int = 1000) -> ResNetConfig:
    """Returns ResNet-152: 60.2 M parameters."""
    return ResNetConfig((3, 8, 36, 3), bottleneck=True, num_classes=num_classes)


def adapted(config: ResNetConfig, declared: Declared) -> ResNetConfig:
    """Returns the network with the checkpoint's number of classes.

    Raises:
      ValueError: a config.json of another activation, or of strides in the first convolutions of
        blocks (version 1).
    """
    if declared.is_of("resnet"):
        declared.require("hidden_act", "relu", "relu")
        declared.require("downsample_in_bottleneck", False, False)
    return dataclasses.replace(config, num_classes=declared.outputs("fc", config.num_classes))


# The paper's name, and transformers'.
ALIASES = {"conv1": "stem", "resnet.embedder": "stem"} | {
    f"resnet.encoder.stages[{stage}]": f"layer{stage + 1}" for stage in range(4)
}

_COUNTERS = (r".*\.num_batches_tracked",)


def _transformers() -> tuple[Rename, ...]:
    """Its stages count from 0, and so do the convolutions of a block."""
    rows = [
        Rename(
            r"resnet\.embedder\.embedder\.convolution\.weight", "params/stem/conv1/kernel", conv
        ),
        *batch_norm(r"resnet\.embedder\.embedder\.normalization", "stem/bn1"),
        Rename(r"classifier\.1\.weight", "params/fc/kernel", dense),
        Rename(r"classifier\.1\.bias", "params/fc/bias"),
    ]
    for s in range(4):
        block = rf"resnet\.encoder\.stages\.{s}\.layers\.(\d+)"
        rows += [
            Rename(
                rf"{block}\.shortcut\.convolution\.weight",
                rf"params/layer{s + 1}/\1/downsample/0/kernel",
                conv,
            ),
            *batch_norm(rf"{block}\.shortcut\.normalization", rf"layer{s + 1}/\1/downsample/1"),
        ]
        for i in range(3):
            rows += [
                Rename(
                    rf"{block}\.layer\.{i}\.convolution\.weight",
                    rf"params/layer{s + 1}/\1/conv{i + 1}/kernel",
                    conv,
                ),
                *batch_norm(rf"{block}\.layer\.{i}\.normalization", rf"layer{s + 1}/\1/bn{i + 1}"),
            ]
    return tuple(rows)


LAYOUTS = {
    "torchvision": Layout(
        renames=(
            Rename(r"conv1\.weight", "params/stem/conv1/kernel", conv),
            *batch_norm(r"bn1", "stem/bn1"),
            Rename(r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"params/layer\1/\2/conv\3/kernel", conv),
            *batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1/\2/bn\3"),
            Rename(
                r"layer(\d)\.(\d+)\.downsample\.0\.weight",
                r"params/layer\1/\2/downsample/0/kernel",
                conv,
            ),
            *batch_norm(r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1/\2/downsample/1"),
            Rename(r"fc\.weight", "params/fc/kernel", dense),
            Rename(r"fc\.bias", "params/fc/bias"),
        ),
        ignored=_COUNTERS,
    ),
    "transformers": Layout(_transformers(), ignored=_COUNTERS),
    "flax": FLAX,
}
