"""Checkpoint files: every format gives the same arrays, strictness names all mismatches, nothing is executed."""

import json
import os
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization, traverse_util
from safetensors.numpy import save_file

from jaxle.models import cifar_resnet, weights
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
        assert_same(weights.read(tmp_path / name), tensors)
        loaded = weights.convert(
            weights.read(tmp_path / name), variables, cifar_resnet.LAYOUTS, name
        )
        assert_same(flat(loaded), tensors)


def test_float16_becomes_float32(tmp_path, variables):
    np.savez(
        tmp_path / "w.npz",
        **{name: tensor.astype(np.float16) for name, tensor in flat(variables).items()},
    )
    loaded = flat(
        weights.convert(weights.read(tmp_path / "w.npz"), variables, cifar_resnet.LAYOUTS, "w")
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
        weights.read(tmp_path / "w.safetensors"), {"params": {"a": np.zeros(2)}}, layout, "w"
    )
    np.testing.assert_array_equal(loaded["params"]["a"], np.array([1.5, -2.0], np.float32))


def test_torch_state_dict_in_all_its_wrappings(tmp_path, torch):
    tensors = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(1, dtype=torch.bfloat16),
    }
    parallel = {f"module.{name}": tensor for name, tensor in tensors.items()}
    wrapped = {
        "plain.pth": tensors,
        "key.pt": {"state_dict": tensors, "best": 3.0},
        "parallel.th": parallel,
    }
    for name, held in wrapped.items():
        torch.save(held, tmp_path / name)
        read = weights.read(tmp_path / name)
        assert set(read) == {"a.weight", "b"}
        np.testing.assert_array_equal(read["a.weight"], np.arange(6.0).reshape(2, 3))


def test_torch_parameters_that_ask_for_gradients(tmp_path, torch):
    torch.save(dict(torch.nn.Linear(3, 2).named_parameters()), tmp_path / "w.pth")
    assert weights.read(tmp_path / "w.pth")["weight"].shape == (2, 3)


def test_without_torch_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(
        ImportError, match=r"pip install 'jaxle\[torch\]'\) or bring the weights as .safetensors"
    ):
        weights.read(tmp_path / "w.pth")


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
        "wrong shape: params/linear/kernel (16, 7) gives (16, 7); params/linear/kernel needs (16, 10)",
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


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".msgpack", ".pth"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.97])
def test_truncated_files_are_one_clear_error(tmp_path, variables, torch, suffix, keep):
    tensors = flat(variables)
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **tensors)
    elif suffix == ".safetensors":
        save_file(tensors, path)
    elif suffix == ".msgpack":
        path.write_bytes(serialization.msgpack_serialize(variables))
    else:
        torch.save({name: torch.tensor(np.array(tensor)) for name, tensor in tensors.items()}, path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match=f"weights file .*w{suffix} .*damaged"):
        weights.read(path)


def test_a_truncated_real_checkpoint(tmp_path, test_data, torch):
    data = (test_data / "cifar10/resnet20-12fca82f.th").read_bytes()
    path = tmp_path / "short.th"
    for n in (100, 2_000, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match="weights file .*short.th .*damaged"):
            weights.read(path)


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_bomb_is_refused_and_nothing_runs(tmp_path, torch, zipped):
    path, target = tmp_path / "bomb.pth", tmp_path / "exploded"
    if zipped:
        torch.save({"state_dict": {"w": Bomb(target)}}, path)
    else:
        path.write_bytes(pickle.dumps({"w": Bomb(target)}))
    with pytest.raises(ValueError, match="could run code: refused"):
        weights.read(path)
    assert not target.exists()


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([Bomb(tmp_path / "exploded")], dtype=object))
    with pytest.raises(ValueError, match="w.npz cannot be read"):
        weights.read(tmp_path / "w.npz")
    assert not (tmp_path / "exploded").exists()


def test_not_a_state_dict_unknown_suffix_absent(tmp_path, torch):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list; expected a state_dict"):
        weights.read(tmp_path / "list.pth")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"suffix '.h5'; readable are .npz, .safetensors"):
        weights.read(tmp_path / "w.h5")
    with pytest.raises(ValueError, match="does not exist"):
        weights.read(tmp_path / "none.npz")


def test_a_hugging_face_folder_of_shards(tmp_path, variables):
    tensors = flat(variables)
    names = sorted(tensors)
    shards = {
        "model-00001-of-00002.safetensors": names[:5],
        "model-00002-of-00002.safetensors": names[5:],
    }
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(weights.read(tmp_path), tensors)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="model-00002-of-00002.safetensors does not exist"):
        weights.read(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match="index.json cannot be read, it may be damaged"):
        weights.read(tmp_path)


def test_an_orbax_folder_and_an_unknown_folder(tmp_path, variables):
    import orbax.checkpoint

    orbax.checkpoint.PyTreeCheckpointer().save(
        tmp_path / "orbax", {**variables, "step": np.zeros((), np.int32)}
    )
    loaded = weights.convert(
        weights.read(tmp_path / "orbax"), variables, cifar_resnet.LAYOUTS, "orbax"
    )
    assert_same(flat(loaded), flat(variables))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="holds neither model.safetensors nor an orbax checkpoint"):
        weights.read(tmp_path / "other")


def test_position_embeddings_are_resampled_corners_on_corners():
    """A grid that is linear in its position stays linear; big_vision calls scipy.ndimage.zoom with order 1."""
    scipy = pytest.importorskip("scipy.ndimage")
    old = np.random.default_rng(0).normal(size=(1, 16, 3)).astype(np.float32)
    zoomed = scipy.zoom(old.reshape(4, 4, 3), (7 / 4, 7 / 4, 1), order=1).reshape(1, 49, 3)
    np.testing.assert_allclose(weights.resample_positions(old, 49), zoomed, atol=1e-6)
    token = np.concatenate([np.full((1, 1, 3), 9, np.float32), old], axis=1)
    kept = weights.resample_positions(token, 50)
    np.testing.assert_array_equal(kept[:, :1], token[:, :1])
    np.testing.assert_allclose(kept[:, 1:], zoomed, atol=1e-6)
    np.testing.assert_array_equal(weights.resample_positions(old, 15), old)


def test_weights_hash_is_sha256_and_of_folders_depends_on_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        weights.weights_hash(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2, B.1
    first = weights.weights_hash(tmp_path)
    assert first == weights.weights_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert weights.weights_hash(tmp_path) != first
