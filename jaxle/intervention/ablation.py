"""The ablation score: how much of what a neuron does for the network survives when its explanation takes its place.

    α(k) = 1 − Σ |L(f_{k←c·s+d}(x), y) − L(f(x), y)| / Σ |L(f_{k←μ}(x), y) − L(f(x), y)|

Sums over test images, L the cross-entropy of logits / T, μ the neuron's mean on validation images; c and d are chosen there, by `optim`
and by `norm` (`affine`). A perfect simulation scores 1 and the mean 0. Source: method.md §6; Oikarinen & Weng 2024, section 4.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxle.arrays import Array, check_matrix
from jaxle.intervention import affine
from jaxle.intervention.replacement import Images, Seen, Tail, change, open_tail, see
from jaxle.intervention.temperature import fit_temperature
from jaxle.models.model import Model

OPTIM = ("best", "reference")
_BLOCK_BYTES = 64 << 20  # of one array of images × neurons


class Ablation(NamedTuple):
    """Scores of one tap and one simulation, and what they were made from; arrays (neurons,), one entry for each of `neurons`."""

    optim: np.ndarray  # float32, on test images; 0 for a neuron without effect
    norm: np.ndarray
    val_optim: np.ndarray  # float32, on the validation images
    val_norm: np.ndarray
    optim_scale: np.ndarray  # float64: value = scale · s + shift
    optim_shift: np.ndarray
    norm_scale: np.ndarray
    norm_shift: np.ndarray
    neurons: np.ndarray  # int64, the tap's numbers of the neurons that were scored
    temperature: float
    path: str  # "linear" or "suffix"
    n_val: int  # images used
    n_test: int
    n_without_effect: int  # neurons whose mean in their place changes no test image's loss


def ablation_scores(
    model: Model,
    tap: str,
    pool: str,
    images: Images,
    labels: Array,
    simulated_val: Array,
    simulated_test: Array,
    val_index: np.ndarray,
    test_index: np.ndarray,
    *,
    optim: str = "best",
    temperature: float | None = None,
    max_images: int = 500,
    neurons: np.ndarray | None = None,
    seed: int = 0,
    memory: int | None = None,
    tail: Tail | None = None,
) -> Ablation:
    """Scores of all neurons of a tap, or of some.

    Where the tail is linear every image counts. Elsewhere at most `max_images` validation images and as many test images do, drawn by
    `seed`; what was used is in the record.

    Args:
      model, tap, pool: a classifier, where the neurons are, and how they are pooled.
      images: row index → uint8 images, fitted (`model.preprocess.fit`).
      labels: class numbers (all images,), by row.
      simulated_val, simulated_test: (images, neurons) for all neurons of the tap; rows as in `val_index` and `test_index`.
      val_index, test_index: rows of `images`.
      optim: "best" or "reference" (the paper's procedure).
      temperature: T; None calibrates it on the validation images that are used.
      max_images: see above; drawn from each of val and test.
      neurons: numbers of the neurons to score; None scores all.
      memory: as for `open_tail`.
      tail: from `open_tail`, where one tap is scored several times.

    Returns:
      Ablation.

    Raises:
      ValueError: labels missing, an unknown `optim`, tap or pool, shapes that do not fit, values that are not finite.
    """
    if optim not in OPTIM:
        raise ValueError(f"unknown optim {optim!r}; valid: {', '.join(OPTIM)}.")
    if labels is None:
        raise ValueError("ablation needs labels, one class number an image; got none.")
    if max_images < 1:
        raise ValueError(f"max_images must be at least 1, got {max_images}.")
    simulated, index = (
        {"val": simulated_val, "test": simulated_test},
        {"val": np.asarray(val_index), "test": np.asarray(test_index)},
    )
    for split in index:
        check_matrix(simulated[split], f"simulated_{split}")
        if len(index[split]) != simulated[split].shape[0]:
            raise ValueError(
                f"simulated_{split} must have {len(index[split])} rows, one an image, got {simulated[split].shape[0]}."
            )
    tail = tail or open_tail(model, tap, pool, np.asarray(images(index["val"][:4])), memory=memory)
    neurons = np.arange(tail.n_neurons) if neurons is None else np.asarray(neurons, np.int64)
    for split in index:
        if simulated[split].shape[1] != tail.n_neurons:
            raise ValueError(
                f"simulated_{split} must have {tail.n_neurons} columns, one a neuron of {tap!r}, got {simulated[split].shape[1]}."
            )
    if neurons.size == 0 or neurons.min() < 0 or neurons.max() >= tail.n_neurons:
        raise ValueError(
            f"neurons must be numbers from 0 to {tail.n_neurons - 1}, got {neurons.tolist()[:5]}."
        )

    draw = np.random.default_rng(seed)
    tiles = {}
    for split, rows in index.items():
        used = (
            np.arange(len(rows))
            if tail.path == "linear"
            else np.sort(draw.permutation(len(rows))[:max_images])
        )
        simulated[split] = np.asarray(simulated[split])[used][:, neurons].astype(np.float64)
        tiles[split] = _gather(tail, see(tail, images, labels, rows[used]))
    if temperature is None:
        logits, y = (
            np.concatenate([np.asarray(getattr(t, name))[:n] for n, t in tiles["val"]])
            for name in ("logits", "labels")
        )
        temperature = fit_temperature(logits, y).value
    activations = np.concatenate([np.asarray(t.activations)[:n] for n, t in tiles["val"]])

    n_val, n_test = len(simulated["val"]), len(simulated["test"])
    step = max(1, _BLOCK_BYTES // (12 * max(n_val, n_test)))
    parts = []
    for start in range(0, len(neurons), step):
        block = slice(start, start + step)
        val, test = (
            _Split(tail, tiles[split], simulated[split][:, block], temperature)
            for split in ("val", "test")
        )
        parts.append(
            _block(val, test, activations[:, neurons[block]], neurons[block], optim == "reference")
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    without_effect = int(columns.pop("without_effect").sum())
    return Ablation(**columns, neurons=neurons, temperature=float(temperature), path=tail.path, n_val=n_val, n_test=n_test,
                    n_without_effect=without_effect)  # fmt: skip


class _Split(NamedTuple):
    tail: Tail
    tiles: list[tuple[int, Seen]]
    simulated: np.ndarray
    temperature: float

    def change(self, values, neurons, want="slope"):
        """ΔL and slope (images, columns)."""
        found, start = [], 0
        for n, seen in self.tiles:
            padded = np.zeros((len(seen.labels), values.shape[1]), np.float32)
            padded[:n] = values[start : start + n]
            found.append(
                [
                    None if x is None else np.asarray(x)[:n]
                    for x in change(self.tail, seen, padded, neurons, self.temperature, want)
                ]
            )
            start += n
        delta, slope = zip(*found, strict=True)
        return np.concatenate(delta), None if slope[0] is None else np.concatenate(slope)


def _block(val: _Split, test: _Split, activations, neurons, reference):
    """Everything about one block of neurons; `activations` (validation images, neurons)."""
    maps = {"norm": affine.norm(val.simulated, activations)}
    maps["optim"] = affine.optim(
        val.change, val.simulated, activations, neurons, reference=reference
    )
    mean = activations.astype(np.float64).mean(axis=0)
    found = {}
    for split, prefix in ((val, "val_"), (test, "")):

        def total(values, split=split):
            return affine.total_change(lambda v, k: split.change(v, k, "loss"), values, neurons)

        at_mean = total(np.broadcast_to(mean, split.simulated.shape))
        effect = at_mean > 0
        for name, (scale, shift) in maps.items():
            ratio = total(scale * split.simulated + shift) / np.where(effect, at_mean, 1.0)
            found[prefix + name] = np.where(effect, 1 - ratio, 0.0).astype(np.float32)
    for name, (scale, shift) in maps.items():
        found |= {f"{name}_scale": scale, f"{name}_shift": shift}
    return found | {"without_effect": ~effect}


def _gather(tail: Tail, tiles) -> list[tuple[int, Seen]]:
    """(real images, tile) of all tiles; where the tail is linear, as one."""
    tiles = [(rows.stop - rows.start, seen) for rows, seen in tiles]
    if tail.path == "suffix":
        return tiles
    parts = [
        np.concatenate([np.asarray(getattr(seen, name))[:n] for n, seen in tiles])
        for name in ("activations", "logits", "labels")
    ]
    return [(len(parts[0]), Seen(*parts, carried=None))]
