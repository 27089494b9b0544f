"""What a run's neurons do for the network, and how much of it their explanations keep: temperature, ablation scores, Top Impact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxle.evaluating import simulated
from jaxle.evaluation.ablation import ablation_scores
from jaxle.evaluation.impact import BETAS, top_impact
from jaxle.evaluation.replacement import Tail, open_tail
from jaxle.evaluation.temperature import fit_temperature
from jaxle.matrices import probed
from jaxle.run import TRAINED, Made, Run, once, split_key, where

LOGITS = 256  # images a step


def check(x: Run) -> None:
    """Raise a ValueError where ablation or Top Impact is asked for and the labels are not of the network's classes."""
    if x.config["evaluation"]["ablation"] or x.config["evaluation"]["impact"]:
        labels(x)
        if len(x.split.val) == 0:
            raise ValueError(
                "ablation scores and Top Impact need validation images, got none: change data.split_fractions."
            )


def labels(x: Run) -> np.ndarray:
    """(images,) int32: every image's class by the network's numbers. Raises ValueError where there is none."""
    if x.source.labels is None:
        raise ValueError("ablation scores and Top Impact need class labels: these data have none.")
    model, data = x.targets[TRAINED].class_names, x.source.class_names
    place = {name.lower(): i for i, name in enumerate(model)}
    unknown = [name for name in data if name.lower() not in place]
    if unknown:
        raise ValueError(
            f"ablation scores and Top Impact need labels of the network's own classes: it knows no {', '.join(map(repr, unknown[:3]))}; "
            f"its classes are {', '.join(model[:3]) or 'unnamed'}…; name them in target.class_names."
        )
    return np.array([place[name.lower()] for name in data], np.int32)[np.asarray(x.source.labels)]


def images(x: Run, index: np.ndarray) -> np.ndarray:
    """uint8 (images, size, size, 3) of the rows asked for, fitted for the target."""
    fit = x.targets[TRAINED].preprocess.fit
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda i: fit(x.source[int(i)][0]), index)))


def temperature(x: Run) -> Made:
    """Fact `temperature`, calibrated on the validation images."""

    def make(_):
        model, rows = x.targets[TRAINED], x.split.val
        parts = [
            model.logits(images(x, rows[start : start + LOGITS]), LOGITS)
            for start in range(0, len(rows), LOGITS)
        ]
        found = fit_temperature(np.concatenate(parts), labels(x)[rows])
        return {}, {"temperature": found.value, "capped": found.capped}

    return once(
        x,
        "score-temperature",
        "temperature",
        {"probe": probed(x, TRAINED).key, "val": x.split.val.tolist()},
        make,
    )


def _tail(x: Run, tap: str) -> Tail:
    if tap not in x.tails:
        x.tails[tap] = open_tail(
            x.targets[TRAINED], tap, x.config["target"]["pool"], images(x, x.split.val[:4])
        )
    return x.tails[tap]


def ablated(x: Run, tap: str, method: str, simulator: str) -> Made:
    """Arrays: columns of scores.csv, (neurons,); `ablation_scored` tells those that were. Facts: what was used."""
    options, foreseen = x.config["evaluation"], simulated(x, TRAINED, tap, method, simulator)
    heat = temperature(x).artifact.facts["temperature"]

    def make(_):
        tail, arrays = _tail(x, tap), foreseen.artifact.arrays
        most = options["ablation_neurons"] or tail.n_neurons
        neurons = None
        if tail.path != "linear" and most < tail.n_neurons:
            neurons = np.sort(
                np.random.default_rng(x.config["seed"]).permutation(tail.n_neurons)[:most]
            )
        got = ablation_scores(
            x.targets[TRAINED],
            tap,
            x.config["target"]["pool"],
            lambda index: images(x, index),
            labels(x),
            arrays["val"],
            arrays["test"],
            x.split.val,
            x.split.test,
            optim=options["ablation"],
            temperature=heat,
            max_images=options["ablation_images"],
            neurons=neurons,
            seed=x.config["seed"],
            tail=tail,
        )
        columns = {"ablation_scored": np.zeros(tail.n_neurons, bool)}
        columns["ablation_scored"][got.neurons] = True
        for name in ("optim", "norm"):
            columns[f"ablation_{name}"] = np.zeros(tail.n_neurons, np.float32)
            columns[f"ablation_{name}"][got.neurons] = getattr(got, name)
        facts: dict[str, Any] = {
            name: getattr(got, name)
            for name in ("path", "n_val", "n_test", "n_without_effect", "temperature")
        }
        return columns, {
            "ablation": facts | {"procedure": options["ablation"], "n_neurons": len(got.neurons)}
        }

    read = {name: options[name] for name in ("ablation", "ablation_images", "ablation_neurons")}
    fields = {
        "simulate": foreseen.key,
        "temperature": heat,
        "split": split_key(x.split),
        "seed": x.config["seed"],
        **read,
    }
    return once(
        x, "score-ablation", f"{where(TRAINED, tap, method)} by {simulator}, ablation", fields, make
    )


def impacted(x: Run, tap: str) -> Made:
    """Arrays of `evaluation.impact.Impact`: `table` (neurons, betas), `curve_at` and `curve` (points,), …. Facts: the means."""
    heat = temperature(x).artifact.facts["temperature"]

    def make(_):
        pools = {tap: x.config["target"]["pool"]}
        every = np.arange(len(x.source))
        got = top_impact(
            x.targets[TRAINED],
            pools,
            lambda index: images(x, index),
            labels(x),
            every,
            temperature=heat,
        )[tap]
        arrays = {
            name: getattr(got, name)
            for name in ("table", "curve_at", "curve", "accuracy_lost", "loss_gained", "total")
        }
        means = {f"{beta:g}": float(mean) for beta, mean in zip(BETAS, got.mean, strict=True)}
        return arrays, {
            "path": got.path,
            "n_images": got.n_images,
            "n_without_effect": got.n_without_effect,
            "mean": means,
        }

    fields = {
        "probe": probed(x, TRAINED).key,
        "tap": tap,
        "pool": x.config["target"]["pool"],
        "temperature": heat,
    }
    return once(x, "score-impact", f"{tap}, Top Impact", fields, make)
