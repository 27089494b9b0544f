"""CLIP against transformers' network, and the same weights under open_clip's names."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import checkpoints, clip, weights
from jaxle.models.siglip import TextConfig

IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(1, 48, (4, 10), dtype=np.int32)
TOKENS[np.arange(4), [9, 3, 6, 5]] = 49  # the end of text; what follows it must not matter
CONFIG = clip.CLIPConfig(
    8, 24, 2, 3, 12, TextConfig(width=16, depth=2, mlp_dim=64, heads=2, vocabulary=50, length=10)
)


def hub_clip(torch, parity, config, size):
    from transformers import CLIPConfig, CLIPModel

    text, act = config.text, {"hidden_act": config.activation}
    net = CLIPModel(
        CLIPConfig(
            text_config=act
            | {
                "hidden_size": text.width,
                "num_hidden_layers": text.depth,
                "num_attention_heads": text.heads,
                "intermediate_size": text.mlp_dim,
                "vocab_size": text.vocabulary,
                "max_position_embeddings": text.length,
                "eos_token_id": text.vocabulary - 1,
                "bos_token_id": text.vocabulary - 2,
            },
            vision_config=act
            | {
                "hidden_size": config.width,
                "num_hidden_layers": config.depth,
                "num_attention_heads": config.heads,
                "intermediate_size": 4 * config.width,
                "image_size": size,
                "patch_size": config.patch,
            },
            projection_dim=config.out,
        )
    )
    return parity.randomise(torch, net)


def saved(net, folder):
    """What transformers writes of it."""
    net.save_pretrained(folder)
    return checkpoints.read(folder / "model.safetensors")


def open_clip_names(source):
    """The same tensors as open_clip (and OpenAI) name and lay them out."""
    renamed = {}
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for name, tensor in source.items():
            match = re.fullmatch(rf"{tower}\.encoder\.layers\.(\d+)\.(.+)", name)
            if not match:
                continue
            block, rest = f"{prefix}transformer.resblocks.{match[1]}.", match[2]
            if rest.startswith("self_attn.q_proj."):
                kind = rest.rsplit(".", 1)[1]
                parts = [
                    source[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")
                ]
                renamed[f"{block}attn.in_proj_{kind}"] = np.concatenate(parts)
            elif "_proj." not in rest or "out_proj" in rest:
                for old, new in {
                    "layer_norm1": "ln_1",
                    "layer_norm2": "ln_2",
                    "mlp.fc1": "mlp.c_fc",
                    "mlp.fc2": "mlp.c_proj",
                    "self_attn.out_proj": "attn.out_proj",
                }.items():
                    rest = rest.replace(old, new)
                renamed[block + rest] = tensor
    for old, new in {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "logit_scale": "logit_scale",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
    }.items():
        renamed[new] = source[old]
    for old, new in {
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.final_layer_norm": "ln_final",
    }.items():
        renamed |= {f"{new}.{kind}": source[f"{old}.{kind}"] for kind in ("weight", "bias")}
    return renamed | {
        "visual.proj": source["visual_projection.weight"].T,
        "text_projection": source["text_projection.weight"].T,
    }


def load(module, source, images, tokens):
    shapes = jax.eval_shape(module.init, jax.random.key(0), images, tokens)
    return jax.tree.map(
        jnp.asarray, weights.convert(source, shapes, clip.layouts(module.config), "test")
    )


def embeddings(torch, net, images, tokens):
    with torch.no_grad():
        out = net(
            pixel_values=torch.tensor(images).permute(0, 3, 1, 2),
            input_ids=torch.tensor(tokens, dtype=torch.long),
        )
    return out.image_embeds.numpy(), out.text_embeds.numpy(), out.logits_per_image.numpy()


MODULE = clip.CLIP(CONFIG)
EMBED_TEXTS = jax.jit(
    lambda variables, tokens: MODULE.apply(variables, tokens, method="embed_texts")
)


@pytest.fixture(scope="module")
def hub(torch, parity, tmp_path_factory):
    """transformers' network and file, and the variables read from it."""
    net = hub_clip(torch, parity, CONFIG, 32)
    source = saved(net, tmp_path_factory.mktemp("hub"))
    return net, source, load(MODULE, source, IMAGES, TOKENS)


def test_transformers_layout_stage_by_stage_and_every_alias(parity, torch, hub):
    net, _, variables = hub
    held = []
    vision = net.vision_model
    parts = (
        vision.pre_layrnorm,
        vision.encoder.layers[0],
        vision.encoder.layers[1].mlp.activation_fn,
    )
    handles = [
        p.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
        for p in parts
    ]
    z_image, z_text, logits = embeddings(torch, net, IMAGES, TOKENS)
    for handle in handles:
        handle.remove()
    aliases = clip.aliases(CONFIG)
    names = ("img/pre_norm", "img.blocks[0]", "img.blocks[1].mlp.act")
    values, image = parity.recorded(MODULE, variables, IMAGES, aliases, names)
    for name, value in zip(names, held, strict=True):
        parity.close(values[name], value)
    text = EMBED_TEXTS(variables, TOKENS)
    parity.close(image, z_image)
    parity.close(text, z_text)
    parity.close(np.exp(variables["params"]["t"]) * image @ text.T, logits)
    parity.every_alias(MODULE, variables, IMAGES, aliases)

    def embed(pixels):
        return net(
            pixel_values=pixels, input_ids=torch.tensor(TOKENS, dtype=torch.long)
        ).image_embeds

    hidden = vision.encoder.layers[1].mlp.activation_fn
    parity.hook_agrees(
        torch, MODULE, variables, IMAGES, aliases, "img.blocks[1].mlp.act", embed, hidden, 2
    )


def test_open_clips_names_hold_the_same_network(hub):
    _, source, variables = hub
    numbers = {
        "text_model.embeddings.position_ids": np.arange(10)[None],
        "vision_model.embeddings.position_ids": np.arange(17)[None],
    }
    jit_archive = {
        name: np.array(1) for name in ("input_resolution", "context_length", "vocab_size")
    }
    for other in (open_clip_names(source) | jit_archive, source | numbers):
        jax.tree.map(np.testing.assert_array_equal, load(MODULE, other, IMAGES, TOKENS), variables)


def test_what_follows_the_end_of_text_does_not_matter(parity, hub):
    *_, variables = hub
    other = np.where(np.arange(10)[None] > TOKENS.argmax(1)[:, None], 0, TOKENS)
    parity.close(EMBED_TEXTS(variables, other), EMBED_TEXTS(variables, TOKENS), 1e-5)


def test_another_depth_names_every_mismatch(hub):
    _, source, _ = hub
    shallow = dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, depth=1))
    with pytest.raises(ValueError, match="layout 'transformers'\\); 16 mismatches"):
        load(clip.CLIP(shallow), source, IMAGES, TOKENS)


def test_datacomps_full_size(parity, torch):
    """ViT-B/32 with GELU, whole, under transformers' and open_clip's names."""
    config = clip.of_size("B", 32, "gelu")
    images = np.random.default_rng(2).normal(size=(1, 224, 224, 3)).astype(np.float32)
    tokens = np.random.default_rng(3).integers(0, 49_000, (1, 77), dtype=np.int32)
    tokens[0, 20] = 49_407
    net, held = hub_clip(torch, parity, config, 224), []
    for part in (net.vision_model.pre_layrnorm, net.vision_model.encoder.layers[0]):
        part.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
    z_image, z_text, _ = embeddings(torch, net, images, tokens)
    source = open_clip_names({name: t.numpy() for name, t in net.state_dict().items()})
    module = clip.CLIP(config)
    variables = load(module, source, images, tokens)
    values, image = parity.recorded(
        module, variables, images, clip.aliases(config), ["img/pre_norm", "img.blocks[0]"]
    )
    text = jax.jit(lambda v, x: module.apply(v, x, method="embed_texts"))(variables, tokens)
    shares = [
        parity.close(a, b, 1e-5)
        for a, b in zip((*values.values(), image, text), (*held, z_image, z_text), strict=True)
    ]
    print(f"\nCLIP-B/32 gelu: stem, block, image, text {', '.join(f'{s:.1e}' for s in shares)}")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "patch", "pixels"), [("B", 16, 224), ("L", 14, 336)])
def test_full_size(parity, torch, tmp_path, size, patch, pixels):
    config = clip.of_size(size, patch)
    images = np.random.default_rng(2).normal(size=(1, pixels, pixels, 3)).astype(np.float32)
    tokens = np.random.default_rng(3).integers(0, 49_000, (1, 77), dtype=np.int32)
    tokens[0, 20] = 49_407
    net = hub_clip(torch, parity, config, pixels)
    source, module = saved(net, tmp_path), clip.CLIP(config)
    variables = load(module, source, images, tokens)
    (tmp_path / "model.safetensors").unlink()
    held = []
    for part in (net.vision_model.pre_layrnorm, net.vision_model.encoder.layers[config.depth // 2]):
        part.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
    z_image, z_text, _ = embeddings(torch, net, images, tokens)
    values, image = parity.recorded(
        module,
        variables,
        images,
        {},
        ["img/pre_norm", f"img/Transformer/encoderblock_{config.depth // 2}"],
    )
    text = jax.jit(lambda v, x: module.apply(v, x, method="embed_texts"))(variables, tokens)
    shares = [
        parity.close(a, b)
        for a, b in zip((*values.values(), image, text), (*held, z_image, z_text), strict=True)
    ]
    print(
        f"\nCLIP-{size}/{patch}-{pixels}: stem {shares[0]:.1e}, block {shares[1]:.1e}, "
        f"image {shares[2]:.1e}, text {shares[3]:.1e}"
    )
