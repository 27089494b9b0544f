"""Which passes share a program: those of networks that differ in the values of variables alone."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.images import Preprocess
from jaxle.mesh import make_mesh
from jaxle.models.model import Model
from jaxle.pipeline.readers import Reading, readers

PLAIN, MEAN = (Preprocess("none", 2, mean=(mean, mean, mean), std=(1, 1, 1)) for mean in (0, 0.25))
ONES = {"params": {name: {"kernel": np.ones((3, 3), np.float32)} for name in ("a", "b")}}
PICTURE = np.full((1, 2, 2, 3), 51, np.uint8)  # 0.2, so that a is 0.6 and b 3 · act(0.6)


class Two(nn.Module):
    """Two layers with a function between them."""

    act: Callable = nn.relu

    @nn.compact
    def __call__(self, x):
        x = self.act(nn.Dense(3, use_bias=False, name="a")(x))
        return jnp.mean(nn.Dense(3, use_bias=False, name="b")(x), axis=(1, 2))


def times(factor):
    return lambda x: factor * x


def network(act=times(1), preprocess=PLAIN, aliases=None):  # noqa: B008
    return Model("two", Two(act), ONES, preprocess, ("x", "y", "z"), aliases or {"tap": "b"}, "")


def read(model, **pools):
    """The program of a pass of its own, and the tap's value."""
    program = readers({"two": Reading(model, pools)}, 1, make_mesh(1))["two"]
    values = program(model.variables, jnp.asarray(PICTURE))
    return program, float(np.asarray(values[next(iter(pools))])[0, 0])


def test_other_weights_share_a_program():
    program, _ = read(network(), b="avg")
    again = dataclasses.replace(network(), variables={"params": {**ONES["params"]}})
    again.variables["params"]["a"] = {"kernel": 2 * ONES["params"]["a"]["kernel"]}
    found, value = read(again, b="avg")
    assert found is program
    assert value == pytest.approx(3.6)


@pytest.mark.parametrize(
    "other, value",
    [
        (network(preprocess=MEAN), -0.45),
        (network(aliases={"tap": "a"}), 0.6),
        (network(times(3)), 5.4),
    ],
    ids=["preprocess", "alias", "function"],
)
def test_another_network_has_its_own_program(other, value):
    """An alias may mean another tap, and a function have the name of another."""
    program, first = read(network(times(1)), tap="avg")
    assert first == pytest.approx(1.8)
    found, second = read(other, tap="avg")
    assert found is not program
    assert second == pytest.approx(value, abs=1e-6)


def test_a_network_that_is_no_module_is_read_as_it_is_now():
    class Own:
        name, weights_hash, architecture, class_names = "own", "", "own", ()
        preprocess, variables, taps, gain = PLAIN, {}, {"tap": (3,)}, 1.0

        def resolve(self, tap):
            return tap

        def probe(self, images, pools, variables=None):
            value = self.gain * jnp.mean(jnp.asarray(images, jnp.float32), axis=(1, 2))
            return {tap: value for tap in pools}, value

    own = Own()
    assert read(own, tap="avg")[1] == pytest.approx(51)
    own.gain = 2.0
    assert read(own, tap="avg")[1] == pytest.approx(102)
