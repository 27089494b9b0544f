"""VGG-11 to -19, with and without batch norm, for 224×224 images and for CIFAR.

Runs of 3×3 convolutions, each run closed by a 2×2 max pool, then three dense layers with relu
between them. Every member of torchvision's `features` and `classifier` lists is a module of its own
here, relu and dropout too, so that `features[43]` and `classifier[4]` are taps.

Source: Simonyan & Zisserman, ICLR 2015 (arXiv 1409.1556), table 1; layout of
torchvision/models/vgg.py; the CIFAR variant (no 7×7 pool, dense layers of 512) is that of
github.com/chenyaofo/pytorch-cifar-models.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.weights import FLAX, Layout, Rename, batch_norm, conv, dense, linear, pointwise

_WIDTHS = (64, 128, 256, 512, 512)


@dataclasses.dataclass(frozen=True)
class VGGConfig:
    """Shape of one network: convolutions a run, their widths, the grid and width of the dense part.

    `pooled=0` leaves the grid as it comes.
    """

    convolutions: tuple[int, ...]
    batch_norm: bool
    widths: tuple[int, ...] = _WIDTHS
    pooled: int = 7
    dense_width: int = 4096
    num_classes: int = 1000


class Relu(nn.Module):
    """max(x, 0), as a module so that it can be tapped."""

    @nn.compact
    def __call__(self, x: Float[Array, "images *axes"]) -> Float[Array, "images *axes"]:
        return nn.relu(x)


class MaxPool(nn.Module):
    """2×2 max pool with stride 2, as a module so that it can be tapped."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        return nn.max_pool(x, (2, 2), (2, 2))


class Features(nn.Module):
    """Convolutions, batch norms, relus and pools, numbered as in torchvision's list."""

    config: VGGConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        i = 0
        for run, width in zip(self.config.convolutions, self.config.widths, strict=True):
            for _ in range(run):
                x = nn.Conv(
                    width,
                    (3, 3),
                    padding=((1, 1), (1, 1)),
                    dtype=self.dtype,
                    kernel_init=nn.initializers.kaiming_normal(),
                    name=str(i),
                )(x)
                if self.config.batch_norm:
                    x = nn.BatchNorm(
                        use_running_average=True,
                        momentum=0.9,
                        epsilon=1e-5,
                        dtype=self.dtype,
                        name=str(i + 1),
                    )(x)
                x = Relu(name=str(i + 1 + self.config.batch_norm))(x)
                i += 2 + self.config.batch_norm
            x = MaxPool(name=str(i))(x)
            i += 1
        return x


class Classifier(nn.Module):
    """Dense, relu and dropout (inactive), twice, and the last dense layer, numbered as in
    torchvision's list."""

    config: VGGConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "images numbers"]) -> Float[Array, "images classes"]:
        for i in (0, 3):
            x = Relu(name=str(i + 1))(
                nn.Dense(self.config.dense_width, dtype=self.dtype, name=str(i))(x)
            )
            x = nn.Dropout(0.5, deterministic=True, name=str(i + 2))(x)
        return nn.Dense(self.config.num_classes, dtype=self.dtype, name="6")(x)


class VGG(nn.Module):
    """The ImageNet and CIFAR-100 classifiers, in evaluation mode (Simonyan & Zisserman, table 1).

    Args:
      images: float (images, height, width, 3), normalised.

    Returns:
      float32 logits (images, classes).
    """

    config: VGGConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images classes"]:
        x = Features(self.config, self.dtype, name="features")(images)
        if self.config.pooled:
            rows, columns = (
                jnp.asarray(_bins(n, self.config.pooled), x.dtype) for n in x.shape[1:3]
            )
            x = jnp.einsum("nhwc,ph,qw->npqc", x, rows, columns)
        return Classifier(self.config, self.dtype, name="classifier")(
            x.reshape(x.shape[0], -1)
        ).astype(jnp.float32)


def _bins(n: int, pooled: int) -> np.ndarray:
    """(pooled, n): the averages that torch's AdaptiveAvgPool2d takes along one axis.

    The identity where n = pooled.
    """
    average = np.zeros((pooled, n), np.float32)
    for i in range(pooled):
        first, last = i * n // pooled, -(-(i + 1) * n // pooled)
        average[i, first:last] = 1 / (last - first)
    return average


_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def imagenet(depth: int, batch_norm: bool) -> VGGConfig:
    """Returns VGG-11, -13, -16 or -19 for 1000 classes: 133 to 144 M parameters."""
    return VGGConfig(_CONVOLUTIONS[depth], batch_norm)


def cifar(depth: int, num_classes: int = 100) -> VGGConfig:
    """Returns VGG-11, -13, -16 or -19 with batch norm for 32×32 images: 9.8 to 20.6 M weights."""
    return VGGConfig(
        _CONVOLUTIONS[depth], batch_norm=True, pooled=0, dense_width=512, num_classes=num_classes
    )


def adapted(config: VGGConfig, declared: Declared) -> VGGConfig:
    """Returns the network with the checkpoint's number of classes."""
    classes = declared.outputs("classifier/6", config.num_classes)
    return dataclasses.replace(config, num_classes=classes)


def aliases(config: VGGConfig) -> dict[str, str]:
    """Returns the taps `features[i]` and `classifier[i]`, as the paper's commands write them."""
    last = sum(config.convolutions) * (2 + config.batch_norm) + len(config.convolutions)
    return {f"features[{i}]": f"features/{i}" for i in range(last)} | {
        f"classifier[{i}]": f"classifier/{i}" for i in range(7)
    }


def layouts(config: VGGConfig) -> dict[str, Layout]:
    """Returns torchvision's and pytorch-cifar-models' names, and timm's.

    Their first dense layer reads channels first, ours last. timm's is a 7×7 convolution, and its
    second a 1×1 one.
    """

    def first_dense(tensor: np.ndarray) -> np.ndarray:
        return conv(
            tensor.reshape(
                tensor.shape[0], config.widths[-1], config.pooled or 1, config.pooled or 1
            )
        ).reshape(-1, tensor.shape[0])

    features = (
        Rename(r"features\.(\d+)\.weight", r"params/features/\1/kernel", conv),
        Rename(r"features\.(\d+)\.bias", r"params/features/\1/bias"),
        *batch_norm(r"features\.(\d+)", r"features/\1"),
    )
    torchvision = (
        Rename(r"classifier\.0\.weight", "params/classifier/0/kernel", first_dense),
        Rename(r"classifier\.([36])\.weight", r"params/classifier/\1/kernel", dense),
        Rename(r"classifier\.(\d)\.bias", r"params/classifier/\1/bias"),
    )
    timm = (
        Rename(r"pre_logits\.fc1\.weight", "params/classifier/0/kernel", first_dense),
        Rename(r"pre_logits\.fc2\.weight", "params/classifier/3/kernel", pointwise),
        Rename(r"pre_logits\.fc1\.bias", "params/classifier/0/bias"),
        Rename(r"pre_logits\.fc2\.bias", "params/classifier/3/bias"),
        *linear(r"head\.fc", "classifier/6"),
    )
    return {
        "torchvision": Layout(features + torchvision, ignored=_COUNTERS),
        "timm": Layout(features + timm, ignored=_COUNTERS),
        "flax": FLAX,
    }


_COUNTERS = (r".*\.num_batches_tracked",)
