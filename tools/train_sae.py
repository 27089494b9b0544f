r"""Trains the sparse autoencoder of the quickstart's layer3 that ships with jaxle.

    python -m tools.train_sae --folder=jaxle/scenes/checkpoints/sae_layer3

A TopK autoencoder (Gao et al. 2024, arXiv 2406.04093) on values of single positions of layer3 of
`scenes_resnet`, of a world that no probe run sees. Written as SAELens writes its own: cfg.json and
sae_weights.safetensors. The figures of the shipped one are in its cfg.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import save_file

from jaxle.models.zoo import load_model
from jaxle.scenes import render

TAP, WORLD, HELD_OUT = "layer3", 1_000_003, 1_000_004
POSITIONS = 64  # of an image, drawn


def values(world: int, n_images: int, seed: int) -> np.ndarray:
    """Returns values (positions, width) of drawn positions of the first images of a world."""
    model, random, found = load_model("scenes_resnet"), np.random.default_rng(seed), []
    for start in range(0, n_images, 250):
        scenes = render(np.arange(start, min(start + 250, n_images)), world)
        maps = model.activations(np.asarray(scenes.images), TAP, "none", batch_size=250)
        flat = maps.reshape(len(maps), -1, maps.shape[-1])
        few = random.integers(0, flat.shape[1], (len(flat), POSITIONS))
        found.append(np.take_along_axis(flat, few[..., None], axis=1).reshape(-1, flat.shape[-1]))
    return np.concatenate(found)


def encode(sae: dict[str, Any], x: jax.Array, k: int) -> jax.Array:
    """Returns features (positions, features), at most k of a position above 0."""
    a = (x - sae["b_dec"][None]) @ sae["W_enc"] + sae["b_enc"][None]
    cut = jax.lax.top_k(a, k)[0][:, -1:]
    return jnp.where(a >= cut, jnp.maximum(a, 0), 0)


def explained(sae: dict[str, Any], x: jax.Array, k: int) -> jax.Array:
    """Returns 1 − the reconstruction's squared error over the variance."""
    off = x - encode(sae, x, k) @ sae["W_dec"] - sae["b_dec"][None]
    return 1 - jnp.sum(off**2) / jnp.sum((x - jnp.mean(x, axis=0, keepdims=True)) ** 2)


def train(
    x: np.ndarray, features: int, k: int, steps: int, batch: int, seed: int
) -> dict[str, Any]:
    """Returns the autoencoder after so many steps of Adam on drawn batches."""
    random = np.random.default_rng(seed)
    directions = random.standard_normal((features, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sae: dict[str, Any] = {"W_enc": directions.T, "W_dec": directions, "b_enc": np.zeros(features)}
    sae = {name: jnp.asarray(v, jnp.float32) for name, v in sae.items()} | {"b_dec": x.mean(0)}
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    variance = float(x.var(axis=0).sum())

    def loss(sae, rows):
        off = rows - encode(sae, rows, k) @ sae["W_dec"] - sae["b_dec"][None]
        return jnp.mean(jnp.sum(off**2, axis=1)) / variance

    @jax.jit
    def step(sae, state, rows):
        updates, state = optimiser.update(jax.grad(loss)(sae, rows), state)
        sae = cast("dict[str, Any]", optax.apply_updates(sae, updates))
        size = jnp.linalg.norm(sae["W_dec"], axis=1, keepdims=True)
        return {**sae, "W_dec": sae["W_dec"] / size}, state

    state = optimiser.init(sae)
    for _ in range(steps):
        sae, state = step(sae, state, x[random.integers(0, len(x), batch)])
    return sae


def main() -> None:
    parser = argparse.ArgumentParser(description="train the SAE that ships with jaxle")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    own = parser.parse_args()
    x = values(WORLD, own.images, own.seed)
    sae = train(x, own.features, own.k, own.steps, 2048, own.seed)
    held = jnp.asarray(values(HELD_OUT, 1000, own.seed))
    share = float(explained(sae, held, own.k))
    fired = np.asarray(jnp.any(encode(sae, held, own.k) > 0, axis=0))
    config = {
        "architecture": "topk",
        "d_in": x.shape[1],
        "d_sae": own.features,
        "k": own.k,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"model_name": "scenes_resnet", "hook_name": TAP},
        "trained_by": "tools/train_sae.py",
        "held_out_explained_variance": round(share, 4),
        "held_out_silent_features": int((~fired).sum()),
    }
    own.folder.mkdir(parents=True, exist_ok=True)
    (own.folder / "cfg.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in sae.items()}
    save_file(tensors, own.folder / "sae_weights.safetensors")
    print(f"explained variance {share:.4f} held out, {int((~fired).sum())} features silent")


if __name__ == "__main__":
    main()
