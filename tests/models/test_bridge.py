"""flax.nnx modules: loaded, probed, cut and edited as Linen ones; their files; what is refused."""

import jax
import numpy as np
import orbax.checkpoint
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxle.evaluation.random_network import shuffled_network
from jaxle.images import Preprocess
from jaxle.models import bridge, zoo
from jaxle.models.needs import lacking


class Block(nnx.Module):
    """A residual block with a norm and dropout."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.dense = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(nnx.relu(self.norm(self.dense(x))))


class Net(nnx.Module):
    """A network with a list of blocks and one layer that is called twice."""

    def __init__(self, width: int = 6, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, width, (3, 3), strides=2, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(2)])
        self.twice = nnx.Linear(width, width, rngs=rngs)
        self.head = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, images, scale=1.0):
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return scale * self.head(self.twice(self.twice(x.mean((1, 2)))))


class Needy(nnx.Module):
    """What it is made with has no default."""

    def __init__(self, width, depth, *, rngs: nnx.Rngs):
        self.head = nnx.Linear(3, width * depth, rngs=rngs)

    def __call__(self, images):
        return self.head(images.mean((1, 2)))


def trained():
    """A network whose statistics are not those that it begins with."""
    net = Net(rngs=nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(net, nnx.BatchStat)):
        variable[...] = variable[...] + 0.1 * (1 + len(str(path)) % 3)
    net.eval()
    return net


NET = trained()
PREPROCESS = {"resize": "squash", "size": 16}
ENTRY = zoo.Entry(Net, Preprocess(**PREPROCESS), aliases={"last": "blocks/1"}, call={"scale": 2.0})
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
INPUTS = Preprocess(**PREPROCESS).normalise(IMAGES)
NAME = f"{__name__}:Net"


def flat(net):
    """Path → array of a network's state."""
    state = nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat)))
    return {"/".join(map(str, path)): np.asarray(variable[...]) for path, variable in state}


def test_an_object_is_its_own_weights():
    model = zoo.load_model(f"{__name__}:NET", preprocess=PREPROCESS)
    np.testing.assert_allclose(model.logits(IMAGES), NET(INPUTS), atol=1e-6)
    assert model.taps["blocks/1/dropout"] == (8, 8, 6) and model.taps["twice#1"] == (6,)
    assert list(model.taps)[0] == "stem:in" and list(model.taps)[-1] == "head"
    assert model.variables["batch_stats"]["blocks"]["0"]["norm"]["mean"].shape == (6,)
    assert not list(lacking(f"{__name__}:NET", None, PREPROCESS))
    expected = nnx.relu(NET.blocks[0].norm(NET.blocks[0].dense(NET.stem(INPUTS))))
    got = model.activations(IMAGES, "blocks.0.dropout", "none")
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_taps_are_replaced_and_the_suffix_is_the_rest():
    model = zoo.load_model(f"{__name__}:NET", preprocess=PREPROCESS)
    suffix = model.suffix("blocks/0")

    @jax.jit
    def edited(variables, images):
        carried = suffix.record(variables, images)
        value = carried.value.at[..., 1].set(0.5)
        return suffix(variables, carried), suffix(variables, carried._replace(value=value))

    same, changed = edited(model.variables, INPUTS)
    x = NET.blocks[0](NET.stem(INPUTS)).at[..., 1].set(0.5)
    expected = NET.head(NET.twice(NET.twice(NET.blocks[1](x).mean((1, 2)))))
    np.testing.assert_allclose(same, NET(INPUTS), atol=1e-6)
    np.testing.assert_allclose(changed, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["npz", "safetensors", "orbax", "tree"])
def test_a_class_with_its_file(form, tmp_path):
    tensors, path = flat(NET), tmp_path / f"w.{form}"
    if form == "npz":
        np.savez(path, **tensors)
    elif form == "safetensors":
        save_file({name.replace("/", "."): tensor for name, tensor in tensors.items()}, path)
    elif form == "orbax":
        arrays = nnx.state(NET, (nnx.Param, nnx.BatchStat))
        orbax.checkpoint.PyTreeCheckpointer().save(path, arrays)
    else:
        path = bridge.variables_of(NET)
    model = zoo.load_model(f"{__name__}:ENTRY", path)
    np.testing.assert_allclose(model.logits(IMAGES), 2 * NET(INPUTS), atol=1e-6)
    assert model.resolve("last") == "blocks/1"


def test_untrained_networks_are_the_seeds_alone():
    first, again, other = (
        zoo.load_model(NAME, random_init_seed=seed, preprocess=PREPROCESS, arguments={"width": 5})
        for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first.variables, again.variables)
    assert np.abs(first.logits(IMAGES) - other.logits(IMAGES)).max() > 1e-3
    assert first.taps["blocks/0"] == (8, 8, 5) and first.architecture == other.architecture
    assert NAME.partition(":")[0] in repr(first.module.outside)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (NAME, {"random_init_seed": 0}, "needs `preprocess`"),
        (
            NAME,
            {"arguments": {"depth": 1}, "random_init_seed": 0},
            "takes no argument 'depth'; its arguments: width",
        ),
        (NAME, {}, "has no default weights"),
        (f"{__name__}:Needy", {"random_init_seed": 0}, "Needy lacks the arguments width, depth"),
        (f"{__name__}:NET", {"random_init_seed": 0}, "object cannot be drawn anew .*its class"),
        (NAME, {"weights": {"stem": {"kernel": np.zeros(2)}}}, "do not fit the network"),
        (f"{__name__}:flat", {}, "is function; expected a flax.linen.Module class, a flax.nnx"),
    ],
)
def test_mistakes_are_one_sentence(name, fields, message):
    preprocess = {} if "preprocess" in message else {"preprocess": PREPROCESS}
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load_model(name, **preprocess, **fields)
    assert "\n" not in str(caught.value) or "mismatches" in str(caught.value)


def test_an_unknown_tap_lists_the_submodules():
    model = zoo.load_model(f"{__name__}:NET", preprocess=PREPROCESS)
    with pytest.raises(ValueError, match="unknown tap 'blocks/2' .nearest: blocks/1, blocks/0"):
        model.activations(IMAGES, "blocks/2")


class Counting(nnx.Module):
    """A norm of its own, with statistics."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.mean = nnx.BatchStat(np.zeros(3, np.float32))
        self.head = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, images):
        return self.head(images.mean((1, 2)) - self.mean[...][None])


def test_a_shuffled_networks_statistics_are_measured_anew():
    model = zoo.load_model(f"{__name__}:NET", preprocess=PREPROCESS)
    shuffled = shuffled_network(model, IMAGES, 0)
    stats = shuffled.variables["batch_stats"]["blocks"]["1"]["norm"]
    x = shuffled.activations(IMAGES, "blocks/1/dense", "none")
    np.testing.assert_allclose(stats["mean"], x.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(stats["var"], x.var((0, 1, 2)), rtol=1e-4)
    own = zoo.load_model(f"{__name__}:Counting", random_init_seed=0, preprocess=PREPROCESS)
    with pytest.raises(ValueError, match="the statistics mean cannot be measured anew: expected"):
        shuffled_network(own, IMAGES, 0)


def test_a_file_for_arrays_that_the_network_lacks_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **flat(NET), extra=np.zeros(3))
    with pytest.raises(ValueError, match=r"unexpected in the file: extra \(3,\)"):
        zoo.load_model(NAME, tmp_path / "w.npz", preprocess=PREPROCESS)
