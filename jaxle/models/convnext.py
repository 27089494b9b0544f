"""ConvNeXt and ConvNeXt V2, from tiny to large.

Stem (4×4 convolution, norm), four stages of blocks, each but the first begun by a norm and a 2×2
convolution, global average, norm, dense layer.

    block(x)  = x + γ·Dense_1(gelu(Dense_0(norm(depthwise 7×7 convolution(x)))))
    V2        = x +   Dense_1(GRN(gelu(Dense_0(norm(depthwise 7×7 convolution(x))))))
    GRN(h)    = h + scale·h·n/mean(n) + bias,   n = length of a channel over positions

A block's hidden units after the activation are the tap `stage4/2/mlp/act`.

Source: Liu et al., CVPR 2022 (arXiv 2201.03545); Woo et al., CVPR 2023 (arXiv 2301.00808); names of
torchvision's, timm's, transformers' and the authors' files.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.vit import ACTIVATIONS
from jaxle.models.weights import FLAX, Layout, Rename, conv, layer_norm, linear, pointwise


@dataclasses.dataclass(frozen=True)
class ConvNeXtConfig:
    """Shape of one network: blocks and width a stage; V2 has GRN in place of γ.

    `last_epsilon` is that of the norm before the head, which transformers' config.json names.
    """

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    v2: bool = False
    activation: str = "gelu"
    last_epsilon: float = 1e-6
    num_classes: int = 1000


def _norm(dtype: DTypeLike, name: str, epsilon: float = 1e-6) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon, dtype=dtype, name=name)


class Downsample(nn.Module):
    """A convolution without overlap, and a norm after it (the stem) or before it."""

    width: int
    size: int
    norm_first: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        norm, window = _norm(self.dtype, "norm"), (self.size, self.size)
        convolve = nn.Conv(self.width, window, window, "VALID", dtype=self.dtype, name="conv")
        return convolve(norm(x)) if self.norm_first else norm(convolve(x))


class Activation(nn.Module):
    """An activation, as a module so that it can be tapped."""

    kind: str

    @nn.compact
    def __call__(self, x: Float[Array, "images *axes"]) -> Float[Array, "images *axes"]:
        return ACTIVATIONS[self.kind](x)


class GlobalResponseNorm(nn.Module):
    """Each channel times its length over positions, relative to the mean channel's (V2, §3)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images height width channels"]:
        scale, bias = (
            self.param(name, nn.initializers.zeros, (x.shape[-1],))
            .astype(self.dtype)
            .reshape(1, 1, 1, -1)
            for name in ("scale", "bias")
        )
        lengths = jnp.sqrt(jnp.sum(x * x, axis=(1, 2), keepdims=True))
        relative = lengths / (jnp.mean(lengths, axis=-1, keepdims=True) + 1e-6)
        return x + scale * (x * relative) + bias


class Mlp(nn.Module):
    """Two dense layers a position, an activation and V2's norm between."""

    config: ConvNeXtConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images height width channels"]:
        h = nn.Dense(4 * x.shape[-1], dtype=self.dtype, name="Dense_0")(x)
        h = Activation(self.config.activation, name="act")(h)
        if self.config.v2:
            h = GlobalResponseNorm(self.dtype, name="grn")(h)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="Dense_1")(h)


class Block(nn.Module):
    """One residual block (V1, figure 4; V2, figure 5)."""

    config: ConvNeXtConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images height width channels"]:
        width = x.shape[-1]
        h = nn.Conv(
            width,
            (7, 7),
            padding=((3, 3), (3, 3)),
            feature_group_count=width,
            dtype=self.dtype,
            name="conv",
        )(x)
        h = Mlp(self.config, self.dtype, name="mlp")(_norm(self.dtype, "norm")(h))
        if not self.config.v2:
            gamma = self.param("gamma", nn.initializers.constant(1e-6), (width,))
            h = h * gamma.astype(self.dtype).reshape(1, 1, 1, -1)
        return x + h


class Stage(nn.Module):
    """A run of blocks at one resolution; but for the first, it begins with a downsampling."""

    config: ConvNeXtConfig
    number: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images height width channels"]
    ) -> Float[Array, "images _ _ _"]:
        if self.number:
            width = self.config.widths[self.number]
            x = Downsample(width, 2, True, self.dtype, name="downsample")(x)
        for i in range(self.config.blocks[self.number]):
            x = Block(self.config, self.dtype, name=str(i))(x)
        return x


class ConvNeXt(nn.Module):
    """ImageNet classifiers, in evaluation mode.

    Args:
      images: float (images, height, width, 3), normalised.

    Returns:
      float32 logits (images, classes).
    """

    config: ConvNeXtConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images classes"]:
        c = self.config
        x = Downsample(c.widths[0], 4, False, self.dtype, name="stem")(images)
        for i in range(len(c.blocks)):
            x = Stage(c, i, self.dtype, name=f"stage{i + 1}")(x)
        x = _norm(self.dtype, "norm", c.last_epsilon)(jnp.mean(x, axis=(1, 2)))
        return nn.Dense(c.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


_SIZES = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
}


def of_size(size: str, v2: bool = False) -> ConvNeXtConfig:
    """Returns ConvNeXt-tiny, -small, -base or -large; of V2 -nano, -tiny, -base or -large."""
    return ConvNeXtConfig(*_SIZES[size], v2=v2)


def adapted(config: ConvNeXtConfig, declared: Declared) -> ConvNeXtConfig:
    """Returns the network with the checkpoint's number of classes, and the activation and last
    epsilon of its config.json.

    Raises:
      ValueError: a config.json of another patch, depths, widths or version.
    """
    classes = declared.outputs("head", config.num_classes)
    config = dataclasses.replace(config, num_classes=classes)
    kinds = ("convnext", "convnextv2")
    if not any(declared.is_of(kind) for kind in kinds):
        return config
    declared.require("model_type", kinds[0], kinds[config.v2])
    declared.require("patch_size", 4, 4)
    declared.require("depths", list(_SIZES["tiny"][0]), list(config.blocks))
    declared.require("hidden_sizes", list(_SIZES["tiny"][1]), list(config.widths))
    return dataclasses.replace(
        config,
        activation=declared.activation("hidden_act", "gelu"),
        last_epsilon=float(declared.get("layer_norm_eps", 1e-12)),
    )


def aliases(config: ConvNeXtConfig) -> dict[str, str]:
    """Returns torchvision's, timm's and transformers' names of stages, blocks and hidden units.

    torchvision's `features` hold stem, stages and downsamplings in turn.
    """
    found = {"features[0]": "stem", "convnext.embeddings": "stem"}
    for s, blocks in enumerate(config.blocks):
        stage = f"stage{s + 1}"
        found |= {name: stage for name in (f"stages[{s}]", f"features[{2 * s + 1}]")}
        found[f"{'convnextv2' if config.v2 else 'convnext'}.encoder.stages[{s}]"] = stage
        for b in range(blocks):
            block, hidden = f"{stage}/{b}", f"{stage}/{b}/mlp/act"
            found |= {f"stages[{s}].blocks[{b}]": block, f"features[{2 * s + 1}][{b}]": block}
            found |= {
                f"stages[{s}].blocks[{b}].mlp.act": hidden,
                f"features[{2 * s + 1}][{b}].block[4]": hidden,
            }
    return found


def _rows() -> tuple[Rename, ...]:
    """timm's names; its stages count from 0."""

    def convolution(source: str, path: str) -> tuple[Rename, ...]:
        return (
            Rename(rf"{source}\.weight", f"params/{path}/kernel", conv),
            Rename(rf"{source}\.bias", f"params/{path}/bias"),
        )

    rows = [*convolution(r"stem\.0", "stem/conv"), *layer_norm(r"stem\.1", "stem/norm")]
    rows += [*layer_norm(r"head\.norm", "norm"), *linear(r"head\.fc", "head")]
    for s in range(4):
        down, block, path = (
            rf"stages\.{s}\.downsample",
            rf"stages\.{s}\.blocks\.(\d+)",
            rf"stage{s + 1}",
        )
        rows += layer_norm(rf"{down}\.0", f"{path}/downsample/norm")
        rows += convolution(rf"{down}\.1", f"{path}/downsample/conv")
        path = rf"{path}/\1"
        rows += convolution(rf"{block}\.conv_dw", f"{path}/conv")
        rows += layer_norm(rf"{block}\.norm", f"{path}/norm")
        for i in range(2):  # 1×1 convolutions in timm's small sizes
            source, to = rf"{block}\.mlp\.fc{i + 1}", f"params/{path}/mlp/Dense_{i}"
            rows.append(Rename(rf"{source}\.weight", f"{to}/kernel", pointwise))
            rows.append(Rename(rf"{source}\.bias", f"{to}/bias"))
        rows += [
            Rename(rf"{block}\.gamma", f"params/{path}/gamma", np.ravel),
            Rename(rf"{block}\.mlp\.grn\.weight", f"params/{path}/mlp/grn/scale", np.ravel),
            Rename(rf"{block}\.mlp\.grn\.bias", f"params/{path}/mlp/grn/bias", np.ravel),
        ]
    return tuple(rows)


# Each format's names → timm's, one substitution after another.
_TRANSFORMERS = (
    (r"^convnext(v2)?\.", ""),
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.", ""),
    (r"\.downsampling_layer\.", ".downsample."),
    (r"\.layers\.", ".blocks."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.layernorm\.", ".norm."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"\.grn\.", ".mlp.grn."),
    (r"^layernorm\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)
_TORCHVISION = (
    (r"^features\.0\.", "stem."),
    *((rf"^features\.{2 * s}\.", f"stages.{s}.downsample.") for s in (1, 2, 3)),
    *((rf"^features\.{2 * s + 1}\.(\d+)\.", rf"stages.{s}.blocks.\1.") for s in range(4)),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
    (r"^classifier\.0\.", "head.norm."),
    (r"^classifier\.2\.", "head.fc."),
)
_AUTHORS = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)


def _renamed(
    table: tuple[tuple[str, str], ...], source: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    found = {}
    for name, tensor in source.items():
        for pattern, new in table:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


_ROWS = _rows()
LAYOUTS = {
    "timm": Layout(_ROWS),
    "transformers": Layout(_ROWS, prepare=functools.partial(_renamed, _TRANSFORMERS)),
    "torchvision": Layout(_ROWS, prepare=functools.partial(_renamed, _TORCHVISION)),
    "authors": Layout(_ROWS, prepare=functools.partial(_renamed, _AUTHORS)),
    "flax": FLAX,
}
