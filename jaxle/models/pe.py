"""PE-Core (Perception Encoder): an image tower with rotary positions and attention pooling, and
CLIP's text tower.

    image tower: tokens = norm(class token, patches·E + positions);  blocks as in a ViT, whose
                 attention also turns queries and keys of the patches by their column and row;
                 attention pooling by one learnt query; projection
    text tower:  CLIP's, with GELU, 32 tokens
    similarity = exp(t)·⟨z_image, z_text⟩

The angles are column·10000^(−4j/d) and row·10000^(−4j/d), counted from 1, j = 0 … d/4 − 1, d = head
width; for another image size, columns and rows are stretched to the trained grid. Published files
turn neighbouring numbers of a head in pairs; they are read with each head's even numbers before the
odd ones, as models/dinov3.py turns them, which leaves all products of queries and keys the same.

Source: Bolya et al. 2025 (arXiv 2504.13181); timm, models/eva.py (`vit_pe_core_*`), and open_clip's
model_configs/PE-Core-*.json, whose files (timm/PE-Core-*) are read.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from jaxle.arrays import Array
from jaxle.models import vit
from jaxle.models.clip import TextTower
from jaxle.models.declared import Declared
from jaxle.models.dinov3 import RotaryAttention
from jaxle.models.siglip import TextConfig, normalise, pool_rows
from jaxle.models.weights import (
    FLAX,
    Layout,
    Rename,
    conv,
    fused_attention,
    layer_norm,
    linear,
)


@dataclasses.dataclass(frozen=True)
class PEConfig:
    """The two towers; both embeddings have `out` numbers. `grid` is the trained number of patches
    a side."""

    patch: int
    width: int
    depth: int
    heads: int
    grid: int
    out: int
    text: TextConfig
    pool_heads: int = 8


class Block(nn.Module):
    """One transformer block on (images, tokens, width)."""

    config: PEConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        cosine: Float[Array, "1 positions 1 head"],
        sine: Float[Array, "1 positions 1 head"],
    ) -> Float[Array, "images tokens width"]:
        c = self.config
        y = nn.LayerNorm(1e-5, dtype=self.dtype)(x)
        x = x + RotaryAttention(c.heads, key_bias=True, dtype=self.dtype)(y, cosine, sine)
        y = nn.LayerNorm(1e-5, dtype=self.dtype)(x)
        return x + vit.MlpBlock(4 * c.width, "gelu", self.dtype)(y)


class Encoder(nn.Module):
    """The blocks and the last norm, on (images, tokens, width)."""

    config: PEConfig
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
        return nn.LayerNorm(1e-5, dtype=self.dtype, name="encoder_norm")(x)


class ImageTower(nn.Module):
    """Maps (images, height, width, 3) to (images, out)."""

    config: PEConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images numbers"]:
        c, normal = self.config, nn.initializers.normal(0.02)
        window = (c.patch, c.patch)
        x = nn.Conv(
            c.width, window, window, "VALID", use_bias=False, dtype=self.dtype, name="embedding"
        )(images)
        n, h, w, _ = x.shape
        token = self.param("cls", normal, (1, 1, c.width)).astype(x.dtype)
        x = jnp.concatenate(
            [jnp.broadcast_to(token, (n, 1, c.width)), x.reshape(n, h * w, c.width)], axis=1
        )
        positions = self.param("pos_embedding", normal, (1, 1 + h * w, c.width))
        x = nn.LayerNorm(1e-5, dtype=self.dtype, name="pre_norm")(x + positions.astype(x.dtype))
        cosine, sine = map(jnp.asarray, angles((h, w), c.grid, c.width // c.heads))
        x = Encoder(c, self.dtype, name="Transformer")(x, cosine, sine)
        x = vit.MAPHead(4 * c.width, c.pool_heads, "gelu", 1e-5, self.dtype, name="MAPHead_0")(x)
        return nn.Dense(c.out, dtype=self.dtype, name="head")(x).astype(jnp.float32)


@functools.cache
def angles(shape: tuple[int, int], grid: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and sines of the patches' angles, float32 (1, rows·columns, 1, head)."""
    frequencies = (1 / 10_000 ** (np.arange(head // 4) / (head // 4))).astype(np.float32)
    y, x = ((np.arange(n, dtype=np.float32) + 1) / n * grid for n in shape)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    at = np.stack([columns, rows], axis=-1).reshape(-1, 2, 1)
    found = np.tile((at * frequencies).reshape(len(at), -1), 2)[None, :, None]
    return np.cos(found), np.sin(found)


class PE(nn.Module):
    """Explainer or simulator (Bolya et al. 2025, §2).

    Args:
      images: float (images, height, width, 3), normalised.
      tokens: int32 (texts, length), or None.

    Returns:
      float32 (images, out), rows of unit length; with tokens, the pair of images' and texts'.
    """

    config: PEConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.img = ImageTower(self.config, self.dtype)
        self.txt = TextTower(self.config.text, self.config.out, "gelu", self.dtype)
        self.t = self.param("t", nn.initializers.constant(np.log(1 / 0.07)), ())

    def __call__(
        self,
        images: Float[Array, "images height width 3"],
        tokens: Int[Array, "texts length"] | None = None,
    ) -> (
        Float[Array, "images numbers"]
        | tuple[Float[Array, "images numbers"], Float[Array, "texts numbers"]]
    ):
        embedded = normalise(self.img(images))
        return embedded if tokens is None else (embedded, self.embed_texts(tokens))

    def embed_texts(self, tokens: Int[Array, "texts length"]) -> Float[Array, "texts numbers"]:
        """Returns float32 (texts, out), rows of unit length, from int32 tokens."""
        return normalise(self.txt(tokens))


_SIZES = {
    "T": (16, 192, 12, 3, 24, 512),
    "S": (16, 384, 12, 6, 24, 512),
    "B": (16, 768, 12, 12, 14, 1024),
    "L": (14, 1024, 24, 16, 24, 1024),
}


def of_size(size: str) -> PEConfig:
    """Returns PE-Core-T/16-384, -S/16-384, -B/16-224 or -L/14-336."""
    out = _SIZES[size][-1]
    tower = TextConfig(
        width=out,
        depth=12 if out == 512 else 24,
        mlp_dim=4 * out,
        heads=out // 64,
        vocabulary=49_408,
        length=32,
    )
    return PEConfig(*_SIZES[size], tower)


def adapted(config: PEConfig, declared: Declared, size: int) -> PEConfig:
    """Returns the network, where an open_clip_config.json beside the weights is of the same.

    Raises:
      ValueError: one of another image size, text length or number of outputs.
    """
    if "model_cfg" in declared.config:
        declared.require_size("model_cfg.vision_cfg.image_size", size, size)
        declared.require("model_cfg.embed_dim", config.out, config.out)
        length = config.text.length
        declared.require("model_cfg.text_cfg.context_length", length, length)
    return config


def aliases(config: PEConfig) -> dict[str, str]:
    """Returns the image tower's taps by the vision transformer's friendly names, after `img.`, and
    by open_clip's."""
    return vit.tower_aliases(vit.ViTConfig(depth=config.depth), "visual.trunk.blocks")


def layouts(config: PEConfig) -> dict[str, Layout]:
    """Returns open_clip's names, with timm's image tower."""
    trunk, text = r"visual\.trunk", "text"
    block, layer = rf"{trunk}\.blocks\.(\d+)", rf"{text}\.transformer\.resblocks\.(\d+)"
    image_block, text_block = r"img/Transformer/encoderblock_\1", r"txt/Encoder_0/encoderblock_\1"
    rows = (
        Rename(rf"{trunk}\.patch_embed\.proj\.weight", "params/img/embedding/kernel", conv),
        Rename(rf"{trunk}\.cls_token", "params/img/cls"),
        Rename(rf"{trunk}\.pos_embed", "params/img/pos_embedding"),
        *layer_norm(rf"{trunk}\.norm_pre", "img/pre_norm"),
        *layer_norm(rf"{trunk}\.norm", "img/Transformer/encoder_norm"),
        *vit.block_rows(block, image_block, ("norm1", "norm2"), (r"mlp\.fc1", r"mlp\.fc2")),
        *_even_first(
            fused_attention(
                rf"{block}\.attn",
                f"{image_block}/RotaryAttention_0",
                config.heads,
                r"qkv\.weight",
                r"qkv\.bias",
                "proj",
            ),
        ),
        Rename(rf"{trunk}\.attn_pool\.latent", "params/img/MAPHead_0/probe"),
        *pool_rows(rf"{trunk}\.attn_pool", "img/MAPHead_0", config.pool_heads),
        *linear(rf"{trunk}\.head", "img/head"),
        Rename(rf"{text}\.token_embedding\.weight", "params/txt/Embed_0/embedding"),
        Rename(rf"{text}\.positional_embedding", "params/txt/pos_embedding", _first_axis),
        *layer_norm(rf"{text}\.ln_final", "txt/Encoder_0/encoder_norm"),
        *vit.block_rows(layer, text_block, ("ln_1", "ln_2"), (r"mlp\.c_fc", r"mlp\.c_proj")),
        *fused_attention(
            rf"{layer}\.attn",
            f"{text_block}/MultiHeadDotProductAttention_0",
            config.text.heads,
            "in_proj_weight",
            "in_proj_bias",
            "out_proj",
        ),
        Rename(rf"{text}\.text_projection", "params/txt/head/kernel"),
        Rename("logit_scale", "params/t"),
    )
    return {"flax": FLAX, "open_clip": Layout(rows)}


def _first_axis(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(1, *tensor.shape[-2:])


def _even_first(rows: tuple[Rename, ...]) -> tuple[Rename, ...]:
    """The rows of an attention, with the even numbers of each query's and key's head first."""

    def ordered(row: Rename) -> Rename:
        if "/query/" not in row.path and "/key/" not in row.path:
            return row

        def transform(tensor: np.ndarray) -> np.ndarray:
            heads = row.transform(tensor)
            return np.concatenate([heads[..., ::2], heads[..., 1::2]], axis=-1)

        return row._replace(transform=transform)

    return tuple(map(ordered, rows))
