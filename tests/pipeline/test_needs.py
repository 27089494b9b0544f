"""What a run lacks is named at once, before anything is loaded."""

import importlib.util

import numpy as np
import pytest
from etils import epath

from jaxle import hosts
from jaxle.data.scenes import ScenesSource
from jaxle.mesh import make_mesh
from jaxle.models import checkpoints
from jaxle.pipeline import defaults, inputs
from jaxle.pipeline.inputs import open_inputs
from tests import runs


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No host answers, nothing was downloaded before, and nothing is loaded."""
    monkeypatch.setattr(hosts, "_answers", lambda host, port: False)
    monkeypatch.setenv("JAXLE_CACHE", str(tmp_path / "no_cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no_tfds"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no_hub"))

    def load(*args, **kwargs):
        raise AssertionError("a network is loaded though something is missing")

    monkeypatch.setattr(inputs, "load_model", load)


def refused(folder, fields):
    """The items of the sentence."""
    config = runs.settings(folder, fields)
    with pytest.raises(ValueError) as error:
        open_inputs(config, epath.Path(folder), make_mesh(1))
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and not text.endswith("..")
    if " things that the run needs are missing: (1) " not in text:
        return [text]
    number, _, listed = text.partition(" things that the run needs are missing: (1) ")
    items = []
    for i in range(2, int(number) + 1):
        item, _, listed = listed.partition(f"; ({i}) ")
        items.append(item)
    return [*items, listed]


def test_all_that_is_missing_is_in_one_sentence(tmp_path):
    fields = {
        "data.source": "tfds:cifar10",
        "data.split": "test",
        "target.model": "resnet50_imagenet",
        "target.weights": str(tmp_path / "absent.npz"),
        "methods.siglip": defaults.siglip("siglip_b_16_224"),
        "methods.other": defaults.siglip("siglip_b_16_256", str(tmp_path / "none.npz")),
        "simulators.so400m": defaults.tower("siglip_so400m_14_384"),
        "simulators.mine": "no_such_module:Simulator",
        "concepts.sets": ("classes", "colors", f"file:{tmp_path}/words.txt"),
    }
    items = refused(tmp_path, fields)
    expected = [
        (f"weights {tmp_path}/absent.npz do not exist; expected a file or folder",),
        ("siglip_b_16_224: cannot reach the hub", "bring model.safetensors from", "as weights"),
        ("siglip_b_16_224: cannot reach the hub", "bring spiece.model", "folder of the weights"),
        (f"weights {tmp_path}/none.npz do not exist",),
        ("siglip_b_16_256: cannot reach the hub", "bring spiece.model"),
        ("siglip_so400m_14_384: cannot reach the hub", "bring model.safetensors"),
        ("siglip_so400m_14_384: cannot reach the hub", "bring spiece.model"),
        ("tfds:cifar10 is not prepared in", "cannot reach https://www.cs.toronto.edu", "folder:"),
        ("unknown concept set 'colors' (did you mean colours?)",),
        ("cannot read concepts from", "words.txt: No such file"),
        ("cannot import 'no_such_module' of simulator",),
    ]
    assert len(items) == len(expected), items
    for item, words in zip(items, expected, strict=True):
        assert all(word in item for word in words), item
    assert "TensorFlow, which `tfds build` needs" in items[7]


def test_weights_lie_there_and_their_vocabulary_does_not(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"not looked at")
    fields = {"methods.siglip": defaults.siglip("siglip_b_16_224", str(path))}
    fields["simulators.m"] = defaults.tower("scenes_siglip_m")
    (item,) = refused(tmp_path, fields)
    assert "bring spiece.model from https://huggingface.co/google/siglip-base-patch16-224" in item
    assert item.endswith("and put it into the folder of the weights.")


def test_a_package_that_weights_need(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    path.write_bytes(b"")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        checkpoints.importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else real(name),
    )
    (item,) = refused(tmp_path, {"target.weights": str(path)})
    assert item == (
        "scenes_resnet: net.pth is a torch checkpoint: install the extra "
        "(pip install 'jaxle[torch]') or bring the weights as .safetensors."
    )


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"target.model": "resnet21"}, ["unknown model 'resnet21'"]),
        ({"target.weights": "{folder}/net.h5"}, ["has suffix '.h5'; readable are"]),
        ({"target.model": "resnet20_cifar10"}, ["cannot reach https://github.com/akamaster"]),
        ({"data.source": "imagenet"}, ["data source is 'imagenet'; expected one of"]),
        ({"data.source": "folder:{folder}/nowhere"}, ["nowhere: no such folder"]),
        ({"data.source": "tfds:no_such_set"}, ["is not known to tensorflow_datasets"]),
        ({"data.source": "tfds:imagenet2012"}, ["its archives, which one must ask for, are not"]),
        ({"data.split_files": "{folder}/split"}, ["split {folder}/split is not there"]),
        (
            {"data.source": "arrays:{folder}", "evaluation.impact": True},
            [
                "ablation scores and Top Impact need class labels: these data have none",
                "method 'label' explains with labels, and these data have neither class labels",
            ],
        ),
        (
            {"methods.s": defaults.siglip("scenes_siglip_s")},
            ["no simulator can simulate the explanations of method 's'"],
        ),
        (
            {
                "methods.s": defaults.siglip("scenes_resnet"),
                "simulators.m": defaults.tower("scenes_siglip_m"),
            },
            ["model 'scenes_resnet' has no text tower"],
        ),
        (
            {"target.model": "mine:Net", "target.weights": "generated"},
            ["weights can be generated for models of the zoo only, got 'mine:Net'"],
        ),
        ({"target.model": "no_such_module:Net"}, ["cannot import 'no_such_module' of model"]),
    ],
)
def test_each_kind(tmp_path, fields, words):
    np.save(tmp_path / "images.npy", np.zeros((40, 64, 64, 3), np.uint8))
    (tmp_path / "net.h5").touch()

    def placed(value):
        return value.replace("{folder}", str(tmp_path)) if isinstance(value, str) else value

    items = refused(tmp_path, {name: placed(value) for name, value in fields.items()})
    assert len(items) == len(words), items
    for item, own in zip(items, words, strict=True):
        assert placed(own) in item


def test_images_are_opened_once_and_not_rendered(tmp_path, monkeypatch):
    monkeypatch.undo()
    made, real = [], ScenesSource.__init__
    monkeypatch.setattr(
        ScenesSource, "__init__", lambda self, *args: made.append(self) or real(self, *args)
    )
    source = open_inputs(runs.settings(tmp_path), epath.Path(tmp_path), make_mesh(1)).images.source
    assert made == [source] and "_scenes" not in vars(source)
