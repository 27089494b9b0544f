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

from jaxle.models.vit import Encoder, ViT, ViTConfig


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
