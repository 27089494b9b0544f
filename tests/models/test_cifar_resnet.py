"""The CIFAR residual networks against a torch restatement, with the real trained weights on real
pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxle.images import decode
from jaxle.models import checkpoints, cifar_resnet, class_names, zoo

FILES = {"resnet20_cifar10": "resnet20-12fca82f.th", "resnet56_cifar10": "resnet56-4bfd9763.th"}


@pytest.fixture(scope="module")
def pictures(test_data):
    """256 real images of all classes, and their labels."""
    files = [
        file
        for c in class_names.CIFAR10
        for file in sorted((test_data / "cifar10/test" / c).iterdir())[:26]
    ][:256]
    return np.stack([decode(file) for file in files]), np.array(
        [class_names.CIFAR10.index(file.parent.name) for file in files]
    )


def torch_logits(torch, state, images):
    """The logits of images, by torch."""
    x = torch_features(torch, state, images).mean((2, 3))
    return torch.nn.functional.linear(x, state["linear.weight"], state["linear.bias"])


def torch_features(torch, state, images):
    """He et al. §4.2 restated with torch's functions, up to the last stage; `state` names as in the
    .th files."""
    f = torch.nn.functional

    def bn(x, name):
        p = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(x, *p, training=False, eps=1e-5)

    x = torch.relu(bn(f.conv2d(images, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(sum(f"layer{stage}.{i}.conv1.weight" in state for i in range(99))):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            h = torch.relu(
                bn(
                    f.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1),
                    f"{name}.bn1",
                )
            )
            h = bn(f.conv2d(h, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            extra = (h.shape[1] - x.shape[1]) // 2
            x = torch.relu(h + f.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, extra, extra)))
    return x


def normalised(torch, images):
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (torch.tensor(images).permute(0, 3, 1, 2) / 255 - mean) / std


@pytest.mark.parametrize("name", FILES)
def test_trained_weights_give_torchs_logits(name, torch, test_data, pictures):
    images, labels = pictures
    path = test_data / "cifar10" / FILES[name]
    state = {
        key.removeprefix("module."): t
        for key, t in torch.load(path, map_location="cpu", weights_only=True)["state_dict"].items()
    }
    with torch.no_grad():
        expected = torch_logits(torch, state, normalised(torch, images)).numpy()
    model = zoo.load_model(name, path)
    logits = model.logits(images)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (logits.argmax(1) == labels).mean() > 0.75


def test_safetensors_hold_the_same_network(tmp_path, torch, test_data, pictures):
    source = test_data / "cifar10" / FILES["resnet20_cifar10"]
    save_file(checkpoints.read(source), tmp_path / "resnet20.safetensors")
    first, second = (
        zoo.load_model("resnet20_cifar10", source),
        zoo.load_model("resnet20_cifar10", tmp_path / "resnet20.safetensors"),
    )
    np.testing.assert_array_equal(first.logits(pictures[0][:20]), second.logits(pictures[0][:20]))


def test_random_weights_give_torchs_logits_and_every_tap_is_a_cut(parity, torch):
    """Also without real data, at widths and depths that the trained files do not have."""
    config = cifar_resnet.CifarResNetConfig(blocks=(1, 2, 1), widths=(4, 8, 20), num_classes=3)
    module = cifar_resnet.CifarResNet(config)
    images = jax.random.normal(jax.random.key(0), (5, 16, 16, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(1), images)
    leaves, tree = jax.tree.flatten(shapes)
    draw = np.random.default_rng(0)
    variables = jax.tree.unflatten(
        tree, [draw.uniform(0.3, 1.3, leaf.shape).astype(np.float32) for leaf in leaves]
    )
    state = {}
    for path, value in jax.tree_util.tree_leaves_with_path(variables):
        collection, *names = (key.key for key in path)
        leaf = {
            "kernel": "weight",
            "scale": "weight",
            "bias": "bias",
            "mean": "running_mean",
            "var": "running_var",
        }[names[-1]]
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
        state[".".join([*names[:-1], leaf])] = torch.tensor(np.array(value).transpose(order))
    expected = torch_logits(
        torch, state, torch.tensor(np.array(images)).permute(0, 3, 1, 2)
    ).numpy()
    np.testing.assert_allclose(
        jax.jit(module.apply)(variables, images),
        expected,
        rtol=1e-4,
        atol=1e-4 * np.abs(expected).max(),
    )
    parity.every_alias(
        module,
        variables,
        images,
        {name: name for name in ("bn1", "layer1", "layer2/0", "layer2/1/conv2", "linear:in")},
    )


@pytest.mark.parametrize(
    "name", [name for name in zoo.ZOO if name.endswith("_cifar10") or name == "scenes_resnet"]
)
def test_parameter_counts_are_the_published_ones(name):
    """He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million."""
    published = {
        "resnet20": 0.27,
        "resnet32": 0.46,
        "resnet44": 0.66,
        "resnet56": 0.85,
        "resnet110": 1.73,
        "scenes": 0.17,
    }
    entry = zoo.ZOO[name]
    size = entry.preprocess.size
    shapes = jax.eval_shape(
        entry.module().init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == entry.parameters
    assert round(count / 1e6, 2) == published[name.split("_")[0]]


def test_scenes_network_costs_at_most_60_mflop():
    module = cifar_resnet.CifarResNet(cifar_resnet.scenes_resnet())
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    assert jax.jit(module.apply).lower(variables, images).compile().cost_analysis()["flops"] < 60e6


def test_training_mode_updates_batch_statistics():
    module = cifar_resnet.CifarResNet(
        cifar_resnet.CifarResNetConfig(blocks=(1, 1, 1), widths=(4, 8, 16))
    )
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3)) + 1
    variables = jax.jit(module.init)(jax.random.key(1, impl="rbg"), images)
    _, updated = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    stem = jnp.mean(
        jax.lax.conv_general_dilated(
            images,
            variables["params"]["conv1"]["kernel"],
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        (0, 1, 2),
    )
    np.testing.assert_allclose(
        updated["batch_stats"]["bn1"]["mean"], 0.1 * stem, rtol=1e-4, atol=1e-6
    )
