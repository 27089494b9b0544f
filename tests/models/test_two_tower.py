"""Two towers from the zoo's call to embeddings: checkpoint and tokenizer in one folder, batches,
meshes, bfloat16, probabilities."""

import io
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from jaxle.images import Preprocess
from jaxle.mesh import make_mesh
from jaxle.models import siglip, vit, zoo
from jaxle.models.entry import Text
from jaxle.models.model import Model
from jaxle.models.tokenizers import Tokenizer
from jaxle.models.two_tower import TwoTower

# As small as the scenes': patch 16 on 64 × 64; widths that an axis of 4 divides, heads that it does
# not.
CONFIG = siglip.SigLIPConfig(
    vit.ViTConfig(
        patch=16,
        width=24,
        depth=2,
        mlp_dim=40,
        heads=2,
        pool="map",
        activation="gelu_tanh",
        num_classes=None,
    ),
    siglip.TextConfig(width=16, depth=1, mlp_dim=32, heads=4, vocabulary=120, length=12),
)
TEXTS = ["a red square", "Two blue circles!", "nothing", "a red square", "stripes"]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint in big_vision's layout beside its sentencepiece model, as a training leaves
    them."""
    import sentencepiece

    path = tmp_path_factory.mktemp("small")
    shapes = jax.eval_shape(
        siglip.SigLIP(CONFIG).init,
        jax.random.key(0),
        jnp.zeros((1, 64, 64, 3)),
        jnp.zeros((1, 12), jnp.int32),
    )
    draw = np.random.default_rng(0)
    shapes = traverse_util.flatten_dict(shapes, sep="/")
    flat = {
        name: draw.normal(size=leaf.shape).astype(np.float32) * 0.3 for name, leaf in shapes.items()
    }
    flat |= {"params/t": np.array([2.0], np.float32), "params/b": np.array([-3.0], np.float32)}
    siglip.save(path / "small.npz", traverse_util.unflatten_dict(flat, sep="/"))
    held = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=held,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (path / "spiece.model").write_bytes(held.getvalue())
    return path


@pytest.fixture(scope="module", autouse=True)
def small_entry():
    with pytest.MonkeyPatch.context() as patch:
        entry = zoo.Entry(
            partial(siglip.SigLIP, CONFIG),
            Preprocess("none", 64),
            layouts=siglip.layouts(CONFIG),
            aliases=siglip.aliases(CONFIG),
            text=Text("nobody/nothing", "siglip", 12),
        )
        patch.setitem(zoo.ZOO, "small", entry)
        yield


@pytest.fixture(scope="module")
def model(folder):
    return zoo.load_model("small", folder / "small.npz")


@pytest.fixture(scope="module")
def embedded(model):
    return model.embed_images(IMAGES), model.embed_texts(TEXTS)


def test_embeddings_are_the_modules_of_unit_length(model, embedded):
    image, text = embedded
    assert isinstance(model, TwoTower) and image.dtype == text.dtype == np.float32
    expected = jax.jit(model.module.apply)(
        model.variables, model.preprocess.normalise(IMAGES), model.tokenize(TEXTS)
    )
    for got, want in zip(embedded, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(text[0], text[3])
    assert np.abs(text[0] - text[1]).max() > 0.01


def test_batches_of_any_size_and_pictures_of_any_kind(model, embedded):
    np.testing.assert_allclose(model.embed_images(IMAGES, batch_size=2), embedded[0], atol=1e-5)
    np.testing.assert_allclose(
        model.embed_texts(tuple(TEXTS), batch_size=2), embedded[1], atol=1e-5
    )
    np.testing.assert_allclose(
        model.embed_images([Image.fromarray(image) for image in IMAGES]), embedded[0], atol=1e-5
    )
    np.testing.assert_allclose(model.embed_texts("nothing"), embedded[1][2:3], atol=1e-5)


def test_texts_of_one_shape_compile_once(model):
    model.embed_texts(TEXTS, batch_size=2)
    compiled = model._embed_tokens._cache_size()
    model.embed_texts(TEXTS * 7, batch_size=2)
    assert model._embed_tokens._cache_size() == compiled


def test_scale_and_shift_give_the_checkpoints_probabilities(model, embedded):
    image, text = embedded
    cosine = image @ text.T
    np.testing.assert_allclose(
        model.scale * (cosine + model.shift), np.exp(2) * cosine - 3, rtol=1e-4, atol=1e-5
    )


def test_clips_shift_is_nought():
    variables = {"params": {"t": np.log(np.float32(100))}}
    clip = TwoTower(
        Model("clip", nn.Module(), variables, Preprocess("none", 32), (), {}, "0"), lambda: len
    )
    assert clip.shift == 0 and round(clip.scale, 3) == 100


def test_parameter_counts_fill_the_published_files():
    """Bytes of model.safetensors as the hub lists them: four a parameter, and a header (CLIP's also
    holds its position numbers)."""
    published = {
        "siglip_b_16_256": 812_856_640,
        "siglip_so400m_14_224": 3_509_549_856,
        "siglip2_b_16_512": 1_503_344_520,
        "clip_vit_l_14": 1_710_540_580,
    }
    for name, size in published.items():
        assert 40_000 < size - 4 * zoo.ZOO[name].parameters < 120_000


def test_taps_and_suffix_of_the_image_tower(model, embedded):
    assert model.taps["img/Transformer/encoderblock_1"] == (16, 24) and not any(
        tap.startswith("txt") for tap in model.taps
    )
    hidden = "img.blocks[1].mlp.act"
    assert model.resolve(hidden) == "img/Transformer/encoderblock_1/MlpBlock_0/Dense_1:in"
    assert model.activations(IMAGES, hidden).shape == (5, 40)
    suffix = model.suffix(hidden)
    again = jax.jit(lambda v, x: suffix(v, suffix.record(v, x)))(
        model.variables, model.preprocess.normalise(IMAGES)
    )
    np.testing.assert_allclose(again, embedded[0], atol=1e-5)
    values, output = jax.jit(lambda v, x: model.probe(x, {hidden: "avg"}, v))(
        model.variables, IMAGES
    )
    np.testing.assert_allclose(output, embedded[0], atol=1e-5)
    assert values[hidden].shape == (5, 40)


@pytest.mark.parametrize(("data", "split"), [(8, 1), (4, 2), (2, 4)])
def test_any_mesh_gives_one_devices_embeddings(folder, embedded, data, split):
    """Five images and texts on two to eight devices; two heads and three-token batches do not
    divide by four."""
    mesh = make_mesh(data, split)
    sharded = zoo.load_model("small", folder / "small.npz", mesh=mesh)
    kernel = sharded.variables["params"]["img"]["Transformer"]["encoderblock_0"]["MlpBlock_0"][
        "Dense_0"
    ]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (24, 40 // split)
    np.testing.assert_allclose(sharded.embed_images(IMAGES, batch_size=3), embedded[0], atol=1e-5)
    np.testing.assert_allclose(sharded.embed_texts(TEXTS, batch_size=3), embedded[1], atol=1e-5)


def test_bfloat16_on_request(folder, model, embedded):
    half = zoo.load_model("small", folder / "small.npz", dtype="bfloat16")
    assert (
        half.variables["params"]["txt"]["head"]["kernel"].dtype == jnp.bfloat16
        and half.scale == model.scale
    )
    for got, want in zip(
        (half.embed_images(IMAGES), half.embed_texts(TEXTS)), embedded, strict=True
    ):
        assert got.dtype == np.float32 and 0 < np.abs(got - want).max() < 0.05


def test_another_resolution_only_if_asked(folder, model):
    with pytest.raises(
        ValueError, match=r"1 mismatches .*\n  wrong shape: img/pos_embedding \(1, 16, 24\)"
    ):
        zoo.load_model("small", folder / "small.npz", image_size=96)
    larger = zoo.load_model(
        "small", folder / "small.npz", image_size=96, resample_positions=True
    ).variables["params"]
    grid, old = (
        larger["img"]["pos_embedding"].reshape(6, 6, 24),
        model.variables["params"]["img"]["pos_embedding"].reshape(4, 4, 24),
    )
    np.testing.assert_allclose(grid[::5, ::5], old[::3, ::3], atol=1e-6)  # corners stay
    np.testing.assert_array_equal(
        larger["txt"]["pos_embedding"], model.variables["params"]["txt"]["pos_embedding"]
    )


def test_what_is_wrong_is_one_sentence(folder, model, tmp_path):
    for texts in ([], ["a", 3]):
        with pytest.raises(ValueError, match="texts is .*; expected a list of one or more str"):
            model.embed_texts(texts)
    with pytest.raises(ValueError, match="no images"):
        model.embed_images([])
    (tmp_path / "alone.npz").write_bytes((folder / "small.npz").read_bytes())
    alone = zoo.load_model("small", tmp_path / "alone.npz")  # pictures need no tokenizer
    assert alone.embed_images(IMAGES[:1]).shape == (1, 24)
    tokens = Tokenizer(lambda texts: [[120]] * len(texts), (), 120, 120, 12)
    foreign = TwoTower(model.image, lambda: tokens)
    with pytest.raises(ValueError, match="gives token 120, but the text tower of small knows 120"):
        foreign.embed_texts(["x"])
    with pytest.raises(
        ValueError, match="'resnet20_cifar10' has no text tower; leave `tokenizer` out"
    ):
        zoo.load_model("resnet20_cifar10", random_init_seed=0, tokenizer=folder)
    with pytest.raises(ValueError, match="expected .npz"):
        siglip.save(tmp_path / "x.msgpack", model.variables)


def test_a_missing_tokenizer_names_the_file_to_bring(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "alone.npz").write_bytes((folder / "small.npz").read_bytes())
    alone = zoo.load_model("small", tmp_path / "alone.npz")
    with pytest.raises(
        ConnectionError,
        match="bring spiece.model from https://huggingface.co/nobody/nothing and put it into",
    ):
        alone.embed_texts(TEXTS)
    given = zoo.load_model("small", tmp_path / "alone.npz", tokenizer=folder / "spiece.model")
    assert given.embed_texts(TEXTS).shape == (5, 24)


def test_texts_that_the_vocabulary_lacks_are_listed(model):
    assert model.unreadable(["a red square", "!!!", "stripes", "☃"]) == ["!!!", "☃"]
