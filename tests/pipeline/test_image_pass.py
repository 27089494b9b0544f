"""The pass over the images: whole, cut short, on one device and on eight, and over a network that
breaks."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from jaxle.data.loader import UnreadableImage
from jaxle.data.sources import open_source
from jaxle.images import Preprocess
from jaxle.mesh import make_mesh
from jaxle.models.model import Model
from jaxle.pipeline import images_ahead, parts
from jaxle.pipeline.image_pass import arrays_of, read_images, tap_name, whole_arrays
from jaxle.pipeline.images_ahead import Pass
from jaxle.pipeline.parts import missing_parts, part_range, part_size
from jaxle.pipeline.readers import Reading


class Tiny(nn.Module):
    """A convolution and a head; on request, one that is not finite for a black image."""

    breaks: bool = False
    after = staticmethod(lambda x: x)

    @nn.compact
    def __call__(self, x):
        x = self.after(nn.Conv(4, (3, 3), name="conv")(x))
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
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    preprocess = Preprocess("none", 8, mean=(0, 0, 0), std=(1, 1, 1))
    return Model("tiny", module, variables, preprocess, ("c", "B", "a"), {}, "none")


def passed(folder, source, readings, mesh=None, batch_size=7):
    mesh, folder, n = mesh or make_mesh(1), epath.Path(folder), len(source)
    missing = missing_parts(folder, n, arrays_of(readings))
    read_images(readings, source, mesh, folder, Pass(batch_size), missing)
    return whole(readings, folder, n)


def whole(readings, folder, n):
    return {
        name: {key: np.concatenate(list(rows.blocks())) for key, rows in arrays.items()}
        for name, arrays in whole_arrays(readings, folder, n).items()
    }


def probe(folder, source, network, mesh=None, batch_size=7):
    readings = {"tiny": Reading(network, {"conv": "avg", "head": "none"})}
    return passed(folder, source, readings, mesh, batch_size)["tiny"]


def test_equals_the_network_called_by_itself(source, tmp_path):
    network = model()
    arrays = probe(tmp_path / "parts", source, network)
    images = np.stack([source[i][0] for i in range(50)])
    np.testing.assert_allclose(arrays["conv"], network.activations(images, "conv"), atol=1e-6)
    logits = network.logits(images)
    np.testing.assert_allclose(arrays["head"], logits, atol=1e-6)
    np.testing.assert_array_equal(arrays["predicted"], logits.argmax(1))
    assert {name: array.dtype for name, array in arrays.items()} == {
        "conv": np.float32,
        "head": np.float32,
        "predicted": np.int32,
        "pictures": np.uint64,
    }
    assert len(set(arrays["pictures"].tolist())) == 50  # no picture twice


def test_several_networks_in_one_pass_equal_each_by_itself(source, tmp_path, monkeypatch):
    small = dataclasses.replace(
        model(), preprocess=Preprocess("squash", 4, mean=(0, 0, 0), std=(1, 1, 1))
    )
    readings = {
        "a": Reading(model(), {"conv": "max"}),
        "b": Reading(model()),
        "c": Reading(small),
    }
    decoded, real = [], type(source).__getitem__
    monkeypatch.setattr(
        type(source), "__getitem__", lambda self, i: decoded.append(i) or real(self, i)
    )
    got = passed(tmp_path / "all", source, readings)
    assert sorted(decoded) == list(range(50))  # each image once, for all three
    assert {name: sorted(arrays) for name, arrays in got.items()} == {
        "a": ["conv", "pictures", "predicted"],
        "b": ["embeddings"],
        "c": ["embeddings"],
    }
    for name, reading in readings.items():
        alone = passed(tmp_path / name, source, {name: reading})[name]
        for key, array in alone.items():
            np.testing.assert_array_equal(got[name][key], array)
    one, other = got["b"]["embeddings"], got["c"]["embeddings"]
    assert one.shape == other.shape and not np.allclose(one, other)


@pytest.mark.parametrize("batch_size, n_devices", [(1, 1), (64, 1), (3, 8), (16, 8)])
def test_batches_and_devices_change_nothing(source, tmp_path, batch_size, n_devices):
    expected = probe(tmp_path / "a", source, model())
    got = probe(tmp_path / "b", source, model(), make_mesh(n_devices), batch_size)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6)


@pytest.fixture
def small_parts(monkeypatch):
    """Fifty images are five parts."""
    monkeypatch.setattr(parts, "SMALLEST", 10)


def test_parts_that_are_there_are_not_made_again(source, tmp_path, monkeypatch, small_parts):
    expected = probe(tmp_path / "parts", source, model())
    before = {path: path.read_bytes() for path in (tmp_path / "parts").rglob("*.npy")}
    assert len(before) == 5 * 4
    (tmp_path / "parts" / "000001" / "manifest.json").unlink()
    damaged = tmp_path / "parts" / "000004" / "tiny.conv.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    seen, real = [], images_ahead.batches
    monkeypatch.setattr(
        images_ahead,
        "batches",
        lambda source, fits, size, ranges, *rest: (
            seen.append(ranges) or real(source, fits, size, ranges, *rest)
        ),
    )
    got = probe(tmp_path / "parts", source, model())
    assert seen == [[(10, 20), (40, 50)]]
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    assert before == {path: path.read_bytes() for path in (tmp_path / "parts").rglob("*.npy")}


def test_several_processes_compute_each_a_share(source, tmp_path, small_parts):
    readings = {"tiny": Reading(model(), {"conv": "avg", "head": "none"})}
    expected = passed(tmp_path / "one", source, readings)["tiny"]
    folder = epath.Path(tmp_path / "several")
    missing = missing_parts(folder, 50, arrays_of(readings))
    for own in (missing[3:], missing[:1], missing[1:3]):
        rates = read_images(readings, source, make_mesh(1), folder, Pass(7), own)
        assert rates.images == 10 * len(own) and 0 <= rates.wait_share <= 1
        assert rates.decode_rate > 0
    got = whole(readings, folder, 50)["tiny"]
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize(
    ("n", "size"), [(1, 256), (300, 256), (6000, 512), (20_000, 1024), (1_281_167, 2048)]
)
def test_parts_depend_on_the_number_of_images_alone(tmp_path, n, size):
    assert part_size(n) == size
    missing = missing_parts(epath.Path(tmp_path), n, ["a"]) if n < 10_000 else range(-(-n // size))
    ranges = [part_range(number, n) for number in missing]
    assert ranges[0][0] == 0 and ranges[-1][1] == n
    assert all(one[1] == other[0] for one, other in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize(
    ("asked", "part", "size"), [(256, 2048, 256), (600, 2048, 512), (1000, 256, 256), (7, 10, 5)]
)
def test_parts_are_made_of_even_steps(asked, part, size):
    assert images_ahead.step_size(asked, part) == size


def test_what_was_computed_before_an_error_is_kept(source, tmp_path, small_parts):
    class Broken:
        """Image 20, the first of a part, cannot be decoded."""

        class_names, labels, annotations = source.class_names, source.labels, None

        def __len__(self):
            return 50

        def __getitem__(self, i):
            if i == 20:
                raise ValueError("cannot decode it")
            return source[i]

        def fingerprint_fields(self):
            return {}

    with pytest.raises(UnreadableImage, match="^cannot decode it$") as caught:
        probe(tmp_path / "parts", Broken(), model())
    assert caught.value.image == 20
    readings = {"tiny": Reading(model(), {"conv": "avg", "head": "none"})}
    assert missing_parts(epath.Path(tmp_path / "parts"), 50, arrays_of(readings)) == [2, 3, 4]


def test_a_value_that_is_not_finite_is_named(source, tmp_path, small_parts):
    message = (
        r"network 'tiny' gives a value that is not finite for image 37 \(image 37 of images.npy\), "
        "first in module 'head'"
    )
    with pytest.raises(ValueError, match=message):
        probe(tmp_path / "parts", source, model(breaks=True))
    readings = {"tiny": Reading(model(), {"conv": "avg", "head": "none"})}
    assert missing_parts(epath.Path(tmp_path / "parts"), 50, arrays_of(readings)) == [3, 4]
    with pytest.raises(ValueError, match=message):
        passed(tmp_path / "more", source, {"tiny": Reading(model(breaks=True))})


def test_a_value_that_a_rectifier_hides_is_named(source, tmp_path, monkeypatch):
    """No tap shows it, and no logit."""
    network = model()
    params = network.variables["params"]
    kernel = np.full(
        (3, 3, 3, 4), -1e38, np.float32
    )  # overflows for all pictures but the black one
    conv = {**params["conv"], "kernel": kernel}
    network = network.with_variables({"params": {**params, "conv": conv}}, "large")
    monkeypatch.setattr(Tiny, "after", staticmethod(nn.relu))
    images = np.stack([source[i][0] for i in range(50)])
    values, output = jax.jit(lambda x: network.probe(x, {"head": "none"}))(images)
    assert np.isfinite(values["head"]).all() and np.isfinite(output).all()
    with pytest.raises(ValueError, match=r"for image 0 \(image 0 of .*first in module 'conv'"):
        passed(tmp_path / "parts", source, {"tiny": Reading(network, {"head": "none"})})
    assert not list((tmp_path / "parts").glob("*"))


def test_a_tap_names_a_file():
    assert tap_name("encoder/block_3:in") == "encoder.block_3:in"
