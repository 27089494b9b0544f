"""What a run begins with: keys of all that decides what is read, each taken once."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from jaxle.data.scenes import ScenesSource
from jaxle.mesh import make_mesh
from jaxle.pipeline import defaults
from jaxle.pipeline.config import Encoder
from jaxle.pipeline.inputs import SHUFFLED, UNTRAINED, encoder_name, open_inputs
from jaxle.pipeline.opened import TRAINED
from tests import runs


def opened(folder, fields=None):
    return open_inputs(runs.settings(folder, fields), epath.Path(folder), make_mesh(1))


def test_an_encoder_is_named_by_what_it_is():
    plain = Encoder("siglip_b_16_224")
    assert encoder_name(plain) == "siglip_b_16_224"
    assert encoder_name(dataclasses.replace(plain, weights="w.npz")) == "siglip_b_16_224 w.npz"
    bfloat16 = dataclasses.replace(plain, dtype="bfloat16")
    assert encoder_name(bfloat16) == "siglip_b_16_224 bfloat16"


def test_an_encoder_that_explains_and_simulates_is_opened_once(tmp_path):
    fields = {
        "methods.s": defaults.siglip("scenes_siglip_s"),
        "methods.n": defaults.nonsense("scenes_siglip_s"),
        "simulators.s": defaults.tower("scenes_siglip_s"),
        "simulators.m": defaults.tower("scenes_siglip_m"),
    }
    encoders = opened(tmp_path, fields).encoders
    names = [encoder_name(encoder) for encoder in encoders]
    assert sorted(names) == ["scenes_siglip_m", "scenes_siglip_s"]
    assert len({own.key for own in encoders.values()}) == 2


def test_class_names_that_are_not_one_a_logit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="target.class_names has 2 names, and 'scenes_resnet' has"):
        opened(tmp_path, {"target.class_names": ("a", "b")})


def test_keys_are_of_what_is_read(tmp_path):
    """The same again gives the same keys; each change gives another to what it touches alone."""
    first, again = opened(tmp_path), opened(tmp_path)

    def keys(inputs):
        return inputs.images.key, inputs.partition.key, inputs.networks[TRAINED].key

    images, partition, network = keys(first)
    assert keys(again) == keys(first)
    names = ("x", *first.trained.class_names[1:])
    assert keys(opened(tmp_path, {"target.class_names": names})) == keys(first)
    assert keys(opened(tmp_path, {"target.taps": ("layer2",)})) == keys(first)
    dtype = keys(opened(tmp_path, {"target.dtype": "bfloat16"}))
    assert dtype[:2] == (images, partition) and dtype[2] != network
    shares = keys(opened(tmp_path, {"data.split_fractions": (0.5, 0.2, 0.3)}))
    assert shares[0] == images and shares[2] == network and shares[1] != partition
    seed = keys(opened(tmp_path, {"seed": 1}))
    assert seed[0] != images and seed[1] != partition and seed[2] == network


def test_controls_are_networks_that_know_nothing(tmp_path):
    fields = {"data.limit": 200, "evaluation.controls": 2, "evaluation.shuffled": True}
    first, again = (opened(tmp_path, fields) for _ in range(2))
    networks = {name: own.network for name, own in first.networks.items()}
    assert list(networks) == ["trained", "untrained-1", "untrained-2", "shuffled"]
    kinds = [own.kind for own in first.networks.values()]
    assert kinds == [TRAINED, UNTRAINED, UNTRAINED, SHUFFLED]
    assert len({own.key for own in first.networks.values()}) == 4
    assert [own.key for own in again.networks.values()] == [
        own.key for own in first.networks.values()
    ]
    assert len({network.weights_hash for network in networks.values()}) == 4
    kernels = [
        np.sort(np.ravel(network.variables["params"]["linear"]["kernel"]))
        for network in networks.values()
    ]
    np.testing.assert_array_equal(kernels[0], kernels[3])
    assert not np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])
    source = first.images.source
    images = np.stack([source[i][0] for i in range(200)])
    right = [
        (np.argmax(network.logits(images), 1) == source.labels).mean()
        for network in networks.values()
    ]
    assert right[0] > 0.9 and max(right[1:]) < 0.4
    shuffled, other = (own.networks[SHUFFLED].network for own in (first, again))
    np.testing.assert_array_equal(shuffled.logits(images[:8]), other.logits(images[:8]))
    activations = shuffled.activations(images, "layer3")
    assert np.isfinite(activations).all() and (activations.std(0) > 0).mean() > 0.5


def test_a_shuffled_networks_key_holds_the_images_that_its_statistics_are_of(tmp_path):
    fields = {"evaluation.shuffled": True}
    first = opened(tmp_path, fields).networks[SHUFFLED]
    other = opened(tmp_path, {**fields, "data.split_fractions": (0.5, 0.2, 0.3)}).networks[SHUFFLED]
    assert other.key != first.key
    one, two = (
        np.asarray(own.network.variables["batch_stats"]["bn1"]["mean"]) for own in (first, other)
    )
    assert not np.array_equal(one, two)


def test_a_source_is_fingerprinted_once_a_run(tmp_path, monkeypatch):
    calls, real = [], ScenesSource.fingerprint_fields
    monkeypatch.setattr(
        ScenesSource, "fingerprint_fields", lambda self: calls.append(self) or real(self)
    )
    fields = {
        "methods.ours": defaults.label("preconditioned"),
        "evaluation.refits": 1,
        "evaluation.ceiling": True,
    }
    for expected in (1, 2):  # the second run finds everything in the cache
        runs.quick(tmp_path / "run", fields)
        assert len(calls) == expected


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"target.taps": ("layer9",)}, "unknown tap 'layer9'"),
        ({"target.pool": "none"}, "pool 'none' keeps positions apart"),
        (
            {"methods.s": defaults.siglip("scenes_resnet")},
            "model 'scenes_resnet' has no text tower",
        ),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(tmp_path, fields, words):
    with pytest.raises(ValueError) as error:
        opened(tmp_path, fields)
    assert words in str(error.value) and "\n" not in str(error.value)
