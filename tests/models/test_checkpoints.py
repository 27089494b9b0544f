"""Checkpoint files: what each format gives, and one sentence for what cannot be read; nothing in a
file is executed."""

import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization, traverse_util
from safetensors.numpy import save_file

from jaxle.models import checkpoints, cifar_resnet, weights
from jaxle.models.generated import published

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
        read = checkpoints.read(tmp_path / name)
        assert set(read) == {"a.weight", "b"}
        np.testing.assert_array_equal(read["a.weight"], np.arange(6.0).reshape(2, 3))


def test_torch_parameters_that_ask_for_gradients(tmp_path, torch):
    torch.save(dict(torch.nn.Linear(3, 2).named_parameters()), tmp_path / "w.pth")
    assert checkpoints.read(tmp_path / "w.pth")["weight"].shape == (2, 3)


def test_without_torch_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(
        ImportError, match=r"pip install 'jaxle\[torch\]'\) or bring the weights as .safetensors"
    ):
        checkpoints.read(tmp_path / "w.pth")


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
        checkpoints.read(path)


def test_a_truncated_real_checkpoint(tmp_path, test_data, torch):
    data = (test_data / "cifar10/resnet20-12fca82f.th").read_bytes()
    path = tmp_path / "short.th"
    for n in (100, 2_000, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match="weights file .*short.th .*damaged"):
            checkpoints.read(path)


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
        checkpoints.read(path)
    assert not target.exists()


def test_an_npz_with_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([Bomb(tmp_path / "exploded")], dtype=object))
    with pytest.raises(ValueError, match="w.npz cannot be read"):
        checkpoints.read(tmp_path / "w.npz")
    assert not (tmp_path / "exploded").exists()


def test_not_a_state_dict_unknown_suffix_absent(tmp_path, torch):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list; expected a state_dict"):
        checkpoints.read(tmp_path / "list.pth")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"suffix '.h5'; readable are .npz, .safetensors"):
        checkpoints.read(tmp_path / "w.h5")
    with pytest.raises(ValueError, match="does not exist"):
        checkpoints.read(tmp_path / "none.npz")


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
    assert_same(checkpoints.read(tmp_path), tensors)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="model-00002-of-00002.safetensors does not exist"):
        checkpoints.read(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match="index.json cannot be read, it may be damaged"):
        checkpoints.read(tmp_path)


def test_an_orbax_folder_and_an_unknown_folder(tmp_path, variables):
    import orbax.checkpoint

    orbax.checkpoint.PyTreeCheckpointer().save(
        tmp_path / "orbax", {**variables, "step": np.zeros((), np.int32)}
    )
    loaded = weights.convert(
        checkpoints.read(tmp_path / "orbax"), variables, cifar_resnet.LAYOUTS, "orbax"
    )
    assert_same(flat(loaded), flat(variables))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="holds neither model.safetensors nor an orbax checkpoint"):
        checkpoints.read(tmp_path / "other")


def test_weights_hash_is_sha256_and_of_folders_depends_on_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        checkpoints.weights_hash(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2, B.1
    first = checkpoints.weights_hash(tmp_path)
    assert first == checkpoints.weights_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert checkpoints.weights_hash(tmp_path) != first


def test_every_kind_of_wrapping_is_taken_off(tmp_path, torch):
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}
    for key in ("model_state_dict", "net", "model", "network", "module", "weights"):
        torch.save({key: tensors, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "w.pt")
        assert set(checkpoints.read(tmp_path / "w.pt")) == {"a.weight", "b"}
    torch.save({"state_dict": {"model": tensors}}, tmp_path / "w.ckpt")
    assert set(checkpoints.read(tmp_path / "w.ckpt")) == {"a.weight", "b"}
    compiled = {f"_orig_mod.module.{name}": tensor for name, tensor in tensors.items()}
    torch.save(compiled, tmp_path / "w.PTH")
    assert set(checkpoints.read(tmp_path / "w.PTH")) == {"a.weight", "b"}


@pytest.mark.parametrize("prefix", ["model.", "net.", "_orig_mod.model.", "backbone."])
def test_a_prefix_of_all_names_does_not_keep_a_file_from_loading(tmp_path, prefix, variables):
    layout = cifar_resnet.LAYOUTS["akamaster"]
    tensors = published(variables, layout)
    save_file({prefix + name: t for name, t in tensors.items()}, tmp_path / "w.safetensors")
    source = checkpoints.read(tmp_path / "w.safetensors")
    loaded = weights.convert(source, variables, cifar_resnet.LAYOUTS, "w")
    assert_same(flat(loaded), flat(variables))


def test_a_networks_own_module_called_model_keeps_its_name(tmp_path):
    variables = {"params": {"model": {"kernel": np.ones((2, 3), np.float32)}}}
    save_file({"model.kernel": np.ones((2, 3), np.float32)}, tmp_path / "w.safetensors")
    source = checkpoints.read(tmp_path / "w.safetensors")
    loaded = weights.convert(source, variables, {"flax": weights.FLAX}, "w")
    np.testing.assert_array_equal(loaded["params"]["model"]["kernel"], 1)


def test_what_is_no_state_dict_is_named(tmp_path, torch):
    w = torch.ones(2)
    torch.save({"generator": {"w": w}, "discriminator": {"w": w}}, tmp_path / "two.pt")
    with pytest.raises(ValueError, match="holds dicts named generator, discriminator; expected"):
        checkpoints.read(tmp_path / "two.pt")
    torch.save({"w": w, "epoch": 3}, tmp_path / "mixed.pt")
    with pytest.raises(ValueError, match="holds values that are no tensors: epoch; expected"):
        checkpoints.read(tmp_path / "mixed.pt")


def test_a_torchscript_program_is_named_with_what_to_do(tmp_path, torch):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(ValueError, match="is a TorchScript program.*torch.jit.load") as caught:
        checkpoints.read(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_numbers_in_eight_bits_are_refused_by_name(tmp_path, torch):
    from safetensors.torch import save_file as save_torch

    eight = torch.ones(3).to(torch.float8_e4m3fn)
    save_torch({"a": eight, "b": torch.ones(2)}, tmp_path / "w.safetensors")
    torch.save({"a": eight, "b": torch.ones(2)}, tmp_path / "w.pt")
    np.savez(tmp_path / "w.npz", a=jnp.ones(3, jnp.float8_e4m3fn), b=np.ones(2))
    for name in ("w.safetensors", "w.pt", "w.npz"):
        with pytest.raises(ValueError, match=rf"{name} hold 1 tensors in float8.* \(a\)"):
            checkpoints.read(tmp_path / name)
    torch.save(
        {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "q.pt"
    )
    with pytest.raises(ValueError, match=r"q.pt hold 1 tensors in qint8 \(a\)"):
        checkpoints.read(tmp_path / "q.pt")


def test_bfloat16_in_npz_becomes_float32(tmp_path, variables):
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), variables)
    np.savez(tmp_path / "w.npz", **{n: np.asarray(t) for n, t in flat(half).items()})
    source = checkpoints.read(tmp_path / "w.npz")
    loaded = flat(weights.convert(source, variables, cifar_resnet.LAYOUTS, "w"))
    for name, leaf in flat(half).items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], np.asarray(leaf, np.float32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_steps_items_and_train_states_of_orbax(tmp_path, variables):
    import optax
    import orbax.checkpoint as ocp
    from flax.training.train_state import TrainState

    state = TrainState.create(
        apply_fn=MODULE.apply, params=variables["params"], tx=optax.adam(1e-3)
    )
    old = jax.tree.map(lambda leaf: 0 * leaf, variables["params"])
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(3, args=ocp.args.StandardSave({"params": old}))
        manager.save(10, args=ocp.args.StandardSave({"params": variables["params"]}))
    with ocp.CheckpointManager(tmp_path / "items") as manager:
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave({"a": 1})
        )
        manager.save(7, args=items)
    ocp.PyTreeCheckpointer().save(tmp_path / "state", state)
    params = {"params": variables["params"]}
    for name in ("steps", "items", "state", "steps/10", "items/7/state"):
        source = checkpoints.read(tmp_path / name)
        loaded = weights.convert(source, params, cifar_resnet.LAYOUTS, name)
        assert_same(flat(loaded), flat(params))
    with ocp.CheckpointManager(tmp_path / "two") as manager:
        one = ocp.args.StandardSave({"params": old})
        manager.save(1, args=ocp.args.Composite(student=one, teacher=one))
    with pytest.raises(ValueError, match="holds several orbax items: student, teacher; give"):
        checkpoints.read(tmp_path / "two")


ON_ONE_DEVICE = """
import sys
import numpy as np
from jaxle.models import checkpoints
found = checkpoints.read(sys.argv[1])
assert np.array_equal(found["params/w"], np.arange(8.0)), found
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_orbax_saved_over_eight_devices_is_read_on_one(tmp_path):
    import orbax.checkpoint as ocp

    from jaxle.mesh import make_mesh, split_rows

    w = jax.device_put(jnp.arange(8.0), split_rows(make_mesh()))
    ocp.PyTreeCheckpointer().save(tmp_path / "w", {"params": {"w": w}})
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_ONE_DEVICE, str(tmp_path / "w")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
