"""Layouts: every format gives the same parameters, strictness names the mismatches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization, traverse_util
from safetensors.numpy import save_file

from jaxle.models import checkpoints, cifar_resnet, weights
from jaxle.models.weights import Layout, Rename

MODULE = cifar_resnet.CifarResNet(
    cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(4, 8, 16))
)
IMAGES = jnp.zeros((1, 8, 8, 3))


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(jax.jit(MODULE.init)(jax.random.key(0, impl="rbg"), IMAGES))


def flat(variables):
    return traverse_util.flatten_dict(variables, sep="/")


def assert_same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_npz_safetensors_and_msgpack_round_trip(tmp_path, variables):
    tensors = flat(variables)
    np.savez(tmp_path / "w.npz", **tensors)
    save_file(tensors, tmp_path / "w.safetensors")
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(variables))
    for name in ("w.npz", "w.safetensors", "w.msgpack"):
        assert_same(checkpoints.read(tmp_path / name), tensors)
        loaded = weights.convert(
            checkpoints.read(tmp_path / name), variables, cifar_resnet.LAYOUTS, name
        )
        assert_same(flat(loaded), tensors)


def test_float16_becomes_float32(tmp_path, variables):
    np.savez(
        tmp_path / "w.npz",
        **{name: tensor.astype(np.float16) for name, tensor in flat(variables).items()},
    )
    loaded = flat(
        weights.convert(checkpoints.read(tmp_path / "w.npz"), variables, cifar_resnet.LAYOUTS, "w")
    )
    assert all(tensor.dtype == np.float32 for tensor in loaded.values())
    np.testing.assert_allclose(
        loaded["params/linear/kernel"], variables["params"]["linear"]["kernel"], atol=1e-3
    )


def test_bfloat16_safetensors_become_float32(tmp_path, torch):
    from safetensors.torch import save_file as save_torch

    save_torch({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    layout = {"plain": Layout((Rename("a", "params/a"),))}
    loaded = weights.convert(
        checkpoints.read(tmp_path / "w.safetensors"), {"params": {"a": np.zeros(2)}}, layout, "w"
    )
    np.testing.assert_array_equal(loaded["params"]["a"], np.array([1.5, -2.0], np.float32))


def test_all_mismatches_are_named_at_once(variables):
    tensors = flat(variables)
    del tensors["params/linear/bias"], tensors["batch_stats/layer2/0/bn1/mean"]
    tensors["params/layer9/kernel"] = np.zeros(3)
    tensors["unheard.of"] = np.zeros(4)
    tensors["params/linear/kernel"] = np.zeros((16, 7))
    with pytest.raises(ValueError, match="5 mismatches") as caught:
        weights.convert(tensors, variables, cifar_resnet.LAYOUTS, "some.npz")
    message = str(caught.value)
    assert "weights some.npz" in message and "'flax'" in message
    for line in (
        "unexpected in the file: params/layer9/kernel (3,)",
        "unexpected in the file: unheard.of (4,)",
        "missing from the file: params/linear/bias (10,)",
        "missing from the file: batch_stats/layer2/0/bn1/mean (8,)",
        "wrong shape: params/linear/kernel (16, 7) gives (16, 7); "
        "params/linear/kernel needs (16, 10)",
    ):
        assert line in message


def test_a_transform_that_cannot_be_applied_is_a_wrong_shape():
    layout = {"torch": Layout((Rename("w", "params/kernel", weights.conv),))}
    with pytest.raises(ValueError, match=r"wrong shape: w \(2, 3\)"):
        weights.convert(
            {"w": np.zeros((2, 3))}, {"params": {"kernel": np.zeros((1, 1, 3, 2))}}, layout, "w"
        )


def test_a_fused_tensor_fills_several_parameters():
    rows = tuple(
        Rename("qkv", f"params/{name}", lambda t, i=i: np.split(t, 3)[i])
        for i, name in enumerate("qkv")
    )
    source = {"qkv": np.arange(6.0)}
    loaded = weights.convert(
        source, {"params": {name: np.zeros(2) for name in "qkv"}}, {"fused": Layout(rows)}, "w"
    )
    np.testing.assert_array_equal(loaded["params"]["k"], [2, 3])


def test_position_embeddings_are_resampled_corners_on_corners():
    """A grid that is linear in its position stays linear; big_vision calls scipy.ndimage.zoom with
    order 1."""
    scipy = pytest.importorskip("scipy.ndimage")
    old = np.random.default_rng(0).normal(size=(1, 16, 3)).astype(np.float32)
    zoomed = scipy.zoom(old.reshape(4, 4, 3), (7 / 4, 7 / 4, 1), order=1).reshape(1, 49, 3)
    np.testing.assert_allclose(weights.resample_positions(old, 49), zoomed, atol=1e-6)
    token = np.concatenate([np.full((1, 1, 3), 9, np.float32), old], axis=1)
    kept = weights.resample_positions(token, 50)
    np.testing.assert_array_equal(kept[:, :1], token[:, :1])
    np.testing.assert_allclose(kept[:, 1:], zoomed, atol=1e-6)
    np.testing.assert_array_equal(weights.resample_positions(old, 15), old)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_a_tensor_that_is_not_finite_is_refused_by_name(variables, value, dtype):
    tensors = {name: np.array(tensor, dtype) for name, tensor in flat(variables).items()}
    tensors["params/layer2/0/conv1/kernel"][1, 2, 0, 3] = value
    with pytest.raises(
        ValueError,
        match=rf"weights some.npz hold {value} in params/layer2/0/conv1/kernel "
        r".* at \(1, 2, 0, 3\)",
    ) as caught:
        weights.convert(tensors, variables, cifar_resnet.LAYOUTS, "some.npz")
    assert "\n" not in str(caught.value)


def test_what_is_ignored_may_be_anything(variables):
    tensors = dict(flat(variables)) | {"opt_state/0/mu/w": np.full(3, np.nan)}
    weights.convert(tensors, variables, cifar_resnet.LAYOUTS, "w")


def test_many_mismatches_are_a_summary_with_ten_examples():
    expected = {"params": {f"layer{i}": {"kernel": np.zeros((2, 2))} for i in range(200)}}
    tensors = {f"params/other{i}/kernel": np.zeros(3) for i in range(50)}
    tensors |= {"params/layer7/kernel": np.zeros((2, 3))}
    with pytest.raises(ValueError) as caught:
        weights.convert(tensors, expected, {"flax": weights.FLAX}, "w")
    message = str(caught.value)
    assert (
        "250 mismatches (50 unexpected in the file, 199 missing from it, 1 of wrong shape)"
        in message
    )
    assert message.count("\n") == 11 and message.endswith("… and 240 more")
    for part in ("wrong shape: params/layer7", "missing from the file: params/", "other0/kernel"):
        assert part in message
