"""Permutation test, ablation and Top Impact at the paper's sizes, beside the machine's floor.

permutation test   2,000 permutations of 10,000 test images × 2,048 neurons
linear ablation    a tail of 1,000 classes, 5,000 val and 10,000 test images; per neuron
suffix             ResNet-50 after layer3: neurons of 8 images set to zero, one at a time

floor of the test      both arrays read once a permutation, at the rate of a copy
floor of the ablation  one exponential an image, neuron, class and edit
floor of the suffix    the flops of the network after the tap, at the rate of a large product
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.networks import random_model
from benchmarks.accelerator.section import Out, flops, timed
from benchmarks.accelerator.table import short
from jaxle.evaluation.permutation import permutation_test
from jaxle.evaluation.scores import DRAWS
from jaxle.intervention import affine
from jaxle.intervention.ablation import linear_ablation_scores
from jaxle.intervention.replacement import change, open_tail, record


def measure(out: Out) -> None:
    """Rows of the table "intervention"."""
    for part, least in ((_permutations, 10), (_linear, 15), (_suffix, 15)):
        if out.small or out.has(least):
            part(out)
        else:
            out.row("intervention", {"stage": f"{part.__name__[1:]} (skipped: no time left)"})


def _permutations(out: Out) -> None:
    n, k = (300, 32) if out.small else (10_000, 2_048)
    rng = np.random.default_rng(0)
    activations = rng.standard_normal((n, k), np.float32)
    simulated = activations + 3 * rng.standard_normal((n, k), np.float32)
    cold, warm = (timed(lambda: permutation_test(simulated, activations))[1] for _ in range(2))
    floor = 2 * 4 * DRAWS * n * k / out.known["copy"]
    _row(out, f"permutation test, {DRAWS:,} draws", cold, warm, k, floor, "bytes read")


def _linear(out: Out) -> None:
    n_val, n_test, k, classes = (60, 90, 8, 10) if out.small else (5_000, 10_000, 256, 1_000)
    rng = np.random.default_rng(0)
    n = n_val + n_test
    activations = np.maximum(rng.standard_normal((n, k), np.float32), 0)
    simulated = activations + rng.standard_normal((n, k), np.float32)
    weights = rng.standard_normal((k, classes), np.float32) / 4
    labels, rows = rng.integers(0, classes, n), np.arange(n)
    val, test = rows[:n_val], rows[n_val:]
    tail = activations, weights, np.zeros(classes), labels

    def run():
        return linear_ablation_scores(*tail, simulated[val], simulated[test], val, test)

    cold, warm = (timed(run)[1] for _ in range(2))
    constant = 1 + affine.QUANTILES + affine.ROUNDS * (affine.BETWEEN + 2)
    paths = 1 + 3 * (affine.STEPS + 1) + 5
    edits = (constant + paths + 4) * n_val + 4 * n_test
    floor = float(edits) * k * classes / out.known["exponentials"]
    what = f"ablation scores, linear tail, {k} neurons"
    _row(out, what, cold, warm, k, floor, "exponentials")


def _suffix(out: Out) -> None:
    name, tap, n = (
        ("scenes_resnet", "layer2", 4) if out.small else ("resnet50_imagenet", "layer3", 8)
    )
    model = random_model(name, "float32")
    side = model.preprocess.size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, side, side, 3), np.uint8)
    labels = rng.integers(0, 2, n)
    tail = open_tail(model, tap, "avg", images)
    neurons = np.arange(tail.n_neurons)
    ((_, recorded),) = record(tail, lambda i: images[i], labels, np.arange(n))
    zero = jnp.zeros(recorded.activations.shape, jnp.float32)

    def run():
        return change(tail, recorded, zero, neurons, 1.0, "right")

    cold, warm = (timed(run)[1] for _ in range(2))
    edits = tail.n_neurons * n
    count = flops(tail.suffix, model.variables, recorded.carried)
    floor = count / len(recorded.labels) * edits / out.known["highest"]
    what = f"{edits:,} edits after {tap} of {name}"
    _row(out, what, cold, warm, tail.n_neurons, floor, "the suffix for each edit")


def _row(out: Out, stage: str, cold: float, warm: float, k: int, floor: float, of: str) -> None:
    out.row(
        "intervention",
        {
            "stage": stage,
            "first call, s": short(cold),
            "warm, s": short(warm),
            "ms a neuron": short(1e3 * warm / k),
            "floor, s": short(floor),
            "warm / floor": short(warm / floor),
            "floor of": of,
        },
    )
