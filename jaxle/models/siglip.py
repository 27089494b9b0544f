"""SigLIP and SigLIP 2 at fixed resolution: an image and a text transformer.

They are trained so that the embeddings of an image and of its caption are similar.

    P(the text fits the image) = σ(exp(t)·⟨z_image, z_text⟩ + b),  z of unit length

Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023 (arXiv 2303.15343);
Tschannen et al., SigLIP 2 (arXiv 2502.14786). Module and parameter names of
google-research/big_vision, models/proj/image_text/two_towers.py and text_transformer.py, so that
its files load as they are; tensor names of transformers' `SiglipModel` and of open_clip (with
timm's image tower).
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from jaxle.arrays import Array
from jaxle.models import vit
from jaxle.models.declared import Declared
from jaxle.models.weights import (
    Layout,
    Rename,
    attention,
    conv,
    dense,
    fused_attention,
    layer_norm,
    linear,
)


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Shape of a text tower; every text is padded or cut to `length` tokens."""

    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    heads: int = 12
    vocabulary: int = 32_000
    length: int = 64


@dataclasses.dataclass(frozen=True)
class SigLIPConfig:
    """The two towers.

    Both embed in the image tower's width, or in `image.num_classes` numbers where it has a head.
    """

    image: vit.ViTConfig
    text: TextConfig

    @property
    def out(self) -> int:
        """Numbers in an embedding."""
        return self.image.num_classes or self.image.width


def normalise(x: Float[Array, "rows numbers"]) -> Float[Array, "rows numbers"]:
    """Returns the rows divided by their lengths."""
    return x / (jnp.linalg.norm(x, axis=1, keepdims=True) + 1e-8)


class TextTower(nn.Module):
    """Tokens (texts, length) to (texts, out).

    There is no mask, so padding is attended to, and the last token's state is the text's.
    """

    config: TextConfig
    out: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "texts length"]) -> Float[Array, "texts numbers"]:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, dtype=self.dtype, name="Embed_0")(tokens)
        positions = self.param(
            "pos_embedding", nn.initializers.normal(c.width**-0.5), (1, c.length, c.width)
        )
        x = x + positions.astype(x.dtype)
        x = vit.Encoder(
            c.depth, c.mlp_dim, c.heads, "gelu_tanh", 1e-6, self.dtype, name="Encoder_0"
        )(x)
        return nn.Dense(self.out, dtype=self.dtype, name="head")(x[:, -1]).astype(jnp.float32)


class SigLIP(nn.Module):
    """Explainer or simulator (Zhai et al. 2023, §3); `t` and `b` begin at the paper's log 10, −10.

    Args:
      images: float (images, height, width, 3), normalised.
      tokens: int32 (texts, length), or None.

    Returns:
      float32 (images, out), rows of unit length; with tokens, the pair of images' and texts'.
    """

    config: SigLIPConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.img = vit.ViT(self.config.image, self.dtype)
        self.txt = TextTower(self.config.text, self.config.out, self.dtype)
        self.t = self.param("t", nn.initializers.constant(np.log(10)), (1,))
        self.b = self.param("b", nn.initializers.constant(-10), (1,))

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


def of_size(size: str, patch: int, vocabulary: int = 32_000, length: int = 64) -> SigLIPConfig:
    """Returns SigLIP-B, -L or -So400m; SigLIP 2 differs by its vocabulary of 256,000 (Gemma's)."""
    shape = vit.SIZES[size]
    image = vit.of_size(size, patch, pool="map", activation="gelu_tanh", num_classes=None)
    return SigLIPConfig(image, TextConfig(**shape, vocabulary=vocabulary, length=length))


def adapted(config: SigLIPConfig, declared: Declared, size: int) -> SigLIPConfig:
    """Returns the network with the heads, and the image tower's activation and epsilon, of its
    config.json.

    Args:
      config: the network.
      declared: whose config.json is read.
      size: pixels of the network's input.

    Raises:
      ValueError: a config.json of another patch or image size, or of another activation or epsilon
        in the text tower.
    """
    if not declared.is_of("siglip"):
        return config
    declared.require_size("vision_config.image_size", 224, size)
    declared.require("text_config.hidden_act", "gelu_pytorch_tanh", "gelu_pytorch_tanh")
    declared.require("text_config.layer_norm_eps", 1e-6, 1e-6)
    heads = declared.get("text_config.num_attention_heads", 12)
    return SigLIPConfig(
        vit.of_config_json(config.image, declared, "vision_config."),
        dataclasses.replace(config.text, heads=heads),
    )


def aliases(config: SigLIPConfig) -> dict[str, str]:
    """Returns the image tower's taps by the vision transformer's friendly names, after `img.`, and
    by transformers' and open_clip's."""
    return vit.tower_aliases(config.image, "visual.trunk.blocks")


def save(path: str | Path, variables: Mapping[str, Any]) -> None:
    """Writes big_vision's `.npz` layout, which `layouts` reads back; whole or not at all.

    Args:
      path: ends in ".npz".
      variables: {"params": …} of a `SigLIP`.

    Raises:
      ValueError: another suffix.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"checkpoint {path} has suffix {path.suffix!r}; expected .npz")
    flat = traverse_util.flatten_dict({"params": dict(variables["params"])}, sep="/")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            tensors: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in flat.items()}
            np.savez(file, **tensors)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def layouts(config: SigLIPConfig) -> dict[str, Layout]:
    """Returns big_vision's, transformers' and open_clip's names."""
    return {
        "big_vision": Layout(vit.BIG_VISION_ROWS, prepare=_big_vision),
        "transformers": Layout(_transformers(config), ignored=(r".*\.embeddings\.position_ids",)),
        "open_clip": Layout(_open_clip(config)),
    }


def _big_vision(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scanned encoders; bfloat16, which .npz holds as raw bytes; the text positions that some older
    files hold in two parts."""
    if any(name.startswith("params/") for name in source):
        source = {
            name.removeprefix("params/"): tensor
            for name, tensor in source.items()
            if name.startswith("params/")
        }
    source = {
        name: tensor.view(jnp.bfloat16) if tensor.dtype == "V2" else tensor
        for name, tensor in source.items()
    }
    if (second := source.pop("txt/Encoder_0/pos_embedding", None)) is not None:
        source["txt/pos_embedding"] = source["txt/pos_embedding"] + second
    return vit.unroll(source)


def _scalar(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(1)


def _grid(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(1, *tensor.shape[-2:])


_IMAGE, _TEXT = "img/Transformer", "txt/Encoder_0"
_ATTENTION = "MultiHeadDotProductAttention_0"
_HEAD = "img/MAPHead_0"


def _shared(
    stem, positions, norm, probe, tokens, text_positions, final, head
) -> tuple[Rename, ...]:
    """What the torch formats hold outside blocks and attention."""
    return (
        Rename(rf"{stem}\.weight", "params/img/embedding/kernel", conv),
        Rename(rf"{stem}\.bias", "params/img/embedding/bias"),
        Rename(positions, "params/img/pos_embedding", _grid),
        *layer_norm(norm, f"{_IMAGE}/encoder_norm"),
        Rename(probe, f"params/{_HEAD}/probe"),
        Rename(tokens, "params/txt/Embed_0/embedding"),
        Rename(text_positions, "params/txt/pos_embedding", _grid),
        *layer_norm(final, f"{_TEXT}/encoder_norm"),
        *linear(head, "txt/head"),
        Rename("logit_scale", "params/t", _scalar),
        Rename("logit_bias", "params/b", _scalar),
    )


def _transformers(config: SigLIPConfig) -> tuple[Rename, ...]:
    vision, text = r"vision_model\.embeddings", r"text_model\.embeddings"
    rows = _shared(
        rf"{vision}\.patch_embedding",
        rf"{vision}\.position_embedding\.weight",
        r"vision_model\.post_layernorm",
        r"vision_model\.head\.probe",
        rf"{text}\.token_embedding\.weight",
        rf"{text}\.position_embedding\.weight",
        r"text_model\.final_layer_norm",
        r"text_model\.head",
    )
    for tower, path, heads in (
        ("vision_model", _IMAGE, config.image.heads),
        ("text_model", _TEXT, config.text.heads),
    ):
        layer, block = rf"{tower}\.encoder\.layers\.(\d+)", rf"{path}/encoderblock_\1"
        rows += vit.block_rows(
            layer, block, ("layer_norm1", "layer_norm2"), (r"mlp\.fc1", r"mlp\.fc2")
        )
        rows += attention(
            rf"{layer}\.self_attn",
            f"{block}/{_ATTENTION}",
            heads,
            ("q_proj", "k_proj", "v_proj"),
            "out_proj",
        )
    head = r"vision_model\.head"
    rows += vit.block_rows(head, _HEAD, ("layernorm",), (r"mlp\.fc1", r"mlp\.fc2"))
    inner = f"{_HEAD}/{_ATTENTION}"
    return rows + fused_attention(
        rf"{head}\.attention",
        inner,
        config.image.heads,
        "in_proj_weight",
        "in_proj_bias",
        "out_proj",
    )


def _open_clip(config: SigLIPConfig) -> tuple[Rename, ...]:
    trunk = r"visual\.trunk"
    rows = _shared(
        rf"{trunk}\.patch_embed\.proj",
        rf"{trunk}\.pos_embed",
        rf"{trunk}\.norm",
        rf"{trunk}\.attn_pool\.latent",
        r"text\.token_embedding\.weight",
        r"text\.positional_embedding",
        r"text\.ln_final",
        r"text\.text_projection",
    )
    image, text = rf"{trunk}\.blocks\.(\d+)", r"text\.transformer\.resblocks\.(\d+)"
    image_block, text_block = rf"{_IMAGE}/encoderblock_\1", rf"{_TEXT}/encoderblock_\1"
    heads = config.image.heads
    rows += vit.block_rows(image, image_block, ("norm1", "norm2"), (r"mlp\.fc1", r"mlp\.fc2"))
    rows += fused_attention(
        rf"{image}\.attn",
        f"{image_block}/{_ATTENTION}",
        heads,
        r"qkv\.weight",
        r"qkv\.bias",
        "proj",
    )
    rows += vit.block_rows(text, text_block, ("ln_1", "ln_2"), (r"mlp\.c_fc", r"mlp\.c_proj"))
    rows += fused_attention(
        rf"{text}\.attn",
        f"{text_block}/{_ATTENTION}",
        config.text.heads,
        "in_proj_weight",
        "in_proj_bias",
        "out_proj",
    )
    return rows + pool_rows(rf"{trunk}\.attn_pool", _HEAD, heads)


def pool_rows(pool: str, path: str, heads: int) -> tuple[Rename, ...]:
    """Returns the rows of timm's attention pooling, whose key and value are one tensor, but for the
    query that it learns."""
    inner = f"params/{path}/{_ATTENTION}"
    rows = vit.block_rows(pool, path, ("norm",), (r"mlp\.fc1", r"mlp\.fc2"))
    for part, name, i, n in (("query", "q", 0, 1), ("key", "kv", 0, 2), ("value", "kv", 1, 2)):
        rows += (
            Rename(
                rf"{pool}\.{name}\.weight",
                f"{inner}/{part}/kernel",
                lambda t, i=i, n=n: dense(np.split(t, n)[i]).reshape(t.shape[1], heads, -1),
            ),
            Rename(
                rf"{pool}\.{name}\.bias",
                f"{inner}/{part}/bias",
                lambda t, i=i, n=n: np.split(t, n)[i].reshape(heads, -1),
            ),
        )
    return rows + (
        Rename(
            rf"{pool}\.proj\.weight",
            f"{inner}/out/kernel",
            lambda t: dense(t).reshape(heads, -1, t.shape[0]),
        ),
        Rename(rf"{pool}\.proj\.bias", f"{inner}/out/bias"),
    )
