"""Claim: how much of a planted truth each search finds, at 500, 2,000 and 10,000 images.

    python benchmarks/recovery.py [--quick] [--plot docs/recovery.png]

Neurons are planted (`jaxle.scenes.planted`) over the identifiable columns of three matrices: exact
labels of the scenes world, SigLIP probabilities of its pictures, and CIFAR-10's classes and
superclasses. One to six true concepts; a ceiling of 0.8, which is the correlation of the activation
and its least-squares fit on the truth; from the second concept on a fifth of the weights negative;
half of the neurons cut to zero on half of the images; plain ones, ones with correlated distractors,
ones with super- or subclasses that are not in the truth, and polysemantic pairs. Each true concept
carries at least a tenth of what the truth explains by itself, so that the last of them raises the
correlation by 0.8·(1 − √0.9) = 0.041, twice the searches' least gain of 0.02; no other column adds
more than a twentieth, 0.020.

A search sees N images, as a user's call does (70/10/20 split); scores are over 5,000 images that no
search saw. Neurons come from several worlds: images, splits and neurons drawn anew. Intervals are
95 % over neurons; of differences, over paired ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import jaxle  # noqa: E402
from configs import resnet20_cifar10  # noqa: E402
from jaxle.concepts.calibration import calibrate  # noqa: E402
from jaxle.concepts.contrastive import ContrastiveConcepts  # noqa: E402
from jaxle.concepts.hierarchy import resolve_superclasses  # noqa: E402
from jaxle.concepts.labels import LabelConcepts  # noqa: E402
from jaxle.data.splits import make_split  # noqa: E402
from jaxle.explanations import Explanation, Explanations  # noqa: E402
from jaxle.models.class_names import CIFAR10  # noqa: E402
from jaxle.scenes import planted, render  # noqa: E402
from jaxle.scenes.layout import layout, membership  # noqa: E402
from jaxle.scenes.vocabulary import CONCEPTS, IMPLIES  # noqa: E402

PROBE, TEST = 10_000, 5_000
NUMBERS = (500, 2_000, 10_000)
SIZES = (1, 2, 3, 4, 5, 6)
PLANT = {"ceiling": 0.8, "least_share": 0.1, "negative": 0.2}
ZEROS = 0.5
TOP_K = 3  # the true number of concepts is 3.1 on average
WORLDS = 4


class Matrix(NamedTuple):
    """Identifiable columns of a concept matrix."""

    concepts: tuple[str, ...]
    # (images, concepts) float32: PROBE images to explain from, then TEST to score on
    probs: np.ndarray
    implies: np.ndarray  # bool (concepts, concepts): row concept holds => column concept holds
    of: int  # columns before the choice
    # (kind, share of zeros) → the numbers of true concepts that can be planted; few columns do not
    # allow all
    sizes: dict


class World(NamedTuple):
    """Neurons planted over one draw of images."""

    activations: np.ndarray  # (images, neurons)
    weights: np.ndarray  # (concepts, neurons): the truth
    # (neurons,) correlation of the truth's own fit and the activation over the TEST images
    ceiling: np.ndarray
    size: np.ndarray  # (neurons,) true concepts
    kind: np.ndarray  # (neurons,) str
    cut: np.ndarray  # (neurons,) bool: rectified
    order: np.ndarray  # (PROBE,) the order in which images are given to the searches


# --- concept matrices ---


def scenes_labels() -> Matrix:
    """Exact labels of the scenes world."""
    return choose(CONCEPTS, _scene_labels(np.arange(PROBE + TEST)), IMPLIES)


def _scene_labels(index: np.ndarray) -> np.ndarray:
    chunks = np.array_split(index, -(-len(index) // 1000))
    labels = [membership(layout(chunk, 0)).any(axis=1) for chunk in chunks]
    return np.concatenate(labels).astype(np.float32)


def scenes_siglip() -> Matrix:
    """Probabilities of the same concepts by the shipped SigLIP, calibrated on the probe labels."""
    model: Any = jaxle.load_model("scenes_siglip_s")
    index = np.arange(PROBE + TEST)
    embeddings = np.concatenate(
        [model.embed_images(render(chunk, 0).images) for chunk in np.array_split(index, 15)]
    )
    made = ContrastiveConcepts.make(
        CONCEPTS, embeddings, model.embed_texts(list(CONCEPTS)), model.scale, model.shift
    )
    labels = LabelConcepts.make(
        None, (), annotations=(CONCEPTS, _scene_labels(index).astype(np.uint8))
    )
    fitted = calibrate(made.cosines, labels.rows, index[:PROBE])
    made = ContrastiveConcepts.make(
        CONCEPTS, embeddings, model.embed_texts(list(CONCEPTS)), fitted.scale, fitted.shift
    )
    return choose(CONCEPTS, np.asarray(made.rows(index)), IMPLIES)


def cifar_labels() -> Matrix:
    """Ten equally frequent classes and the nine superclasses of configs/resnet20_cifar10.py.

    Class labels are all that is needed.
    """
    config: Any = resnet20_cifar10.get_config()
    superclasses = config.concepts.superclasses.to_dict()
    labels = LabelConcepts.make(
        np.random.default_rng(0).integers(0, 10, PROBE + TEST), CIFAR10, superclasses
    )
    member = np.concatenate(
        [np.eye(10, dtype=bool), resolve_superclasses(superclasses, CIFAR10).membership], axis=1
    )
    outside = member[:, :, None] & ~member[:, None, :]
    implies = np.logical_not(outside.any(axis=0))  # a set within a set
    return choose(labels.concepts, labels.rows(np.arange(PROBE + TEST)), implies)


def choose(concepts, probs: np.ndarray, implies: np.ndarray) -> Matrix:
    """Keep the identifiable columns, superclasses before what they contain.

    So a class that determines its superclass gives way to it.
    """
    kept = planted.identifiable(probs, np.argsort(-np.asarray(implies).sum(axis=0), kind="stable"))
    probs, implies = probs[:, kept], implies[np.ix_(kept, kept)]
    sizes = {
        (kind, zeros): tuple(
            size
            for size in ((2,) if kind == "polysemantic" else SIZES)
            if _plantable(probs[::5], implies, size, kind, zeros)
        )
        for kind in planted.KINDS
        for zeros in (0.0, ZEROS)
    }
    return Matrix(tuple(concepts[j] for j in kept), probs, implies, len(concepts), sizes)


def _plantable(probs, implies, size: int, kind: str, zeros: float) -> bool:
    try:
        planted.plant(probs, [size] * 6, kind=kind, zeros=zeros, implies=implies, **PLANT)
    except ValueError:
        return False
    return True


MATRICES = {
    "scenes labels": scenes_labels,
    "scenes SigLIP": scenes_siglip,
    "CIFAR-10 labels": cifar_labels,
}


def world(matrix: Matrix, number: int, repeats: int = 2) -> World:
    """Neurons of every kind and size, with and without rectification."""
    parts, size, kind, cut = [], [], [], []
    for name in planted.KINDS:
        for zeros in (0.0, ZEROS):
            sizes = list(matrix.sizes[name, zeros]) * (
                6 * repeats if name == "polysemantic" else repeats
            )
            if sizes:
                seed = 1000 * number + len(parts)
                parts.append(
                    planted.plant(
                        matrix.probs,
                        sizes,
                        kind=name,
                        zeros=zeros,
                        implies=matrix.implies,
                        seed=seed,
                        **PLANT,
                    )
                )
                size, kind, cut = (
                    size + sizes,
                    kind + [name] * len(sizes),
                    cut + [zeros > 0] * len(sizes),
                )
    weights, fitted, activations = (
        np.concatenate([getattr(p, name) for p in parts], axis=1)
        for name in ("weights", "fitted", "activations")
    )
    return World(
        activations,
        weights,
        jaxle.correlation(matrix.probs[PROBE:] @ fitted, activations[PROBE:]),
        np.array(size),
        np.array(kind),
        np.array(cut),
        np.random.default_rng(number).permutation(PROBE),
    )


# --- searches ---


def single(
    activations: np.ndarray, probs: np.ndarray, concepts, greedy: Explanations | None
) -> Explanations:
    """The one concept of largest absolute correlation, fitted by least squares.

    The least that a search should beat.
    """
    split = make_split(len(activations), 0)
    rows = np.concatenate([split.train, split.val])
    x, y = probs[rows].astype(np.float64), activations[rows].astype(np.float64)
    x_std, y_std = x.std(0), y.std(0)
    slope = (
        (x - x.mean(0)).T
        @ (y - y.mean(0))
        / len(rows)
        / np.where(x_std > 0, x_std**2, 1.0)[:, None]
    )
    best = np.abs(slope * x_std[:, None] / np.where(y_std > 0, y_std, 1.0)[None, :]).argmax(0)
    weight = slope[best, np.arange(len(best))]
    bias = y.mean(0) - weight * x.mean(0)[best]
    rows_ = tuple(
        Explanation(k, (concepts[j],), (float(w),), float(b))
        for k, (j, w, b) in enumerate(zip(best, weight, bias, strict=True))
    )
    return Explanations(rows_, split=split)


def no_longer(
    activations: np.ndarray, probs: np.ndarray, concepts, greedy: Explanations
) -> Explanations:
    """Preconditioned with `min_gain` set so that the mean length does not exceed greedy's."""
    mean_length = max(1.0, float(greedy.lengths.mean()))
    return jaxle.explain(
        activations, probs, concepts, search="preconditioned", mean_length=mean_length
    )


def _explain(**options):
    return lambda activations, probs, concepts, greedy: jaxle.explain(
        activations, probs, concepts, **options
    )


# (activations, concept_probs, concepts, what greedy found) → Explanations; greedy comes first
SEARCHES = {
    "greedy": _explain(search="greedy"),
    "top-k": _explain(search="top_k", max_concepts=TOP_K),
    "one concept": single,
    "preconditioned": _explain(search="preconditioned"),
    "preconditioned, no teacher": _explain(search="preconditioned", teacher=False),
    "preconditioned, no longer than greedy": no_longer,
}


# --- marks ---


def marks(explanations: Explanations, matrix: Matrix, planted_: World) -> dict[str, np.ndarray]:
    """What each neuron's explanation found; every mark (neurons,) float64."""
    place = {concept: j for j, concept in enumerate(matrix.concepts)}
    found = np.zeros(planted_.weights.shape, bool)
    for k, row in enumerate(explanations):
        found[[place[concept] for concept in row.concepts], k] = True
    true = planted_.weights != 0
    simulated = jaxle.simulate(explanations, matrix.probs[PROBE:], matrix.concepts)
    rho = jaxle.correlation(simulated, planted_.activations[PROBE:]).astype(np.float64)
    exact = (found & true).sum(axis=0)
    return {
        **_rates(exact, found.sum(axis=0), true.sum(axis=0)),
        "F1 up to hierarchy": _rates(
            matched(found, true, matrix.implies), found.sum(axis=0), true.sum(axis=0)
        )["F1"],
        "ρ": rho,
        "ρ / ceiling": rho / planted_.ceiling,
        "length": found.sum(axis=0).astype(np.float64),
    }


def _rates(right, found, true) -> dict[str, np.ndarray]:
    precision, recall = right / np.maximum(found, 1), right / true
    return {"precision": precision, "recall": recall, "F1": 2 * right / (found + true)}


def matched(found: np.ndarray, true: np.ndarray, implies: np.ndarray) -> np.ndarray:
    """(neurons,) int: found concepts that pair with true ones.

    A pair is of the same concept, or of one above the other.
    """
    near = implies | implies.T | np.eye(len(implies), dtype=bool)
    counts = []
    for k in range(found.shape[1]):
        pairs = near[np.ix_(found[:, k], true[:, k])].astype(float)
        counts.append(int(pairs[linear_sum_assignment(pairs, maximize=True)].sum()))
    return np.array(counts)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over neurons."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


# --- the run ---


def measure(matrix: Matrix, numbers, worlds: int, searches=SEARCHES) -> dict:
    """(N, search) → marks of all neurons, and the worlds' facts about them."""
    made = [world(matrix, i) for i in range(worlds)]
    results = {}
    for n in numbers:
        greedy = [None] * len(made)
        for name, search in searches.items():
            parts = []
            for i, one in enumerate(made):
                rows = one.order[:n]
                found = search(
                    one.activations[rows], matrix.probs[rows], matrix.concepts, greedy[i]
                )
                greedy[i] = found if name == "greedy" else greedy[i]
                parts.append(marks(found, matrix, one))
            results[n, name] = {
                mark: np.concatenate([part[mark] for part in parts]) for mark in parts[0]
            }
    facts = {
        field: np.concatenate([getattr(one, field) for one in made])
        for field in ("size", "kind", "cut")
    }
    facts["signed"] = np.concatenate([(one.weights < 0).any(axis=0) for one in made])
    return {"results": results, "facts": facts}


COLUMNS = ("precision", "recall", "F1", "F1 up to hierarchy", "ρ / ceiling", "length")


def print_table(results: dict, numbers, searches) -> None:
    """A row a search and N: means ± 95 %, and paired differences to greedy and top-k."""
    differences = "F1 − greedy's | F1 − top-k's | ρ/ceiling − greedy's"
    print(f"| N | search | {' | '.join(COLUMNS)} | {differences} |")
    print("|" + "---|" * (len(COLUMNS) + 5))
    for n in numbers:
        for name in searches:
            marks_ = results[n, name]
            cells = [
                "{:.3f} ± {:.3f}".format(*interval(marks_[column])) for column in COLUMNS[:-1]
            ] + [f"{marks_['length'].mean():.2f}"]
            for column, other in (("F1", "greedy"), ("F1", "top-k"), ("ρ / ceiling", "greedy")):
                gain = marks_[column] - results[n, other][column]
                cells.append("" if name == other else "{:+.3f} ± {:.3f}".format(*interval(gain)))
            print(f"| {n:,} | {name} | {' | '.join(cells)} |")


def print_slices(results: dict, facts: dict, n: int, searches) -> None:
    """F1 at one N by what was planted."""
    slices = {f"{size} true": facts["size"] == size for size in SIZES}
    slices |= {kind: facts["kind"] == kind for kind in planted.KINDS}
    slices |= {"rectified": facts["cut"], "not rectified": ~facts["cut"]}
    slices |= {"a negative weight": facts["signed"], "all positive": ~facts["signed"]}
    print(f"| F1 at N = {n:,} | neurons | {' | '.join(searches)} |")
    print("|" + "---|" * (len(searches) + 2))
    for label, which in slices.items():
        cells = [
            "{:.3f} ± {:.3f}".format(*interval(results[n, name]["F1"][which])) for name in searches
        ]
        print(f"| {label} | {which.sum()} | {' | '.join(cells)} |")


def plot(measured: dict, numbers, searches, path: str) -> None:
    """F1 and ρ over its ceiling by N, a column a matrix, bars at 95 %."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(measured),
        figsize=(3.6 * len(measured), 5.6),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, (title, one) in enumerate(measured.items()):
        for row, mark in enumerate(("F1", "ρ / ceiling")):
            axis = axes[row, column]
            for i, name in enumerate(searches):
                means, widths = zip(
                    *(interval(one["results"][n, name][mark]) for n in numbers), strict=True
                )
                style = {
                    "linestyle": ":" if "teacher" in name else "-",
                    "zorder": 3 - 0.1 * i,
                    "label": name,
                }
                axis.errorbar(
                    numbers,
                    means,
                    yerr=widths,
                    marker="o",
                    markersize=3.5,
                    capsize=2,
                    linewidth=1.6,
                    **style,
                )
            axis.set_xscale("log")
            axis.set_xticks(numbers, [f"{n:,}" for n in numbers])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.set_ylim(top=1.02)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("images (N)")
    axes[0, 0].set_ylabel("F1 of concepts")
    axes[1, 0].set_ylabel("test ρ / its ceiling")
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description="recovery of planted truths")
    parser.add_argument(
        "--quick", action="store_true", help="one world, without the largest N: under a minute"
    )
    parser.add_argument("--plot", help="where to write the picture (PNG)")
    args = parser.parse_args()
    numbers, worlds = (NUMBERS[:2], 1) if args.quick else (NUMBERS, WORLDS)
    print(
        f"{os.cpu_count()} cores {platform.machine()}; {worlds} worlds; "
        f"scores over {TEST:,} images that no search saw"
    )
    measured = {}
    for title, make in MATRICES.items():
        try:
            matrix = make()
        except ValueError as error:
            if make is not scenes_siglip:
                raise
            print(f"\n{title}: skipped, {error}")
            continue
        measured[title] = measure(matrix, numbers, worlds)
        facts = measured[title]["facts"]
        print(
            f"\n### {title}: {len(facts['size'])} neurons over {len(matrix.concepts)} identifiable "
            f"of {matrix.of} concepts\n"
        )
        numbers_true = [f"{k} {v}" for (k, zeros), v in matrix.sizes.items() if not zeros]
        print(f"numbers of true concepts: {'; '.join(numbers_true)}\n")
        print_table(measured[title]["results"], numbers, SEARCHES)
        for n in (numbers[-1], numbers[0]):
            print()
            print_slices(measured[title]["results"], facts, n, SEARCHES)
    if args.plot:
        plot(measured, numbers, SEARCHES, args.plot)


if __name__ == "__main__":
    main()
