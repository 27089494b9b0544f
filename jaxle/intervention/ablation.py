"""The ablation score: how much of what a neuron does survives when its explanation replaces it.

    α(k) = 1 − Σ |L(f_{k←c·s+d}(x), y) − L(f(x), y)| / Σ |L(f_{k←μ}(x), y) − L(f(x), y)|

Sums are over test images, L is the cross-entropy of logits / T, μ the neuron's mean on validation
images; c and d are chosen there, by `optim` and by `norm` (`affine`). A perfect simulation scores 1
and the mean 0. The mean is not the best constant, so that α by `optim` has no zero of its own: what
counts is its excess over α of the best constant, which is chosen on validation images too; where
that constant does worse than the mean on test, the mean is the bar.
`ablation_scores` edits a network; where the logits are linear in the activations,
`linear_ablation_scores` needs arrays alone.
Source: method.md §6; Oikarinen & Weng 2024, section 4.2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64, Real

from jaxle.arrays import Array, as_matrix, checks_input
from jaxle.intervention import affine
from jaxle.intervention.replacement import (
    Changed,
    Images,
    Recorded,
    Tail,
    change,
    linear_change,
    open_tail,
    record,
)
from jaxle.intervention.temperature import check_labels, fit_temperature
from jaxle.models.recorded import AnyClassifier
from jaxle.options import number
from jaxle.options import seed as read_seed
from jaxle.units import find_units

OPTIM = ("best", "reference")
_BLOCK_BYTES = 64 << 20  # of one array of images × neurons
_Tiles = list[tuple[int, Recorded]]  # number of real images, what was recorded


class Ablation(NamedTuple):
    """Scores of one tap and one simulation, and what they were made from, for `neurons`."""

    optim: Float32[np.ndarray, " scored"]  # on test images; 0 for a neuron without effect
    norm: Float32[np.ndarray, " scored"]
    constant: Float32[np.ndarray, " scored"]  # of the best constant in the neuron's place
    excess: Float32[np.ndarray, " scored"]  # optim − max(constant, 0): the score of record
    val_optim: Float32[np.ndarray, " scored"]  # on the validation images
    val_norm: Float32[np.ndarray, " scored"]
    val_constant: Float32[np.ndarray, " scored"]
    optim_scale: Float64[np.ndarray, " scored"]  # value = scale · s + shift
    optim_shift: Float64[np.ndarray, " scored"]
    norm_scale: Float64[np.ndarray, " scored"]
    norm_shift: Float64[np.ndarray, " scored"]
    constant_value: Float64[np.ndarray, " scored"]
    neurons: Int64[np.ndarray, " scored"]  # numbers of the neurons that were scored
    temperature: float
    path: str  # "linear" or "suffix"
    n_val: int  # images used
    n_test: int
    n_without_effect: int  # neurons whose mean in their place changes no test image's loss


@checks_input
def ablation_scores(
    model: AnyClassifier,
    tap: str,
    pool: str,
    images: Images,
    labels: Int[Array, " all_images"],
    simulated_val: Real[Array, "val_images neurons"],
    simulated_test: Real[Array, "test_images neurons"],
    val_index: Int[np.ndarray, " val_images"],
    test_index: Int[np.ndarray, " test_images"],
    *,
    optim: str = "best",
    temperature: float | None = None,
    max_images: int = 500,
    neurons: Int[np.ndarray, " scored"] | None = None,
    seed: int = 0,
    memory: int | None = None,
    tail: Tail | None = None,
) -> Ablation:
    """Scores all neurons of a tap, or some.

    Where the tail is linear every image counts. Elsewhere at most `max_images` validation images
    and as many test images do, drawn by `seed`; the record states how many were used.

    Args:
      model, tap, pool: a classifier, where the neurons are, and how they are pooled.
      images: row index → uint8 images, fitted (`model.preprocess.fit`).
      labels: class numbers (all images,), by row.
      simulated_val, simulated_test: (images, neurons) for all neurons of the tap; rows as in
        `val_index` and `test_index`.
      val_index, test_index: rows of `images`.
      optim: "best" or "reference" (the paper's procedure).
      temperature: T > 0; None calibrates it on the validation images that are used.
      max_images: see above; drawn from each of val and test.
      neurons: numbers of the neurons to score; None scores all.
      seed: of the draw of images.
      memory: as for `open_tail`.
      tail: from `open_tail`, where one tap is scored several times.

    Raises:
      ValueError: labels missing, an unknown `optim`, tap or pool, shapes that do not fit, values
        that are not finite, an option out of range.
    """
    _check_optim(optim, labels)
    temperature, memory = _check_options(temperature, memory)
    max_images, seed = number("max_images", max_images, int, low=1), read_seed(seed)
    simulated, index = _check_rows(simulated_val, simulated_test, val_index, test_index)
    tail = tail or open_tail(model, tap, pool, np.asarray(images(index["val"][:4])), memory=memory)
    _check_columns(simulated, tail.n_neurons, f"one a neuron of {tap!r}")
    neurons = np.arange(tail.n_neurons) if neurons is None else np.asarray(neurons)
    whole = neurons.ndim == 1 and neurons.size > 0 and neurons.dtype.kind in "iu"
    if not whole or neurons.min() < 0 or neurons.max() >= tail.n_neurons:
        raise ValueError(
            f"neurons must be numbers from 0 to {tail.n_neurons - 1}, "
            f"got {neurons.ravel()[:5].tolist()}."
        )
    neurons = neurons.astype(np.int64)
    draw = np.random.default_rng(seed)
    tiles = {}
    for part, rows in index.items():
        used = np.arange(len(rows))
        if tail.path != "linear":
            used = np.sort(draw.permutation(len(rows))[:max_images])
        simulated[part] = np.asarray(simulated[part])[used][:, neurons]
        tiles[part] = _gather(tail, record(tail, images, labels, rows[used]))
    edit = functools.partial(change, tail)
    return _score(edit, tail.path, tiles, simulated, neurons, optim, temperature)


@checks_input
def linear_ablation_scores(
    activations: Real[Array, "images neurons"],
    weights: Real[Array, "neurons classes"],
    bias: Real[Array, " classes"],
    labels: Int[Array, " images"],
    simulated_val: Real[Array, "val_images neurons"],
    simulated_test: Real[Array, "test_images neurons"],
    val_index: Int[np.ndarray, " val_images"],
    test_index: Int[np.ndarray, " test_images"],
    *,
    optim: str = "best",
    temperature: float | None = None,
    memory: int | None = None,
) -> Ablation:
    """Scores all neurons of a linear tail: logits = activations · weights + bias.

    The same scores as those of `ablation_scores` where the tail is linear, from arrays alone: no
    network is run.

    Args:
      activations: (images, neurons), pooled, whatever `jaxle.arrays.as_matrix` takes.
      weights: (neurons, classes) of the last layer.
      bias: (classes,).
      labels: (images,) class numbers.
      simulated_val, simulated_test: (images, neurons); rows as in `val_index` and `test_index`.
      val_index, test_index: rows of `activations`.
      optim: "best" or "reference" (the paper's procedure).
      temperature: T > 0; None calibrates it on the validation images.
      memory: as for `open_tail`.

    Raises:
      ValueError: labels missing, an unknown `optim`, shapes that do not fit, values that are not
        finite or that float32 does not resolve, an option out of range.
    """
    _check_optim(optim, labels)
    temperature, memory = _check_options(temperature, memory)
    activations = as_matrix(activations, "activations")
    weights = as_matrix(weights, "weights", ("neurons", "classes"))
    n_images, n_neurons = activations.shape
    if weights.shape[0] != n_neurons:
        raise ValueError(
            f"weights must have {n_neurons} rows, one a neuron of activations, "
            f"got {weights.shape[0]}."
        )
    bias = np.asarray(bias)
    if bias.dtype.kind not in "biuf":
        raise ValueError(f"bias must hold real numbers, got dtype {bias.dtype}.")
    bias = bias.astype(np.float64)
    if bias.shape != (weights.shape[1],) or not np.isfinite(bias).all():
        raise ValueError(
            f"bias must be {weights.shape[1]} finite numbers, one a class, "
            f"got {bias.ravel()[:3].tolist()} of shape {bias.shape}."
        )
    y = check_labels(labels, n_images, weights.shape[1])
    simulated, index = _check_rows(simulated_val, simulated_test, val_index, test_index)
    _check_columns(simulated, n_neurons, "one a neuron of activations")
    _check_near(
        activations,
        "activations",
        "subtract the neurons' means from activations and simulations, and add means @ weights to "
        "bias.",
    )
    tiles, w = {}, np.asarray(weights, np.float64)
    for part, rows in index.items():
        if rows.min() < 0 or rows.max() >= n_images:
            raise ValueError(
                f"{part}_index must be rows of activations, whole numbers from 0 to "
                f"{n_images - 1}, got {rows[:5].tolist()}."
            )
        values = np.asarray(activations[rows], np.float32)
        logits = (values.astype(np.float64) @ w + bias).astype(np.float32)
        tiles[part] = [(len(rows), Recorded(values, logits, y[rows], None))]
    edit = functools.partial(linear_change, np.asarray(weights, np.float32), memory=memory)
    return _score(edit, "linear", tiles, simulated, np.arange(n_neurons), optim, temperature)


class _Part(NamedTuple):
    """Validation or test images of one block of neurons."""

    edit: Callable[..., Changed]  # recorded, values, neurons, temperature, want → ΔL, slope
    tiles: _Tiles
    simulated: np.ndarray
    temperature: float

    def change(self, values, neurons, want="slope"):
        """ΔL and slope (images, columns)."""
        found, start = [], 0
        for n, recorded in self.tiles:
            padded = np.zeros((len(recorded.labels), values.shape[1]), np.float32)
            padded[:n] = values[start : start + n]
            changed = self.edit(recorded, padded, neurons, self.temperature, want)
            found.append([None if x is None else np.asarray(x)[:n] for x in changed])
            start += n
        delta, slope = zip(*found, strict=True)
        return np.concatenate(delta), None if slope[0] is None else np.concatenate(slope)


def _score(
    edit, path, tiles: Mapping[str, _Tiles], simulated, neurons, optim, temperature
) -> Ablation:
    """All scores, a block of neurons at a time; `simulated` holds the columns of `neurons`."""
    simulated = {part: np.asarray(values, np.float64) for part, values in simulated.items()}
    if temperature is None:
        logits, y = (
            np.concatenate([np.asarray(getattr(t, name))[:n] for n, t in tiles["val"]])
            for name in ("logits", "labels")
        )
        temperature = fit_temperature(logits, y).value
    activations = np.concatenate([np.asarray(t.activations)[:n] for n, t in tiles["val"]])
    n_val, n_test = len(simulated["val"]), len(simulated["test"])
    step = max(1, _BLOCK_BYTES // (12 * max(n_val, n_test)))
    blocks = []
    for start in range(0, len(neurons), step):
        block = slice(start, start + step)
        val, test = (
            _Part(edit, tiles[part], simulated[part][:, block], temperature)
            for part in ("val", "test")
        )
        some = neurons[block]
        blocks.append(_block(val, test, activations[:, some], some, optim == "reference"))
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    without_effect = int(columns.pop("without_effect").sum())
    return Ablation(
        **columns,
        neurons=neurons,
        temperature=float(temperature),
        path=path,
        n_val=n_val,
        n_test=n_test,
        n_without_effect=without_effect,
    )


def _block(val: _Part, test: _Part, activations, neurons, reference):
    """All about one block of neurons; `activations` (validation images, neurons)."""
    on_val = functools.partial(val.change, want="loss")
    constant = affine.best_constant(on_val, activations, neurons)
    maps = {
        "norm": affine.norm(val.simulated, activations),
        "optim": affine.optim(
            val.change, val.simulated, activations, neurons, constant=constant, reference=reference
        ),
        "constant": (np.zeros_like(constant), constant),
    }
    mean = activations.astype(np.float64).mean(axis=0)
    found = {}
    for part, prefix in ((val, "val_"), (test, "")):
        loss = functools.partial(part.change, want="loss")
        at_mean = affine.total_change(loss, np.broadcast_to(mean, part.simulated.shape), neurons)
        effect = at_mean > 0
        for name, (scale, shift) in maps.items():
            total = affine.total_change(loss, scale * part.simulated + shift, neurons)
            ratio = total / np.where(effect, at_mean, 1.0)
            found[prefix + name] = np.where(effect, 1 - ratio, 0.0).astype(np.float32)
        found["without_effect"] = ~effect  # on test, which comes last
    for name in ("optim", "norm"):
        found |= {f"{name}_scale": maps[name][0], f"{name}_shift": maps[name][1]}
    excess = found["optim"] - np.maximum(found["constant"], 0)
    return found | {"excess": excess, "constant_value": constant}


def _gather(tail: Tail, tiles) -> _Tiles:
    """(real images, tile) of all tiles; where the tail is linear, as one."""
    tiles = [(rows.stop - rows.start, recorded) for rows, recorded in tiles]
    if tail.path == "suffix":
        return tiles
    activations, logits, labels = (
        np.concatenate([np.asarray(getattr(recorded, name))[:n] for n, recorded in tiles])
        for name in ("activations", "logits", "labels")
    )
    return [(len(labels), Recorded(activations, logits, labels, None))]


def _check_optim(optim, labels) -> None:
    if optim not in OPTIM:
        raise ValueError(f"unknown optim {optim!r}; valid: {', '.join(OPTIM)}.")
    if labels is None:
        raise ValueError("ablation needs labels, one class number an image; got none.")


def _check_options(temperature, memory) -> tuple[float | None, int | None]:
    if temperature is not None:
        temperature = number("temperature", temperature, float, above=0)
    return temperature, None if memory is None else number("memory", memory, int, low=1)


def _check_near(x: Array, name: str, remedy: str) -> None:
    """Raises a ValueError for a column so far from 0 that float32 would lose what varies."""
    units = find_units(x)
    if units is not None and units.far.any():
        raise ValueError(
            f"{name} of neuron {int(np.flatnonzero(units.far)[0])} lie too far from 0 for float32 "
            f"to resolve: {remedy}"
        )


def _check_rows(simulated_val, simulated_test, val_index, test_index):
    """Simulations and row numbers by part, or a ValueError unless each has as many rows."""
    simulated = {"val": simulated_val, "test": simulated_test}
    index = {"val": np.asarray(val_index), "test": np.asarray(test_index)}
    for part, rows in index.items():
        simulated[part] = as_matrix(simulated[part], f"simulated_{part}")
        remedy = "subtract each neuron's mean on validation images from both parts."
        _check_near(simulated[part], f"simulated_{part}", remedy)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(
                f"{part}_index must be image numbers, got {rows.dtype} of shape {rows.shape}."
            )
        if len(rows) != simulated[part].shape[0]:
            raise ValueError(
                f"simulated_{part} must have {len(rows)} rows, one an image, "
                f"got {simulated[part].shape[0]}."
            )
    return simulated, index


def _check_columns(simulated, n_neurons: int, which: str) -> None:
    for part, values in simulated.items():
        if values.shape[1] != n_neurons:
            raise ValueError(
                f"simulated_{part} must have {n_neurons} columns, {which}, got {values.shape[1]}."
            )
