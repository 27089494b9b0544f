"""DINOv2, with and without registers: vision transformers trained without labels.

    tokens = class token, registers, patches·E + positions (the class token has one too)
    block(x): x += s₁·attention(norm(x));  x += s₂·mlp(norm(x))
    mlp(x) = Dense_1(gelu(Dense_0(x))); of the giant: Dense_1(silu(gate(x))·Dense_0(x))
    output = norm(x) of the class token (images, width); with a head, logits

Positions were learnt on a grid of 37 × 37 patches (518 pixels). For another image size they are
interpolated bicubically, as the authors' networks do it, antialiased where there are registers.

Source: Oquab et al. 2023 (arXiv 2304.07193); Darcet et al. 2023, registers (arXiv 2309.16588);
transformers, modeling_dinov2.py and modeling_dinov2_with_registers.py; timm's names, which are also
those of the authors' .pth files. Modules are named as in vit.py.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models import vit
from jaxle.models.bicubic import resampled
from jaxle.models.declared import Declared
from jaxle.models.weights import (
    FLAX,
    Layout,
    Rename,
    attention,
    conv,
    fused_attention,
    layer_norm,
    linear,
)


@dataclasses.dataclass(frozen=True)
class DINOv2Config:
    """Shape of one network.

    `grid` is the side of the table of positions, in patches; `gated` the giant's mlp; `pooled` says
    whether a head reads the mean of the patches beside the class token.
    """

    patch: int = 14
    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    heads: int = 12
    registers: int = 0
    gated: bool = False
    grid: int = 37
    activation: str = "gelu"
    epsilon: float = 1e-6
    num_classes: int | None = None
    pooled: bool = True


class LayerScale(nn.Module):
    """One learnt factor a channel."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*positions width"]) -> Float[Array, "*positions width"]:
        gamma = self.param("gamma", nn.initializers.ones, (x.shape[-1],))
        return x * gamma.astype(self.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class GatedMlp(nn.Module):
    """Two dense layers, the first's output times that of a gate (Shazeer 2020, SwiGLU)."""

    mlp_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*positions width"]) -> Float[Array, "*positions width"]:
        gate = nn.Dense(self.mlp_dim, dtype=self.dtype, name="gate")(x)
        h = nn.silu(gate) * nn.Dense(self.mlp_dim, dtype=self.dtype, name="Dense_0")(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="Dense_1")(h)


def mlp(config, dtype: DTypeLike) -> nn.Module:
    """Returns the mlp of a block, plain or gated, under one name."""
    if config.gated:
        return GatedMlp(config.mlp_dim, dtype, name="MlpBlock_0")
    return vit.MlpBlock(config.mlp_dim, config.activation, dtype, name="MlpBlock_0")


class Block(nn.Module):
    """One transformer block on (images, tokens, width)."""

    config: DINOv2Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images tokens width"]
    ) -> Float[Array, "images tokens width"]:
        c = self.config
        y = nn.LayerNorm(c.epsilon, dtype=self.dtype)(x)
        y = nn.MultiHeadDotProductAttention(
            c.heads, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
        )(y, y)
        x = x + LayerScale(self.dtype)(y)
        y = nn.LayerNorm(c.epsilon, dtype=self.dtype)(x)
        return x + LayerScale(self.dtype)(mlp(c, self.dtype)(y))


class Encoder(nn.Module):
    """The blocks and the last norm, on (images, tokens, width)."""

    config: DINOv2Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "images tokens width"]
    ) -> Float[Array, "images tokens width"]:
        for i in range(self.config.depth):
            x = Block(self.config, self.dtype, name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(self.config.epsilon, dtype=self.dtype, name="encoder_norm")(x)


class DINOv2(nn.Module):
    """DINOv2 (Oquab et al. 2023), in evaluation mode.

    Args:
      images: float (images, height, width, 3), normalised; height and width multiples of the patch.

    Returns:
      float32 (images, width), the class token's last state; with a head, logits (images, classes).
    """

    config: DINOv2Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images outputs"]:
        c = self.config
        x = patches(images, c.patch, c.width, self.dtype)
        n, h, w, _ = x.shape
        table = self.param(
            "pos_embedding", nn.initializers.normal(0.02), (1, c.grid * c.grid, c.width)
        )
        positions = resampled(table, c.grid, (h, w), antialias=c.registers > 0)
        x = x.reshape(n, h * w, c.width) + positions.astype(x.dtype)
        tokens = [self.param("cls", nn.initializers.normal(0.02), (1, 1, c.width))]
        if c.registers:
            tokens.append(
                self.param("registers", nn.initializers.normal(0.02), (1, c.registers, c.width))
            )
        x = Encoder(c, self.dtype, name="Transformer")(with_tokens(tokens, x))
        out = x[:, 0]
        if c.num_classes:
            if c.pooled:
                out = jnp.concatenate([out, jnp.mean(x[:, 1 + c.registers :], axis=1)], axis=1)
            out = nn.Dense(c.num_classes, dtype=self.dtype, name="head")(out)
        return out.astype(jnp.float32)


def patches(
    images: Float[Array, "images height width 3"], patch: int, width: int, dtype: DTypeLike
) -> Float[Array, "images rows columns channels"]:
    """Returns patches·E; to be called inside a module, which gets a submodule `embedding`.

    Raises:
      ValueError: sides that are no multiples of the patch.
    """
    if any(side % patch for side in images.shape[1:3]):
        side = next(side for side in images.shape[1:3] if side % patch)
        raise ValueError(
            f"image_size is {side}; expected a multiple of the patch of {patch} pixels, such as "
            f"{max(1, round(side / patch)) * patch}"
        )
    return nn.Conv(width, (patch, patch), (patch, patch), "VALID", dtype=dtype, name="embedding")(
        images
    )


def with_tokens(
    tokens: Sequence[Array], x: Float[Array, "images positions width"]
) -> Float[Array, "images tokens width"]:
    """Returns learnt tokens (1, …, width), then the positions."""
    first = [jnp.broadcast_to(t.astype(x.dtype), (len(x), *t.shape[1:])) for t in tokens]
    return jnp.concatenate([*first, x], axis=1)


_SIZES = {
    "S": {"width": 384, "depth": 12, "mlp_dim": 1536, "heads": 6},
    "B": {"width": 768, "depth": 12, "mlp_dim": 3072, "heads": 12},
    "L": {"width": 1024, "depth": 24, "mlp_dim": 4096, "heads": 16},
    "g": {"width": 1536, "depth": 40, "mlp_dim": 4096, "heads": 24, "gated": True},
}


def of_size(size: str, registers: int = 0) -> DINOv2Config:
    """Returns DINOv2 ViT-S/14, -B/14, -L/14 or -g/14."""
    return DINOv2Config(registers=registers, **_SIZES[size])


def adapted(config: DINOv2Config, declared: Declared) -> DINOv2Config:
    """Returns the network with the checkpoint's grid of positions and head, and what a config.json
    says of it.

    Raises:
      ValueError: a config.json of another patch, mlp, number of registers or bias.
    """
    positions = declared.shapes.get("params/pos_embedding", ())
    if len(positions) == 3 and (side := math.isqrt(positions[1])) ** 2 == positions[1]:
        config = dataclasses.replace(config, grid=side)
    if head := declared.head(("classifier", "head")):
        classes, inputs = head
        config = dataclasses.replace(config, num_classes=classes, pooled=inputs == 2 * config.width)
    registers = declared.is_of("dinov2_with_registers")
    if not registers and not declared.is_of("dinov2"):
        return config
    declared.require("patch_size", 16 if registers else 14, config.patch)
    declared.require("use_swiglu_ffn", False, config.gated)
    declared.require("qkv_bias", True, True)
    if registers or config.registers:
        declared.require("num_register_tokens", 4 if registers else 0, config.registers)
    return dataclasses.replace(
        config,
        heads=declared.get("num_attention_heads", 12),
        activation=declared.activation("hidden_act", "gelu"),
        epsilon=float(declared.get("layer_norm_eps", 1e-6)),
    )


def aliases(depth: int) -> dict[str, str]:
    """Returns timm's and transformers' names of the residual stream and of the mlp's hidden units
    after the activation."""
    found = {"encoder": "Transformer"}
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        hidden = f"{block}/MlpBlock_0/Dense_1:in"
        found |= {f"blocks[{i}]": block, f"blocks[{i}].mlp.act": hidden}
        found |= {f"encoder.layer[{i}]": block, f"encoder.layer[{i}].mlp.activation": hidden}
    return found


def block_rows(source: str, path: str, mlp: tuple[str, str, str], scale: str) -> tuple[Rename, ...]:
    """Returns the rows of norms, mlp and layer scales of one torch block.

    Args:
      source: the block's name; its first group is the number.
      path: the block's path.
      mlp: names of the first layer, of the last and of the gate.
      scale: name of a layer scale, with {} for its number.
    """
    return (
        *vit.block_rows(source, path, ("norm1", "norm2"), mlp[:2]),
        *linear(rf"{source}\.{mlp[2]}", f"{path}/MlpBlock_0/gate"),
        *(
            Rename(rf"{source}\.{scale.format(i + 1)}", rf"params/{path}/LayerScale_{i}/gamma")
            for i in range(2)
        ),
    )


def layouts(config: DINOv2Config) -> dict[str, Layout]:
    """Returns transformers' names on disk, and timm's, which the authors' own files share."""
    layer, blocks, block = (
        r"encoder\.layer\.(\d+)",
        r"blocks\.(\d+)",
        r"Transformer/encoderblock_\1",
    )
    inner = f"{block}/MultiHeadDotProductAttention_0"

    def outside(tokens: tuple[str, str, str], stem: str, norm: str, head: str):
        return (
            Rename(tokens[0], "params/cls"),
            Rename(tokens[1], "params/pos_embedding"),
            Rename(tokens[2], "params/registers"),
            Rename(rf"{stem}\.weight", "params/embedding/kernel", conv),
            Rename(rf"{stem}\.bias", "params/embedding/bias"),
            *layer_norm(norm, "Transformer/encoder_norm"),
            *linear(head, "head"),
        )

    hub = (
        *outside(
            (
                _HUB_TOKEN.replace(".", r"\."),
                _HUB_POSITIONS.replace(".", r"\."),
                r"embeddings\.register_tokens",
            ),
            r"embeddings\.patch_embeddings\.projection",
            "layernorm",
            "classifier",
        ),
        *block_rows(
            layer,
            block,
            (r"mlp\.up_proj", r"mlp\.down_proj", r"mlp\.gate_proj")
            if config.gated
            else (r"mlp\.fc1", r"mlp\.fc2", r"mlp\.gate_proj"),
            r"layer_scale{}\.lambda1",
        ),
        *attention(
            rf"{layer}\.attention",
            inner,
            config.heads,
            (r"attention\.query", r"attention\.key", r"attention\.value"),
            r"output\.dense",
        ),
    )
    first = r"mlp\.fc1_x" if config.gated else r"mlp\.fc1"
    timm = (
        *outside(("cls_token", "pos_embed", "reg_token"), r"patch_embed\.proj", "norm", "head"),
        *block_rows(blocks, block, (first, r"mlp\.fc2", r"mlp\.fc1_g"), r"ls{}\.gamma"),
        *fused_attention(
            rf"{blocks}\.attn", inner, config.heads, r"qkv\.weight", r"qkv\.bias", "proj"
        ),
    )
    ignored = (r"embeddings\.mask_token", "mask_token")
    return {
        "transformers": Layout(hub, ignored, _transformers),
        "timm": Layout(timm, ignored, functools.partial(_timm, config.gated)),
        "flax": FLAX,
    }


_HUB_TOKEN, _HUB_POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"
# The module tree of transformers 5 → its names on disk.
_NEWER = {
    "attention.q_proj.": "attention.attention.query.",
    "attention.k_proj.": "attention.attention.key.",
    "attention.v_proj.": "attention.attention.value.",
    "attention.o_proj.": "attention.output.dense.",
    "mlp.weights_out.": "mlp.down_proj.",
}
# The authors' names → timm's.
_AUTHORS = {"register_tokens": "reg_token", "mlp.w12.": "mlp.fc1.", "mlp.w3.": "mlp.fc2."}


def _transformers(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the prefix of a classifier's network; names on disk, but for the gate."""
    names = {name: re.sub(r"^dinov2(_with_registers)?\.", "", name) for name in source}
    found = {replaced(names[name], _NEWER): tensor for name, tensor in source.items()}
    found = _gates(found, "mlp.weights_in.", ("mlp.gate_proj.", "mlp.up_proj."))
    return _token_position(found, _HUB_TOKEN, _HUB_POSITIONS)


def _timm(gated: bool, source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {replaced(name, _AUTHORS): tensor for name, tensor in source.items()}
    if gated:
        found = _gates(found, "mlp.fc1.", ("mlp.fc1_g.", "mlp.fc1_x."))
    return _token_position(found, "cls_token", "pos_embed")


def replaced(name: str, table: dict[str, str]) -> str:
    """Returns a name with the parts of a table replaced, in its order."""
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def _gates(
    source: dict[str, np.ndarray], packed: str, parts: tuple[str, str]
) -> dict[str, np.ndarray]:
    """Gate and first layer where one tensor holds both, the gate first."""
    found = {}
    for name, tensor in source.items():
        if packed in name:
            for part, half in zip(parts, np.split(tensor, 2), strict=True):
                found[name.replace(packed, part)] = half
        else:
            found[name] = tensor
    return found


def _token_position(
    source: dict[str, np.ndarray], token: str, positions: str
) -> dict[str, np.ndarray]:
    """The class token's own position, where there is one, goes into the token."""
    count = source[positions].shape[1] if positions in source else 0
    if token in source and count and math.isqrt(count) ** 2 != count:
        source |= {
            token: source[token] + source[positions][:, :1],
            positions: source[positions][:, 1:],
        }
    return source
