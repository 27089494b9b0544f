"""DINOv2 against transformers' own network, with and without registers, plain and gated; timm's and
the authors' names; positions of another image size; a fine-tuned classifier."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import bicubic, checkpoints, dinov2, positions, zoo
from jaxle.models.declared import Declared
from jaxle.models.families import dinov2_entry
from jaxle.models.generated import published
from jaxle.models.weights import convert

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
SMALL = dinov2.DINOv2Config(patch=8, width=24, depth=2, mlp_dim=96, heads=3, grid=5)
GATED = dinov2.DINOv2Config(
    patch=8, width=24, depth=2, mlp_dim=64, heads=3, grid=4, registers=4, gated=True
)


def hub(config, head=False, **more):
    """transformers' network of the same shape."""
    import transformers

    kind = "Dinov2WithRegisters" if config.registers else "Dinov2"
    fields = {"num_register_tokens": config.registers} if config.registers else {}
    settings = getattr(transformers, f"{kind}Config")(
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        image_size=config.grid * config.patch,
        patch_size=config.patch,
        use_swiglu_ffn=config.gated,
        **fields,
        **more,
    )
    return getattr(transformers, f"{kind}{'ForImageClassification' if head else 'Model'}")(settings)


def stages(torch, net, images, embeddings, first):
    """What embeddings and the first block give, and the class token's last state or the logits."""
    held = []
    handles = [
        module.register_forward_hook(
            lambda _, __, out: held.append((out[0] if isinstance(out, tuple) else out).numpy())
        )
        for module in (embeddings, first)
    ]
    with torch.no_grad():
        out = net(torch.tensor(np.array(images)).permute(0, 3, 1, 2))
    for handle in handles:
        handle.remove()
    return *held, (out.logits if "logits" in out else out.pooler_output).numpy()


def check(parity, torch, config, source, net, images):
    """Embedding, first block and output against torch's, to 1e-5 of the scale."""
    module, aliases = dinov2.DINOv2(config), dinov2.aliases(config.depth)
    variables = parity.variables(module, images, source, dinov2.layouts(config))
    values, output = parity.recorded(
        module, variables, images, aliases, ("encoder:in", "blocks[0]")
    )
    held = stages(torch, net, images, net.embeddings, net.encoder.layer[0])
    return [
        parity.close(ours, theirs, 1e-5)
        for ours, theirs in zip((*values.values(), output), held, strict=True)
    ], (module, variables, aliases)


@pytest.mark.parametrize("config", [SMALL, GATED], ids=["plain", "registers_gated"])
def test_transformers_layout_stage_by_stage(parity, torch, tmp_path, config):
    net = parity.randomise(torch, hub(config))
    net.save_pretrained(tmp_path)
    source = checkpoints.read(tmp_path / "model.safetensors")
    _, (module, variables, aliases) = check(parity, torch, config, source, net, IMAGES)
    assert f"mlp.{'weights_in' if config.gated else 'fc1'}.weight" in " ".join(source)
    if config.registers:
        alias = "blocks[0].mlp.act"
        parity.every_alias(module, variables, IMAGES, {alias: aliases[alias]})
        newer = {name: t.numpy() for name, t in net.state_dict().items()}
        again = parity.variables(module, IMAGES, newer, dinov2.layouts(config))
        jax.tree.map(np.testing.assert_array_equal, again, variables)


def drawn(config):
    """Variables of unit scale."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(dinov2.DINOv2(config).init, jax.random.key(0), IMAGES)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def of_timm(source, config, authors=False):
    """transformers' names on disk → timm's, whose files with registers merge the token's position;
    or the authors'."""
    table = {
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "register_tokens" if authors else "reg_token",
        "embeddings.position_embeddings": "pos_embed",
        "encoder.layer.": "blocks.",
        "layernorm.": "norm.",
        "layer_scale": "ls",
        "lambda1": "gamma",
        "attention.output.dense": "attn.proj",
        "mlp.weights_in": "mlp.w12" if authors else "mlp.fc1",
        "mlp.weights_out": "mlp.w3" if authors else "mlp.fc2",
    }
    found, fused = {}, {}
    for name, tensor in source.items():
        name = functools.reduce(lambda n, item: n.replace(*item), table.items(), name)
        if ".attention.attention." in name:
            block, rest = name.split(".attention.attention.")
            part, kind = rest.split(".")
            fused.setdefault(f"{block}.attn.qkv.{kind}", {})[part] = tensor
        else:
            found[name] = tensor
    for name, parts in fused.items():
        found[name] = np.concatenate([parts[part] for part in ("query", "key", "value")])
    if config.registers and not authors:
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
        del found["mask_token"]
    return found


@pytest.mark.parametrize("authors", [False, True])
@pytest.mark.parametrize("config", [SMALL, GATED], ids=["plain", "registers_gated"])
def test_timms_and_the_authors_names(config, authors):
    variables, layouts = drawn(config), dinov2.layouts(config)
    source = published(variables, layouts["transformers"])
    token = np.full((1, 1, config.width), 0.5, np.float32)
    source["embeddings.position_embeddings"] = np.concatenate(
        [token, source["embeddings.position_embeddings"].reshape(1, -1, config.width)], axis=1
    )
    source["embeddings.mask_token"] = np.zeros((1, config.width), np.float32)
    source["embeddings.cls_token"] = source["embeddings.cls_token"].reshape(1, 1, -1) - token
    if config.gated:
        for name in [name for name in source if "gate_proj" in name]:
            packed = (source.pop(name), source.pop(name.replace("gate_proj", "up_proj")))
            source[name.replace("gate_proj", "weights_in")] = np.concatenate(packed)
        for name in [name for name in source if "down_proj" in name]:
            source[name.replace("down_proj", "weights_out")] = source.pop(name)
    for given in (source, of_timm(source, config, authors)):
        found = convert(given, variables, layouts, "test")
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, variables)


def test_positions_are_interpolated_as_torch_does(torch):
    table = np.random.default_rng(0).normal(size=(1, 49, 3)).astype(np.float32)
    square = torch.tensor(table).reshape(1, 7, 7, 3).permute(0, 3, 1, 2)
    for shape in ((4, 5), (7, 16), (3, 3)):
        for antialias in (False, True):
            expected = torch.nn.functional.interpolate(
                square, size=shape, mode="bicubic", align_corners=False, antialias=antialias
            )
            got = bicubic.resampled(jnp.asarray(table), 7, shape, antialias)
            expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy()
            np.testing.assert_allclose(got, expected, atol=2e-6)
    assert bicubic.resampled(table, 7, (7, 7), False) is table


def test_interpolation_keeps_a_constant_and_shrinks_as_jax_does():
    for antialias in (False, True):
        np.testing.assert_allclose(bicubic.matrix(37, 16, antialias).sum(1), 1, atol=1e-6)
    line = np.random.default_rng(0).normal(size=37).astype(np.float32)
    expected = jax.image.resize(line, (16,), "cubic", antialias=True)
    np.testing.assert_allclose(bicubic.matrix(37, 16, True) @ line, expected, atol=1e-5)


@pytest.fixture
def small(monkeypatch):
    """Two networks of the zoo, of test size."""
    for name, config in (("dinov2", SMALL), ("dinov2_reg", GATED)):
        entry = dinov2_entry(config, f"org/{name}", 0)
        preprocess = zoo.dataclasses.replace(entry.preprocess, size=32)
        adapt = functools.partial(adapted_at_32, entry.adapt)
        monkeypatch.setitem(zoo.ZOO, name, entry._replace(preprocess=preprocess, adapt=adapt))


def adapted_at_32(adapt, declared):
    entry = adapt(declared)
    return entry._replace(preprocess=zoo.dataclasses.replace(entry.preprocess, size=32))


PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["dinov2", "dinov2_reg"])
def test_a_fine_tuned_classifier_loads_as_it_is(parity, torch, small, tmp_path, name):
    """Ten classes, another grid of positions, names of classes in its config.json."""
    config = {"dinov2": SMALL, "dinov2_reg": GATED}[name]
    config = zoo.dataclasses.replace(config, grid=4)
    labels = {i: f"class {i}" for i in range(10)}
    net = parity.randomise(torch, hub(config, True, num_labels=10, id2label=labels))
    net.save_pretrained(tmp_path)
    model = zoo.load_model(name, tmp_path)
    assert model.class_names == tuple(labels.values()) and model.module.config.grid == 4
    x = model.preprocess.normalise(np.stack([model.preprocess.fit(p) for p in PICTURES]))
    with torch.no_grad():
        expected = net(torch.tensor(np.array(x)).permute(0, 3, 1, 2)).logits.numpy()
    parity.close(model.logits(PICTURES), expected, 1e-5)


def test_a_head_on_the_class_token_alone_is_timms(small):
    plain = zoo.load_model("dinov2", drawn(SMALL))
    assert plain.logits(PICTURES).shape == (2, 24) and plain.class_names == ()
    assert positions.grid(plain.taps["Transformer"]) == (4, 4)
    for pooled in (False, True):
        config = zoo.dataclasses.replace(SMALL, num_classes=10, pooled=pooled)
        assert zoo.load_model("dinov2", drawn(config)).module.config == config


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dinov2", {"patch_size": 16}, "patch_size 16, and the network has 8"),
        ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn True, and the network has False"),
        ("dinov2", {"qkv_bias": False}, "qkv_bias False"),
        ("dinov2", {"hidden_act": "relu"}, "hidden_act 'relu'; expected one of gelu"),
        ("dinov2_reg", {"num_register_tokens": 8}, "num_register_tokens 8, and the network has 4"),
    ],
)
def test_a_config_json_that_cannot_be_followed_is_refused(name, changes, message):
    kind = "dinov2_with_registers" if name.endswith("reg") else "dinov2"
    config = GATED if name.endswith("reg") else SMALL
    held = {"model_type": kind, "patch_size": 8, "num_attention_heads": 3}
    held["use_swiglu_ffn"] = config.gated
    assert dinov2.adapted(config, Declared("w", config=held)) == config
    with pytest.raises(ValueError, match=f"config.json beside weights w has {message}"):
        dinov2.adapted(config, Declared("w", config=held | changes))


def test_an_image_size_that_the_patch_does_not_divide_is_refused():
    message = "image_size is 256; expected a multiple of the patch of 14 pixels, such as 252"
    with pytest.raises(ValueError, match=message):
        zoo.load_model("dinov2_s_14", random_init_seed=0, image_size=256)


def test_the_published_configs_agree_with_the_zoo():
    """What the hub's config.json files say, as far as it differs from transformers' defaults."""
    held = {
        "dinov2_s_14": {"num_attention_heads": 6},
        "dinov2_b_14": {},
        "dinov2_l_14": {"num_attention_heads": 16},
        "dinov2_g_14": {"num_attention_heads": 24, "use_swiglu_ffn": True},
        "dinov2_b_14_reg": {"patch_size": 14},
    }
    for name, fields in held.items():
        entry, kind = zoo.ZOO[name], "dinov2_with_registers" if "reg" in name else "dinov2"
        declared = Declared("w", config={"model_type": kind, "image_size": 518, **fields})
        assert entry.adapt(declared).module() == entry.module()


def test_full_size(parity, torch):
    """ViT-B/14 with registers, as published: 518 pixels' positions on 224 pixels."""
    config = dinov2.of_size("B", registers=4)
    images = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    net = parity.randomise(torch, hub(config))
    source = {name: t.numpy() for name, t in net.state_dict().items()}
    shares, _ = check(parity, torch, config, source, net, images)
    print(f"\nDINOv2 B/14: embedding, block, output {', '.join(f'{s:.1e}' for s in shares)}")
