"""The script of the shipped autoencoder learns, and what it writes is what a run reads."""

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxle.models.units.sae import SHIPPED, Sae, read_sae
from tools.train_sae import encode, explained, train


def test_planted_sparse_values_are_reconstructed():
    draw = np.random.default_rng(0)
    directions = draw.standard_normal((6, 8)).astype(np.float32)
    x = (draw.random((500, 6)) < 0.2).astype(np.float32) @ directions
    before, after = (train(x, 12, 3, steps, 128, 0) for steps in (1, 150))
    assert explained(after, jnp.asarray(x), 3) > max(0.8, explained(before, jnp.asarray(x), 3))


def test_the_shipped_file_is_read_as_the_script_means_it():
    folder = SHIPPED["scenes_layer3"]
    held = load_file(folder / "sae_weights.safetensors")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2**20
    x = np.random.default_rng(0).random((20, 64)).astype(np.float32)
    units = read_sae("scenes_layer3", 64, Sae())
    ours = units.form.every(units.arrays, units.form.prepare(units.arrays, x))
    np.testing.assert_allclose(ours, encode(held, jnp.asarray(x), units.form.k), atol=1e-5)
