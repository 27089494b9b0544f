"""Unit maps: a tile at a time as all at once, pooled as their definition says, and what a change
of one unit does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models.units import unit_map
from jaxle.models.units.linear import unit_map as make
from jaxle.models.units.unit_map import ACTIVATIONS, explained_variance

WIDTH, UNITS = 5, 23
RNG = np.random.default_rng(1)
VALUES = RNG.standard_normal((3, 17, WIDTH)).astype(np.float32)
ARRAYS = {
    "encoder": RNG.standard_normal((UNITS, WIDTH)),
    "decoder": RNG.standard_normal((UNITS, WIDTH)),
    "bias": RNG.standard_normal(UNITS),
    "decoder_bias": RNG.standard_normal(WIDTH),
    "centre": RNG.standard_normal(WIDTH),
    "threshold": RNG.random(UNITS),
    "scale": RNG.random(UNITS) + 0.5,
    "gate": RNG.standard_normal(UNITS),
}


POOLED = (
    ("patches", np.mean, slice(1, None)),  # one token before a grid of four by four
    ("avg", np.mean, slice(None)),
    ("max", np.max, slice(None)),
    ("first", np.mean, slice(0, 1)),
)


def units(activation, **more):
    k = 4 if activation.endswith("top_k") else 0
    return make("sae", ARRAYS, activation=activation, k=k, reconstructs=True, **more)


def test_there_is_a_test_of_every_activation():
    assert len(ACTIVATIONS) == 9


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tiles_give_what_the_whole_gives(activation, monkeypatch):
    form, arrays, *_ = units(activation)
    prepared = form.prepare(arrays, VALUES)
    every = np.asarray(form.every(arrays, prepared))
    reconstruction = every @ arrays["decoder"] + arrays["decoder_bias"]
    monkeypatch.setattr(unit_map, "TILE", 1)
    monkeypatch.setattr(unit_map, "LEAST", 10)  # three tiles, of which the last two overlap
    for pool, over, covered in POOLED if activation == "relu" else POOLED[:1]:
        read = jax.jit(lambda a, v, pool=pool: form.read(a, v, pool, True))
        pooled, statistics = read(arrays, VALUES)
        np.testing.assert_allclose(pooled, over(every[:, covered], axis=1), atol=1e-5)
        error = np.sum((VALUES - reconstruction) ** 2, -1)[:, covered].mean(1)
        off = VALUES[:, covered] - arrays["decoder_bias"]
        np.testing.assert_allclose(statistics[:, 0], error, rtol=1e-4)
        np.testing.assert_allclose(statistics[:, 1], np.sum(off**2, -1).mean(1), rtol=1e-4)
        np.testing.assert_allclose(statistics[:, 2:], off.mean(1), atol=1e-5)
    for unit in (0, UNITS - 1):
        np.testing.assert_allclose(
            form.one(arrays, form.prepare(arrays, VALUES), unit), every[..., unit], atol=1e-5
        )


def test_explained_variance_is_what_its_definition_says():
    form, arrays, *_ = units("relu")
    statistics = np.asarray(form.read(arrays, VALUES, "avg", True)[1])
    every = np.asarray(form.every(arrays, form.prepare(arrays, VALUES)), np.float64)
    error = np.sum((VALUES - every @ arrays["decoder"] - arrays["decoder_bias"]) ** 2)
    variance = np.sum((VALUES - VALUES.mean(axis=(0, 1))) ** 2)
    assert explained_variance(statistics) == pytest.approx(1 - error / variance, rel=1e-4)
    assert explained_variance(np.zeros((2, 2 + WIDTH))) == 0


@pytest.mark.parametrize("norm", ["none", "layer_norm", "constant_norm"])
def test_a_change_of_one_unit_moves_the_value_along_its_decoder_row(norm):
    form, arrays, *_ = units("relu", norm=norm)
    prepared = form.prepare(arrays, VALUES)
    change = RNG.standard_normal(VALUES.shape[:2]).astype(np.float32)
    moved = form.moved(arrays, jnp.asarray(VALUES), 7, jnp.asarray(change), prepared)
    size = np.asarray(prepared.size)
    wanted = VALUES + change[..., None] * size * arrays["decoder"][7]
    np.testing.assert_allclose(moved, wanted, atol=1e-5)


def test_a_layer_of_no_positions_needs_no_pool():
    form, arrays, *_ = units("top_k")
    pooled, _ = form.read(arrays, VALUES[:, 0], "avg", False)
    whole = form.every(arrays, form.prepare(arrays, VALUES[:, 0]))
    np.testing.assert_allclose(pooled, whole, atol=1e-6)
    assert (np.asarray(pooled) > 0).sum(axis=1).max() <= 4


def test_a_key_depends_on_the_arrays():
    other = {**ARRAYS, "bias": ARRAYS["bias"] + 1}
    changed = make("sae", other, activation="relu", reconstructs=True)
    assert changed.form != units("relu").form
    assert units("relu").form == units("relu").form
