"""CLIP with vision transformers (ViT-B/32, B/16, L/14, L/14-336, H/14): two towers compared by
cosine.

    image tower: norm before the blocks, projection of the class token's last state
    text tower:  causal attention, projection of the state at the end-of-text token (the largest
                 token number)
    activation:  quick-GELU in OpenAI's, GELU in those of LAION and DataComp
    similarity = exp(t)·⟨z_image, z_text⟩

Source: Radford et al., ICML 2021 (arXiv 2103.00020); tensor names of transformers' `CLIPModel` and
of open_clip (also OpenAI's own); shapes of open_clip's model_configs/ViT-*.json. Modules are named
as in the other two-tower networks of this folder.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from jaxle.arrays import Array
from jaxle.models import vit
from jaxle.models.declared import Declared
from jaxle.models.siglip import TextConfig, normalise
from jaxle.models.weights import Layout, Rename, attention, conv, dense, fused_attention, layer_norm


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """The two towers; both embeddings have `out` numbers."""

    patch: int
    width: int
    depth: int
    heads: int
    out: int
    text: TextConfig
    activation: str = "quick_gelu"


class ImageTower(nn.Module):
    """Maps (images, height, width, 3) to (images, out)."""

    config: CLIPConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images numbers"]:
        c = self.config
        x = nn.Conv(
            c.width,
            (c.patch, c.patch),
            (c.patch, c.patch),
            "VALID",
            use_bias=False,
            dtype=self.dtype,
            name="embedding",
        )(images)
        x = x.reshape(x.shape[0], -1, c.width)
        token = self.param("cls", nn.initializers.normal(c.width**-0.5), (1, 1, c.width))
        x = jnp.concatenate(
            [jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, c.width)), x], axis=1
        )
        positions = self.param(
            "pos_embedding", nn.initializers.normal(c.width**-0.5), (1, *x.shape[1:])
        )
        x = nn.LayerNorm(1e-5, dtype=self.dtype, name="pre_norm")(x + positions.astype(x.dtype))
        x = vit.Encoder(
            c.depth, 4 * c.width, c.heads, c.activation, 1e-5, self.dtype, name="Transformer"
        )(x)
        return nn.Dense(c.out, use_bias=False, dtype=self.dtype, name="head")(x[:, 0]).astype(
            jnp.float32
        )


class TextTower(nn.Module):
    """Maps tokens (texts, length) to (texts, out)."""

    config: TextConfig
    out: int
    activation: str = "quick_gelu"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "texts length"]) -> Float[Array, "texts numbers"]:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, dtype=self.dtype, name="Embed_0")(tokens)
        positions = self.param(
            "pos_embedding", nn.initializers.normal(0.01), (1, c.length, c.width)
        )
        encoder = vit.Encoder(
            c.depth, c.mlp_dim, c.heads, self.activation, 1e-5, self.dtype, name="Encoder_0"
        )
        x = encoder(x + positions.astype(x.dtype), nn.make_causal_mask(tokens))
        x = jnp.take_along_axis(x, jnp.argmax(tokens, axis=1)[:, None, None], axis=1)[:, 0]
        return nn.Dense(self.out, use_bias=False, dtype=self.dtype, name="head")(x).astype(
            jnp.float32
        )


class CLIP(nn.Module):
    """Explainer or simulator (Radford et al. 2021, §2).

    Args:
      images: float (images, height, width, 3), normalised.
      tokens: int32 (texts, length), or None.

    Returns:
      float32 (images, out), rows of unit length; with tokens, the pair of images' and texts'.
    """

    config: CLIPConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.img = ImageTower(self.config, self.dtype)
        self.txt = TextTower(self.config.text, self.config.out, self.config.activation, self.dtype)
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


def of_size(size: str, patch: int, activation: str = "quick_gelu") -> CLIPConfig:
    """Returns CLIP ViT-B or -L, as OpenAI trained them, or LAION's ViT-H."""
    width, depth, heads, text, text_depth = {
        "B": (768, 12, 12, 512, 12),
        "L": (1024, 24, 16, 768, 12),
        "H": (1280, 32, 16, 1024, 24),
    }[size]
    tower = TextConfig(
        width=text,
        depth=text_depth,
        mlp_dim=4 * text,
        heads=text // 64,
        vocabulary=49_408,
        length=77,
    )
    return CLIPConfig(patch, width, depth, heads, text, tower, activation)


def adapted(config: CLIPConfig, declared: Declared, size: int) -> CLIPConfig:
    """Returns the network with the activation and heads of its config.json: OpenAI's were trained
    with quick-GELU, most others with GELU, and their tensors are named alike.

    Args:
      config: the network.
      declared: whose config.json, or open_clip_config.json, is read.
      size: pixels of the network's input.

    Raises:
      ValueError: a config.json of another patch, image size or epsilon, or whose towers differ in
        their activation.
    """
    if "model_cfg" in declared.config:
        declared.require("model_cfg.vision_cfg.patch_size", config.patch, config.patch)
        declared.require_size("model_cfg.vision_cfg.image_size", size, size)
        width = config.width // config.heads
        declared.require("model_cfg.vision_cfg.head_width", width, width)
        quick = declared.get("model_cfg.quick_gelu", False)
        return dataclasses.replace(config, activation="quick_gelu" if quick else "gelu")
    if not declared.is_of("clip"):
        return config
    declared.require("vision_config.patch_size", 32, config.patch)
    declared.require_size("vision_config.image_size", 224, size)
    for part in ("vision_config", "text_config"):
        declared.require(f"{part}.layer_norm_eps", 1e-5, 1e-5)
    act = declared.get("text_config.hidden_act", "quick_gelu")
    declared.require("vision_config.hidden_act", "quick_gelu", act)
    return dataclasses.replace(
        config,
        activation=declared.activation("text_config.hidden_act", "quick_gelu"),
        heads=declared.get("vision_config.num_attention_heads", 12),
        text=dataclasses.replace(
            config.text, heads=declared.get("text_config.num_attention_heads", 8)
        ),
    )


def _first_axis(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(1, -1, tensor.shape[-1])


def layouts(config: CLIPConfig) -> dict[str, Layout]:
    """Returns transformers' and open_clip's names.

    open_clip multiplies by its projections, transformers by their transposes.
    """
    image_block, text_block = r"img/Transformer/encoderblock_\1", r"txt/Encoder_0/encoderblock_\1"

    def towers(
        stem, token, image_positions, pre, post, tokens, text_positions, final
    ) -> tuple[Rename, ...]:
        return (
            Rename(stem, "params/img/embedding/kernel", conv),
            Rename(token, "params/img/cls", _first_axis),
            Rename(image_positions, "params/img/pos_embedding", _first_axis),
            *layer_norm(pre, "img/pre_norm"),
            *layer_norm(post, "img/Transformer/encoder_norm"),
            Rename(tokens, "params/txt/Embed_0/embedding"),
            Rename(text_positions, "params/txt/pos_embedding", _first_axis),
            *layer_norm(final, "txt/Encoder_0/encoder_norm"),
            Rename("logit_scale", "params/t"),
        )

    hub = [
        *towers(
            r"vision_model\.embeddings\.patch_embedding\.weight",
            r"vision_model\.embeddings\.class_embedding",
            r"vision_model\.embeddings\.position_embedding\.weight",
            r"vision_model\.pre_layrnorm",
            r"vision_model\.post_layernorm",
            r"text_model\.embeddings\.token_embedding\.weight",
            r"text_model\.embeddings\.position_embedding\.weight",
            r"text_model\.final_layer_norm",
        ),
        Rename(r"visual_projection\.weight", "params/img/head/kernel", dense),
        Rename(r"text_projection\.weight", "params/txt/head/kernel", dense),
    ]
    open_clip = [
        *towers(
            r"visual\.conv1\.weight",
            r"visual\.class_embedding",
            r"visual\.positional_embedding",
            r"visual\.ln_pre",
            r"visual\.ln_post",
            r"token_embedding\.weight",
            "positional_embedding",
            "ln_final",
        ),
        Rename(r"visual\.proj", "params/img/head/kernel"),
        Rename("text_projection", "params/txt/head/kernel"),
    ]
    for tower, prefix, block, heads in (
        ("vision_model", r"visual\.", image_block, config.heads),
        ("text_model", "", text_block, config.text.heads),
    ):
        inner = f"{block}/MultiHeadDotProductAttention_0"
        layer, resblock = (
            rf"{tower}\.encoder\.layers\.(\d+)",
            rf"{prefix}transformer\.resblocks\.(\d+)",
        )
        hub += vit.block_rows(
            layer, block, ("layer_norm1", "layer_norm2"), (r"mlp\.fc1", r"mlp\.fc2")
        )
        hub += attention(
            rf"{layer}\.self_attn", inner, heads, ("q_proj", "k_proj", "v_proj"), "out_proj"
        )
        open_clip += vit.block_rows(
            resblock, block, ("ln_1", "ln_2"), (r"mlp\.c_fc", r"mlp\.c_proj")
        )
        open_clip += fused_attention(
            rf"{resblock}\.attn", inner, heads, "in_proj_weight", "in_proj_bias", "out_proj"
        )
    return {
        "transformers": Layout(tuple(hub), ignored=(r".*\.embeddings\.position_ids",)),
        "open_clip": Layout(
            tuple(open_clip), ignored=("input_resolution", "context_length", "vocab_size")
        ),
    }


def aliases(config: CLIPConfig) -> dict[str, str]:
    """Returns the image tower's taps by the vision transformer's friendly names, after `img.`, and
    by transformers' and open_clip's."""
    return vit.tower_aliases(vit.ViTConfig(depth=config.depth), "visual.transformer.resblocks")
