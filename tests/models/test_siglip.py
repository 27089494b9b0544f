"""SigLIP against transformers' network, and big_vision's checkpoint tree (scanned or not) against the converted safetensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxle.models import siglip, taps, vit, weights

IMAGES = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 50, (4, 10), dtype=np.int32)
CONFIG = siglip.SigLIPConfig(
    vit.ViTConfig(patch=8, width=24, depth=2, mlp_dim=40, heads=3, pool="map", activation="gelu_tanh", num_classes=None),
    siglip.TextConfig(width=24, depth=2, mlp_dim=40, heads=3, vocabulary=50, length=10),
)


def hub_siglip(torch, parity, tmp_path, config, size):
    """transformers' SiglipModel with random weights, and what it saves."""
    from transformers import SiglipConfig, SiglipModel

    shapes = {"vision_config": {"image_size": size, "patch_size": config.image.patch},
              "text_config": {"vocab_size": config.text.vocabulary, "max_position_embeddings": config.text.length,
                              "projection_size": config.image.width, "bos_token_id": 0, "eos_token_id": 1}}
    for part, tower in (("vision_config", config.image), ("text_config", config.text)):
        shapes[part] |= {"hidden_size": tower.width, "num_hidden_layers": tower.depth, "num_attention_heads": tower.heads,
                         "intermediate_size": tower.mlp_dim}
    net = parity.randomise(torch, SiglipModel(SiglipConfig(**shapes)))
    net.save_pretrained(tmp_path)
    return net, weights.read(tmp_path / "model.safetensors")


def load(parity, module, source, images, tokens):
    shapes = jax.eval_shape(module.init, jax.random.key(0), images, tokens)
    return jax.tree.map(jnp.asarray, weights.convert(source, shapes, siglip.layouts(module.config), "test"))


def expected_embeddings(torch, net, images, tokens):
    with torch.no_grad():
        out = net(pixel_values=torch.tensor(images).permute(0, 3, 1, 2), input_ids=torch.tensor(tokens, dtype=torch.long))
    return out.image_embeds.numpy(), out.text_embeds.numpy(), out.logits_per_image.numpy()


def test_transformers_layout_and_every_alias(parity, torch, tmp_path):
    net, source = hub_siglip(torch, parity, tmp_path, CONFIG, 32)
    module = siglip.SigLIP(CONFIG)
    variables = load(parity, module, source, IMAGES, TOKENS)
    image, text = jax.jit(module.apply)(variables, IMAGES, TOKENS)
    z_image, z_text, logits = expected_embeddings(torch, net, IMAGES, TOKENS)
    parity.close(image, z_image)
    parity.close(text, z_text)
    parity.close(np.exp(variables["params"]["t"][0]) * image @ text.T + variables["params"]["b"][0], logits)
    np.testing.assert_allclose(jnp.linalg.norm(text, axis=1), 1, rtol=1e-5)
    aliases = siglip.aliases(CONFIG)
    parity.every_alias(module, variables, IMAGES, aliases)
    hidden = aliases["img.blocks[1].mlp.act"]
    value = parity.recorded(module, variables, IMAGES, aliases, ["img.blocks[1].mlp.act"])[0]["img.blocks[1].mlp.act"]
    held = []
    handle = net.vision_model.encoder.layers[1].mlp.activation_fn.register_forward_hook(lambda _, __, out: held.append(out.numpy()))
    expected_embeddings(torch, net, IMAGES, TOKENS)
    handle.remove()
    parity.close(value, held[0])
    assert hidden == "img/Transformer/encoderblock_1/MlpBlock_0/Dense_1:in"


def test_big_visions_tree_gives_the_converted_safetensors_embeddings(parity, torch, tmp_path):
    """Its exact tree, with and without a scanned encoder in either tower, an optimiser's state beside it, `t` and `b`."""
    _, source = hub_siglip(torch, parity, tmp_path, CONFIG, 32)
    module = siglip.SigLIP(CONFIG)
    variables = load(parity, module, source, IMAGES, TOKENS)
    expected = jax.jit(module.apply)(variables, IMAGES, TOKENS)
    flat = {f"params/{name}": np.asarray(t) for name, t in traverse_util.flatten_dict(variables["params"], sep="/").items()}
    assert {"params/t", "params/b", "params/img/embedding/kernel", "params/img/pos_embedding", "params/img/MAPHead_0/probe",
            "params/img/Transformer/encoderblock_1/MlpBlock_0/Dense_0/kernel", "params/img/Transformer/encoder_norm/scale",
            "params/img/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel", "params/txt/Embed_0/embedding",
            "params/txt/Encoder_0/encoderblock_0/LayerNorm_1/bias", "params/txt/head/kernel", "params/txt/pos_embedding"} <= set(flat)
    scanned = {name: tensor for name, tensor in flat.items() if "encoderblock" not in name} | {"opt/0/count": np.zeros(())}
    for name in flat:
        if "encoderblock_0/" in name:
            both = [flat[name.replace("block_0/", f"block_{i}/")] for i in range(2)]
            scanned[name.replace("encoderblock_0", "encoderblock")] = np.stack(both)
    for name, tensors in {"plain": flat, "scanned": scanned}.items():
        np.savez(tmp_path / f"{name}.npz", **tensors)
        loaded = load(parity, module, weights.read(tmp_path / f"{name}.npz"), IMAGES, TOKENS)
        for got, want in zip(jax.jit(module.apply)(loaded, IMAGES, TOKENS), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_another_depth_names_every_mismatch(parity, torch, tmp_path):
    _, source = hub_siglip(torch, parity, tmp_path, CONFIG, 32)
    shallow = siglip.SigLIPConfig(CONFIG.image, siglip.TextConfig(width=24, depth=1, mlp_dim=40, heads=3, vocabulary=50, length=10))
    with pytest.raises(ValueError, match="layout 'transformers'\\); 16 mismatches") as caught:
        load(parity, siglip.SigLIP(shallow), source, IMAGES, TOKENS)
    assert str(caught.value).count("unexpected in the file: text_model.encoder.layers.1.") == 16


def test_only_the_image_towers_taps_are_listed(parity):
    module = siglip.SigLIP(CONFIG)
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGES, TOKENS)
    listed = taps.names(taps.sites(module, variables, IMAGES))
    assert "img/Transformer/encoderblock_1" in listed and not any(name.startswith("txt") for name in listed)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "patch", "pixels"), [("B", 16, 224), ("L", 16, 384), ("So400m", 14, 384)])
def test_full_size(parity, torch, tmp_path, size, patch, pixels):
    config = siglip.of_size(size, patch)
    images = np.random.default_rng(2).normal(size=(1, pixels, pixels, 3)).astype(np.float32)
    tokens = np.random.default_rng(3).integers(0, 32_000, (1, 64), dtype=np.int32)
    net, source = hub_siglip(torch, parity, tmp_path, config, pixels)
    module = siglip.SigLIP(config)
    variables = load(parity, module, source, images, tokens)
    del source
    (tmp_path / "model.safetensors").unlink()
    middle = f"img/Transformer/encoderblock_{config.image.depth // 2}"
    held = []
    for part in (net.vision_model.embeddings, net.vision_model.encoder.layers[config.image.depth // 2]):
        part.register_forward_hook(lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy()))
    z_image, z_text, _ = expected_embeddings(torch, net, images, tokens)
    del net
    values, image = parity.recorded(module, variables, images, {}, ["img/Transformer:in", middle])
    text = jax.jit(lambda v, x: module.apply(v, x, method="embed_texts"))(variables, tokens)
    shares = [parity.close(a, b) for a, b in zip((*values.values(), image, text), (*held, z_image, z_text), strict=True)]
    print(f"\nSigLIP-{size}/{patch}-{pixels}: stem {shares[0]:.1e}, block {shares[1]:.1e}, image {shares[2]:.1e}, text {shares[3]:.1e}")
