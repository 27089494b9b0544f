"""SigLIP and SigLIP 2 at fixed resolution: an image and a text transformer trained so that a picture and its caption lie close.

    P(text fits image) = σ(exp(t)·cos(E_I, E_T) + b)

Source: Zhai, Mustafa, Kolesnikov & Beyer, Sigmoid Loss for Language Image Pre-Training, ICCV 2023 (arXiv 2303.15343); Tschannen et al.,
SigLIP 2 (arXiv 2502.14786). Module and parameter names of google-research/big_vision, models/proj/image_text/two_towers.py and
text_transformer.py, whose files load as they are.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxle.models import vit
from jaxle.models.vit import Encoder, ViT, ViTConfig
from jaxle.models.weights import Layout, Rename, attention, conv, fused_attention, layer_norm, linear


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Shape of a text tower; `length` is the fixed number of tokens a text is padded or cut to."""

    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    heads: int = 12
    vocabulary: int = 32_000
    length: int = 64


class TextTower(nn.Module):
    """Use it for SigLIP's texts: tokens of fixed length, no mask (padding is attended to), the last token's output.

    Args:
      tokens: texts, length int32.

    Returns:
      texts, out_dim float32, not normalised. Source: big_vision's text_transformer.py, pool_type "last".
    """

    config: TextConfig
    out_dim: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        c = self.config
        x = nn.Embed(c.vocabulary, c.width, dtype=self.dtype)(tokens)
        positions = self.param("pos_embedding", nn.initializers.normal(c.width**-0.5), (1, c.length, c.width))
        x = x + positions.astype(x.dtype)
        x = Encoder(c.depth, c.mlp_dim, c.heads, "gelu_tanh", 1e-6, self.dtype)(x)
        return nn.Dense(self.out_dim, dtype=self.dtype, name="head")(x[:, -1]).astype(jnp.float32)


def image_tower(config: ViTConfig, dtype: jnp.dtype = jnp.float32) -> ViT:
    """SigLIP's image tower: big_vision's ViT with attention pooling and no head."""
    return ViT(config, dtype)


@dataclasses.dataclass(frozen=True)
class SigLIPConfig:
    """The two towers; a text's embedding is as wide as the image tower."""

    image: ViTConfig
    text: TextConfig


class SigLIP(nn.Module):
    """Use it as explainer and simulator: pictures and concepts in one space.

    Args:
      images: images, h, w, 3 float, normalised.
      tokens: texts, length int32, or None.

    Returns:
      images, numbers float32 of unit length; with tokens, the pair of images' and texts'. Source: Zhai et al. 2023, §3.
    """

    config: SigLIPConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.img = image_tower(self.config.image, self.dtype)
        self.txt = TextTower(self.config.text, self.config.image.width, self.dtype)
        self.t = self.param("t", nn.initializers.constant(np.log(10)), (1,))
        self.b = self.param("b", nn.initializers.constant(-10), (1,))

    def __call__(self, images: jax.Array, tokens: jax.Array | None = None):
        embedded = normalise(self.img(images))
        return embedded if tokens is None else (embedded, self.embed_texts(tokens))

    def embed_texts(self, tokens: jax.Array) -> jax.Array:
        """texts, numbers float32 of unit length, from int32 texts, length."""
        return normalise(self.txt(tokens))


def normalise(embeddings: jax.Array) -> jax.Array:
    """Rows of unit length."""
    return embeddings / (jnp.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-8)


def of_size(size: str, patch: int, vocabulary: int = 32_000, length: int = 64) -> SigLIPConfig:
    """SigLIP-B, -L or -So400m; the text tower has the image tower's shape."""
    shape = vit.SIZES[size]
    image = ViTConfig(patch=patch, **shape, pool="map", activation="gelu_tanh", num_classes=None)
    return SigLIPConfig(image, TextConfig(**shape, vocabulary=vocabulary, length=length))


def _big_vision(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters under params/ or bare; an optimiser's state beside them is left aside."""
    if any(name.startswith("params/") for name in source):
        source = {name.removeprefix("params/"): tensor for name, tensor in source.items() if name.startswith("params/")}
    return vit.unroll(source)


def _positions_first(tensor: np.ndarray) -> np.ndarray:
    return tensor[None]


def layouts(config: SigLIPConfig) -> dict[str, Layout]:
    """big_vision's names and transformers' (`SiglipModel`, also the fixed-resolution SigLIP 2 files)."""
    names, out = ("q_proj", "k_proj", "v_proj"), "out_proj"
    image, text = r"vision_model\.encoder\.layers\.(\d+)", r"text_model\.encoder\.layers\.(\d+)"
    image_block, text_block = r"img/Transformer/encoderblock_\1", r"txt/Encoder_0/encoderblock_\1"
    norms, mlp = ("layer_norm1", "layer_norm2"), (r"mlp\.fc1", r"mlp\.fc2")
    head, pooled = r"vision_model\.head", "img/MAPHead_0"
    rows = (
        Rename(r"vision_model\.embeddings\.patch_embedding\.weight", "params/img/embedding/kernel", conv),
        Rename(r"vision_model\.embeddings\.patch_embedding\.bias", "params/img/embedding/bias"),
        Rename(r"vision_model\.embeddings\.position_embedding\.weight", "params/img/pos_embedding", _positions_first),
        *vit.block_rows(image, image_block, norms, mlp),
        *attention(rf"{image}\.self_attn", f"{image_block}/MultiHeadDotProductAttention_0", config.image.heads, names, out),
        *layer_norm(r"vision_model\.post_layernorm", "img/Transformer/encoder_norm"),
        Rename(rf"{head}\.probe", f"params/{pooled}/probe"),
        *fused_attention(rf"{head}\.attention", f"{pooled}/MultiHeadDotProductAttention_0", config.image.heads,
                         "in_proj_weight", "in_proj_bias", out),
        *layer_norm(rf"{head}\.layernorm", f"{pooled}/LayerNorm_0"),
        *(row for i, name in enumerate(mlp) for row in linear(rf"{head}\.{name}", f"{pooled}/MlpBlock_0/Dense_{i}")),
        Rename(r"text_model\.embeddings\.token_embedding\.weight", "params/txt/Embed_0/embedding"),
        Rename(r"text_model\.embeddings\.position_embedding\.weight", "params/txt/pos_embedding", _positions_first),
        *vit.block_rows(text, text_block, norms, mlp),
        *attention(rf"{text}\.self_attn", f"{text_block}/MultiHeadDotProductAttention_0", config.text.heads, names, out),
        *layer_norm(r"text_model\.final_layer_norm", "txt/Encoder_0/encoder_norm"),
        *linear(r"text_model\.head", "txt/head"),
        Rename("logit_scale", "params/t"),
        Rename("logit_bias", "params/b"),
    )
    return {
        "transformers": Layout(rows, ignored=(r".*\.embeddings\.position_ids",)),
        "big_vision": Layout(vit.BIG_VISION_ROWS, prepare=_big_vision),
    }


def aliases(config: SigLIPConfig) -> dict[str, str]:
    """The image tower's taps by the vision transformer's friendly names, after `img.`."""
    return {f"img.{name}": tap for name, tap in vit.aliases(config.image, "img/").items()}
