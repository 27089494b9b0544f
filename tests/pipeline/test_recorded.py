"""Runs on activations that another program recorded: the same table as the network's own."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from jaxle.data.arrays import ArraysSource
from jaxle.data.folder import FolderSource
from jaxle.data.recorded import read_recorded
from jaxle.data.sources import open_source
from jaxle.models.class_names import CIFAR10
from jaxle.pipeline import defaults
from jaxle.pipeline.image_pass import EMBEDDINGS
from jaxle.pipeline.load import load_run
from jaxle.pipeline.recorded import recorded_model
from jaxle.pipeline.stages import STAGES
from tests import runs
from tests.models.test_cifar_resnet import normalised, torch_features

RNG = np.random.default_rng(0)
N, K, M = 120, 6, 5
PROBS = RNG.random((N, M)).astype(np.float32) ** 3
DRAWN = RNG.normal(size=(M, K))
ACTIVATIONS = (PROBS @ DRAWN + 0.1 * RNG.normal(size=(N, K))).astype(np.float32)
WORDS = ("red", "blue", "large circle", "dog", "sky")
GIVEN = {
    "data.limit": 0,
    "target.model": "arrays",
    "target.taps": ("*",),
    "fit.min_top5": 0.0,
    "methods": {"given": defaults.given().to_dict()},
    "simulators": {"given": "given"},
}


def dumped(folder, **arrays):
    """Writes arrays, and the names of the concepts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "concepts.txt").write_text("\n".join(WORDS))
    return folder


def test_arrays_alone_are_a_run(tmp_path, capfd):
    """No network, no pictures, no labels: activations and concept probabilities."""
    folder = dumped(tmp_path / "dump", activations=ACTIVATIONS, concept_probs=PROBS)
    fields = {**GIVEN, "data.source": f"arrays:{folder}", "evaluation.controls": 5}
    summary = runs.quick(tmp_path / "run", fields, STAGES)
    (result,) = summary["results"]
    assert result["tap"] == "activations" and result["mean_correlation"] > 0.9
    run = load_run(tmp_path / "run")
    table = run.explanations("activations", "given")
    found = [dict(zip(row.concepts, row.weights, strict=True)) for row in table]
    for k, weights in enumerate(found):
        for word, weight in weights.items():
            if abs(DRAWN[WORDS.index(word), k]) > 0.5:
                assert abs(weight - DRAWN[WORDS.index(word), k]) < 0.3
    assert run.concept_matrix("given").concepts == WORDS
    np.testing.assert_array_equal(run.activations("activations"), ACTIVATIONS)
    said = capfd.readouterr().err
    assert (
        "Left out, for activations are recorded: evaluation.controls, for which untrained" in said
    )
    assert "Left out, for activations are recorded: the report's pictures, of which there" in said
    assert any("is the probabilities that lie beside the images" in n for n in summary["notes"])
    assert (tmp_path / "run/report/index.html").exists()
    again = runs.quick(tmp_path / "run", fields, STAGES)
    assert again == summary
    np.save(folder / "activations.npy", ACTIVATIONS[:, ::-1])  # another content is another run
    changed = runs.quick(tmp_path / "run", fields)
    assert changed["results"] != summary["results"]


@pytest.mark.parametrize("form", ["npz", "safetensors", "folder"])
def test_several_taps_and_a_head(tmp_path, form):
    taps = {"block/1": ACTIVATIONS, "block/2": ACTIVATIONS[:, :4].astype(np.float64)}
    if form == "npz":
        np.savez(tmp_path / "activations.npz", **taps)
    elif form == "safetensors":
        save_file(taps, tmp_path / "activations.safetensors")
    else:
        for tap, values in taps.items():
            path = tmp_path / "activations" / f"{tap}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    weights, bias = RNG.normal(size=(4, 3)), np.zeros(3)
    np.savez(tmp_path / "head.npz", weight=weights.T, bias=bias)
    found, files = read_recorded(tmp_path, None)
    assert sorted(found.activations) == sorted(taps) and found.n_images == N
    assert found.head.tap == "block/2" and len(files) == (3 if form == "folder" else 2)
    np.testing.assert_allclose(found.head.weights, weights, rtol=1e-6)
    (tmp_path / "head.npz").unlink()
    np.savez(tmp_path / "head.block.1.npz", weights=RNG.normal(size=(K, 3)), bias=bias)
    assert read_recorded(tmp_path, N)[0].head.tap == "block/1"
    some = open_source(f"arrays:{tmp_path}", limit=7)
    assert len(some.recorded.activations["block/1"]) == len(some) == 7


def test_recorded_embeddings_are_an_encoders(tmp_path):
    """The run of scenes, and of its activations and embeddings alone: the same table."""
    fields = {
        "methods": {"siglip": defaults.siglip("scenes_siglip_s").to_dict()},
        "simulators": {"m": defaults.tower("scenes_siglip_s").to_dict()},
        "concepts.sets": ("colours",),
        "concepts.calibration": "trained",
        "fit.min_top5": 0.0,
    }
    first = runs.quick(tmp_path / "own", fields)
    run, folder = load_run(tmp_path / "own"), tmp_path / "dump"
    dumped(folder, activations=run.activations("layer1"))
    (folder / "concepts.txt").unlink()
    (folder / "embeddings").mkdir()
    embedded = run.stored(run.index["arrays"]["methods"]["siglip"]["embeddings"]).arrays[EMBEDDINGS]
    np.save(folder / "embeddings" / "scenes_siglip_s.npy", 3 * embedded)  # of any length
    fields |= {
        "data.source": f"arrays:{folder}",
        "data.limit": 0,
        "target.model": "arrays",
        "target.taps": ("activations",),
    }
    second = runs.quick(tmp_path / "arrays", fields)
    names = ("mean_correlation", "mean_val_correlation", "mean_length", "n_unexplained")
    for name in names:
        assert abs(second["results"][0][name] - first["results"][0][name]) < 1e-5
    one, other = (
        (tmp_path / where / tap / "siglip/explanations.csv")
        for where, tap in (("own", "layer1"), ("arrays", "activations"))
    )
    assert [c.split(",")[2::2] for c in words(one)] == [c.split(",")[2::2] for c in words(other)]


def words(path):
    return pd.read_csv(path).filter(like="concept").astype(str).agg(",".join, axis=1)


def test_resnet_56_by_torch_is_jaxles_own(torch, test_data, tmp_path, monkeypatch):
    """The lines of docs/from_pytorch.md, run on torch's network; ablation included."""
    folder, weights = tmp_path / "pictures", test_data / "cifar10/resnet56-4bfd9763.th"
    for name in CIFAR10:
        (folder / name).mkdir(parents=True)
        for path in sorted((test_data / "cifar10/test" / name).iterdir())[:12]:
            shutil.copy(path, folder / name)
    source = FolderSource(folder)
    pictures = np.stack([source[i][0] for i in range(len(source))])
    dump = tmp_path / "dump"
    dump.mkdir()
    np.save(dump / "images.npy", pictures)
    np.save(dump / "labels.npy", source.labels)
    (dump / "classes.txt").write_text("\n".join(source.class_names))
    monkeypatch.chdir(dump)
    net = resnet56(torch, weights, [CIFAR10.index(name) for name in source.class_names])
    loader = torch.utils.data.DataLoader(normalised(torch, pictures), batch_size=50)
    text = (Path(runs.ROOT) / "docs/from_pytorch.md").read_text()
    block = re.search(r"<!-- run: from_pytorch -->\n```python\n(.*?)```", text, re.DOTALL)[1]
    exec(compile(block, "docs/from_pytorch.md", "exec"), {"net": net, "loader": loader})
    fields = {"data.limit": 0, "evaluation.ablation": "best", "fit.min_top5": 0.0}
    own = {
        **fields,
        "data.source": f"folder:{folder}",
        "target.model": "resnet56_cifar10",
        "target.weights": str(weights),
        "target.taps": ("layer3",),
    }
    arrays = {
        **fields,
        "data.source": f"arrays:{dump}",
        "target.model": "arrays",
        "target.taps": ("*",),
    }
    first, second = (
        runs.quick(tmp_path / name, given) for name, given in (("own", own), ("arrays", arrays))
    )
    assert second["top1_accuracy"] == first["top1_accuracy"] > 0.8
    one, other = (
        pd.read_csv(tmp_path / name / "scores.csv").select_dtypes("number")
        for name in ("own", "arrays")
    )
    assert list(one) == list(other) and "ablation_excess" in one
    away = (other - one).abs().drop(columns="flag")
    descended = [f"ablation_{name}" for name in ("optim", "excess", "scale", "shift")]
    assert away.drop(columns=descended).to_numpy().max() < 5e-6
    # a descent on a flat loss ends elsewhere for the last digit of a start
    assert away[descended].median().max() < 1e-5 and away[descended].to_numpy().max() < 0.02
    table, again = (
        words(tmp_path / name / tap / "label/explanations.csv")
        for name, tap in (("own", "layer3"), ("arrays", "activations"))
    )
    assert (table == again).all()


def resnet56(torch, path, order):
    """torch's ResNet-56, its classes in another order; the last stage is a module of its own."""
    state = {
        key.removeprefix("module."): value
        for key, value in torch.load(path, map_location="cpu", weights_only=True)[
            "state_dict"
        ].items()
    }

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer3, self.linear = torch.nn.Identity(), torch.nn.Linear(64, 10)
            self.linear.weight.data = state["linear.weight"][order]
            self.linear.bias.data = state["linear.bias"][order]

        def forward(self, images):
            return self.linear(self.layer3(torch_features(torch, state, images)).mean((2, 3)))

    return Net()


HOLE = np.where(np.arange(N * K).reshape(N, K) == 7, np.nan, ACTIVATIONS)
BAD = [
    (
        {"activations": HOLE},
        {},
        "activations of 'activations' must be finite, got nan at image 1, neuron 1",
    ),
    ({"activations": ACTIVATIONS[:, 0]}, {}, "array of shape (images, neurons), got"),
    ({"activations": np.array([["a"]])}, {}, "activations"),
    ({"activations": ACTIVATIONS, "concept_probs": 2 * PROBS + 1}, {}, "from 0 to 1, got"),
    ({"activations": ACTIVATIONS, "concept_probs": PROBS[:9]}, {}, "concept_probs are of 9 images"),
    (
        {"activations": ACTIVATIONS, "concept_probs": PROBS[:, :4]},
        {},
        "4 columns, and concepts.txt",
    ),
    (
        {"activations": ACTIVATIONS, "images": np.zeros((9, 8, 8, 3), np.uint8)},
        {},
        "activations of 'activations' are of 120 images, and images.npy holds 9",
    ),
    (
        {"images": np.zeros((9, 8, 8, 3), np.uint8)},
        {},
        "has none: expected arrays:FOLDER with acti",
    ),
    ({"activations": ACTIVATIONS}, {}, "method 'given' reads concept probabilities that come with"),
    (
        {"activations": ACTIVATIONS, "concept_probs": PROBS},
        {"target.taps": ("layer3",)},
        "no activations of tap 'layer3' are recorded",
    ),
    (
        {"activations": ACTIVATIONS, "concept_probs": PROBS},
        {"target.model": "scenes_resnet", "target.taps": ("layer3",)},
        "has no images.npy, and target.model='scenes_resnet' needs pictures",
    ),
    (
        {"activations": ACTIVATIONS, "concept_probs": PROBS},
        {"simulators.m": defaults.tower("scenes_siglip_m")},
        "encoder 'scenes_siglip_m' needs pictures or its embeddings",
    ),
    (
        {"activations": ACTIVATIONS, "labels": np.zeros(N, int) + np.arange(N) % 2},
        {
            "methods": {"label": defaults.label().to_dict()},
            "simulators": {"labels": "labels"},
            "evaluation.ablation": "best",
        },
        "what follows tap 'activations' is not recorded (none is there)",
    ),
]


@pytest.mark.parametrize(("arrays", "fields", "sentence"), BAD)
def test_bad_arrays_are_one_sentence(tmp_path, arrays, fields, sentence):
    folder = dumped(tmp_path / "dump", **arrays)
    if "concept_probs" not in arrays:
        (folder / "concepts.txt").unlink()
    if "labels" in arrays:
        (folder / "classes.txt").write_text("a\nb")
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", {**GIVEN, "data.source": f"arrays:{folder}", **fields})
    assert sentence in str(error.value) and "\n" not in str(error.value)


HEADS = [
    ({"weight": np.zeros((3, K))}, "head.npz", "holds weight; expected weight (classes, neurons)"),
    ({"weight": np.full((3, K), "a"), "bias": np.zeros(3)}, "head.npz", "expected real numbers"),
    ({"weight": np.zeros((3, K)), "bias": np.zeros(3) + 1j}, "head.npz", "holds complex128; expec"),
    ({"weight": np.full((3, K), 1e300), "bias": np.zeros(3)}, "head.npz", "too large for float32"),
    ({"weight": np.zeros((3, K)), "bias": np.zeros(2)}, "head.npz", "do not fit; expected one num"),
    ({"weight": np.full((3, K), np.nan), "bias": np.zeros(3)}, "head.npz", "value that is not fin"),
    (
        {"weight": np.zeros((3, 9)), "bias": np.zeros(3)},
        "head.npz",
        "is of 9 neurons, and the taps",
    ),
    ({"weight": np.zeros((3, K)), "bias": np.zeros(3)}, "head.x.npz", "or head.TAP.npz, named by"),
]


@pytest.mark.parametrize(("arrays", "name", "sentence"), HEADS)
def test_bad_heads_are_one_sentence(tmp_path, arrays, name, sentence):
    folder = dumped(tmp_path / "dump", activations=ACTIVATIONS)
    np.savez(folder / name, **arrays)
    with pytest.raises(ValueError) as error:
        read_recorded(folder, None)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_head_is_behind_one_tap_and_no_other(tmp_path):
    both = {"a": ACTIVATIONS, "b": ACTIVATIONS[:, :2]}
    (folder := tmp_path / "dump").mkdir()
    np.savez(folder / "activations.npz", **both)
    np.savez(folder / "head.npz", weight=np.zeros((3, K)), bias=np.zeros(3))
    with pytest.raises(ValueError, match="that of 'a' is there.: expected target.taps='a' alone"):
        recorded_model(ArraysSource(folder)).suffix("b")


def test_counts_of_the_only_embeddings_are_told_by_their_file(tmp_path):
    folder = dumped(tmp_path / "dump", activations=ACTIVATIONS)
    np.save(folder / "embeddings.npy", ACTIVATIONS[1:])
    with pytest.raises(ValueError, match="dump: embeddings are of"):
        read_recorded(folder, None)


def test_one_form_and_one_head(tmp_path):
    folder = dumped(tmp_path / "dump", activations=ACTIVATIONS)
    np.savez(folder / "activations.npz", a=ACTIVATIONS)
    with pytest.raises(ValueError, match="expected activations in one form"):
        read_recorded(folder, None)
    (folder / "activations.npz").write_bytes(b"no archive")
    (folder / "activations.npy").unlink()
    with pytest.raises(ValueError, match="cannot read .*activations.npz"):
        read_recorded(folder, None)
    (folder / "activations.npz").unlink()
    for name in ("head.npz", "head.a.npz"):
        np.savez(folder / name, weight=np.zeros((3, K)), bias=np.zeros(3))
    with pytest.raises(ValueError, match="expected one head"):
        read_recorded(folder, None)
