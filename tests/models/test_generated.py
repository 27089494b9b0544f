"""Generated checkpoints go through the strict loading code, under the published names, and are made
again where they are not whole."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.images import Preprocess
from jaxle.models import clip, generated, siglip, vit, zoo
from jaxle.models.checkpoints import read
from jaxle.models.entry import Text
from jaxle.models.weights import Layout, Rename, convert, fused_attention

TINY_VIT = vit.ViTConfig(patch=8, width=24, depth=2, mlp_dim=40, heads=3, num_classes=7)
TINY_SIGLIP = siglip.SigLIPConfig(
    vit.ViTConfig(
        patch=16,
        width=24,
        depth=1,
        mlp_dim=40,
        heads=2,
        pool="map",
        activation="gelu_tanh",
        num_classes=None,
    ),
    siglip.TextConfig(width=16, depth=1, mlp_dim=32, heads=4, vocabulary=800, length=12),
)
TINY_CLIP = clip.CLIPConfig(
    16,
    24,
    2,
    2,
    12,
    clip.TextConfig(width=16, depth=1, mlp_dim=32, heads=4, vocabulary=1000, length=12),
)


def siglip_entry(style):
    return zoo.Entry(
        partial(siglip.SigLIP, TINY_SIGLIP),
        Preprocess("none", 32),
        layouts=siglip.layouts(TINY_SIGLIP),
        text=Text("no/body", style, 12),
    )


SMALL = {
    "vit": zoo.Entry(
        partial(vit.ViT, TINY_VIT),
        Preprocess("none", 32),
        layouts=vit.layouts(TINY_VIT),
        class_names=tuple("abcdefg"),
    ),
    "siglip": siglip_entry("siglip"),
    "siglip2": siglip_entry("siglip2"),
    "clip": zoo.Entry(
        partial(clip.CLIP, TINY_CLIP),
        Preprocess("none", 32),
        layouts=clip.layouts(TINY_CLIP),
        text=Text("no/body", "clip", 12),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def small_entries():
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in SMALL.items():
            patch.setitem(zoo.ZOO, name, entry)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Name → the checkpoint, generated once; not to be written to."""
    folder = tmp_path_factory.mktemp("generated")
    return functools.cache(lambda name: generated.generate(name, folder))


@pytest.mark.parametrize("name", ["siglip2", "resnet18_places365", "vgg11_bn_cifar100"])
def test_strictly_loaded(name, made):
    path = made(name)
    loaded = zoo.load_model(name, path)
    assert (
        path.suffix == (".npz" if name == "siglip2" else ".safetensors")
        and len(loaded.weights_hash) == 64
    )
    variables = jax.device_get(loaded.variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    for stats in jax.tree.leaves(
        variables.get("batch_stats", {}), is_leaf=lambda node: "mean" in node
    ):
        assert (stats["mean"] == 0).all() and (stats["var"] == 1).all()


@pytest.mark.parametrize("name", ["vit", "siglip", "clip", "resnet20_cifar10"])
def test_values_are_those_of_the_initialisers(name, tmp_path):
    loaded, drawn = (
        zoo.load_model(name, generated.generate(name, tmp_path, seed=3)),
        zoo.load_model(name, random_init_seed=3),
    )
    same = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(same, loaded.variables, drawn.variables)


@pytest.mark.parametrize("name", ["siglip", "siglip2", "clip"])
def test_the_tokenizer_beside_it_reads_words(name, made):
    model = zoo.load_model(name, made(name))
    words = ["zebra crossing", "quiz", "jigsaw 42", "a", "tench"]
    tokens = model.tokenize(words)
    assert tokens.shape == (5, 12) and len(np.unique(tokens, axis=0)) == 5 and tokens.max() < 800
    assert model.unreadable([*words, ""]) == [""]
    embedded = model.embed_texts(words)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)
    assert len(np.unique(embedded.round(5), axis=0)) == 5


def test_names_and_shapes_are_torchvisions(made):
    tensors = read(made("resnet18_places365"))
    assert len(tensors) == 102  # 20 convolutions, 20 batch norms of 4 tensors, a dense layer of 2
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7) and tensors[
        "layer2.0.downsample.0.weight"
    ].shape == (128, 64, 1, 1)
    assert tensors["layer4.1.bn2.running_var"].shape == (512,) and tensors["fc.weight"].shape == (
        365,
        512,
    )
    tensors = read(made("vgg11_bn_cifar100"))
    assert tensors["features.0.weight"].shape == (64, 3, 3, 3) and tensors[
        "features.26.running_mean"
    ].shape == (512,)
    assert tensors["classifier.0.weight"].shape == (512, 512) and tensors[
        "classifier.6.bias"
    ].shape == (100,)


def test_names_and_shapes_are_transformers(torch, made):
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "intermediate_size": 32,
        "num_attention_heads": 4,
        "vocab_size": 1000,
    }
    image = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "patch_size": 16,
        "image_size": 32,
    }
    text |= {"max_position_embeddings": 12}
    theirs = CLIPModel(
        CLIPConfig(text_config=text, vision_config=image, projection_dim=12)
    ).state_dict()
    ours = read(made("clip"))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tuple(tensor.shape)
        for name, tensor in theirs.items()
        if not name.endswith("position_ids")
    }


def test_the_pooled_vggs_first_dense_layer_is_put_in_torchs_order():
    from jaxle.models import vgg

    config = vgg.VGGConfig((1, 1), True, widths=(4, 6), pooled=3, dense_width=5, num_classes=7)
    module, images = vgg.VGG(config), jnp.zeros((1, 12, 12, 3))
    variables = jax.device_get(jax.jit(module.init)(jax.random.key(0), images))
    layout = vgg.layouts(config)["torchvision"]
    tensors = generated.published(variables, layout)
    assert tensors["classifier.0.weight"].shape == (5, 6 * 3 * 3)
    jax.tree.map(
        np.testing.assert_array_equal,
        convert(tensors, variables, {"torchvision": layout}, "w"),
        variables,
    )


def test_whole_ones_are_kept_and_others_made_again(tmp_path):
    path = generated.generate("siglip", tmp_path)
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    assert generated.generate("siglip", tmp_path) == path and path.stat().st_mtime_ns == time
    path.write_bytes(content[:1000])
    assert generated.generate("siglip", tmp_path).read_bytes() == content
    (path.parent / "spiece.model").unlink()
    assert (
        generated.generate("siglip", tmp_path) == path and (path.parent / "spiece.model").is_file()
    )
    (path.parent / "manifest.json").unlink()  # as a killed run leaves it
    assert generated.generate("siglip", tmp_path).read_bytes() == content
    assert generated.generate("siglip", tmp_path, seed=1).read_bytes() != content


def test_what_cannot_be_generated_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="of the zoo only, got 'resnet21'; valid: scenes_resnet, "):
        generated.generate("resnet21", tmp_path)
    fused = {"params": {"a": {"query": {"kernel": np.zeros((4, 2, 2), np.float32)}}}}
    rows = fused_attention("x", "a", 2, "w", "b", "o")
    with pytest.raises(
        ValueError, match=r"no row of the layout gives back params/a/query/kernel \(4, 2, 2\)"
    ):
        generated.published(fused, Layout(rows))
    with pytest.raises(ValueError, match="gives back params/b"):
        generated.published(
            {"params": {"b": np.zeros(3, np.float32)}}, Layout((Rename("c", "params/a"),))
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet50_imagenet",
        "vgg16_bn_cifar100",
        "vit_b_16_imagenet",
        "clip_vit_l_14_336",
        "siglip_l_16_384",
    ],
)
def test_full_size(name, tmp_path):
    loaded = zoo.load_model(name, generated.generate(name, tmp_path))
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(loaded.variables["params"]))
        == zoo.ZOO[name].parameters
    )
