r"""Trains the target network of the embedded default and writes its checkpoint and log.

    python -m tools.train_scenes --checkpoint=jaxle/scenes/checkpoints/target.npz \
        --log=tools/scenes_target_log.csv

Held-out accuracy of the shipped checkpoint: 96.9 % (4,000 images of a world that training did not
see; chance is 7.7 %). Training takes about 12 minutes on two free cores; the logged run shared its
two with other work and took 19. 173,000 parameters, 0.7 MB, 49 MFLOP an image (XLA's count, a
multiply and an add as two).

Every batch is rendered afresh from the training world, so no image is seen twice; accuracy is that
on a held-out world. Loss: softmax cross-entropy over the thirteen classes. Optimiser: AdamW on a
one-cycle cosine schedule. The network is `scenes_resnet` of `jaxle.models.cifar_resnet`; its batch
statistics are settled on large batches once the weights are final.
"""

from __future__ import annotations

import argparse
import csv
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from jaxle.images import Preprocess
from jaxle.models.cifar_resnet import CifarResNet, scenes_resnet
from jaxle.scenes import CLASS_NAMES, render

PREPROCESS = Preprocess(resize="none", size=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TRAIN_WORLD, TEST_WORLD = 1_000_001, 1_000_002  # a probe run's world is its own seed, 0 by default
COLUMNS = ("step", "images", "seconds", "train_loss", "train_accuracy", "test_accuracy")
_MODULE = CifarResNet(scenes_resnet(len(CLASS_NAMES)))


def _forward(params, batch_stats, images: jax.Array, classes: jax.Array):
    variables = {"params": params, "batch_stats": batch_stats}
    logits, updated = _MODULE.apply(
        variables, PREPROCESS.normalise(images), train=True, mutable=["batch_stats"]
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()
    return loss, (updated["batch_stats"], jnp.mean(jnp.argmax(logits, axis=1) == classes))


@jax.jit
def _settle(variables, images: jax.Array, classes: jax.Array):
    _, (batch_stats, _) = _forward(variables["params"], variables["batch_stats"], images, classes)
    return {"params": variables["params"], "batch_stats": batch_stats}


@jax.jit
def _logits(variables, images: jax.Array):
    return _MODULE.apply(variables, PREPROCESS.normalise(images))


@functools.cache
def _optimiser(steps: int, rate: float, decay: float) -> optax.GradientTransformation:
    # one object for one setting, so that training again compiles nothing again
    schedule = optax.cosine_onecycle_schedule(steps, rate, pct_start=0.2)
    kernels = functools.partial(jax.tree.map, lambda parameter: parameter.ndim > 1)
    return optax.adamw(schedule, weight_decay=decay, mask=kernels)


@functools.partial(jax.jit, static_argnums=0)
def _step(
    optimiser: optax.GradientTransformation, variables, state, images: jax.Array, classes: jax.Array
):
    gradient = jax.value_and_grad(_forward, has_aux=True)
    (loss, (batch_stats, right)), gradients = gradient(
        variables["params"], variables["batch_stats"], images, classes
    )
    updates, state = optimiser.update(gradients, state, variables["params"])
    return (
        {"params": optax.apply_updates(variables["params"], updates), "batch_stats": batch_stats},
        state,
        loss,
        right,
    )


def accuracy(variables, world: int, n: int) -> float:
    """Returns the share of the first `n` scenes of a world that the network classifies rightly."""
    right = 0
    for start in range(0, n, 500):
        scenes = render(np.arange(start, min(start + 500, n)), world)
        logits = np.asarray(_logits(variables, jnp.asarray(scenes.images)))
        right += int(np.sum(np.argmax(logits, axis=1) == scenes.class_ids))
    return right / n


def train(
    steps: int, batch: int, rate: float, decay: float, seed: int, every: int, test_images: int
):
    """Trains from scratch.

    Returns:
      {"params", "batch_stats"}, and the log: a list of rows in the order of COLUMNS.
    """
    optimiser = _optimiser(steps, rate, decay)
    variables = _MODULE.init(jax.random.key(seed), jnp.zeros((1, 64, 64, 3), jnp.float32))
    state = optimiser.init(variables["params"])
    log, recent, began = [], [], time.monotonic()

    for step in range(1, steps + 1):
        scenes = render(np.arange((step - 1) * batch, step * batch), TRAIN_WORLD)
        variables, state, loss, right = _step(
            optimiser, variables, state, jnp.asarray(scenes.images), jnp.asarray(scenes.class_ids)
        )
        recent.append((loss, right))
        if step == steps:
            for start in range(0, 64 * batch, 4 * batch):
                scenes = render(np.arange(start, start + 4 * batch), TRAIN_WORLD)
                variables = _settle(
                    variables, jnp.asarray(scenes.images), jnp.asarray(scenes.class_ids)
                )
        if step % every == 0 or step == steps:
            losses, rights = np.mean(np.array(jax.device_get(recent)), axis=0)
            n = test_images if step == steps else test_images // 4
            share, seconds = accuracy(variables, TEST_WORLD, n), round(time.monotonic() - began)
            log.append((step, step * batch, seconds, float(losses), float(rights), share))
            cells = zip(COLUMNS, log[-1], strict=True)
            print("  ".join(f"{name} {value:.6g}" for name, value in cells), flush=True)
            recent = []
    return variables, log


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_scenes", description=__doc__, formatter_class=whole
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="where to write the checkpoint (.npz)"
    )
    parser.add_argument("--log", type=Path, required=True, help="where to write the log (.csv)")
    parser.add_argument("--steps", type=int, default=3200, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.02, help="weight decay of the kernels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initialisation")
    parser.add_argument("--every", type=int, default=200, help="steps between two lines of the log")
    parser.add_argument(
        "--test_images",
        type=int,
        default=4000,
        help="held-out images at the end; a quarter of them on the way",
    )
    arguments = parser.parse_args(argv)
    for name, least in (("steps", 1), ("batch", 2), ("every", 1), ("test_images", 4)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    if arguments.checkpoint.suffix != ".npz":
        parser.error(f"--checkpoint must end in .npz, got {arguments.checkpoint}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = vars(_arguments(argv))
    checkpoint, log_file = arguments.pop("checkpoint"), arguments.pop("log")
    variables, log = train(**arguments)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    flat: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in flat.items()}
    np.savez(checkpoint, **arrays)
    with log_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([f"{value:.6g}" for value in row] for row in log)


if __name__ == "__main__":
    main()
