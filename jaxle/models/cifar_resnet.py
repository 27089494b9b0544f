"""The CIFAR residual networks of 20 to 110 layers, and the small one of the scenes world.

A 3×3 convolution, three stages of basic blocks (the second and third halve the resolution and
double the width), a global average and a dense layer. Shortcuts have no parameters ("option A"):
where a stage begins, the input is subsampled by two and its missing channels are filled with zeros
on both sides.

    block(x) = relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x))))))

Source: He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016, §4.2
(arXiv 1512.03385). Module names follow the torch files of
github.com/akamaster/pytorch_resnet_cifar10: taps are `layer1`, `layer3/0/conv1`, `linear`, ….
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.weights import FLAX, Layout, Rename, batch_norm, conv, dense, keep


@dataclasses.dataclass(frozen=True)
class CifarResNetConfig:
    """Shape of one network of the family: depth is 2·sum(blocks) + 2 layers."""

    blocks: tuple[int, ...] = (3, 3, 3)
    widths: tuple[int, ...] = (16, 32, 64)
    stem_stride: int = 1
    num_classes: int = 10


def _conv3x3(width: int, stride: int, dtype, name: str) -> nn.Conv:
    return nn.Conv(
        width,
        (3, 3),
        (stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.kaiming_normal(),
        name=name,
    )


def _batch_norm(train: bool, dtype, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut without parameters.

    Maps (images, h, w, c) to (images, h / stride, w / stride, width).
    """

    width: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"], train: bool = False
    ) -> Float[Array, "images _ _ _"]:
        h = nn.relu(
            _batch_norm(train, self.dtype, "bn1")(
                _conv3x3(self.width, self.stride, self.dtype, "conv1")(x)
            )
        )
        h = _batch_norm(train, self.dtype, "bn2")(_conv3x3(self.width, 1, self.dtype, "conv2")(h))
        missing = self.width - x.shape[-1]
        shortcut = x[:, :: self.stride, :: self.stride, :]
        shortcut = jnp.pad(
            shortcut, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
        )
        return nn.relu(shortcut + h)


class Stage(nn.Module):
    """A run of blocks at one resolution; the first has the stage's stride."""

    blocks: int
    width: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"], train: bool = False
    ) -> Float[Array, "images _ _ _"]:
        for i in range(self.blocks):
            x = BasicBlock(self.width, self.stride if i == 0 else 1, self.dtype, name=str(i))(
                x, train
            )
        return x


class CifarResNet(nn.Module):
    """A classifier of 32×32 images, and with `stem_stride=2` of 64×64 scenes (He et al., §4.2).

    Args:
      images: float (images, height, width, 3), normalised.
      train: use and update batch statistics (collection "batch_stats").

    Returns:
      float32 logits (images, classes).
    """

    config: CifarResNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"], train: bool = False
    ) -> Float[Array, "images classes"]:
        c = self.config
        x = _conv3x3(c.widths[0], c.stem_stride, self.dtype, "conv1")(images)
        x = nn.relu(_batch_norm(train, self.dtype, "bn1")(x))
        for i, (blocks, width) in enumerate(zip(c.blocks, c.widths, strict=True)):
            x = Stage(blocks, width, 1 if i == 0 else 2, self.dtype, name=f"layer{i + 1}")(x, train)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(c.num_classes, dtype=self.dtype, name="linear")(x).astype(jnp.float32)


def _of_depth(depth: int, num_classes: int) -> CifarResNetConfig:
    return CifarResNetConfig(blocks=((depth - 2) // 6,) * 3, num_classes=num_classes)


def resnet20(num_classes: int = 10) -> CifarResNetConfig:
    """Returns ResNet-20: 0.27 M parameters."""
    return _of_depth(20, num_classes)


def resnet32(num_classes: int = 10) -> CifarResNetConfig:
    """Returns ResNet-32: 0.46 M parameters."""
    return _of_depth(32, num_classes)


def resnet44(num_classes: int = 10) -> CifarResNetConfig:
    """Returns ResNet-44: 0.66 M parameters."""
    return _of_depth(44, num_classes)


def resnet56(num_classes: int = 10) -> CifarResNetConfig:
    """Returns ResNet-56: 0.85 M parameters."""
    return _of_depth(56, num_classes)


def resnet110(num_classes: int = 10) -> CifarResNetConfig:
    """Returns ResNet-110: 1.7 M parameters."""
    return _of_depth(110, num_classes)


def scenes_resnet(num_classes: int = 10) -> CifarResNetConfig:
    """Returns the target of the embedded default, for 64×64 scenes.

    0.17 M parameters, 53 MFLOP an image (multiplications and additions counted).
    """
    return CifarResNetConfig(
        blocks=(2, 2, 2), widths=(16, 32, 64), stem_stride=2, num_classes=num_classes
    )


def adapted(config: CifarResNetConfig, declared: Declared) -> CifarResNetConfig:
    """Returns the network with the checkpoint's number of classes."""
    classes = declared.outputs("linear", config.num_classes)
    return dataclasses.replace(config, num_classes=classes)


LAYOUTS = {
    "akamaster": Layout(
        renames=(
            Rename(r"conv1\.weight", "params/conv1/kernel", conv),
            *batch_norm(r"bn1", "bn1"),
            Rename(r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"params/layer\1/\2/conv\3/kernel", conv),
            *batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1/\2/bn\3"),
            Rename(r"linear\.weight", "params/linear/kernel", dense),
            Rename(r"linear\.bias", "params/linear/bias", keep),
        ),
        ignored=(r".*\.num_batches_tracked",),
    ),
    "flax": FLAX,
}
