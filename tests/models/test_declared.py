"""What a checkpoint declares of its network is followed, or refused by name: numbers of classes,
image sizes, and the config.json beside it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from jaxle.models import clip, resnet, siglip, vgg, vit, zoo
from jaxle.models.declared import Declared
from jaxle.models.families import clip_entry, resnet_entry, vgg_entry, vit_entry
from jaxle.models.generated import published

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
TEXT = siglip.TextConfig(width=24, depth=1, mlp_dim=96, heads=2, vocabulary=20, length=4)
VIT = vit.ViTConfig(patch=8, width=24, depth=2, mlp_dim=40, heads=3, num_classes=7)
CLIP = clip.CLIPConfig(8, 24, 2, 3, 16, TEXT)


def flax_file(path, variables):
    flat = traverse_util.flatten_dict(variables, sep="/")
    np.savez(path, **{name: np.asarray(leaf) for name, leaf in flat.items()})
    return path


@pytest.fixture
def small(monkeypatch):
    """Networks of the zoo's kinds, small."""
    entries = {
        "vit": vit_entry(VIT, "org/vit", 0, zoo.Preprocess("squash", 32)),
        "clip": clip_entry(CLIP, 32, "org/clip", 0),
        "resnet": resnet_entry(
            resnet.ResNetConfig((1, 1, 1, 1), bottleneck=False, width=4), "none", 0
        ),
        "vgg": vgg_entry(
            vgg.VGGConfig((1, 1), True, widths=(4, 8), pooled=0, dense_width=8, num_classes=100),
            "none",
            0,
        ),
    }
    for name, entry in entries.items():
        monkeypatch.setitem(zoo.ZOO, name, entry)
    return entries


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("vit", "head"),
        ("resnet", "fc"),
        ("vgg", "classifier/6"),
        ("resnet20_cifar10", "linear"),
    ],
)
def test_the_number_of_classes_is_the_checkpoints(small, tmp_path, name, head):
    random = zoo.load_model(name, random_init_seed=0, image_size=32)
    flat = traverse_util.flatten_dict(random.variables, sep="/")
    kernel = flat[f"params/{head}/kernel"]
    flat[f"params/{head}/kernel"] = jnp.ones((kernel.shape[0], 5), jnp.float32)
    flat[f"params/{head}/bias"] = jnp.arange(5.0)
    np.savez(tmp_path / "w.npz", **{path: np.asarray(leaf) for path, leaf in flat.items()})
    model = zoo.load_model(name, tmp_path / "w.npz", image_size=32)
    assert model.logits(IMAGES).shape == (2, 5) and model.class_names == ()
    named = zoo.load_model(name, tmp_path / "w.npz", image_size=32, class_names=list("abcde"))
    assert named.class_names == tuple("abcde")
    labels = {"id2label": {str(i): f"kind {i}" for i in range(5)}}
    (tmp_path / "config.json").write_text(json.dumps(labels))
    own = zoo.load_model(name, tmp_path / "w.npz", image_size=32)
    assert own.class_names == tuple(f"kind {i}" for i in range(5))
    np.testing.assert_array_equal(own.logits(IMAGES), model.logits(IMAGES))
    if name != "vit":  # whose 7 classes have no names in the zoo
        known = zoo.load_model(name, flax_file(tmp_path / "r.npz", random.variables), image_size=32)
        assert known.class_names == random.class_names != ()


def test_a_head_of_another_width_is_still_a_mismatch(small, tmp_path):
    random = zoo.load_model("resnet", random_init_seed=0, image_size=32)
    flat = traverse_util.flatten_dict(random.variables, sep="/")
    flat["params/fc/kernel"] = jnp.ones((9, 5), jnp.float32)
    flat["params/fc/bias"] = jnp.ones(5)
    np.savez(tmp_path / "w.npz", **{path: np.asarray(leaf) for path, leaf in flat.items()})
    with pytest.raises(ValueError, match=r"fc/kernel \(9, 5\).*needs \(32, 5\)"):
        zoo.load_model("resnet", tmp_path / "w.npz", image_size=32)


def test_a_vision_transformers_image_size_is_the_checkpoints(small, tmp_path):
    random = zoo.load_model("vit", random_init_seed=0, image_size=48)
    path = flax_file(tmp_path / "w.npz", random.variables)
    model = zoo.load_model("vit", path)
    assert model.preprocess.size == 48 and model.taps["embedding"] == (6, 6, 24)
    np.testing.assert_allclose(model.logits(IMAGES), random.logits(IMAGES), atol=1e-5)
    with pytest.raises(ValueError, match="pos_embedding"):
        zoo.load_model("vit", path, image_size=32)
    resampled = zoo.load_model("vit", path, resample_positions=True)
    assert resampled.preprocess.size == 32


def hub_clip(tmp_path, small, act, **more):
    """CLIP as transformers saves it, and its config.json."""
    variables = zoo.load_model("clip", random_init_seed=1).variables
    layout = small["clip"].layouts["transformers"]
    save_file(published(jax.device_get(variables), layout), tmp_path / "model.safetensors")
    config = {
        "model_type": "clip",
        "vision_config": {
            "hidden_act": act,
            "patch_size": 8,
            "image_size": 32,
            "num_attention_heads": 3,
        },
        "text_config": {"hidden_act": act, "num_attention_heads": 2},
    }
    for key, value in more.items():
        part, _, field = key.partition("__")
        config[part][field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_clips_activation_is_its_config_jsons(small, tmp_path):
    folder = hub_clip(tmp_path, small, "gelu")
    plain = zoo.load_model("clip", folder)
    assert plain.module.config.activation == "gelu"
    quick = zoo.load_model("clip", hub_clip(tmp_path, small, "quick_gelu"))
    assert quick.module.config.activation == "quick_gelu"
    (tmp_path / "config.json").unlink()
    default = zoo.load_model("clip", tmp_path)
    a, b, c = (network.embed_images(IMAGES) for network in (plain, quick, default))
    np.testing.assert_array_equal(b, c)
    assert np.abs(a - b).max() > 1e-4
    expected = clip.CLIP(clip.dataclasses.replace(CLIP, activation="gelu"))
    x = np.stack([plain.preprocess.fit(image) for image in IMAGES])
    wanted = jax.jit(lambda v, x: expected.apply(v, plain.preprocess.normalise(x)))
    np.testing.assert_allclose(a, wanted(plain.variables, x), atol=1e-5)


def test_an_open_clip_config_without_quick_gelu_means_gelu(small, tmp_path):
    hub_clip(tmp_path, small, "quick_gelu")
    (tmp_path / "config.json").unlink()
    held = {"model_cfg": {"embed_dim": 16, "vision_cfg": {"patch_size": 8, "image_size": 32}}}
    for quick, expected in ((None, "gelu"), (True, "quick_gelu")):
        if quick is not None:
            held["model_cfg"]["quick_gelu"] = quick
        (tmp_path / "open_clip_config.json").write_text(json.dumps(held))
        assert zoo.load_model("clip", tmp_path).module.config.activation == expected


def test_laions_and_datacomps_names_have_gelu_and_their_own_colours(small, tmp_path):
    """Without a config.json too; what an open_clip_config.json says of colours is followed."""
    for name, entry in zoo.ZOO.items():
        if name.startswith("clip_vit"):
            expected = "gelu" if name.endswith(("datacomp", "laion2b")) else "quick_gelu"
            assert entry.module().config.activation == expected
    assert zoo.ZOO["clip_vit_l_14_laion2b"].preprocess.mean == (0.5, 0.5, 0.5)
    assert zoo.ZOO["clip_vit_l_14_datacomp"].preprocess.mean[0] == 0.48145466
    hub_clip(tmp_path, small, "gelu")
    (tmp_path / "config.json").unlink()
    held = {
        "model_cfg": {"vision_cfg": {"head_width": 8}},
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(held))
    assert zoo.load_model("clip", tmp_path).preprocess.std == (0.1, 0.2, 0.3)
    held["model_cfg"]["vision_cfg"] = {"head_width": 12}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match="vision_cfg.head_width 12, and the network has 8"):
        zoo.load_model("clip", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config__patch_size": 16}, "vision_config.patch_size 16, and the network has 8"),
        ({"vision_config__image_size": 64}, "vision_config.image_size 64, and the network has 32"),
        ({"text_config__layer_norm_eps": 1e-6}, "text_config.layer_norm_eps 1e-06"),
        ({"vision_config__hidden_act": "quick_gelu"}, "vision_config.hidden_act 'quick_gelu'"),
        (
            {"vision_config__hidden_act": "relu", "text_config__hidden_act": "relu"},
            "text_config.hidden_act 'relu'; expected one of gelu, ",
        ),
    ],
)
def test_a_config_json_that_cannot_be_followed_is_refused(small, tmp_path, changes, message):
    folder = hub_clip(tmp_path, small, "gelu", **changes)
    with pytest.raises(ValueError, match=f"config.json beside weights .* has {message}") as caught:
        zoo.load_model("clip", folder)
    assert "\n" not in str(caught.value)


def test_heads_are_followed(small, tmp_path):
    folder = hub_clip(tmp_path, small, "gelu", vision_config__num_attention_heads=4)
    model = zoo.load_model("clip", folder)
    assert model.module.config.heads == 4 and model.module.config.text.heads == 2


def test_vision_transformers_and_siglip_follow_their_config_json():
    held = {"model_type": "vit", "patch_size": 8, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new"}
    found = vit.adapted(VIT, Declared("w", config=held))
    assert (found.epsilon, found.activation, found.heads) == (1e-5, "gelu_tanh", 12)
    held = {"model_type": "vit", "patch_size": 8}  # transformers' defaults stand for what is absent
    assert vit.adapted(VIT, Declared("w", config=held)).epsilon == 1e-12
    assert vit.adapted(VIT, Declared("w", config={"model_type": "deit"})) == VIT
    with pytest.raises(ValueError, match="patch_size 16, and the network has 8"):
        vit.adapted(VIT, Declared("w", config={"model_type": "vit"}))
    towers = siglip.SigLIPConfig(vit.ViTConfig(num_classes=None, activation="gelu_tanh"), TEXT)
    vision = {"image_size": 256, "layer_norm_eps": 1e-5}
    held = {"model_type": "siglip", "vision_config": vision}
    found = siglip.adapted(towers, Declared("w", config=held), 256)
    assert found.image.epsilon == 1e-5 and found.text.heads == 12
    with pytest.raises(ValueError, match="vision_config.image_size 256, and the network has 224"):
        siglip.adapted(towers, Declared("w", config=held), 224)
    assert siglip.adapted(towers, Declared("w", config=held, any_size=True), 224) == found
    held = {"model_type": "resnet", "downsample_in_bottleneck": True}
    with pytest.raises(ValueError, match="downsample_in_bottleneck True"):
        resnet.adapted(resnet.resnet50(), Declared("w", config=held))


def test_the_published_configs_agree_with_the_zoo():
    """What the hub's config.json files of the zoo's own repositories say, as far as it differs from
    transformers' defaults."""
    large = {"num_attention_heads": 16, "hidden_size": 1024, "num_hidden_layers": 24}
    held = {
        "model_type": "clip",
        "vision_config": large | {"image_size": 336, "patch_size": 14},
        "text_config": {"num_attention_heads": 12, "hidden_size": 768},
    }
    entry = zoo.ZOO["clip_vit_l_14_336"]
    assert entry.adapt(Declared("w", config=held)).module() == entry.module()
    held = {
        "model_type": "siglip",
        "vision_config": {"num_attention_heads": 16, "patch_size": 14, "image_size": 384},
        "text_config": {"num_attention_heads": 16},
    }
    entry = zoo.ZOO["siglip_so400m_14_384"]
    assert entry.adapt(Declared("w", config=held)).module() == entry.module()
    entry = zoo.ZOO["vit_base_patch16_224"]
    assert entry.adapt(Declared("w", config={"model_type": "vit"})).module() == entry.module()


def test_a_damaged_config_json_is_named(small, tmp_path):
    hub_clip(tmp_path, small, "gelu")
    for text, message in (("{", "cannot be read"), ("[1]", "holds a list; expected a JSON object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=f"config.json {message}"):
            zoo.load_model("clip", tmp_path)


def test_a_hub_id_works_as_a_name(small, monkeypatch, tmp_path):
    path = flax_file(tmp_path / "w.npz", zoo.load_model("vit", random_init_seed=0).variables)
    assert zoo.load_model("org/vit", path).name == "vit"
    asked = []
    monkeypatch.setattr(zoo, "locate", lambda weights: asked.append(weights) or path)
    assert zoo.load_model("org/vit").name == zoo.load_model("org/vit@abc").name == "vit"
    assert asked == ["org/vit", "org/vit@abc"]
    assert zoo.by_hub_id("google/siglip-base-patch16-224", None) == ("siglip_b_16_224", None)
    for repository, known in zoo._SAME.items():
        assert known in zoo.ZOO and zoo.by_hub_id(f"{repository}@x", None) == (
            known,
            f"{repository}@x",
        )
    assert zoo.by_hub_id("timm/vit_base_patch14_dinov2.lvd142m", path) == ("dinov2_b_14", path)
    with pytest.raises(ValueError, match="unknown model 'org/bit'"):
        zoo.load_model("org/bit")


def test_a_tree_of_variables_is_weights(small):
    random = zoo.load_model("vit", random_init_seed=0)
    model = zoo.load_model("vit", random.variables)
    np.testing.assert_array_equal(model.logits(IMAGES), random.logits(IMAGES))
    bare = zoo.load_model("vit", random.variables["params"])
    assert len(model.weights_hash) == 64 and bare.logits(IMAGES).shape == (2, 7)
    changed = jax.tree.map(lambda leaf: leaf + 1, random.variables)
    assert zoo.load_model("vit", changed).weights_hash != model.weights_hash
    with pytest.raises(ValueError, match="weights given as a tree for resnet do not fit") as caught:
        zoo.load_model("resnet", random.variables)
    assert len(str(caught.value)) < 2000
