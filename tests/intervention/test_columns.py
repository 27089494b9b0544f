"""Units of a map, edited: the network with one unit's contribution replaced along its decoder
direction, by the suffix, by a linear tail, and the whole network at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.intervention.columns import Columns
from jaxle.intervention.replacement import change, loss_change, open_tail, record
from jaxle.models import taps
from jaxle.models.units.linear import directions_map, unit_map

N = 10
TEMPERATURE = 1.3


def sae(width, activation="relu", norm="none", units=13, k=0):
    draw = np.random.default_rng(5)
    arrays = {
        "encoder": draw.standard_normal((units, width)),
        "decoder": draw.standard_normal((units, width)),
        "bias": 0.3 * draw.standard_normal(units),
        "decoder_bias": draw.standard_normal(width),
        "centre": 0.1 * draw.standard_normal(width),
    }
    return unit_map("sae", arrays, activation=activation, norm=norm, k=k, reconstructs=True)


def whole_network(model, tap, pool, images, unit, new):
    """Logits before and after, of the whole network with the value moved by hand, in NumPy."""
    form, at = model.units[model.resolve(tap)], taps.resolve(tap, model.sites, model.aliases)
    arrays = {name: np.asarray(v) for name, v in model.unit_arrays(tap, model.variables).items()}

    def move(value):
        prepared = form.prepare(arrays, value)
        f, d = form.every(arrays, prepared)[..., unit], arrays["decoder"][unit]
        axes = (slice(None), *(None,) * (value.ndim - 2))
        step = (
            (new[axes] - f)[..., None] * prepared.size * d.reshape((1,) * (value.ndim - 1) + (-1,))
        )
        if pool == "first":
            return value.at[:, :1].add(step[:, :1])
        return value.at[:, 1:].add(step[:, 1:]) if pool == "patches" else value + step

    inputs = model.preprocess.normalise(jnp.asarray(images))

    @jax.jit
    def run(variables, inputs):
        with jax.default_matmul_precision("highest"):
            before, _ = taps.forward(model.module, variables, inputs)
            after, _ = taps.forward(model.module, variables, inputs, replace={at: move})
        return before, after

    return run(model.variables, inputs)


CASES = [
    ("small_resnet", "layer3", "avg", ("relu", "none", 0), "linear"),
    ("small_resnet", "layer2", "avg", ("top_k", "none", 3), "suffix"),
    ("small_vit", "blocks[0]", "patches", ("relu", "layer_norm", 0), "suffix"),
]


@pytest.mark.parametrize(("network", "tap", "pool", "kind", "path"), CASES)
def test_every_way_to_edit_a_unit_agrees(network, tap, pool, kind, path, request, small_images):
    bare, (images, labels) = request.getfixturevalue(network), small_images
    activation, norm, k = kind
    width = bare.taps[bare.resolve(tap)][-1]
    model = bare.with_units(tap, sae(width, activation, norm, k=k))
    images, labels = images[:N], labels[:N]
    tail = open_tail(model, tap, pool, images[:4])
    assert tail.path == path and tail.n_neurons == 13
    q = model.activations(images, tap, pool)
    # a unit that is at work on these images
    unit = int(np.argmax(q.std(axis=0)))
    new = np.float32(0.5 * q[:, unit] + 0.3 * q.std())
    before, after = whole_network(model, tap, pool, images, unit, new)
    expected = loss_change(before, after - before, jnp.asarray(labels), TEMPERATURE)
    assert np.abs(expected).max() > 1e-3
    for way in [tail] if path == "suffix" else [tail, dataclasses.replace(tail, weights=None)]:
        for rows, recorded in record(way, lambda i: images[i], labels, np.arange(N)):
            padded = np.pad(new[rows], (0, len(recorded.labels) - (rows.stop - rows.start)))
            found, _ = change(way, recorded, padded[:, None], np.array([unit]), TEMPERATURE)
            real = np.asarray(found)[: rows.stop - rows.start, 0]
            tolerance = 1e-5 * max(1, np.abs(before).max())
            np.testing.assert_allclose(real, expected[rows], atol=tolerance, err_msg=way.path)
            np.testing.assert_allclose(recorded.activations[: len(real)], q[rows], atol=1e-5)


@pytest.mark.parametrize("pool", ["avg", "first", "patches"])
def test_units_that_are_the_neurons_are_edited_as_neurons_are(pool, small_vit):
    width = small_vit.taps[small_vit.resolve("blocks[0]")][-1]
    same = small_vit.with_units("blocks[0]", directions_map("directions", np.eye(width)))
    draw = np.random.default_rng(0)
    value = jnp.asarray(draw.standard_normal((3, 5, width)), jnp.float32)
    new, every = (jnp.asarray(draw.standard_normal(s), jnp.float32) for s in ((3,), (3, width)))
    found = []
    for model in (small_vit, same):
        columns = Columns.of(model, "blocks[0]", pool)

        @jax.jit
        def edited(variables, columns=columns):
            return (
                columns.pooled(variables, value),
                columns.set_one(variables, value, columns.prepare(variables, value), 2, new),
                columns.set_all(variables, value, every),
                columns.grown(variables, value, every),
            )

        found.append(edited(model.variables))
    for neurons, units in zip(*found, strict=True):
        np.testing.assert_allclose(units, neurons, atol=1e-6)


def test_a_direction_without_a_decoder_gets_its_new_value(small_resnet, small_images):
    directions = np.random.default_rng(0).standard_normal((3, small_resnet.taps["layer2"][-1]))
    model = small_resnet.with_units("layer2", directions_map("directions", directions))
    columns, variables = Columns.of(model, "layer2", "avg"), model.variables
    value = jnp.asarray(small_resnet.activations(small_images[0][:2], "layer2", "none"))
    new = jnp.asarray([2.0, -1.0])

    @jax.jit
    def edit(variables, value):
        prepared = columns.prepare(variables, value)
        return columns.set_one(variables, value, prepared, 1, new)

    edited = edit(variables, value)
    np.testing.assert_allclose(columns.pooled(variables, edited)[:, 1], new, rtol=1e-4)
