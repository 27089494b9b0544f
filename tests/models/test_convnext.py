"""ConvNeXt and ConvNeXt V2 against transformers' own networks; timm's, torchvision's and the
authors' names; fine-tuned classifiers."""

import functools
import json

import jax
import numpy as np
import pytest

from jaxle.models import checkpoints, convnext, taps, zoo
from jaxle.models.declared import Declared
from jaxle.models.families import convnext_entry
from jaxle.models.weights import convert

IMAGES = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
SMALL = convnext.ConvNeXtConfig((1, 1, 1, 1), (8, 12, 16, 20), num_classes=7)
V2 = convnext.ConvNeXtConfig((1, 1, 1, 1), (8, 12, 16, 20), v2=True, num_classes=7)


def hub(config, **more):
    """transformers' network of the same shape."""
    import transformers

    kind = "ConvNextV2" if config.v2 else "ConvNext"
    settings = getattr(transformers, f"{kind}Config")(
        hidden_sizes=list(config.widths),
        depths=list(config.blocks),
        layer_norm_eps=config.last_epsilon,
        **{"num_labels": config.num_classes, **more},
    )
    return getattr(transformers, f"{kind}ForImageClassification")(settings)


def check(parity, torch, config, source, net, images):
    """Stem, first block, third stage and logits against torch's, to 1e-5 of the scale."""
    module, aliases, held = convnext.ConvNeXt(config), convnext.aliases(config), []
    variables = parity.variables(module, images, source, convnext.LAYOUTS)
    names = ("features[0]", "stages[0].blocks[0]", "stages[2]")
    values, logits = parity.recorded(module, variables, images, aliases, names)
    inner = net.convnextv2 if config.v2 else net.convnext
    stages = inner.encoder.stages
    handles = [
        m.register_forward_hook(lambda _, __, out: held.append(out.permute(0, 2, 3, 1).numpy()))
        for m in (inner.embeddings, stages[0].layers[0], stages[2])
    ]
    with torch.no_grad():
        held.append(net(torch.tensor(images).permute(0, 3, 1, 2)).logits.numpy())
    for handle in handles:
        handle.remove()
    return [
        parity.close(ours, theirs, 1e-5)
        for ours, theirs in zip((*values.values(), logits), held, strict=True)
    ], (module, variables, aliases, stages)


@pytest.mark.parametrize("config", [SMALL, V2], ids=["v1", "v2"])
def test_transformers_layout_stage_by_stage(parity, torch, tmp_path, config):
    net = parity.randomise(torch, hub(config))
    net.save_pretrained(tmp_path)
    source = checkpoints.read(tmp_path / "model.safetensors")
    _, (module, variables, aliases, stages) = check(parity, torch, config, source, net, IMAGES)
    if config.v2:
        hidden, alias = stages[2].layers[0].act, "stages[2].blocks[0].mlp.act"
        parity.hook_agrees(torch, module, variables, IMAGES, aliases, alias, net, hidden, 3)
        parity.every_alias(module, variables, IMAGES, {alias: aliases[alias]})


def drawn(config):
    """Tensors under timm's names."""
    rng, w = np.random.default_rng(0), config.widths
    shapes = {"stem.0.weight": (w[0], 3, 4, 4), "stem.0.bias": (w[0],)}
    shapes |= {"stem.1.weight": (w[0],), "stem.1.bias": (w[0],)}
    for s, blocks in enumerate(config.blocks):
        if s:
            down = f"stages.{s}.downsample"
            shapes |= {f"{down}.0.weight": (w[s - 1],), f"{down}.0.bias": (w[s - 1],)}
            shapes |= {f"{down}.1.weight": (w[s], w[s - 1], 2, 2), f"{down}.1.bias": (w[s],)}
        for b in range(blocks):
            block = f"stages.{s}.blocks.{b}"
            shapes |= {f"{block}.conv_dw.weight": (w[s], 1, 7, 7), f"{block}.conv_dw.bias": (w[s],)}
            shapes |= {f"{block}.norm.weight": (w[s],), f"{block}.norm.bias": (w[s],)}
            shapes |= {f"{block}.mlp.fc1.weight": (4 * w[s], w[s])}
            shapes |= {f"{block}.mlp.fc1.bias": (4 * w[s],)}
            shapes |= {
                f"{block}.mlp.fc2.weight": (w[s], 4 * w[s]),
                f"{block}.mlp.fc2.bias": (w[s],),
            }
            if config.v2:
                grn = f"{block}.mlp.grn"
                shapes |= {f"{grn}.weight": (4 * w[s],), f"{grn}.bias": (4 * w[s],)}
            else:
                shapes[f"{block}.gamma"] = (w[s],)
    shapes |= {"head.norm.weight": (w[3],), "head.norm.bias": (w[3],)}
    shapes |= {"head.fc.weight": (config.num_classes, w[3]), "head.fc.bias": (config.num_classes,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


# timm's names, rightmost first, → each format's.
COMMON = {"conv_dw": "dwconv", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}
NAMES = {
    "transformers": {
        "stem.0": "convnext.embeddings.patch_embeddings",
        "stem.1": "convnext.embeddings.layernorm",
        "head.norm": "convnext.layernorm",
        "head.fc": "classifier",
        ".norm.": ".layernorm.",
        "downsample": "downsampling_layer",
        ".blocks.": ".layers.",
        "stages": "convnext.encoder.stages",
        ".gamma": ".layer_scale_parameter",
        "mlp.grn": "grn",
        **COMMON,
    },
    "authors": {
        "stem": "downsample_layers.0",
        **{f"stages.{s}.downsample": f"downsample_layers.{s}" for s in (1, 2, 3)},
        ".blocks.": ".",
        "mlp.grn.weight": "grn.gamma",
        "mlp.grn.bias": "grn.beta",
        "head.norm": "norm",
        "head.fc": "head",
        **COMMON,
    },
    "torchvision": {
        "stem": "features.0",
        **{f"stages.{s}.downsample": f"features.{2 * s}" for s in (1, 2, 3)},
        **{f"stages.{s}.blocks": f"features.{2 * s + 1}" for s in range(4)},
        "conv_dw": "block.0",
        ".norm.": ".block.2.",
        "mlp.fc1": "block.3",
        "mlp.fc2": "block.5",
        ".gamma": ".layer_scale",
        "head.block.2.": "classifier.0.",
        "head.fc": "classifier.2",
    },
}


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("config", [SMALL, V2], ids=["v1", "v2"])
def test_every_formats_names(config, form):
    source = drawn(config)
    shapes = jax.eval_shape(convnext.ConvNeXt(config).init, jax.random.key(0), IMAGES)
    expected, given = convert(source, shapes, convnext.LAYOUTS, "test"), {}
    for name, tensor in source.items():
        name = functools.reduce(lambda n, item: n.replace(*item), NAMES[form].items(), name)
        if form == "torchvision" and name.endswith("layer_scale"):
            tensor = tensor[:, None, None]
        if form == "transformers" and ".grn." in name:
            tensor = tensor[None, None, None]
        given[name] = tensor
    assert not given.keys() & source.keys()
    found = convert(given, shapes, convnext.LAYOUTS, "test")
    jax.tree.map(np.testing.assert_array_equal, found, expected)


PICTURES = np.random.default_rng(0).integers(0, 256, (2, 80, 90, 3), dtype=np.uint8)


@pytest.fixture
def small(monkeypatch):
    """Two networks of the zoo, of test size."""
    for name, config in (("convnext", SMALL), ("convnextv2", V2)):
        monkeypatch.setitem(zoo.ZOO, name, convnext_entry(config, f"org/{name}", 0))


def test_ten_classes_of_timms_names(small, tmp_path):
    source = drawn(zoo.dataclasses.replace(SMALL, num_classes=10))
    model = zoo.load_model("convnext", source)
    assert model.logits(PICTURES).shape == (2, 10) and model.class_names == ()
    wrapped = {f"timm_model.{name}": tensor for name, tensor in source.items()}  # transformers'
    again = zoo.load_model("convnext", wrapped)
    jax.tree.map(np.testing.assert_array_equal, again.variables, model.variables)
    assert model.resolve("stages.3.blocks.0.mlp.act") == "stage4/0/mlp/act"
    assert model.taps["stage4"] == (7, 7, 20) and model.preprocess.resized(100, 200) == (256, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "convnextv2"}, "model_type 'convnextv2', and the network has 'convnext'"),
        ({"patch_size": 2}, "patch_size 2, and the network has 4"),
        ({"depths": [3, 3, 27, 3]}, r"depths \[3, 3, 27, 3\], and the network has \[1, 1, 1, 1\]"),
        ({"hidden_sizes": [8, 12, 16, 24]}, r"hidden_sizes \[8, 12, 16, 24\]"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'; expected one of gelu"),
    ],
)
def test_a_config_json_that_cannot_be_followed_is_refused(small, tmp_path, changes, message):
    from safetensors.numpy import save_file

    save_file(drawn(SMALL), tmp_path / "model.safetensors")
    held = {"model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 12, 16, 20]}
    (tmp_path / "config.json").write_text(json.dumps(held | changes))
    with pytest.raises(ValueError, match=f"config.json beside weights .* has {message}") as caught:
        zoo.load_model("convnext", tmp_path)
    assert "\n" not in str(caught.value)


def test_v1s_weights_are_refused_by_v2_and_name_what_lacks(small):
    with pytest.raises(ValueError, match="missing from the file: params/stage1/0/mlp/grn/scale"):
        zoo.load_model("convnextv2", drawn(SMALL))


def test_the_published_configs_agree_with_the_zoo():
    """The hub's facebook/convnext-base-224 and -tiny-224."""
    held = {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]}
    for name, fields in (("convnext_base_imagenet", held), ("convnext_tiny_imagenet", {})):
        declared = Declared(
            "w", config={"model_type": "convnext", "layer_norm_eps": 1e-6, **fields}
        )
        entry = zoo.ZOO[name]
        assert entry.adapt(declared).module() == entry.module()


def test_a_suffix_begins_after_its_stage():
    module, images = convnext.ConvNeXt(SMALL), jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    found = taps.sites(module, variables, images)
    assert found[taps.resolve("features.7.0.block.4", found, convnext.aliases(SMALL))].shape == (
        2,
        2,
        80,
    )


@pytest.mark.parametrize("v2", [False, True])
def test_full_size(parity, torch, v2):
    """ConvNeXt-tiny and V2-nano as published, 224 pixels."""
    config = convnext.of_size("nano" if v2 else "tiny", v2)
    images = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    net = parity.randomise(torch, hub(config))
    source = {name: t.numpy() for name, t in net.state_dict().items()}
    shares, _ = check(parity, torch, config, source, net, images)
    print(f"\nConvNeXt {'V2-nano' if v2 else 'tiny'}: {', '.join(f'{s:.1e}' for s in shares)}")
