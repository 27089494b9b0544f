"""DINOv3 against transformers' own network, plain and gated; timm's and the authors' names."""

import functools

import jax
import numpy as np
import pytest

from jaxle.models import checkpoints, dinov3, positions, taps, zoo
from jaxle.models.declared import Declared
from jaxle.models.families import dinov3_entry
from jaxle.models.weights import convert

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype(np.float32)
SMALL = dinov3.DINOv3Config(patch=8, width=24, depth=2, mlp_dim=40, heads=3)
GATED = dinov3.DINOv3Config(patch=8, width=24, depth=2, mlp_dim=40, heads=3, gated=True)


def hub(config):
    """transformers' network of the same shape."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    return DINOv3ViTModel(
        DINOv3ViTConfig(
            hidden_size=config.width,
            intermediate_size=config.mlp_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            patch_size=config.patch,
            use_gated_mlp=config.gated,
            hidden_act="silu" if config.gated else "gelu",
            num_register_tokens=config.registers,
        )
    )


def randomised(parity, torch, config):
    """It, with weights that hide no mistake; its frequencies, a buffer, are left as they are."""
    net = hub(config)
    frequencies = net.rope_embeddings.inv_freq.clone()
    parity.randomise(torch, net).rope_embeddings.inv_freq.copy_(frequencies)
    return net


def check(parity, torch, config, source, net, images):
    """Embedding, first block and output against torch's, to 1e-5 of the scale."""
    module, aliases, held = dinov3.DINOv3(config), dinov3.aliases(config.depth), []
    variables = parity.variables(module, images, source, dinov3.layouts(config))
    values, output = parity.recorded(module, variables, images, aliases, ("encoder:in", "layer[0]"))

    def keep(_, __, out):
        held.append((out[0] if isinstance(out, tuple) else out).numpy())

    handles = [m.register_forward_hook(keep) for m in (net.embeddings, net.model.layer[0])]
    with torch.no_grad():
        held.append(net(torch.tensor(images).permute(0, 3, 1, 2)).pooler_output.numpy())
    for handle in handles:
        handle.remove()
    return [
        parity.close(ours, theirs, 1e-5)
        for ours, theirs in zip((*values.values(), output), held, strict=True)
    ], (module, variables, aliases)


@pytest.mark.parametrize("config", [SMALL, GATED], ids=["plain", "gated"])
def test_transformers_layout_stage_by_stage(parity, torch, tmp_path, config):
    net = randomised(parity, torch, config)
    net.save_pretrained(tmp_path)
    source = checkpoints.read(tmp_path / "model.safetensors")
    _, (module, variables, aliases) = check(parity, torch, config, source, net, IMAGES)
    if config.gated:
        alias = "layer[0].mlp.act_fn"
        parity.every_alias(module, variables, IMAGES, {alias: aliases[alias]})
    older = {name.replace("model.layer.", "layer."): tensor for name, tensor in source.items()}
    newer = {name.replace("layer.", "model.layer."): tensor for name, tensor in older.items()}
    for given in (older, newer):
        again = parity.variables(module, IMAGES, given, dinov3.layouts(config))
        jax.tree.map(np.testing.assert_array_equal, again, variables)


def drawn(config):
    """Tensors under transformers' names, and the variables that they are."""
    rng, w, d = np.random.default_rng(0), config.width, config.mlp_dim
    shapes = {
        "embeddings.cls_token": (1, 1, w),
        "embeddings.mask_token": (1, 1, w),
        "embeddings.register_tokens": (1, config.registers, w),
        "embeddings.patch_embeddings.weight": (w, 3, config.patch, config.patch),
        "embeddings.patch_embeddings.bias": (w,),
        "norm.weight": (w,),
        "norm.bias": (w,),
    }
    for i in range(config.depth):
        layer = f"layer.{i}."
        for name in ("norm1", "norm2"):
            shapes |= {f"{layer}{name}.weight": (w,), f"{layer}{name}.bias": (w,)}
        for part in "qkvo":
            shapes[f"{layer}attention.{part}_proj.weight"] = (w, w)
        for part in "qvo":
            shapes[f"{layer}attention.{part}_proj.bias"] = (w,)
        for name in ("up_proj", "gate_proj")[: 1 + config.gated]:
            shapes |= {f"{layer}mlp.{name}.weight": (d, w), f"{layer}mlp.{name}.bias": (d,)}
        shapes |= {f"{layer}mlp.down_proj.weight": (w, d), f"{layer}mlp.down_proj.bias": (w,)}
        shapes |= {f"{layer}layer_scale{n}.lambda1": (w,) for n in (1, 2)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def of_timm(source, bias):
    """transformers' names → timm's (bias "none" or "apart"), or the authors' ("whole")."""
    authors, found = bias == "whole", {}
    table = {
        "embeddings.patch_embeddings": "patch_embed.proj",
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "storage_tokens" if authors else "reg_token",
        "layer.": "blocks.",
        "attention.o_proj": "attn.proj",
        "mlp.gate_proj": "mlp.w1" if authors else "mlp.fc1_g",
        "layer_scale1.lambda1": "ls1.gamma" if authors else "gamma_1",
        "layer_scale2.lambda1": "ls2.gamma" if authors else "gamma_2",
    }
    gated = any("gate_proj" in name for name in source)
    table["mlp.up_proj"] = ("mlp.w2" if authors else "mlp.fc1_x") if gated else "mlp.fc1"
    table["mlp.down_proj"] = "mlp.w3" if authors and gated else "mlp.fc2"
    for name, tensor in source.items():
        name = functools.reduce(lambda n, item: n.replace(*item), table.items(), name)
        if ".attention." not in name:
            found[name] = tensor
    for i in range(2):
        old, new = f"layer.{i}.attention.", f"blocks.{i}.attn."
        weights = [source[f"{old}{part}_proj.weight"] for part in "qkv"]
        found[f"{new}qkv.weight"] = np.concatenate(weights)
        query, value = (source[f"{old}{part}_proj.bias"] for part in "qv")
        if bias == "apart":
            found |= {f"{new}q_bias": query, f"{new}v_bias": value}
        elif authors:
            found[f"{new}qkv.bias"] = np.concatenate([query, 0 * query, value])
            found[f"{new}qkv.bias_mask"] = found[f"{new}qkv.bias"]
    if authors:
        found["rope_embed.periods"] = np.zeros(6, np.float32)
    else:
        del found["mask_token"]
    return found


@pytest.mark.parametrize("bias", ["none", "apart", "whole"])
@pytest.mark.parametrize("config", [SMALL, GATED], ids=["plain", "gated"])
def test_timms_and_the_authors_names(config, bias):
    source = drawn(config)
    if bias == "none":
        for name in source:
            if name.endswith(("q_proj.bias", "v_proj.bias")):
                source[name] = np.zeros_like(source[name])
    shapes = jax.eval_shape(dinov3.DINOv3(config).init, jax.random.key(0), IMAGES)
    expected, found = (
        convert(given, shapes, dinov3.layouts(config), "test")
        for given in (source, of_timm(source, bias))
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_prefix_tokens_are_not_turned_and_a_shift_of_all_angles_changes_nothing():
    cosine, sine = dinov3.angles(2, 3, 8, 100.0)
    assert cosine.shape == sine.shape == (1, 6, 1, 8)
    x = np.random.default_rng(0).normal(size=(1, 11, 2, 8)).astype(np.float32)
    turned = np.asarray(dinov3.turned(x, cosine, sine))
    np.testing.assert_array_equal(turned[:, :5], x[:, :5])
    lengths = [np.linalg.norm(t[..., :4] + 1j * t[..., 4:], axis=-1) for t in (turned, x)]
    np.testing.assert_allclose(*lengths, rtol=1e-5)
    angle = 2 * np.pi * np.array([0.5, 0.5, 2 / 3, 2 / 3]) * np.array([1, 0.1, 1, 0.1])
    np.testing.assert_allclose(cosine[0, 5, 0, :4], np.cos(angle), atol=1e-6)


def test_taps_of_five_tokens_before_the_patches_have_a_grid():
    entry = zoo.ZOO["dinov3_s_16"]
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    variables = jax.eval_shape(entry.module().init, jax.random.key(0), images)
    found = taps.sites(entry.module(), variables, images)
    site = found[taps.resolve("layer.11", found, entry.aliases)]
    assert site.shape == (201, 384) and positions.grid(site.shape) == (14, 14)
    assert positions.grid((200, 384)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 14}, "patch_size 14, and the network has 8"),
        ({"use_gated_mlp": True}, "use_gated_mlp True, and the network has False"),
        ({"num_register_tokens": 0}, "num_register_tokens 0, and the network has 4"),
        ({"key_bias": True}, "key_bias True, and the network has False"),
        ({"hidden_act": "silu"}, "hidden_act 'silu'; expected one of gelu"),
    ],
)
def test_a_config_json_that_cannot_be_followed_is_refused(changes, message):
    held = {"model_type": "dinov3_vit", "patch_size": 8, "num_register_tokens": 4}
    assert dinov3.adapted(SMALL, Declared("w", config=held | {"rope_theta": 10})).theta == 10
    with pytest.raises(ValueError, match=f"config.json beside weights w has {message}"):
        dinov3.adapted(SMALL, Declared("w", config=held | changes))


def test_the_published_configs_agree_with_the_zoo():
    for name, heads, gated in (("s_16", 6, 0), ("b_16", 12, 0), ("s_plus_16", 6, 1)):
        entry = zoo.ZOO[f"dinov3_{name}"]
        held = {"num_attention_heads": heads, "num_register_tokens": 4}
        if gated:
            held |= {"use_gated_mlp": True, "hidden_act": "silu"}
        declared = Declared("w", config={"model_type": "dinov3_vit", **held})
        assert entry.adapt(declared).module() == entry.module()


def test_weights_of_another_size_are_refused_in_one_error(monkeypatch):
    monkeypatch.setitem(zoo.ZOO, "dinov3", dinov3_entry(SMALL, "org/dinov3", 0))
    source = drawn(zoo.dataclasses.replace(SMALL, width=48))
    with pytest.raises(ValueError, match="do not fit the network .* of wrong shape"):
        zoo.load_model("dinov3", source)


def test_full_size(parity, torch):
    """ViT-B/16 as published, 224 pixels."""
    config = dinov3.of_size("B")
    images = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    net = randomised(parity, torch, config)
    source = {name: t.numpy() for name, t in net.state_dict().items()}
    shares, _ = check(parity, torch, config, source, net, images)
    print(f"\nDINOv3 B/16: embedding, block, output {', '.join(f'{s:.1e}' for s in shares)}")
