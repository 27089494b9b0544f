"""Values that are not finite are seen before a rectifier makes numbers of them."""

import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.images import Preprocess
from jaxle.models.finite import check_finite, probe_finite
from jaxle.models.model import Model
from jaxle.models.zoo import load_model

SIZE = 64


class Overflows(nn.Module):
    """Two rectified convolutions, of which the first overflows for bright pictures."""

    lifted: bool = False

    @nn.compact
    def __call__(self, x):
        big = nn.initializers.constant(1e38)
        conv = nn.remat(nn.Conv) if self.lifted else nn.Conv
        x = conv(8, (3, 3), kernel_init=big, name="first")(x)
        x = nn.relu(-x)  # −∞ is 0
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
        table = self.param("table", nn.initializers.ones, (1, 1, 1, 8))
        return nn.Dense(3, name="head")(jnp.mean(x * nn.Dropout(0.5)(table, True), axis=(1, 2)))


def model(**fields):
    module = Overflows(**fields)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    preprocess = Preprocess("none", SIZE, mean=(0, 0, 0), std=(1, 1, 1))
    return Model("mine", module, variables, preprocess, ("a", "b", "c"), {}, "none")


@pytest.fixture
def images():
    """Five pictures that are black, but for the fourth."""
    found = np.zeros((5, SIZE, SIZE, 3), np.uint8)
    found[3] = 255
    return found


def test_the_first_module_and_image_are_named(images):
    network = model()
    values, output = jax.jit(lambda x: network.probe(x, {"norm": "avg"}))(images)
    assert np.isfinite(values["norm"]).all() and np.isfinite(output).all()  # nothing to be seen
    message = (
        r"network 'mine' gives a value that is not finite for image 3, first in module 'first'"
    )
    for batch_size in (1, 2, 4, 5, 64):
        with pytest.raises(ValueError, match=message):
            network.activations(images, "norm", batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        network.logits(images)
    assert network.activations(images[:3], "norm").shape == (3, 8)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_column_a_module_in_the_order_of_a_pass(images, n):
    network = model()
    *_, finite = probe_finite(network, np.repeat(images[:1], n, 0), {})
    constant = n == 1  # what has one row whatever the images is theirs only where they are one
    assert finite.shape == (n, 4 + constant) and finite.all()
    expected = ["first", "norm", *["Dropout_0"] * constant, "head", None]
    for column, path in enumerate(expected):
        broken = np.ones(finite.shape, bool)
        broken[-1, column] = False
        where = f"first in module {path!r};" if path else "in its output; expected"
        with pytest.raises(ValueError, match=f"for image {9 + n} \\(x.png\\), {where}"):
            check_finite(network, broken, n, 10, ["x.png"] * 20)


def test_inside_a_lifted_transform_nothing_is_watched(images):
    network = model(lifted=True)
    *_, finite = probe_finite(network, images, {})
    assert finite.shape == (5, 3) and finite.all()


class Broken(nn.Module):
    """Rectifies what its own variables make inside its one call, where no module shows it."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.constant(np.nan), (3, 4))
        shift = self.variable("constants", "shift", lambda: jnp.full((1, 4), -jnp.inf)).value
        return nn.relu(x.mean((1, 2)) @ kernel + shift)


def test_variables_that_are_not_finite_are_refused_by_path(monkeypatch):
    monkeypatch.setitem(sys.modules, "broken_net", SimpleNamespace(Net=Broken))
    fields = {"resize": "none", "size": SIZE}
    words = r"'broken_net:Net' hold -inf in constants/shift, nan in params/kernel; expected finite"
    with pytest.raises(ValueError, match=words):
        load_model("broken_net:Net", random_init_seed=0, preprocess=fields)
    whole = {"params": {"kernel": np.ones((3, 4))}, "constants": {"shift": np.zeros((1, 4))}}
    network = load_model("broken_net:Net", whole, preprocess=fields)
    with pytest.raises(ValueError, match=r"hold inf in params/kernel; expected finite"):
        network.with_variables(
            {**whole, "params": {"kernel": np.full((3, 4), np.inf, np.float32)}}, "other"
        )
