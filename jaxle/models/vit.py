"""Vision transformers, in big_vision's module tree, so that its checkpoints load as they are.

torchvision's, timm's and transformers' checkpoints are read too.

    tokens = patches·E + positions (a class token before them where pool is "tok")
    block(x): x += attention(norm(x));  x += mlp(norm(x)),  mlp(x) = Dense_1(gelu(Dense_0(x)))
    logits = head(pool(norm(blocks(tokens))))

A block's hidden units after the activation are the tap
`Transformer/encoderblock_11/MlpBlock_0/Dense_1:in`.

Source: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929); module and parameter names of
google-research/big_vision, models/vit.py. The class token joins after the positions are added
there, so where a checkpoint has a position for that token, it is added to the token.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from jaxle.arrays import Array
from jaxle.models.declared import Declared
from jaxle.models.weights import (
    Layout,
    Rename,
    attention,
    conv,
    fused_attention,
    layer_norm,
    linear,
)

ACTIVATIONS = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
}
POOLS = ("tok", "gap", "map")


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Shape of one network.

    `rep_size` puts a tanh layer before the head; `num_classes=None` leaves the head out.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    mlp_dim: int = 3072
    heads: int = 12
    pool: str = "tok"
    positions: str = "learn"
    activation: str = "gelu"
    epsilon: float = 1e-6
    rep_size: bool = False
    num_classes: int | None = 1000

    def __post_init__(self):
        for field, value, valid in (
            ("pool", self.pool, POOLS),
            ("activation", self.activation, tuple(ACTIVATIONS)),
            ("positions", self.positions, ("learn", "sincos2d")),
        ):
            if value not in valid:
                raise ValueError(f"{field} is {value!r}; expected one of {', '.join(valid)}")


class MlpBlock(nn.Module):
    """Two dense layers with an activation between."""

    mlp_dim: int
    activation: str = "gelu_tanh"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*positions width"]) -> Float[Array, "*positions width"]:
        h = nn.Dense(self.mlp_dim, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())(
            x
        )
        return nn.Dense(
            x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
        )(ACTIVATIONS[self.activation](h))


class Encoder1DBlock(nn.Module):
    """One transformer block on (images, tokens, width).

    `mask` says which tokens a token may attend to.
    """

    mlp_dim: int
    heads: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        mask: Shaped[Array, "images 1 tokens tokens"] | None = None,
    ) -> Float[Array, "images tokens width"]:
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype)(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
        )(y, y, mask=mask)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype)(x)
        return x + MlpBlock(self.mlp_dim, self.activation, self.dtype)(y)


class Encoder(nn.Module):
    """The blocks and the last norm, on (images, tokens, width)."""

    depth: int
    mlp_dim: int
    heads: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "images tokens width"],
        mask: Shaped[Array, "images 1 tokens tokens"] | None = None,
    ) -> Float[Array, "images tokens width"]:
        for i in range(self.depth):
            x = Encoder1DBlock(
                self.mlp_dim,
                self.heads,
                self.activation,
                self.epsilon,
                self.dtype,
                name=f"encoderblock_{i}",
            )(x, mask)
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, name="encoder_norm")(x)


class MAPHead(nn.Module):
    """Multi-head attention pooling: one learnt query over all tokens, then an mlp.

    Maps (images, tokens, width) to (images, width).
    """

    mlp_dim: int
    heads: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "images tokens width"]) -> Float[Array, "images width"]:
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, x.shape[-1]))
        probe = jnp.broadcast_to(probe.astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
        x = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
        )(probe, x)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype)(x)
        return (x + MlpBlock(self.mlp_dim, self.activation, self.dtype)(y))[:, 0]


class ViT(nn.Module):
    """ImageNet classifiers, and the image tower of SigLIP (Dosovitskiy et al. 2021, §3.1).

    Args:
      images: float (images, height, width, 3), normalised; height and width multiples of the patch.

    Returns:
      float32 logits (images, classes); without a head, (images, width).
    """

    config: ViTConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "images height width 3"]
    ) -> Float[Array, "images outputs"]:
        c = self.config
        x = nn.Conv(
            c.width,
            (c.patch, c.patch),
            (c.patch, c.patch),
            "VALID",
            dtype=self.dtype,
            name="embedding",
        )(images)
        n, h, w, _ = x.shape
        x = x.reshape(n, h * w, c.width)
        if c.positions == "learn":
            positions = self.param(
                "pos_embedding", nn.initializers.normal(c.width**-0.5), (1, h * w, c.width)
            )
        else:
            positions = jnp.asarray(_sincos(h, w, c.width))
        x = x + positions.astype(x.dtype)
        if c.pool == "tok":
            token = self.param("cls", nn.initializers.zeros, (1, 1, c.width))
            x = jnp.concatenate(
                [jnp.broadcast_to(token.astype(x.dtype), (n, 1, c.width)), x], axis=1
            )
        x = Encoder(
            c.depth, c.mlp_dim, c.heads, c.activation, c.epsilon, self.dtype, name="Transformer"
        )(x)
        if c.pool == "map":
            x = MAPHead(c.mlp_dim, c.heads, c.activation, c.epsilon, self.dtype, name="MAPHead_0")(
                x
            )
        else:
            x = x[:, 0] if c.pool == "tok" else jnp.mean(x, axis=1)
        if c.rep_size:
            x = nn.tanh(nn.Dense(c.width, dtype=self.dtype, name="pre_logits")(x))
        if c.num_classes:
            x = nn.Dense(c.num_classes, dtype=self.dtype, name="head")(x)
        return x.astype(jnp.float32)


def _sincos(h: int, w: int, width: int) -> np.ndarray:
    """(1, h·w, width): sines and cosines of column and row at width / 4 frequencies.

    Frequencies go from 1 to 1/10,000 (MoCo v3, arXiv 2104.02057).
    """
    y, x = np.mgrid[:h, :w]
    frequencies = 1 / 10_000 ** (np.arange(width // 4) / (width // 4 - 1))
    y, x = (np.outer(position.reshape(-1), frequencies) for position in (y, x))
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1).astype(np.float32)[
        None
    ]


SIZES = {
    "S": {"width": 384, "depth": 12, "mlp_dim": 1536, "heads": 6},
    "B": {"width": 768, "depth": 12, "mlp_dim": 3072, "heads": 12},
    "L": {"width": 1024, "depth": 24, "mlp_dim": 4096, "heads": 16},
    "So400m": {"width": 1152, "depth": 27, "mlp_dim": 4304, "heads": 16},
}


def of_size(size: str, patch: int, **fields) -> ViTConfig:
    """Returns ViT-S, -B, -L or -So400m with patches of `patch` pixels.

    Source: Zhai et al. 2022 (arXiv 2106.04560), table 2.
    """
    return dataclasses.replace(ViTConfig(patch=patch, **fields), **SIZES[size])


def adapted(config: ViTConfig, declared: Declared) -> ViTConfig:
    """Returns the network with the checkpoint's number of classes, and the activation, epsilon and
    heads of its config.json.

    Raises:
      ValueError: a config.json of another patch, or of an activation that there is not.
    """
    if config.num_classes is not None:
        classes = declared.outputs("head", config.num_classes)
        config = dataclasses.replace(config, num_classes=classes)
    return of_config_json(config, declared, "") if declared.is_of("vit") else config


def of_config_json(config: ViTConfig, declared: Declared, part: str) -> ViTConfig:
    """Returns the network with what one part of transformers' config.json says of it.

    Args:
      config: the network.
      declared: whose config.json is of the same kind of network.
      part: "" for the whole, or "vision_config."; its defaults are that kind's.

    Raises:
      ValueError: another patch, or an activation that there is not.
    """
    act, epsilon = ("gelu_pytorch_tanh", 1e-6) if part else ("gelu", 1e-12)
    declared.require(f"{part}patch_size", 16, config.patch)
    return dataclasses.replace(
        config,
        heads=declared.get(f"{part}num_attention_heads", 12),
        activation=declared.activation(f"{part}hidden_act", act),
        epsilon=float(declared.get(f"{part}layer_norm_eps", epsilon)),
    )


def aliases(config: ViTConfig, tower: str = "") -> dict[str, str]:
    """Returns torchvision's, timm's and transformers' names of the residual stream and of the mlp's
    hidden units after the activation."""
    found = {"encoder": f"{tower}Transformer"}
    for i in range(config.depth):
        block = f"{tower}Transformer/encoderblock_{i}"
        hidden = f"{block}/MlpBlock_0/Dense_1:in"
        found |= {
            f"encoder.layers.encoder_layer_{i}": block,
            f"encoder.layers.encoder_layer_{i}.mlp[1]": hidden,
        }
        found |= {f"blocks[{i}]": block, f"blocks[{i}].mlp.act": hidden}
        if not tower:
            layer = f"vit.encoder.layer[{i}]"
            found |= {layer: block, f"{layer}.intermediate": hidden}
    return found


def tower_aliases(config: ViTConfig, open_clip: str) -> dict[str, str]:
    """Returns an image tower's taps: its friendly names after `img.`, and the blocks by
    transformers' names and by open_clip's."""
    found = {f"img.{name}": tap for name, tap in aliases(config, "img/").items()}
    for i in range(config.depth):
        block = f"img/Transformer/encoderblock_{i}"
        layer = f"vision_model.encoder.layers[{i}]"
        found |= {layer: block, f"{open_clip}[{i}]": block}
        found[f"{layer}.mlp.activation_fn"] = f"{block}/MlpBlock_0/Dense_1:in"
    return found


def block_rows(
    source: str, path: str, norms: tuple[str, ...], mlp: tuple[str, str]
) -> tuple[Rename, ...]:
    """Returns the rows of norms and mlp of one torch block.

    The first group of `source` is the block's number.
    """
    rows = [
        row
        for i, name in enumerate(norms)
        for row in layer_norm(rf"{source}\.{name}", rf"{path}/LayerNorm_{i}")
    ]
    return (
        *rows,
        *(
            row
            for i, name in enumerate(mlp)
            for row in linear(rf"{source}\.{name}", rf"{path}/MlpBlock_0/Dense_{i}")
        ),
    )


def unroll(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns one tensor a block where a scanned encoder holds all blocks in one, blocks first."""
    unrolled = {}
    for name, tensor in source.items():
        if "/encoderblock/" in f"/{name}":
            unrolled |= {
                name.replace("encoderblock/", f"encoderblock_{i}/"): part
                for i, part in enumerate(tensor)
            }
        else:
            unrolled[name] = tensor
    return unrolled


def _big_vision(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Older files: parameters under opt/target or bare, positions inside the encoder, the class
    token's position among them."""
    for prefix in ("params/", "opt/target/"):
        if any(name.startswith(prefix) for name in source):
            source = {
                name.removeprefix(prefix): tensor
                for name, tensor in source.items()
                if name.startswith(prefix)
            }
            break
    source = {
        re.sub(r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding", name): t
        for name, t in source.items()
    }
    positions = source.get("pos_embedding")
    if (
        positions is not None
        and "cls" in source
        and round((positions.shape[1] - 1) ** 0.5) ** 2 == positions.shape[1] - 1
    ):
        source |= {"cls": source["cls"] + positions[:, :1], "pos_embedding": positions[:, 1:]}
    return unroll(source)


def _torch(token: str, positions: str):
    """The class token's own position goes into the token."""

    def prepare(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if token in source and positions in source:
            source |= {
                token: source[token] + source[positions][:, :1],
                positions: source[positions][:, 1:],
            }
        return source

    return prepare


def layouts(config: ViTConfig) -> dict[str, Layout]:
    """Returns torchvision's, timm's, transformers' (ViTForImageClassification) and big_vision's
    names."""
    heads, path = config.heads, r"Transformer/encoderblock_\1"
    inner = f"{path}/MultiHeadDotProductAttention_0"

    def table(
        stem: str,
        token: str,
        positions: str,
        norm: str,
        head: str,
        blocks: tuple[Rename, ...],
        ignored=(),
    ) -> Layout:
        rows = (
            Rename(rf"{stem}\.weight", "params/embedding/kernel", conv),
            Rename(rf"{stem}\.bias", "params/embedding/bias"),
            Rename(re.escape(token), "params/cls"),
            Rename(re.escape(positions), "params/pos_embedding"),
            *layer_norm(norm, "Transformer/encoder_norm"),
            *linear(head, "head"),
        )
        return Layout((*rows, *blocks), ignored, _torch(token, positions))

    torchvision, timm, hub = (
        r"encoder\.layers\.encoder_layer_(\d+)",
        r"blocks\.(\d+)",
        r"vit\.encoder\.layer\.(\d+)",
    )
    return {
        "torchvision": table(
            "conv_proj",
            "class_token",
            "encoder.pos_embedding",
            r"encoder\.ln",
            r"heads\.head",
            (
                *block_rows(
                    torchvision,
                    path,
                    ("ln_1", "ln_2"),
                    (r"mlp\.(?:0|linear_1)", r"mlp\.(?:3|linear_2)"),
                ),
                *fused_attention(
                    rf"{torchvision}\.self_attention",
                    inner,
                    heads,
                    "in_proj_weight",
                    "in_proj_bias",
                    "out_proj",
                ),
            ),
        ),
        "timm": table(
            r"patch_embed\.proj",
            "cls_token",
            "pos_embed",
            "norm",
            "head",
            (
                *block_rows(timm, path, ("norm1", "norm2"), (r"mlp\.fc1", r"mlp\.fc2")),
                *fused_attention(
                    rf"{timm}\.attn", inner, heads, r"qkv\.weight", r"qkv\.bias", "proj"
                ),
            ),
        ),
        "transformers": table(
            r"vit\.embeddings\.patch_embeddings\.projection",
            "vit.embeddings.cls_token",
            "vit.embeddings.position_embeddings",
            r"vit\.layernorm",
            "classifier",
            (
                *block_rows(
                    hub,
                    path,
                    ("layernorm_before", "layernorm_after"),
                    (r"intermediate\.dense", r"output\.dense"),
                ),
                *attention(
                    rf"{hub}\.attention",
                    inner,
                    heads,
                    tuple(rf"attention\.{n}" for n in _QKV),
                    r"output\.dense",
                ),
            ),
            ignored=(r"vit\.pooler\..*",),
        ),
        "big_vision": Layout(BIG_VISION_ROWS, prepare=_big_vision),
    }


_QKV = ("query", "key", "value")

# As they are; before Linen, modules were numbered over all kinds in a block.
BIG_VISION_ROWS = (
    Rename(r"(.*)", r"params/\1"),
    Rename(
        r"(.*/)MultiHeadDotProductAttention_1(/.*)", r"params/\1MultiHeadDotProductAttention_0\2"
    ),
    Rename(r"(.*/)LayerNorm_2(/.*)", r"params/\1LayerNorm_1\2"),
    Rename(r"(.*/)MlpBlock_3(/.*)", r"params/\1MlpBlock_0\2"),
)
