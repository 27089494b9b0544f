"""Nothing stale: what changed since the last run is read again, and what only looks so is not."""

import os
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxle.data import content
from jaxle.data.folder import FolderSource
from tests import runs

COLOURS = ("red", "green")


@pytest.fixture
def pictures(tmp_path):
    """Forty uncompressed pictures in two classes, so that all have one size."""
    draw = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "pictures" / COLOURS[i % 2] / f"{i:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 100, (64, 64, 3), np.uint8)
        pixels[..., i % 2] += 100
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def probe(tmp_path, source, **fields):
    """Runs the probe; whether all that it gave lay in the cache."""
    (tmp_path / "run" / "metrics.jsonl").unlink(missing_ok=True)
    runs.quick(tmp_path / "run", {"data.source": source, **fields}, ("probe",))
    return all(note["reused"] for note in runs.notes(tmp_path / "run") if note["step"] == "probe")


def test_a_picture_changed_in_place_is_noticed(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_YOUNG", -60e9)  # as if the pictures were older than a minute
    source = f"folder:{pictures}"
    assert not probe(tmp_path, source) and probe(tmp_path, source)
    path = pictures / "red" / "04.bmp"
    before = path.stat()
    time.sleep(0.05)
    Image.new("RGB", (64, 64)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert not probe(tmp_path, source) and probe(tmp_path, source)


def test_touched_and_moved_pictures_are_the_same(pictures, tmp_path):
    assert not probe(tmp_path, f"folder:{pictures}")
    for path in pictures.rglob("*.bmp"):
        os.utime(path)
    assert probe(tmp_path, f"folder:{pictures}")
    pictures.rename(tmp_path / "moved")
    assert probe(tmp_path, f"folder:{tmp_path}/moved")


def test_a_picture_changed_during_the_pass_ends_the_run(pictures, tmp_path, monkeypatch):
    real = FolderSource.__getitem__

    def read(self, i):
        if i == 3:
            Image.new("RGB", (64, 64)).save(pictures / "red" / "04.bmp")
        return real(self, i)

    monkeypatch.setattr(FolderSource, "__getitem__", read)
    with pytest.raises(ValueError, match=r"red/04.bmp changed while the run read it, and nothing"):
        probe(tmp_path, f"folder:{pictures}")
    assert not list((tmp_path / "run" / "cache").glob("probe-*"))
    monkeypatch.undo()
    assert not probe(tmp_path, f"folder:{pictures}")


def test_arrays_and_their_labels_are_known_by_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(200) % 2)
    source = f"arrays:{tmp_path}"
    assert not probe(tmp_path, source) and probe(tmp_path, source)
    held = np.load(tmp_path / "images.npy", mmap_mode="r+")
    held[1] = 0  # not among 64 at equal distances
    held.flush()
    assert not probe(tmp_path, source)
    np.save(tmp_path / "labels.npy", 1 - np.arange(200) % 2)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    runs.quick(tmp_path / "run", {"data.source": source}, ("probe",))
    labels = [note for note in runs.notes(tmp_path / "run") if note["step"] == "labels"]
    assert [note["reused"] for note in labels] == [False]


NETWORK = """
import flax.linen as nn
from {package} import parts

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="layer1")(x))
        return nn.Dense(2)(parts.squashed(x).mean((1, 2)))
"""
PARTS = "import flax.linen as nn\n\ndef squashed(x):\n    return nn.relu(x)\n"


@pytest.mark.parametrize("file", ["net.py", "parts.py"])
def test_your_own_network_is_known_by_its_code(tmp_path, monkeypatch, file):
    """Also by that of a module of your own that it imports."""
    package = f"stale_{file.partition('.')[0]}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "net.py").write_text(NETWORK.format(package=package))
    (tmp_path / package / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    weights = tmp_path / "weights.npz"
    shapes = {"layer1": ((3, 3, 3, 4), (4,)), "Dense_0": ((4, 2), (2,))}
    draw = np.random.default_rng(0)
    tensors = {
        f"params/{name}/{kind}": draw.normal(size=shape).astype(np.float32)
        for name, both in shapes.items()
        for kind, shape in zip(("kernel", "bias"), both, strict=True)
    }
    np.savez(weights, **tensors)
    fields = {
        "target.model": f"{package}.net:Net",
        "target.weights": str(weights),
        "target.preprocess": {"resize": "none", "size": 64},
    }

    def again():
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]
        return probe(tmp_path, "scenes", **fields)

    assert not again() and again()
    path = tmp_path / package / file
    path.write_text(path.read_text().replace("nn.relu", "nn.tanh"))
    assert not again() and again()
