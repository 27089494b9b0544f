"""DINOv3 vision transformers: rotary positions, registers, trained without labels.

    tokens = class token, four registers, patches·E
    block(x): x += s₁·attention(norm(x));  x += s₂·mlp(norm(x)); mlp(x) = Dense_1(gelu(Dense_0(x)))
    "plus":   mlp(x) = Dense_1(silu(gate(x))·Dense_0(x))
    attention rotates queries and keys of the patches: q ↦ q cos φ + half(q) sin φ,
              φ = 2π·(row, column)·100^(−4j/d), rows and columns of patch centres in −1…1,
              d = head width, j = 0 … d/4 − 1, half((a, b)) = (−b, a)
    output = norm(x) of the class token (images, width)

Source: Siméoni et al. 2025 (arXiv 2508.10104); transformers, modeling_dinov3_vit.py; timm's names,
whose files leave out the query's and value's bias where it is zero. The key has none.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.dinov2 import LayerScale, block_rows, mlp, patches, replaced, with_tokens
from jaxle.models.weights import (
    FLAX,
    Layout,
    Rename,
    attention,
    conv,
    fused_attention,
    layer_norm,
)


@dataclasses.dataclass(frozen=True)
class DINOv3Config:
    """Shape of one network; `gated` is the mlp of the sizes called "plus"."""

    patch: int = 16
    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    heads: int = 12
    registers: int = 4
    gated: bool = False
    theta: float = 100.0
    activation: str = "gelu"
    epsilon: float = 1e-5


class RotaryAttention(nn.Module):
    """Self-attention on (images, tokens, width) whose last tokens are turned by their positions.

    Attributes:
      heads: of the width's number.
      key_bias: whether the key has a bias.
    """

    heads: int
    key_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        cosine: Float[Array, "1 positions 1 head"],
        sine: Float[Array, "1 positions 1 head"],
    ) -> Float[Array, "images tokens width"]:
        head = x.shape[-1] // self.heads

        def project(name: str, bias: bool):
            return nn.DenseGeneral((self.heads, head), use_bias=bias, dtype=self.dtype, name=name)(
                x
            )

        query, key = project("query", True), project("key", self.key_bias)
        query, key = (turned(t, cosine, sine) for t in (query, key))
        x = nn.dot_product_attention(query, key, project("value", True), dtype=self.dtype)
        return nn.DenseGeneral(self.heads * head, axis=(-2, -1), dtype=self.dtype, name="out")(x)


def turned(
    x: Float[Array, "images tokens heads head"],
    cosine: Float[Array, "1 positions 1 head"],
    sine: Float[Array, "1 positions 1 head"],
) -> Float[Array, "images tokens heads head"]:
    """Returns queries or keys with the last ones turned by their positions' angles."""
    first = x.shape[1] - cosine.shape[1]
    tokens, x = x[:, :first], x[:, first:]
    a, b = jnp.split(x, 2, axis=-1)
    x = x * cosine.astype(x.dtype) + jnp.concatenate([-b, a], axis=-1) * sine.astype(x.dtype)
    return jnp.concatenate([tokens, x], axis=1)


@functools.cache
def angles(rows: int, columns: int, head: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and sines of the patches' angles, float32 (1, rows·columns, 1, head)."""
    y, x = (
        (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n) for n in (rows, columns)
    )
    grid = np.stack(np.meshgrid(2 * y - 1, 2 * x - 1, indexing="ij"), axis=-1).reshape(-1, 2)
    frequencies = (1 / theta ** np.arange(0, 1, 4 / head)).astype(np.float32)
    found = (np.float32(2 * math.pi) * grid[:, :, None] * frequencies).reshape(len(grid), -1)
    found = np.tile(found, 2)[None, :, None]
    return np.cos(found), np.sin(found)


class Block(nn.Module):
    """One transformer block on (images, tokens, width)."""

    config: DINOv3Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        cosine: Float[Array, "1 positions 1 head"],
        sine: Float[Array, "1 positions 1 head"],
    ) -> Float[Array, "images tokens width"]:
        c = self.config
        y = nn.LayerNorm(c.epsilon, dtype=self.dtype)(x)
        y = RotaryAttention(c.heads, dtype=self.dtype)(y, cosine, sine)
        x = x + LayerScale(self.dtype)(y)
        y = nn.LayerNorm(c.epsilon, dtype=self.dtype)(x)
        return x + LayerScale(self.dtype)(mlp(c, self.dtype)(y))


class Encoder(nn.Module):
    """The blocks and the last norm, on (images, tokens, width)."""

    config: DINOv3Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        cosine: Float[Array, "1 positions 1 head"],
        sine: Float[Array, "1 positions 1 head"],
    ) -> Float[Array, "images tokens width"]:
        for i in range(self.config.depth):
            x = Block(self.config, self.dtype, name=f"encoderblock_{i}")(x, cosine, sine)
        return nn.LayerNorm(self.config.epsilon, dtype=self.dtype, name="encoder_norm")(x)


class DINOv3(nn.Module):
    """DINOv3 ViT (Siméoni et al. 2025), in evaluation mode.

    Args:
      images: float (images, height, width, 3), normalised; height and width multiples of the patch.

    Returns:
      float32 (images, width), the class token's last state.
    """

    config: DINOv3Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images numbers"]:
        c = self.config
        x = patches(images, c.patch, c.width, self.dtype)
        n, h, w, _ = x.shape
        normal = nn.initializers.normal(0.02)
        tokens = [self.param("cls", normal, (1, 1, c.width))]
        if c.registers:
            tokens.append(self.param("registers", normal, (1, c.registers, c.width)))
        cosine, sine = map(jnp.asarray, angles(h, w, c.width // c.heads, c.theta))
        x = with_tokens(tokens, x.reshape(n, h * w, c.width))
        x = Encoder(c, self.dtype, name="Transformer")(x, cosine, sine)
        return x[:, 0].astype(jnp.float32)


_SIZES = {
    "S": {"width": 384, "depth": 12, "mlp_dim": 1536, "heads": 6},
    "S+": {"width": 384, "depth": 12, "mlp_dim": 1536, "heads": 6, "gated": True},
    "B": {"width": 768, "depth": 12, "mlp_dim": 3072, "heads": 12},
    "L": {"width": 1024, "depth": 24, "mlp_dim": 4096, "heads": 16},
    "H+": {"width": 1280, "depth": 32, "mlp_dim": 5120, "heads": 20, "gated": True},
}


def of_size(size: str) -> DINOv3Config:
    """Returns DINOv3 ViT-S/16, -S+/16, -B/16, -L/16 or -H+/16."""
    return DINOv3Config(**_SIZES[size])


def adapted(config: DINOv3Config, declared: Declared) -> DINOv3Config:
    """Returns the network with what a config.json says of it.

    Raises:
      ValueError: a config.json of another patch, mlp, number of registers or biases.
    """
    if not declared.is_of("dinov3_vit"):
        return config
    declared.require("patch_size", 16, config.patch)
    declared.require("use_gated_mlp", False, config.gated)
    declared.require("num_register_tokens", 0, config.registers)
    for key, default, ours in (
        ("query_bias", True, True),
        ("key_bias", False, False),
        ("value_bias", True, True),
        ("proj_bias", True, True),
        ("mlp_bias", True, True),
    ):
        declared.require(key, default, ours)
    if config.gated:
        declared.require("hidden_act", "gelu", "silu")
    else:
        activation = declared.activation("hidden_act", "gelu")
        config = dataclasses.replace(config, activation=activation)
    return dataclasses.replace(
        config,
        heads=declared.get("num_attention_heads", 6),
        theta=float(declared.get("rope_theta", 100.0)),
        epsilon=float(declared.get("layer_norm_eps", 1e-5)),
    )


def aliases(depth: int) -> dict[str, str]:
    """Returns timm's and transformers' names of the residual stream and of the mlp's hidden units
    after the activation."""
    found = {"encoder": "Transformer"}
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        hidden = f"{block}/MlpBlock_0/Dense_1:in"
        found |= {f"blocks[{i}]": block, f"blocks[{i}].mlp.act": hidden}
        found |= {f"layer[{i}]": block, f"layer[{i}].mlp.act_fn": hidden}
    return found


def layouts(config: DINOv3Config) -> dict[str, Layout]:
    """Returns transformers' names, and timm's, which the authors' own files nearly share."""
    layer, blocks, block = r"layer\.(\d+)", r"blocks\.(\d+)", r"Transformer/encoderblock_\1"
    inner = f"{block}/RotaryAttention_0"

    def outside(token: str, registers: str, stem: str) -> tuple[Rename, ...]:
        return (
            Rename(token, "params/cls"),
            Rename(registers, "params/registers"),
            Rename(rf"{stem}\.weight", "params/embedding/kernel", conv),
            Rename(rf"{stem}\.bias", "params/embedding/bias"),
            *layer_norm("norm", "Transformer/encoder_norm"),
        )

    hub = (
        *outside(
            r"embeddings\.cls_token",
            r"embeddings\.register_tokens",
            r"embeddings\.patch_embeddings",
        ),
        *block_rows(
            layer,
            block,
            (r"mlp\.up_proj", r"mlp\.down_proj", r"mlp\.gate_proj"),
            r"layer_scale{}\.lambda1",
        ),
        *attention(
            rf"{layer}\.attention", inner, config.heads, ("q_proj", "k_proj", "v_proj"), "o_proj"
        ),
    )
    first = r"mlp\.fc1_x" if config.gated else r"mlp\.fc1"
    timm = (
        *outside("cls_token", "reg_token", r"patch_embed\.proj"),
        *block_rows(blocks, block, (first, r"mlp\.fc2", r"mlp\.fc1_g"), "gamma_{}"),
        *fused_attention(
            rf"{blocks}\.attn", inner, config.heads, r"qkv\.weight", r"qkv\.bias", "proj"
        ),
    )
    return {
        "transformers": Layout(hub, (r"embeddings\.mask_token",), _transformers),
        "timm": Layout(timm, ("mask_token", r"rope_embed\.periods", r".*\.bias_mask"), _timm),
        "flax": FLAX,
    }


# The authors' names → timm's.
_AUTHORS = {
    "storage_tokens": "reg_token",
    "ls1.gamma": "gamma_1",
    "ls2.gamma": "gamma_2",
    "mlp.w1.": "mlp.fc1_g.",
    "mlp.w2.": "mlp.fc1_x.",
    "mlp.w3.": "mlp.fc2.",
}


def _transformers(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """transformers 5 may write "model." before its layers."""
    return {name.removeprefix("model."): tensor for name, tensor in source.items()}


def _timm(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One bias for query, key and value; zeros where the file has none."""
    source = {replaced(name, _AUTHORS): tensor for name, tensor in source.items()}
    for name in [name for name in source if name.endswith(".attn.qkv.weight")]:
        attn, width = name.removesuffix("qkv.weight"), source[name].shape[1]
        zeros = np.zeros(width, np.float32)
        query, value = (source.pop(f"{attn}{part}_bias", zeros) for part in "qv")
        source.setdefault(f"{attn}qkv.bias", np.concatenate([query, zeros, value]))
    return source
