"""The pass over the images: whole, cut short, on one device and on eight, and over a network that breaks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle import probing
from jaxle.data.sources import open_source
from jaxle.images import Preprocess
from jaxle.mesh import make_mesh
from jaxle.models.model import Model


class Tiny(nn.Module):
    """A convolution and a head; on request, one that is not finite for a black image."""

    breaks: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="conv")(x)
        if self.breaks:
            x = x / jnp.mean(jnp.abs(x), axis=(1, 2, 3), keepdims=True)  # 0/0 for a black image
        return nn.Dense(3, name="head")(jnp.mean(x, axis=(1, 2)))


@pytest.fixture
def source(tmp_path):
    """Fifty noise images of three classes; image 37 is black."""
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8)
    images[37] = 0
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(50) % 3)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    return open_source(f"arrays:{tmp_path}")


def model(breaks=False):
    module = Tiny(breaks)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return Model(
        "tiny",
        module,
        variables,
        Preprocess("none", 8, mean=(0, 0, 0), std=(1, 1, 1)),
        ("c", "B", "a"),
        {},
        "none",
    )


def probe(folder, source, network, mesh=None, batch_size=7):
    readings = {"tiny": probing.Reading(network, {"conv": "avg", "head": "none"})}
    return probing.probe_images(
        readings, source, mesh or make_mesh(1), folder, batch_size=batch_size, workers=0
    )["tiny"]


def test_equals_the_network_called_by_itself(source, tmp_path):
    network = model()
    arrays = probe(tmp_path / "parts", source, network)
    images = np.stack([source[i][0] for i in range(50)])
    np.testing.assert_allclose(
        arrays["activations.conv"], network.activations(images, "conv"), atol=1e-6
    )
    logits = network.logits(images)
    np.testing.assert_allclose(arrays["activations.head"], logits, atol=1e-6)
    np.testing.assert_array_equal(arrays["predicted"], logits.argmax(1))
    names = np.array(["c", "b", "a"])[logits.argmax(1)]
    right = (names == np.array(["a", "b", "c"])[np.arange(50) % 3]).mean()
    assert probing.accuracy(
        arrays["predicted"], np.arange(50) % 3, network.class_names, ("a", "b", "c")
    ) == pytest.approx(right)
    assert (
        probing.accuracy(
            arrays["predicted"], np.arange(50) % 3, network.class_names, ("a", "b", "d")
        )
        is None
    )


def test_several_networks_in_one_pass_equal_each_by_itself(source, tmp_path, monkeypatch):
    small = dataclasses.replace(
        model(), preprocess=Preprocess("squash", 4, mean=(0, 0, 0), std=(1, 1, 1))
    )
    readings = {
        "a": probing.Reading(model(), {"conv": "max"}),
        "b": probing.Reading(model()),
        "c": probing.Reading(small),
    }
    decoded, real = [], type(source).__getitem__
    monkeypatch.setattr(
        type(source), "__getitem__", lambda self, i: decoded.append(i) or real(self, i)
    )
    got = probing.probe_images(
        readings, source, make_mesh(1), tmp_path / "all", batch_size=7, workers=0
    )
    assert sorted(decoded) == list(range(50))  # each image once, for all three
    assert {name: sorted(arrays) for name, arrays in got.items()} == {
        "a": ["activations.conv", "predicted"],
        "b": ["embeddings"],
        "c": ["embeddings"],
    }
    for name, reading in readings.items():
        alone = probing.probe_images(
            {name: reading}, source, make_mesh(1), tmp_path / name, batch_size=7, workers=0
        )[name]
        for key, array in alone.items():
            np.testing.assert_array_equal(got[name][key], array)
    assert got["b"]["embeddings"].shape == got["c"]["embeddings"].shape and not np.allclose(
        got["b"]["embeddings"], got["c"]["embeddings"]
    )


@pytest.mark.parametrize("batch_size, n_devices", [(1, 1), (64, 1), (3, 8), (16, 8)])
def test_batches_and_devices_change_nothing(source, tmp_path, batch_size, n_devices):
    expected = probe(tmp_path / "a", source, model())
    got = probe(tmp_path / "b", source, model(), make_mesh(n_devices), batch_size)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6)


def test_parts_that_are_there_are_not_made_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "PART", 10)
    expected = probe(tmp_path / "parts", source, model())
    assert len(list((tmp_path / "parts").iterdir())) == 5
    for number in (3, 4):
        (tmp_path / "parts" / f"{number:06d}" / "manifest.json").unlink()
    seen, real = [], probing.batches
    monkeypatch.setattr(
        probing,
        "batches",
        lambda source, fits, size, start, *rest: (
            seen.append(start) or real(source, fits, size, start, *rest)
        ),
    )
    got = probe(tmp_path / "parts", source, model())
    assert seen == [30]
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


def test_an_activation_that_is_not_finite_is_named(source, tmp_path):
    with pytest.raises(
        ValueError, match="activations of tap 'head' must be finite, got nan at image 37, neuron 0"
    ):
        probe(tmp_path / "parts", source, model(breaks=True))
