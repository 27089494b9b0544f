"""The same problem on the CPU and on the accelerator: largest differences, and the same sets.

Second moments, the elastic net, explanations by two searches (`jaxle.explain`), all scores of one
of them (`jaxle.evaluate`), ablation of a linear tail, and two networks that ship with jaxle, as JAX
multiplies by default and at "highest". Without an accelerator both sides are the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxle
from benchmarks.accelerator.section import Out
from benchmarks.accelerator.table import short
from benchmarks.problems import SCALE, SHIFT, embedded
from jaxle.intervention.ablation import linear_ablation_scores
from jaxle.models.zoo import load_model
from jaxle.solve import elastic_net
from jaxle.solve.moments import Moments, second_moments

LAM, L1_RATIO = 0.05 / 0.99, 0.99
CLASSES = 50  # of the linear tail


def measure(out: Out) -> None:
    """Rows of the table "parity"."""
    images, concepts, neurons = (600, 80, 24) if out.small else (6000, 1000, 256)
    pictures, texts, targets = embedded(images, concepts, neurons, dim=64, n_classes=100)
    probs = 1 / (1 + np.exp(-SCALE * (pictures @ texts.T + SHIFT)))
    names = [f"concept {i}" for i in range(concepts)]
    rng = np.random.default_rng(0)
    if jax.default_backend() == "cpu":
        out.row("parity", {"what": "(no accelerator is here: both sides are the CPU)"})
    _fit(out, probs, targets)
    greedy, other = _both(lambda: jaxle.explain(targets, probs, names))
    _explanations(out, "greedy", greedy, other)
    tail = rng.standard_normal((neurons, CLASSES)) / 4, np.zeros(CLASSES)
    labels = rng.integers(0, CLASSES, images)
    val, test = np.arange(images // 3), np.arange(images // 3, images)
    simulated = jaxle.simulate(greedy, probs, names)
    given = (targets, *tail, labels, simulated[val], simulated[test], val, test)
    one, other = _both(lambda: linear_ablation_scores(*given))
    _values(out, "ablation, linear tail: excess", (one.excess, other.excess), "neuron")
    for name, tap in (("scenes_resnet", "layer3"), ("scenes_siglip_m", None)):
        for precision in ("highest", None):
            _network(out, name, tap, precision, 8 if out.small else 64)
    _scores(out, greedy, targets, probs, names)
    search = "preconditioned"
    _explanations(out, search, *_both(lambda: jaxle.explain(targets, probs, names, search=search)))


def _both(run: Callable[[], Any]) -> tuple[Any, Any]:
    """What `run` gives on the CPU, and on the device that JAX takes by default."""
    results = []
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        with jax.default_device(device):
            results.append(jax.block_until_ready(run()))
    return results[0], results[1]


def _values(out: Out, what: str, pair, axis: str, same: str = "") -> None:
    """A row for two arrays, of which the last axis has a name."""
    one, other = (np.asarray(x, np.float64) for x in pair)
    difference = np.abs(one - other)
    place = np.unravel_index(int(difference.argmax()), difference.shape)
    where = f"{axis} {place[-1]}: {short(one[place], 6)}, {short(other[place], 6)}"
    cells = {"what": what, "largest difference": short(difference.max()), "where": where}
    out.row("parity", cells | {"same": same})


def _fit(out: Out, probs, targets) -> None:
    def run():
        moments = second_moments(probs, targets)
        return moments, elastic_net.solve(moments, LAM, L1_RATIO)

    (moments, fit), (moments_, fit_) = _both(run)
    scaled = _correlations(moments), _correlations(moments_)
    _values(out, "moments: correlations of concepts and neurons", scaled, "neuron")
    supports = np.asarray(fit.weights) != 0, np.asarray(fit_.weights) != 0
    same = _share((supports[0] == supports[1]).all(axis=0))
    weights = fit.weights, fit_.weights
    _values(out, "elastic net: standardised weights", weights, "neuron", f"supports {same}")
    certified = f"converged {_share(np.asarray(fit.converged) == np.asarray(fit_.converged))}"
    _values(out, "elastic net: duality gap", (fit.gap, fit_.gap), "neuron", certified)


def _correlations(moments: Moments) -> np.ndarray:
    size = np.sqrt(np.asarray(moments.var_y))
    std = np.sqrt(np.diagonal(np.asarray(moments.gram)))
    return np.asarray(moments.cross) / std[:, None] / size[None, :]


def _explanations(out: Out, search: str, one, other) -> None:
    sets = np.array([set(a.concepts) == set(b.concepts) for a, b in zip(one, other, strict=True)])
    equal = [(a, b) for a, b in zip(one, other, strict=True) if a.concepts == b.concepts]
    values = [np.array([e.val_correlation or 0.0 for e in rows]) for rows in (one, other)]
    what = f"{search}: validation correlation"
    _values(out, what, values, "neuron", f"sets of concepts {_share(sets)}")
    weights = [np.concatenate([pair[i].weights for pair in equal] or [[0.0]]) for i in (0, 1)]
    _values(out, f"{search}: weights where words are the same", weights, "weight")


def _scores(out: Out, explanations, targets, probs, names) -> None:
    """The column of scores that differs most, in units of its own spread."""
    one, other = _both(lambda: jaxle.evaluate(explanations, targets, probs, names).columns)
    apart = {
        name: np.abs(np.asarray(one[name], float) - np.asarray(other[name], float)).max()
        / max(np.std(np.asarray(one[name], float)), 1e-9)
        for name in one
    }
    equal = sum(value == 0 for value in apart.values())
    worst = max(apart, key=lambda name: apart[name])
    same = f"{equal} of {len(apart)} columns bit for bit"
    what = f"scores: {worst}, the column furthest apart"
    _values(out, what, (one[worst], other[worst]), "neuron", same)


def _network(out: Out, name: str, tap: str | None, precision: str | None, n: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), np.uint8)

    def run():
        with jax.default_matmul_precision(precision or "default"):
            model: Any = load_model(name)
            return model.embed_images(images) if tap is None else model.activations(images, tap)

    one, other = _both(run)
    size = np.abs(one).max()
    how = "by default" if precision is None else f"at {precision}"
    what = f"{name}: {tap or 'embeddings'}, {how}, of the largest"
    _values(out, what, (one / size, other / size), "neuron")


def _share(same: np.ndarray) -> str:
    return f"{int(same.sum())} of {same.size}"
