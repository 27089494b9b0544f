"""Units that are refused, each with its one sentence."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxle.models.units import Learned, read_units
from jaxle.models.units.directions import read_directions
from jaxle.models.units.metadata import contradiction
from jaxle.models.units.sae import Sae, read_sae

WIDTH, UNITS = 4, 6
LENS = {"d_in": WIDTH, "d_sae": UNITS, "architecture": "standard"}
SIZES = {"W_enc": (WIDTH, UNITS), "W_dec": (UNITS, WIDTH), "b_enc": (UNITS,), "b_dec": (WIDTH,)}
GOOD = {name: np.ones(shape, np.float32) for name, shape in SIZES.items()}

SPECS = [
    ("neuron", {}, "unknown target.units 'neuron': did you mean 'neurons'"),
    ("saes:x.pt", {}, "unknown target.units 'saes:x.pt': "),
    ("pca", {}, "must be 'pca:K', got 'pca'"),
    ("pca:0", {}, "'pca:K' with K a whole number of at least 1, got 'pca:0'"),
    ("random:many", {}, "with K a whole number of at least 1, got 'random:many'"),
    ("sae:", {}, "must be 'sae:FILE', got 'sae:'"),
    ("concept_vectors:3", {}, "must be 'concept_vectors', got 'concept_vectors:3'"),
    ("neurons", {"steps": 3}, "unit_options holds steps, and neurons have no options"),
    ("pca:3", {"steps": 3}, "unknown config field target.unit_options.steps"),
    ("semi_nmf:3", {"steps": 0}, "unit_options.steps must be a whole number of at least 1"),
    ("concept_vectors", {"distance": -1.0}, "unit_options.distance must be a number of at least 0"),
    ("sae:x.pt", {"subtract_decoder_bias": "maybe"}, "must be one of auto, yes, no, got 'maybe'"),
    ("os.path:join", {}, "target.units 'os.path:join' is a function: expected a "),
]


@pytest.mark.parametrize(("text", "options", "sentence"), SPECS)
def test_what_names_no_units(text, options, sentence):
    with pytest.raises(ValueError) as error:
        read_units(text, options)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def npz(**arrays):
    def write(path):
        np.savez(path / "d.npz", **arrays)
        return path / "d.npz"

    return write


def text(path):
    (path / "d.npy").write_text("no array")
    return path / "d.npy"


ONES = np.ones((WIDTH, 3))
DIRECTIONS = [
    (npz(a=ONES, b=ONES), "expected an array 'directions' (width, units), or one matrix"),
    (npz(directions=ONES, weights=ONES), "holds weights, which directions have not"),
    (npz(directions=np.ones((5, 3))), "has shape (5, 3), and the tap 4 columns: expected (4, "),
    (npz(directions=ONES * np.nan), "directions of"),
    (npz(directions=ONES.astype(str)), "must hold numbers, got dtype <U"),
    (npz(directions=ONES * [1, 0, 1]), "direction 1 of"),
    (npz(directions=ONES, bias=np.ones(2)), "must have shape (3,), got (2,)"),
    (npz(directions=ONES, mean=np.ones(3)), "must have shape (4,), got (3,)"),
    (npz(directions=ONES, relu=2), "must be 0 or 1, got [2]"),
    (npz(directions=ONES, decoder=np.ones((WIDTH, 2))), "has 2 units, and directions 3"),
    (text, "cannot be read as .npy: it is damaged or pickled"),
    (lambda path: path / "d.csv", "have suffix '.csv': expected .npy, .npz, .safetensors"),
]


@pytest.mark.parametrize(("write", "sentence"), DIRECTIONS)
def test_files_that_hold_no_directions(write, sentence, tmp_path):
    with pytest.raises(ValueError) as error:
        read_directions(write(tmp_path), WIDTH)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def lens(config=None, **tensors):
    def write(path):
        held = {name: value for name, value in (GOOD | tensors).items() if value is not None}
        save_file(held, path / "sae_weights.safetensors")
        (path / "cfg.json").write_text(json.dumps(LENS | (config or {})))
        return path

    return write


def broken(path):
    lens()(path)
    (path / "cfg.json").write_text("{")
    return path


def unknown(path):
    save_file(GOOD, path / "w.safetensors")
    return path


def header(path):
    (path / "sae.pt").write_bytes(b'{"schema": 5}\n')
    return path / "sae.pt"


HALF = {"hook_point_layer": 3}
SAES = [
    (lambda path: path / "no.pt", "no.pt does not exist; expected a file or folder, an https"),
    (lambda path: path, "holds no weights: expected sae.pt"),
    (unknown, "is of no known format: expected saev"),
    (broken, "cfg.json is no JSON"),
    (lens(W_dec=None), "lacks W_dec: it holds W_enc, b_dec, b_enc"),
    (lens(b_enc=np.ones(5, np.float32)), "the bias of the SAE"),
    (lens(W_enc=np.full((WIDTH, UNITS), np.nan, np.float32)), "the encoder of the SAE"),
    (lens({"architecture": "crosscoder"}), "asks for architecture 'crosscoder'"),
    (lens({"normalize_activations": "expected_average_only_in"}), "asks for normalisation"),
    (lens({"activation_fn_str": "gelu"}), "asks for activation 'gelu': expected one of relu"),
    (lens({"architecture": "topk"}), "asks for topk without k"),
    (lens({"architecture": "topk", "k": 7}), "has k=7 of 6 units"),
    (lens({"architecture": "jumprelu"}), "lacks threshold"),
    (lens({"reshape_activations": "hook_z"}), "reads reshaped activations"),
    (header, "header of the SAE"),
]


@pytest.mark.parametrize(("write", "sentence"), SAES)
def test_files_that_hold_no_autoencoder(write, sentence, tmp_path, torch):
    with pytest.raises(ValueError) as error:
        read_sae(write(tmp_path), WIDTH, Sae())
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_an_autoencoder_of_another_width(tmp_path):
    with pytest.raises(ValueError, match="reads 4 values, and the tap has 9: expected the tap"):
        read_sae(lens()(tmp_path), 9, Sae())


def test_a_pickled_config_is_never_loaded(tmp_path, torch):
    torch.save({"cfg": print, "state_dict": {}}, tmp_path / "n_images_1.pt")
    (tmp_path / "config.json").write_text(json.dumps(HALF))
    with pytest.raises(ValueError, match="holds more than tensors .* save its state_dict alone"):
        read_sae(tmp_path, WIDTH, Sae())


CONTRADICTIONS = [
    ({"layer": "9"}, "clip_vit_b_16", "img/Transformer/encoderblock_10", "trained on layer 9"),
    ({"layer": "9"}, "clip_vit_b_16", "img/Transformer/encoderblock_9", ""),
    ({"layer": "9"}, "my_nets:Small", "body", ""),  # which block that is nobody says
    ({"model": "openai/clip-vit-base-patch32"}, "clip_vit_b_16", "x", "was trained on"),
    ({"model": "openai/clip-vit-base-patch16"}, "clip_vit_b_16", "x", ""),
    ({"model": "open-clip:laion/CLIP-ViT-L-14"}, "clip_vit_l_14_336", "x", ""),
    ({"model": "facebook/dinov2-base"}, "clip_vit_b_16", "x", "the target is 'clip_vit_b_16'"),
    ({"model": "gpt2-small"}, "vit_b16 ", "x", ""),
    ({"model": "google/siglip-base-patch16-224"}, "siglip_b_16_224", "x", ""),
    ({}, "siglip_b_16_224", "encoderblock_3", ""),
]


@pytest.mark.parametrize(("about", "target", "tap", "sentence"), CONTRADICTIONS)
def test_metadata_that_contradict_the_run(about, target, tap, sentence):
    found = contradiction(about, target, tap)
    assert (sentence in found) if sentence else found == ""


def test_more_units_than_can_be_learned():
    values = np.random.default_rng(0).random((5, WIDTH)).astype(np.float32)
    of = Learned(values, np.arange(4))
    for name, sentence in (("pca:4", "have 3"), ("semi_nmf:5", "have 4")):
        wanted = read_units(name, {})
        with pytest.raises(ValueError, match=sentence):
            wanted.maker.learn(wanted, of)
    wanted = read_units("concept_vectors", {"min_images": 50})
    with pytest.raises(ValueError, match="found no cluster: expected a larger"):
        wanted.maker.learn(wanted, of)
