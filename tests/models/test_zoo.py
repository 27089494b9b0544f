"""Loading by name: messages, taps with shapes, batches, the untrained control, your own networks,
dtypes, meshes."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax import serialization, traverse_util
from jax.sharding import PartitionSpec
from PIL import Image
from safetensors.numpy import save_file

from jaxle.mesh import make_mesh
from jaxle.models import convnext, download, siglip, taps, vit, zoo
from jaxle.models.needs import lacking
from jaxle.models.revisions import REVISIONS
from jaxle.scenes import render


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("resnet20_cifar10", random_init_seed=0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_taps_are_listed_with_shapes(model):
    assert (
        model.taps["layer1"] == (32, 32, 16)
        and model.taps["layer2"] == (16, 16, 32)
        and model.taps["layer3"] == (8, 8, 64)
    )
    assert (
        model.taps["layer3/0/conv1:in"] == (16, 16, 32)
        and model.taps["linear:in"] == (64,)
        and model.taps["linear"] == (10,)
    )
    assert list(model.taps)[0] == "conv1:in" and list(model.taps)[-1] == "linear"


def test_activations_are_pooled_taps_in_batches_of_any_size(model, images):
    whole = model.activations(images, "layer3", "none")
    assert whole.shape == (5, 8, 8, 64) and whole.dtype == np.float32
    np.testing.assert_allclose(
        model.activations(images, "layer3", "avg", batch_size=2), whole.mean((1, 2)), atol=1e-4
    )
    np.testing.assert_allclose(
        model.activations(images, "layer3", "max", batch_size=5), whole.max((1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        model.activations(images, "linear:in"), whole.mean((1, 2)), atol=1e-4
    )
    np.testing.assert_allclose(model.logits(images, batch_size=3), model.logits(images), atol=1e-3)


def test_probe_reads_several_taps_inside_jit(model, images):
    probe = jax.jit(
        lambda variables, batch: model.probe(batch, {"layer1": "avg", "layer3": "max"}, variables)
    )
    values, logits = probe(model.variables, images)
    assert {tap: value.shape for tap, value in values.items()} == {
        "layer1": (5, 16),
        "layer3": (5, 64),
    }
    np.testing.assert_allclose(logits, model.logits(images), atol=1e-3)
    np.testing.assert_allclose(values["layer1"], model.activations(images, "layer1"), atol=1e-4)


def test_pil_images_of_any_size_and_mode(model):
    pictures = [
        Image.new("L", (40, 50), 128),
        Image.new("RGB", (32, 32), (1, 2, 3)),
        np.zeros((64, 20, 3), np.uint8),
    ]
    assert model.logits(pictures).shape == (3, 10)


def test_unknown_names_list_the_valid_ones(model, images):
    with pytest.raises(
        ValueError,
        match="unknown model 'resnet21' .nearest: resnet32_cifar10, resnet20_cifar10.; "
        "valid models: scenes_resnet, scenes_siglip_s, ",
    ):
        zoo.load_model("resnet21")
    with pytest.raises(
        ValueError,
        match="unknown tap 'layer4' .nearest: layer3, layer2, layer1, layer3.2, layer3.1.; "
        "valid taps: conv1, bn1, layer1, layer2, layer3, linear",
    ):
        model.activations(images, "layer4")
    with pytest.raises(
        ValueError, match="unknown pool 'mean'; valid pools: avg, max, first, patches, none"
    ):
        model.activations(images, "layer3", "mean")
    with pytest.raises(ValueError, match="no images"):
        model.logits([])


def test_another_architectures_file_names_every_mismatch_at_once(test_data, torch):
    with pytest.raises(ValueError) as caught:
        zoo.load_model("resnet56_cifar10", test_data / "cifar10/resnet20-12fca82f.th")
    message = str(caught.value)
    # 18 blocks × (2 kernels + 2 × 4 batch norm)
    assert "180 mismatches (180 missing from it)" in message
    assert message.count("missing from the file") == 10 and "… and 170 more" in message
    assert "batch_stats/layer1/3/bn1/mean (16,)" in message


def test_the_shipped_scenes_target_classifies_scenes():
    scenes = render(np.arange(128), seed=12345)
    model = zoo.load_model("scenes_resnet")
    assert (model.logits(scenes.images).argmax(1) == scenes.class_ids).mean() > 0.6


def test_random_init_is_the_seeds_alone():
    first, again, other = (
        zoo.load_model("resnet20_cifar10", random_init_seed=seed) for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first.variables, again.variables)
    assert not np.allclose(
        first.variables["params"]["conv1"]["kernel"], other.variables["params"]["conv1"]["kernel"]
    )
    assert first.weights_hash == "random_init:1" != other.weights_hash


def test_weights_hash_is_the_files(test_data, torch):
    model = zoo.load_model("resnet20_cifar10", test_data / "cifar10/resnet20-12fca82f.th")
    assert model.weights_hash.startswith("12fca82f") and len(model.weights_hash) == 64


def depths(config):
    """Paths of a config's numbers of like blocks."""
    for field in ("depth", "text.depth", "image.depth"):
        head, _, tail = field.partition(".")
        if hasattr(config, head) and (not tail or dataclasses.is_dataclass(getattr(config, head))):
            yield field


def with_depths(config, given):
    for field, depth in given.items():
        head, _, tail = field.partition(".")
        value = with_depths(getattr(config, head), {tail: depth}) if tail else depth
        config = dataclasses.replace(config, **{head: value})
    return config


def depth_of(config, field):
    for part in field.split("."):
        config = getattr(config, part)
    return config


TRACED: dict = {}


def traced(module, size, length):
    """A network's taps, parameters and outputs; nothing is computed."""
    if (module, size, length) not in TRACED:
        inputs = [jax.ShapeDtypeStruct((1, size, size, 3), np.float32)]
        tokens = [jax.ShapeDtypeStruct((1, length), np.int32)] if length else []
        made = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs, *tokens)
        outputs, variables = jax.tree.leaves(made[0])[0].shape[-1], made[1]
        n = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        TRACED[module, size, length] = variables, n, outputs
    return TRACED[module, size, length]


SITES: dict = {}


def sites(module, size, variables):
    """Its taps; ConvNeXts that differ in widths alone are traced once."""
    config = getattr(module, "config", None)
    key = (config.blocks, config.v2) if isinstance(module, convnext.ConvNeXt) else (module, size)
    if key not in SITES:
        images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        SITES[key] = taps.sites(module, variables, images)
    return SITES[key]


def least(config, size, length):
    """A SigLIP of one patch, one word and one token a text, which others differ from in numbers of
    rows alone; its size and length, and the parameters of those rows."""
    if not isinstance(config, siglip.SigLIPConfig):
        return config, size, length, 0
    image, text = config.image, config.text
    rows = ((size // image.patch) ** 2 - 1) * image.width
    rows += (text.vocabulary + text.length - 2) * text.width
    text = dataclasses.replace(text, vocabulary=1, length=1)
    return dataclasses.replace(config, text=text), image.patch, 1, rows


STAGE = re.compile(r"(?:layer|stage)(\d)(?:/(\d+))?")


def with_two_blocks(config):
    """A config of stages of blocks with two in each, where it has more."""
    blocks = getattr(config, "blocks", None)
    return (
        dataclasses.replace(config, blocks=tuple(min(2, n) for n in blocks)) if blocks else config
    )


def later_blocks(config, params):
    """Parameters of the blocks of stages beyond the second, which are alike."""
    stages = {match[1]: params[name] for name in params if (match := STAGE.fullmatch(name))}
    return sum(
        (n - 2) * sum(leaf.size for leaf in jax.tree.leaves(stages[str(i)]["1"]))
        for i, n in enumerate(getattr(config, "blocks", ()), 1)
        if n > 2
    )


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_entrys_aliases_class_names_and_parameter_count(name):
    """Nothing is computed: shapes only, at full width and size.

    Of blocks that are all alike, one and two are traced, and counted on from there.
    """
    entry = zoo.ZOO[name]
    module, size, length = entry.module(), entry.preprocess.size, entry.text and entry.text.length
    config = getattr(module, "config", None)
    fields = list(depths(config)) if dataclasses.is_dataclass(config) else []
    one = dict.fromkeys(fields, 1)

    traced_config, size, length, rows = least(with_two_blocks(config), size, length)

    def shallow(**more):
        return type(module)(with_depths(traced_config, one | more))

    staged = getattr(config, "blocks", ())
    first = shallow() if fields or staged else module
    variables, parameters, outputs = traced(first, size, length)
    parameters += later_blocks(config, variables["params"])
    for field in fields:
        step = traced(shallow(**{field: 2}), size, length)[1] - traced(first, size, length)[1]
        parameters += (depth_of(config, field) - 1) * step
    assert parameters + rows == entry.parameters
    found = sites(first, size, variables)
    aliases = {
        alias: re.sub(r"encoderblock_\d+", "encoderblock_0", tap) if fields else tap
        for alias, tap in entry.aliases.items()
    }
    if staged:
        for tap in aliases.values():
            stage, block = STAGE.match(tap).groups() if STAGE.match(tap) else (None, None)
            assert block is None or int(block) < staged[int(stage) - 1]
        later = re.compile(r"^((?:layer|stage)\d)/(?:[2-9]|\d\d+)(?=/|$)")
        aliases = {alias: later.sub(r"\1/1", tap) for alias, tap in aliases.items()}
    assert all(taps.resolve(alias, found, aliases) for alias in aliases)
    blocks = {int(n) for n in re.findall(r"encoderblock_(\d+)", " ".join(entry.aliases.values()))}
    if fields:
        images = "image.depth" if "image.depth" in fields else "depth"
        assert blocks == set(range(depth_of(config, images)))
    if entry.class_names:
        assert len(entry.class_names) == outputs


def test_every_pinned_commit_is_an_entrys():
    weights = {str(entry.weights) for entry in zoo.ZOO.values()}
    for repository, commit in REVISIONS.items():
        assert f"{repository}@{commit}" in weights, repository
    for entry in zoo.ZOO.values():
        if entry.text and "@" in str(entry.weights):
            own = zoo.ZOO["clip_vit_b_32"].weights if "PE-Core" in str(entry.weights) else None
            assert entry.text.source == (own or entry.weights)


def test_torchvisions_resnets_and_vggs_need_no_torch(monkeypatch):
    """What a machine without torch and without a network is told: one file to bring, of the hub."""
    monkeypatch.setattr(download, "reachable", lambda address: False)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "torch" else real(n))
    names = [name for name in zoo.ZOO if re.fullmatch(r"(resnet|vgg)\d+(_bn)?_imagenet", name)]
    assert len(names) == 13
    for name in names:
        (sentence,) = lacking(name)
        hub = f"timm/{name.removesuffix('_imagenet')}.tv_in1k"
        assert f"bring model.safetensors from https://huggingface.co/{hub} and" in sentence
    assert str(zoo.ZOO["resnet50_imagenet"].weights).endswith(
        "@" + REVISIONS["timm/resnet50.tv_in1k"]
    )
    (sentence,) = lacking("vit_b_16_imagenet", "w.pth")
    assert "weights w.pth do not exist" in sentence


class Tiny(nn.Module):
    """Your own network: it contains no code for taps."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train: bool):
        x = nn.relu(nn.Conv(self.width, (3, 3), strides=2, dtype=self.dtype, name="stem")(images))
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
        return nn.Dense(4, dtype=self.dtype, name="head")(x.mean((1, 2))).astype(jnp.float32)


OWN = f"{__name__}:Tiny"
PREPROCESS = {"resize": "squash", "size": 16}


@pytest.fixture(scope="module")
def own():
    fields = {
        "arguments": {"width": 8},
        "call": {"train": False},
        "preprocess": PREPROCESS,
        "class_names": tuple("abcd"),
    }
    return zoo.load_model(OWN, random_init_seed=3, **fields)


def test_your_own_network_from_every_format(own, tmp_path, images):
    flat = {
        name: np.asarray(leaf)
        for name, leaf in traverse_util.flatten_dict(own.variables, sep="/").items()
    }
    np.savez(tmp_path / "w.npz", **flat)
    save_file(
        {name.replace("/", "."): leaf for name, leaf in flat.items()}, tmp_path / "w.safetensors"
    )
    (tmp_path / "w.msgpack").write_bytes(
        serialization.msgpack_serialize(jax.device_get(own.variables))
    )
    orbax.checkpoint.PyTreeCheckpointer().save(tmp_path / "orbax", jax.device_get(own.variables))
    expected = own.activations(images, "stem", "max")
    assert (
        own.taps["stem"] == (8, 8, 8)
        and own.logits(images).shape == (5, 4)
        and own.class_names == tuple("abcd")
    )
    for name in ("w.npz", "w.safetensors", "w.msgpack", "orbax"):
        loaded = zoo.load_model(
            OWN,
            tmp_path / name,
            arguments={"width": 8},
            call={"train": False},
            preprocess=PREPROCESS,
        )
        np.testing.assert_array_equal(loaded.activations(images, "stem", "max"), expected)
        assert len(loaded.weights_hash) == 64
    with pytest.raises(ValueError, match=r"wrong shape: params.stem.kernel \(3, 3, 3, 8\)"):
        zoo.load_model(
            OWN,
            tmp_path / "w.npz",
            arguments={"width": 9},
            call={"train": False},
            preprocess=PREPROCESS,
        )


def test_your_own_networks_suffix_takes_the_call_arguments(own, images):
    x = own.preprocess.normalise(np.stack([own.preprocess.fit(image) for image in images]))
    suffix = own.suffix("stem")
    np.testing.assert_allclose(
        suffix(own.variables, suffix.record(own.variables, x)), own.logits(images), atol=1e-5
    )


def test_your_own_networks_mistakes_are_one_sentence():
    with pytest.raises(ValueError, match="needs `preprocess`"):
        zoo.load_model(OWN, random_init_seed=0)
    with pytest.raises(ValueError, match="cannot import 'no_such_package.nets'"):
        zoo.load_model("no_such_package.nets:Net", random_init_seed=0, preprocess=PREPROCESS)
    with pytest.raises(ValueError, match="has no 'Absent', which model .*:Absent' names"):
        zoo.load_model(f"{__name__}:Absent", random_init_seed=0, preprocess=PREPROCESS)
    with pytest.raises(
        ValueError,
        match="is dict; expected a flax.linen.Module class, a flax.nnx.Module .class or object., "
        "or a jaxle.models.zoo.Entry",
    ):
        zoo.load_model(f"{__name__}:SMALL", random_init_seed=0, preprocess=PREPROCESS)
    with pytest.raises(ValueError, match="model 'my:nets:Net' is not a reference"):
        zoo.load_model("my:nets:Net", random_init_seed=0, preprocess=PREPROCESS)
    with pytest.raises(ValueError, match="takes no argument 'depth'; its arguments: dtype, width"):
        zoo.load_model(OWN, random_init_seed=0, preprocess=PREPROCESS, arguments={"depth": 2})
    with pytest.raises(ValueError, match="has no default weights"):
        zoo.load_model(OWN, preprocess=PREPROCESS, arguments={"width": 2})


def test_bfloat16_halves_the_parameters_and_stays_near(own, images, tmp_path):
    np.savez(
        tmp_path / "w.npz",
        **{n: np.asarray(t) for n, t in traverse_util.flatten_dict(own.variables, sep="/").items()},
    )
    arguments = {"arguments": {"width": 8}, "call": {"train": False}, "preprocess": PREPROCESS}
    half = zoo.load_model(OWN, tmp_path / "w.npz", dtype="bfloat16", **arguments)
    assert half.variables["params"]["stem"]["kernel"].dtype == jnp.bfloat16
    assert half.variables["batch_stats"]["BatchNorm_0"]["mean"].dtype == jnp.float32
    exact, rough = own.logits(images), half.logits(images)
    assert (
        rough.dtype == np.float32 and 0 < np.abs(rough - exact).max() < 0.03 * np.abs(exact).max()
    )
    with pytest.raises(ValueError, match="dtype is 'float16'; expected one of float32, bfloat16"):
        zoo.load_model(OWN, tmp_path / "w.npz", dtype="float16", **arguments)


VIT = f"{vit.__name__}:ViT"
SMALL = {"config": vit.ViTConfig(patch=8, width=24, depth=2, mlp_dim=40, heads=3, num_classes=7)}


def test_position_embeddings_are_resampled_only_if_asked(tmp_path, images):
    model = zoo.load_model(
        VIT, random_init_seed=0, arguments=SMALL, preprocess={"resize": "squash", "size": 32}
    )
    np.savez(
        tmp_path / "w.npz",
        **{
            n: np.asarray(t)
            for n, t in traverse_util.flatten_dict(model.variables, sep="/").items()
        },
    )
    with pytest.raises(ValueError, match="pos_embedding"):
        zoo.load_model(
            VIT, tmp_path / "w.npz", arguments=SMALL, preprocess={"resize": "squash", "size": 48}
        )
    larger = zoo.load_model(
        VIT,
        tmp_path / "w.npz",
        arguments=SMALL,
        preprocess={"resize": "squash", "size": 48},
        resample_positions=True,
    )
    assert larger.variables["params"]["pos_embedding"].shape == (1, 36, 24) and larger.logits(
        images
    ).shape == (5, 7)


@pytest.mark.parametrize(("data", "model"), [(8, 1), (4, 2), (2, 4)])
def test_any_mesh_gives_one_devices_results(tmp_path, images, data, model):
    """Five images on eight devices, three heads over two or four: nothing divides."""
    one = zoo.load_model(
        VIT, random_init_seed=0, arguments=SMALL, preprocess={"resize": "squash", "size": 32}
    )
    np.savez(
        tmp_path / "w.npz",
        **{n: np.asarray(t) for n, t in traverse_util.flatten_dict(one.variables, sep="/").items()},
    )
    mesh = make_mesh(data, model)
    many = zoo.load_model(
        VIT,
        tmp_path / "w.npz",
        arguments=SMALL,
        preprocess={"resize": "squash", "size": 32},
        mesh=mesh,
    )
    np.testing.assert_allclose(many.logits(images), one.logits(images), rtol=1e-4, atol=1e-5)
    hidden = "Transformer/encoderblock_1/MlpBlock_0/Dense_1:in"
    for batch_size in (3, 64):
        got = many.activations(images, hidden, "max", batch_size)
        np.testing.assert_allclose(
            got, one.activations(images, hidden, "max"), rtol=1e-4, atol=1e-5
        )
    hidden = many.variables["params"]["Transformer"]["encoderblock_0"]["MlpBlock_0"]["Dense_0"][
        "kernel"
    ]
    assert hidden.sharding.spec == PartitionSpec(None, "model")
    assert hidden.addressable_shards[0].data.shape == (24, 40 // model)


def test_the_page_of_networks_names_them_all():
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    table = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(zoo.ZOO)
