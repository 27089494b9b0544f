"""Each published format, written from random weights, gives the features and the reconstruction
that torch's own equations give."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxle.models.units.sae import Sae, read_sae
from jaxle.models.units.sae_parts import SUFFIXES
from jaxle.models.units.unit_map import UnitMap

WIDTH, UNITS, K = 6, 16, 3
RNG = np.random.default_rng(0)


def weights(**more):
    """Random tensors by their shapes' letters: d the width, s the units."""
    size = {"d": WIDTH, "s": UNITS}
    shapes = {"W_enc": "ds", "W_dec": "sd", "b_enc": "s", "b_dec": "d"} | more
    return {
        name: RNG.standard_normal([size[letter] for letter in shape]).astype(np.float32)
        for name, shape in shapes.items()
    }


VALUES = RNG.standard_normal((5, 4, WIDTH)).astype(np.float32)  # images, positions, width


def ours(units: UnitMap):
    """Features (images, positions, units) and reconstructions of VALUES."""
    form, arrays = units.form, units.arrays
    prepared = form.prepare(arrays, VALUES)
    decoded = np.asarray(form.decoded(arrays, prepared))
    whole = decoded + arrays["decoder_bias"] * np.asarray(prepared.size) + np.asarray(prepared.mean)
    return np.asarray(form.every(arrays, prepared)), whole


def check(units, features, reconstruction):
    f, whole = ours(units)
    np.testing.assert_allclose(f, features.numpy(), atol=1e-5)
    np.testing.assert_allclose(whole, reconstruction.numpy(), atol=2e-5)


def read(path, **options):
    return read_sae(path, WIDTH, Sae(**options))


def save_saev(torch, path, header, tensors):
    with path.open("wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        torch.save({name: torch.as_tensor(t) for name, t in tensors.items()}, file)


def top(torch, a, k=K):
    values, index = torch.topk(a, k, dim=-1)
    return torch.zeros_like(a).scatter(-1, index, values)


def activation(name, k=K):
    return {"cls": name, "params": {"top_k": k, "key": "x"} if name != "Relu" else {}}


SAEV = {
    "no schema": ({"d_vit": WIDTH, "exp_factor": 2, "l1_coeff": 1e-4, "seed": 0}, "relu", True),
    "1, cls": ({"schema": 1, "cls": "TopK", "cfg": {"d_vit": WIDTH, "top_k": K}}, "topk", True),
    "1, dict": (
        {
            "schema": 1,
            "cls": "SparseAutoencoderConfig",
            "cfg": {"d_vit": WIDTH, "activation": activation("Relu")},
        },
        "relu",
        True,
    ),
    "2": ({"schema": 2, "cfg": {"activation": activation("TopK")}}, "topk", False),
    "5": ({"schema": 5, "cfg": {"d_sae": UNITS, "activation": activation("Relu")}}, "relu", False),
    "5, batch": (
        {"schema": 5, "cfg": {"d_model": WIDTH, "activation": activation("BatchTopK")}},
        "threshold",
        False,
    ),
    "2, batch": ({"schema": 2, "cfg": {"activation": activation("BatchTopK")}}, "topk", False),
}


@pytest.mark.parametrize("name", SAEV)
def test_saev(name, tmp_path, torch):
    header, kind, subtracts = SAEV[name]
    tensors = weights()
    if kind == "threshold":
        tensors["activation.threshold"] = np.float32(0.3)
    save_saev(torch, tmp_path / "sae.pt", header, tensors)
    own = {n: torch.as_tensor(t) for n, t in tensors.items()}
    x = torch.as_tensor(VALUES)
    a = (x - own["b_dec"] if subtracts else x) @ own["W_enc"] + own["b_enc"]
    act = {
        "relu": torch.relu,
        "topk": lambda a: top(torch, a),  # of either sign
        "threshold": lambda a: torch.where(a > 0.3, a, torch.zeros(())),
    }
    f = act[kind](a)
    units = read(tmp_path)  # the folder
    check(units, f, f @ own["W_dec"] + own["b_dec"])
    assert units.facts["format"] == "saev"
    assert f"schema {header.get('schema', 'none')}" in units.facts["note"]
    assert units.facts["decoder_bias_subtracted"] is subtracts


def test_what_a_user_says_of_the_bias_and_of_the_inputs_comes_before_the_file(tmp_path, torch):
    tensors = weights()
    save_saev(torch, tmp_path / "sae.pt", {"d_vit": WIDTH}, tensors)
    mean, scale = RNG.standard_normal(WIDTH).astype(np.float32), np.float32(2.5)
    np.savez(tmp_path / "inputs.npz", mean=mean, scale=scale)
    units = read(
        tmp_path / "sae.pt",
        subtract_decoder_bias="no",
        inputs=str(tmp_path / "inputs.npz"),
    )
    own = {n: torch.as_tensor(t) for n, t in tensors.items()}
    x = (torch.clip(torch.as_tensor(VALUES), -1e-5, 1e5) - torch.as_tensor(mean)) / scale
    f = torch.relu(x @ own["W_enc"] + own["b_enc"])
    check(units, f, (f @ own["W_dec"] + own["b_dec"]) * scale + torch.as_tensor(mean))


def normal(torch, x, norm):
    """What Prisma and SAELens do to their inputs, and what undoes it."""
    if norm == "layer_norm":
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return (x - mean) / (std + 1e-5), lambda y: y * std + mean
    if norm == "constant_norm_rescale":
        size = WIDTH**0.5 / x.norm(dim=-1, keepdim=True)
        return x * size, lambda y: y / size
    return x, lambda y: y


def write(path, suffix, tensors, torch):
    """The tensors as a file of torch's or as .safetensors."""
    if suffix == ".safetensors":
        held = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
        save_file(held, path.with_suffix(suffix))
    else:
        held = {name: torch.as_tensor(np.asarray(t)) for name, t in tensors.items()}
        torch.save(held, path.with_suffix(suffix))


PRISMA = [
    ("relu", None, False),
    ("relu", "layer_norm", False),
    ("tanh-relu", "constant_norm_rescale", False),
    ("topk", "none", False),
    ("relu", "layer_norm", True),
    ("tanh-relu", "null", True),
]


@pytest.mark.parametrize(("act", "norm", "gated"), PRISMA)
def test_prisma(act, norm, gated, tmp_path, torch):
    more = {"b_gate": "s", "r_mag": "s", "b_mag": "s"} if gated else {}
    tensors = weights(**more)
    config = {
        "hook_point": "blocks.9.hook_mlp_out",
        "hook_point_layer": 9,
        "model_name": "open-clip:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "activation_fn_str": act,
        "activation_fn_kwargs": {"k": K} if act == "topk" else {},
        "normalize_activations": norm,
        "architecture": "gated" if gated else "standard",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    suffix = SUFFIXES[len(act) % 2]
    write(tmp_path / "n_images_100", suffix, tensors, torch)
    own = {n: torch.as_tensor(t) for n, t in tensors.items()}
    x, undo = normal(torch, torch.as_tensor(VALUES), norm)
    x = x - own["b_dec"]
    fn = {
        "relu": torch.relu,
        "tanh-relu": lambda a: torch.tanh(torch.relu(a)),
        "topk": lambda a: torch.relu(top(torch, a)),
    }[act]
    if gated:
        gate = (x @ own["W_enc"] + own["b_gate"] > 0).float()
        f = gate * fn(x @ (own["W_enc"] * own["r_mag"].exp()) + own["b_mag"])
    else:
        f = fn(x @ own["W_enc"] + own["b_enc"])
    units = read(tmp_path)
    check(units, f, undo(f @ own["W_dec"] + own["b_dec"]))
    assert units.about == {"model": config["model_name"], "layer": "9"}


def linear(tensors, decoder_bias="b_dec"):
    """The tensors as torch.nn.Linear names them."""
    return {
        "encoder.weight": tensors["W_enc"].T,
        "encoder.bias": tensors["b_enc"],
        "decoder.weight": tensors["W_dec"].T,
        decoder_bias: tensors["b_dec"],
    }


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
        "JumpReluAutoEncoder",
        "GatedAutoEncoder",
    ],
)
def test_dictionary_learning(name, named, tmp_path, torch):
    tensors = weights(r_mag="s", gate_bias="s", threshold="s")
    own = {n: torch.as_tensor(t) for n, t in tensors.items()}
    x = torch.as_tensor(VALUES)
    a = x @ own["W_enc"] + own["b_enc"]
    less = (x - own["b_dec"]) @ own["W_enc"]
    relu = torch.relu(less + own["b_enc"])
    k, threshold = np.int32(K), np.float32(0.4)
    if name == "AutoEncoder":
        held, f = linear(tensors, "bias"), relu
    elif name == "AutoEncoderNew":
        held, f = linear(tensors, "decoder.bias"), torch.relu(a)
    elif name == "AutoEncoderTopK":
        held, f = linear(tensors) | {"k": k, "threshold": np.float32(-1)}, top(torch, relu)
    elif name == "BatchTopKSAE":
        held, f = linear(tensors) | {"threshold": threshold}, relu * (relu > 0.4)
        held |= {"k": k} if named else {}  # without a config, k would tell it for a TopK
    elif name == "MatryoshkaBatchTopKSAE":
        held = {n: tensors[n] for n in ("W_enc", "b_enc", "W_dec", "b_dec")}
        held |= {"k": k, "threshold": threshold, "group_sizes": np.array([4, UNITS - 4])}
        f = relu * (relu > 0.4)
    elif name == "JumpReluAutoEncoder":
        held = {n: tensors[n] for n in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
        f = torch.relu(a * (a > own["threshold"]))
    else:
        held = linear(tensors, "decoder_bias")
        held["mag_bias"] = held.pop("encoder.bias")
        held |= {n: tensors[n] for n in ("r_mag", "gate_bias")}
        f = (less + own["gate_bias"] > 0) * torch.relu(own["r_mag"].exp() * less + own["b_enc"])
    write(tmp_path / "ae", ".pt", held, torch)
    if named:
        config = {"trainer": {"dict_class": name, "k": K, "layer": 9, "lm_name": "dino"}}
        (tmp_path / "config.json").write_text(json.dumps(config))
    units = read(tmp_path)
    check(units, f, f @ own["W_dec"] + own["b_dec"])
    assert units.facts["format"] == "dictionary_learning"


LENS = [
    ("standard", {}),
    ("standard", {"apply_b_dec_to_input": False, "normalize_activations": "layer_norm"}),
    ("standard", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
    ("standard", {"activation_fn_str": "tanh-relu", "finetuning_scaling_factor": True}),
    ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    ("jumprelu", {"normalize_activations": "constant_norm_rescale"}),
    ("gated", {}),
]


def test_a_file_of_the_hub_comes_with_its_config(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    (tmp_path / "layer_9").mkdir()
    config = {"d_in": WIDTH, "d_sae": UNITS, "metadata": {"hook_name": "blocks.9.hook"}}
    (tmp_path / "layer_9" / "cfg.json").write_text(json.dumps(config))
    save_file(weights(), tmp_path / "layer_9" / "sae_weights.safetensors")

    def answer(repo, name, revision=None):
        if (repo, revision) != ("org/saes", "v1") or not (tmp_path / name).exists():
            raise errors.LocalEntryNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    units = read("org/saes@v1:layer_9/sae_weights.safetensors")
    assert units.about["layer"] == "9" and units.form.n_units == UNITS


@pytest.mark.parametrize(("architecture", "more"), LENS)
def test_saelens(architecture, more, tmp_path, torch):
    tensors = weights(b_gate="s", r_mag="s", b_mag="s", threshold="s", scaling_factor="s")
    kept = {
        "standard": ("b_enc", "scaling_factor"),
        "topk": ("b_enc",),
        "jumprelu": ("b_enc", "threshold"),
        "gated": ("b_gate", "r_mag", "b_mag"),
    }[architecture]
    held = {n: tensors[n] for n in ("W_enc", "W_dec", "b_dec", *kept)}
    config = {
        "d_in": WIDTH,
        "d_sae": UNITS,
        "architecture": architecture,
        "metadata": {"model_name": "CLIP", "hook_name": "blocks.10.hook_resid_post"},
        **more,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    write(tmp_path / "sae_weights", ".safetensors", held, torch)
    own = {n: torch.as_tensor(t) for n, t in tensors.items()}
    x, undo = normal(torch, torch.as_tensor(VALUES), more.get("normalize_activations"))
    x = x - own["b_dec"] if config.get("apply_b_dec_to_input", True) else x
    a, back = x @ own["W_enc"] + own["b_enc"], torch.ones(UNITS)
    if config.get("rescale_acts_by_decoder_norm"):
        size = own["W_dec"].norm(dim=-1)
        a, back = a * size, 1 / size
    if architecture == "jumprelu":
        f = torch.relu(a) * (a > own["threshold"])
    elif architecture == "gated":
        gate = (x @ own["W_enc"] + own["b_gate"] > 0).float()
        f = gate * torch.relu(x @ (own["W_enc"] * own["r_mag"].exp()) + own["b_mag"])
    elif config.get("k") or config.get("activation_fn_str") == "topk":
        f = torch.relu(top(torch, a))
    else:
        f = torch.relu(a)
        f = torch.tanh(f) if config.get("activation_fn_str") == "tanh-relu" else f
    if config.get("finetuning_scaling_factor"):
        back = own["scaling_factor"]
    units = read(tmp_path / "sae_weights.safetensors")
    check(units, f, undo((f * back) @ own["W_dec"] + own["b_dec"]))
    assert units.about == {"model": "CLIP", "layer": "10"}
