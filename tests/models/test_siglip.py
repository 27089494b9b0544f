"""SigLIP against transformers' network, and big_vision's checkpoint tree (scanned or not) against
the converted safetensors."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from jaxle.models import checkpoints, siglip, taps, vit, weights

IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 50, (4, 10), dtype=np.int32)
CONFIG = siglip.SigLIPConfig(
    vit.ViTConfig(
        patch=8,
        width=24,
        depth=2,
        mlp_dim=40,
        heads=3,
        pool="map",
        activation="gelu_tanh",
        num_classes=None,
    ),
    siglip.TextConfig(width=24, depth=2, mlp_dim=40, heads=3, vocabulary=50, length=10),
)
MODULE = siglip.SigLIP(CONFIG)
APPLY = jax.jit(MODULE.apply)
EMBED_TEXTS = jax.jit(
    lambda variables, tokens: MODULE.apply(variables, tokens, method="embed_texts")
)


def hub_siglip(torch, parity, tmp_path, config, size):
    """transformers' SiglipModel with random weights, and what it saves."""
    from transformers import SiglipConfig, SiglipModel

    shapes = {
        "vision_config": {"image_size": size, "patch_size": config.image.patch},
        "text_config": {
            "vocab_size": config.text.vocabulary,
            "max_position_embeddings": config.text.length,
            "projection_size": config.image.width,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
    }
    for part, tower in (("vision_config", config.image), ("text_config", config.text)):
        shapes[part] |= {
            "hidden_size": tower.width,
            "num_hidden_layers": tower.depth,
            "num_attention_heads": tower.heads,
            "intermediate_size": tower.mlp_dim,
        }
    net = parity.randomise(torch, SiglipModel(SiglipConfig(**shapes)))
    net.save_pretrained(tmp_path)
    return net, checkpoints.read(tmp_path / "model.safetensors")


def load(module, source, images, tokens):
    shapes = jax.eval_shape(module.init, jax.random.key(0), images, tokens)
    return jax.tree.map(
        jnp.asarray, weights.convert(source, shapes, siglip.layouts(module.config), "test")
    )


def expected_embeddings(torch, net, images, tokens):
    with torch.no_grad():
        out = net(
            pixel_values=torch.tensor(images).permute(0, 3, 1, 2),
            input_ids=torch.tensor(tokens, dtype=torch.long),
        )
    return out.image_embeds.numpy(), out.text_embeds.numpy(), out.logits_per_image.numpy()


@pytest.fixture(scope="module")
def hub(torch, parity, tmp_path_factory):
    """transformers' network and file, and the variables read from it."""
    net, source = hub_siglip(torch, parity, tmp_path_factory.mktemp("hub"), CONFIG, 32)
    return net, source, load(MODULE, source, IMAGES, TOKENS)


def big_vision_shapes(config, pixels):
    """Every name and shape in a big_vision checkpoint of two towers, written out."""
    shapes = {"t": (1,), "b": (1,)}
    for tower, encoder, c in (
        ("img", "Transformer", config.image),
        ("txt", "Encoder_0", config.text),
    ):
        w, h, m = c.width, c.heads, c.mlp_dim

        def norm(path, w=w):
            return {f"{path}/scale": (w,), f"{path}/bias": (w,)}

        def mlp(path, w=w, m=m):
            return {
                f"{path}/MlpBlock_0/Dense_0/kernel": (w, m),
                f"{path}/MlpBlock_0/Dense_0/bias": (m,),
                f"{path}/MlpBlock_0/Dense_1/kernel": (m, w),
                f"{path}/MlpBlock_0/Dense_1/bias": (w,),
            }

        def attention(path, w=w, h=h):
            path = f"{path}/MultiHeadDotProductAttention_0"
            rows = {f"{path}/{part}/kernel": (w, h, w // h) for part in ("query", "key", "value")}
            rows |= {f"{path}/{part}/bias": (h, w // h) for part in ("query", "key", "value")}
            return rows | {f"{path}/out/kernel": (h, w // h, w), f"{path}/out/bias": (w,)}

        for i in range(c.depth):
            block = f"{tower}/{encoder}/encoderblock_{i}"
            shapes |= (
                norm(f"{block}/LayerNorm_0")
                | norm(f"{block}/LayerNorm_1")
                | attention(block)
                | mlp(block)
            )
        shapes |= norm(f"{tower}/{encoder}/encoder_norm")
        if tower == "img":
            head = "img/MAPHead_0"
            shapes |= (
                {f"{head}/probe": (1, 1, w)}
                | attention(head)
                | norm(f"{head}/LayerNorm_0")
                | mlp(head)
            )
            shapes |= {"img/embedding/kernel": (c.patch, c.patch, 3, w), "img/embedding/bias": (w,)}
            shapes["img/pos_embedding"] = (1, (pixels // c.patch) ** 2, w)
        else:
            shapes |= {
                "txt/Embed_0/embedding": (c.vocabulary, w),
                "txt/pos_embedding": (1, c.length, w),
            }
            shapes |= {"txt/head/kernel": (w, config.out), "txt/head/bias": (config.out,)}
    return {f"params/{name}": shape for name, shape in shapes.items()}


def open_clip_names(source, width):
    """The tensors of transformers' file as open_clip names them, with timm's fused projections in
    the image tower."""
    renamed = {}
    for name, tensor in source.items():
        if match := re.fullmatch(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)", name):
            tower, i, rest = match.groups()
            block = (
                f"visual.trunk.blocks.{i}"
                if tower == "vision"
                else f"text.transformer.resblocks.{i}"
            )
            if rest.startswith("self_attn.q_proj"):
                kind = rest.rsplit(".", 1)[1]
                whole = np.concatenate(
                    [
                        source[name.replace("q_proj", part)]
                        for part in ("q_proj", "k_proj", "v_proj")
                    ]
                )
                renamed[
                    f"{block}.attn.qkv.{kind}"
                    if tower == "vision"
                    else f"{block}.attn.in_proj_{kind}"
                ] = whole
            elif "k_proj" not in rest and "v_proj" not in rest:
                pairs = {
                    "vision": {
                        "layer_norm1": "norm1",
                        "layer_norm2": "norm2",
                        "self_attn.out_proj": "attn.proj",
                    },
                    "text": {
                        "layer_norm1": "ln_1",
                        "layer_norm2": "ln_2",
                        "self_attn.out_proj": "attn.out_proj",
                        "mlp.fc1": "mlp.c_fc",
                        "mlp.fc2": "mlp.c_proj",
                    },
                }[tower]
                for old, new in pairs.items():
                    rest = rest.replace(old, new)
                renamed[f"{block}.{rest}"] = tensor
        elif name.startswith("vision_model.head.attention.in_proj_"):
            kind = name.rsplit("_", 1)[1]
            renamed[f"visual.trunk.attn_pool.q.{kind}"] = tensor[:width]
            renamed[f"visual.trunk.attn_pool.kv.{kind}"] = tensor[width:]
        else:
            for old, new in {
                "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
                "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
                "vision_model.head.mlp": "visual.trunk.attn_pool.mlp",
                "vision_model.head.probe": "visual.trunk.attn_pool.latent",
                "vision_model.post_layernorm": "visual.trunk.norm",
                "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
                "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
                "text_model.embeddings.token_embedding": "text.token_embedding",
                "text_model.head": "text.text_projection",
                "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
                "text_model.final_layer_norm": "text.ln_final",
            }.items():
                name = name.replace(old, new)
            tensor = (
                tensor[None]
                if name.endswith("pos_embed")
                else tensor.reshape(())
                if name.startswith("logit_")
                else tensor
            )
            renamed[name] = tensor
    return renamed


def test_transformers_layout_stage_by_stage_and_every_alias(parity, torch, hub):
    net, _, variables = hub
    held = []
    vision = net.vision_model
    parts = (
        vision.embeddings,
        vision.encoder.layers[0],
        vision.encoder.layers[1].mlp.activation_fn,
        vision.post_layernorm,
    )
    handles = [
        p.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
        for p in parts
    ]
    z_image, z_text, logits = expected_embeddings(torch, net, IMAGES, TOKENS)
    for handle in handles:
        handle.remove()
    aliases = siglip.aliases(CONFIG)
    assert (
        aliases["img.blocks[1].mlp.act"] == "img/Transformer/encoderblock_1/MlpBlock_0/Dense_1:in"
    )
    names = ("img/Transformer:in", "img.blocks[0]", "img.blocks[1].mlp.act", "img/Transformer")
    values, image = parity.recorded(MODULE, variables, IMAGES, aliases, names)
    for name, value in zip(names, held, strict=True):
        parity.close(values[name], value)
    text = EMBED_TEXTS(variables, TOKENS)
    parity.close(image, z_image)
    parity.close(text, z_text)
    parity.close(
        np.exp(variables["params"]["t"][0]) * image @ text.T + variables["params"]["b"][0], logits
    )
    parity.every_alias(MODULE, variables, IMAGES, aliases)

    def embed(pixels):
        return net(
            pixel_values=pixels, input_ids=torch.tensor(TOKENS, dtype=torch.long)
        ).image_embeds

    hidden = vision.encoder.layers[1].mlp.activation_fn
    parity.hook_agrees(
        torch, MODULE, variables, IMAGES, aliases, "img.blocks[1].mlp.act", embed, hidden, 2
    )


def test_big_visions_tree_gives_the_converted_safetensors_embeddings(hub, tmp_path):
    """Its exact tree, plain, scanned in both towers beside an optimiser's state, in bfloat16, with
    text positions in two parts."""
    _, _, variables = hub
    expected = APPLY(variables, IMAGES, TOKENS)
    siglip.save(tmp_path / "plain.npz", variables)
    flat = dict(np.load(tmp_path / "plain.npz"))
    assert {name: tensor.shape for name, tensor in flat.items()} == big_vision_shapes(CONFIG, 32)
    scanned = {name: tensor for name, tensor in flat.items() if "encoderblock" not in name} | {
        "opt/0/count": np.zeros(())
    }
    for name in flat:
        if "encoderblock_0/" in name:
            both = [flat[name.replace("block_0/", f"block_{i}/")] for i in range(2)]
            scanned[name.replace("encoderblock_0", "encoderblock")] = np.stack(both)
    half = {name: tensor.astype(jnp.bfloat16) for name, tensor in scanned.items()}
    once = flat["params/txt/pos_embedding"]
    doubled = {name.removeprefix("params/"): tensor for name, tensor in flat.items()}
    doubled |= {"txt/pos_embedding": 0.25 * once, "txt/Encoder_0/pos_embedding": 0.75 * once}
    for tensors, tolerance in ((flat, 1e-5), (scanned, 1e-5), (doubled, 1e-5), (half, 0.03)):
        np.savez(tmp_path / "other.npz", **tensors)
        loaded = load(MODULE, checkpoints.read(tmp_path / "other.npz"), IMAGES, TOKENS)
        for got, want in zip(APPLY(loaded, IMAGES, TOKENS), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=tolerance)


def test_full_size_trees_are_big_visions():
    """Names and shapes alone; 384 pixels are not a multiple of 14."""
    for size, patch, pixels, vocabulary in (("B", 32, 256, 256_000), ("So400m", 14, 384, 32_000)):
        config = siglip.of_size(size, patch, vocabulary)
        inputs = (
            jax.ShapeDtypeStruct((1, pixels, pixels, 3), np.float32),
            jax.ShapeDtypeStruct((1, 64), np.int32),
        )
        shapes = traverse_util.flatten_dict(
            jax.eval_shape(siglip.SigLIP(config).init, jax.random.key(0), *inputs), sep="/"
        )
        assert {name: leaf.shape for name, leaf in shapes.items()} == big_vision_shapes(
            config, pixels
        )


def test_open_clips_names_hold_the_same_network(hub):
    _, source, variables = hub
    for other in (
        open_clip_names(source, CONFIG.image.width),
        {**source, "text_model.embeddings.position_ids": np.arange(10)[None]},
    ):
        jax.tree.map(np.testing.assert_array_equal, load(MODULE, other, IMAGES, TOKENS), variables)


def test_another_depth_names_every_mismatch(hub):
    _, source, _ = hub
    shallow = dataclasses.replace(CONFIG, text=dataclasses.replace(CONFIG.text, depth=1))
    with pytest.raises(ValueError, match="layout 'transformers'\\); 16 mismatches") as caught:
        load(siglip.SigLIP(shallow), source, IMAGES, TOKENS)
    message = str(caught.value)
    assert "(16 unexpected in the file)" in message and "… and 6 more" in message
    assert message.count("unexpected in the file: text_model.encoder.layers.1.") == 10


def test_it_learns_with_the_sigmoid_loss():
    """Three pairs are separated after a few steps, through every parameter: what a training from
    scratch needs."""
    shallow = siglip.SigLIPConfig(
        dataclasses.replace(CONFIG.image, depth=1), dataclasses.replace(CONFIG.text, depth=1)
    )
    module, signs = siglip.SigLIP(shallow), 2 * jnp.eye(3) - 1
    variables = jax.jit(module.init)(jax.random.key(0, impl="rbg"), IMAGES, TOKENS)

    def loss(params):
        image, text = module.apply({"params": params}, IMAGES, TOKENS[:3])
        return (
            -jnp.sum(
                jax.nn.log_sigmoid(
                    signs * (jnp.exp(params["t"][0]) * image @ text.T + params["b"][0])
                )
            )
            / 3
        )

    optimiser = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value, gradient

    params, state = variables["params"], jax.jit(optimiser.init)(variables["params"])
    for i in range(40):
        params, state, value, gradient = step(params, state)
        if i == 0:
            first = value
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
            assert (
                np.abs(gradient["img"]["embedding"]["kernel"]).max()
                > 0
                < np.abs(gradient["txt"]["Embed_0"]["embedding"]).max()
            )
    assert value < 0.2 * first


def test_only_the_image_towers_taps_are_listed():
    variables = jax.eval_shape(MODULE.init, jax.random.key(0), IMAGES, TOKENS)
    listed = taps.names(taps.sites(MODULE, variables, IMAGES))
    assert "img/Transformer/encoderblock_1" in listed and not any(
        name.startswith("txt") for name in listed
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patch", "pixels"), [("B", 16, 224), ("L", 16, 384), ("So400m", 14, 384)]
)
def test_full_size(parity, torch, tmp_path, size, patch, pixels):
    config = siglip.of_size(size, patch)
    images = np.random.default_rng(2).normal(size=(1, pixels, pixels, 3)).astype(np.float32)
    tokens = np.random.default_rng(3).integers(0, 32_000, (1, 64), dtype=np.int32)
    net, source = hub_siglip(torch, parity, tmp_path, config, pixels)
    module = siglip.SigLIP(config)
    variables = load(module, source, images, tokens)
    del source
    (tmp_path / "model.safetensors").unlink()
    middle = f"img/Transformer/encoderblock_{config.image.depth // 2}"
    held = []
    for part in (
        net.vision_model.embeddings,
        net.vision_model.encoder.layers[config.image.depth // 2],
    ):
        part.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
    z_image, z_text, _ = expected_embeddings(torch, net, images, tokens)
    del net
    values, image = parity.recorded(module, variables, images, {}, ["img/Transformer:in", middle])
    text = jax.jit(lambda v, x: module.apply(v, x, method="embed_texts"))(variables, tokens)
    shares = [
        parity.close(a, b)
        for a, b in zip((*values.values(), image, text), (*held, z_image, z_text), strict=True)
    ]
    print(
        f"\nSigLIP-{size}/{patch}-{pixels}: stem {shares[0]:.1e}, block {shares[1]:.1e}, "
        f"image {shares[2]:.1e}, text {shares[3]:.1e}"
    )
