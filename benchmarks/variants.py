"""Claim: which additions improve the preconditioned search, and what the searches' settings do.

    python benchmarks/variants.py [--quick]

Prototypes on `benchmarks/forward.py`, float64 NumPy, each against docs/method.md §9 without its
exchanges ("base") at equal length:

    stability   the same number of concepts per neuron, but those that 20 bootstrap resamples of the
                images select most often
    one s.e.    the shortest path whose fold correlation is within one standard error (over folds)
                of its best; base is given the min_gain at which its mean length is no less
    superclass  children of one superclass with weights within a quarter of their mean become the
                superclass, where the folds lose at most min_gain a concept saved; base as above
    swaps       the same number of concepts; each in turn gives way to whichever explains most of
                the teacher's prediction beside the others
    no teacher  (control) the same number of concepts, selected for the activation itself
    vote        (control) the same number of concepts, the largest standardised weights of the
                teacher itself

on the 112 neurons of the shipped scenes network (6,000 images, all 110 concepts) and on planted
neurons (benchmarks/recovery.py). A variant stays if it wins by more than twice the standard error
of the paired difference. Then, on the network's layer3, both searches of the library at other
settings than their defaults.
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import jaxle  # noqa: E402
from benchmarks import recovery  # noqa: E402
from benchmarks.forward import (  # noqa: E402
    FOLDS,
    MIN_GAIN,
    PIVOT,
    Path,
    correlations,
    cut,
    forward,
    inverse,
    lengths,
    lengths_of_mean,
    merge,
    moments,
    path,
    refit,
    teacher,
)
from jaxle.data.splits import make_split  # noqa: E402
from jaxle.scenes import CONCEPTS, render  # noqa: E402
from jaxle.scenes.vocabulary import SUPERCLASSES  # noqa: E402

RESAMPLES = 20
IMAGES, TAPS = 6_000, ("layer1", "layer2", "layer3")
AGAIN = (1, 2, 3)  # worlds of the scenes, and splits, for a second look


# --- the variants: each gives (order, base's order at equal length) ---


def stability(folds, base: Path, rows, **_):
    """Most often selected over bootstrap resamples of all images but test."""
    x, y = rows
    rng, length = np.random.default_rng(0), lengths(base.rho)
    votes = np.zeros((len(length), x.shape[1]))
    part = np.arange(len(x)) % FOLDS
    for _ in range(RESAMPLES):
        weight = rng.multinomial(len(x), np.full(len(x), 1 / len(x))).astype(float)
        resampled = [moments(x[part == f], y[part == f], weight[part == f]) for f in range(FOLDS)]
        total = merge(resampled)
        order = cut(forward(total.gram, total.gram @ teacher(resampled)), length)
        for slot in range(order.shape[1]):
            of = np.flatnonzero(order[:, slot] >= 0)
            votes[of, order[of, slot]] += 1 + 1e-3 * (
                order.shape[1] - slot
            )  # ties go to what is selected earlier
    order = np.argsort(-votes, axis=1, kind="stable")[:, : base.order.shape[1]]
    return cut(order, length), cut(base.order, length)


def one_standard_error(folds, base: Path, **_):
    """Shortest within one standard error of the best."""
    mean, n_folds = base.rho.mean(axis=2), base.rho.shape[2]
    best = mean.argmax(axis=1)
    error = base.rho[np.arange(len(best)), best].std(axis=1, ddof=1) / np.sqrt(n_folds)
    length = (mean >= (mean.max(axis=1) - error)[:, None]).argmax(axis=1) + 1
    return cut(base.order, length), cut(base.order, lengths_of_mean(base.rho, length.mean()))


def superclass(folds, base: Path, children, **_):
    """Children of equal weight give way to their superclass."""
    total = merge(folds)
    rests = [merge([other for other in folds if other is not fold]) for fold in folds]
    order = cut(base.order, lengths(base.rho))
    weights = refit(total, order)

    def mean_rho(chosen):
        return np.mean(
            [
                correlations(refit(rest, chosen), fold)
                for rest, fold in zip(rests, folds, strict=True)
            ],
            axis=0,
        )

    score = mean_rho(order)
    for above, below in children.items():
        inside = np.isin(order, below) & (order >= 0)
        w = np.where(inside, np.take_along_axis(weights.T, np.where(inside, order, 0), axis=1), 0.0)
        count = inside.sum(axis=1)
        mean = w.sum(axis=1) / np.maximum(count, 1)
        alike = np.all(
            ~inside | (np.abs(w - mean[:, None]) <= 0.25 * np.abs(mean)[:, None]), axis=1
        )
        wanted = (count >= 2) & alike & ~(order == above).any(axis=1)
        if not wanted.any():
            continue
        tried = np.where(inside, -1, order)
        tried[np.arange(len(order)), inside.argmax(axis=1)] = above
        tried = np.where(wanted[:, None], tried, order)
        new = mean_rho(tried)
        taken = wanted & (new >= score - MIN_GAIN * (count - 1))
        order, score = np.where(taken[:, None], tried, order), np.where(taken, new, score)
        weights = refit(total, order)
    return order, cut(base.order, lengths_of_mean(base.rho, (order >= 0).sum(axis=1).mean()))


def swaps(folds, base: Path, **_):
    """Forward selection, then exchanges until none helps or thrice round."""
    total, order = merge(folds), cut(base.order, lengths(base.rho))
    size = inverse(np.sqrt(np.diag(total.gram)))
    gram = total.gram * size[:, None] * size[None, :]
    target = (size[:, None] * (total.gram @ teacher(folds))).T  # (neurons, concepts)
    for _ in range(3):
        before = order
        for slot in range(order.shape[1]):
            rest = np.where(np.arange(order.shape[1])[None, :] == slot, -1, order)
            used, index = rest >= 0, np.where(rest >= 0, rest, 0)
            both = used[:, :, None] & used[:, None, :]
            inner = np.linalg.pinv(
                np.where(both, gram[index[:, :, None], index[:, None, :]], np.eye(order.shape[1])),
                hermitian=True,
            )
            shared = gram[index] * used[:, :, None]  # (neurons, slots, concepts)
            solved = np.einsum("kst,ktm->ksm", inner, shared)
            left = target - np.einsum(
                "ksm,ks->km", solved, np.take_along_axis(target, index, axis=1) * used
            )
            var = (size > 0)[None, :] - np.sum(solved * shared, axis=1)
            best = np.where(var > PIVOT, left**2 / np.where(var > PIVOT, var, 1.0), -1.0).argmax(
                axis=1
            )
            filled = np.arange(order.shape[1])[None, :] == slot
            order = np.where(filled & (order >= 0), best[:, None], order)
        if (order == before).all():
            break
    return order, cut(base.order, lengths(base.rho))


def no_teacher(folds, base: Path, **_):
    """Forward selection for the activation itself."""
    total, length = merge(folds), lengths(base.rho)
    return cut(forward(total.gram, total.cross), length), cut(base.order, length)


def vote(folds, base: Path, **_):
    """The teacher's own largest standardised weights."""
    total = merge(folds)
    effect = np.abs(teacher(folds) * np.sqrt(np.diag(total.gram))[:, None])
    length = lengths(base.rho)
    return cut(np.argsort(-effect.T, axis=1, kind="stable")[:, : base.order.shape[1]], length), cut(
        base.order, length
    )


VARIANTS = {
    "stability": stability,
    "one s.e.": one_standard_error,
    "superclass": superclass,
    "swaps": swaps,
    "no teacher": no_teacher,
    "vote": vote,
}


# --- the run ---


def compare(
    probs: np.ndarray, activations: np.ndarray, children: dict, rows, test, truth=None
) -> dict[str, dict[str, np.ndarray]]:
    """Each variant's and its base's test correlation, length and (with a truth) F1.

    "name" and "name, base" → mark → (neurons,).
    """
    x, y = probs[rows].astype(np.float64), activations[rows].astype(np.float64)
    part = np.arange(len(x)) % FOLDS
    folds = [moments(x[part == f], y[part == f]) for f in range(FOLDS)]
    base, total = path(folds), merge(folds)
    held = moments(probs[test].astype(np.float64), activations[test].astype(np.float64))
    found = {}
    for name, variant in VARIANTS.items():
        orders = variant(folds, base, children=children, rows=(x, y))
        differs = (np.sort(orders[0], axis=1) != np.sort(orders[1], axis=1)).any(axis=1)
        for label, order in zip((name, f"{name}, base"), orders, strict=True):
            chosen = np.zeros((len(order), x.shape[1] + 1), bool)
            np.put_along_axis(chosen, np.where(order >= 0, order, x.shape[1]), True, axis=1)
            chosen = chosen[:, :-1]
            found[label] = {
                "ρ": correlations(refit(total, order), held),
                "length": chosen.sum(axis=1).astype(float),
                "differs": differs,
            }
            if truth is not None:
                found[label]["F1"] = (
                    2 * (chosen & truth.T).sum(axis=1) / (chosen.sum(axis=1) + truth.sum(axis=0))
                )
    return found


def children_of(concepts) -> dict[int, list[int]]:
    """Column of a superclass → the columns of its members."""
    place = {concept: j for j, concept in enumerate(concepts)}
    members = {
        place[name]: [place[m] for m in below if m in place]
        for name, below in SUPERCLASSES.items()
        if name in place
    }
    return {above: below for above, below in members.items() if len(below) > 1}


def print_comparison(title: str, found: dict[str, dict[str, np.ndarray]]) -> None:
    for name in VARIANTS:
        one, base = found[name], found[f"{name}, base"]
        cells = [
            f"{one['length'].mean():.2f}",
            f"{base['length'].mean():.2f}",
            f"{one['differs'].mean():.0%}",
        ]
        for mark in ("ρ", "F1"):
            if mark not in one:
                cells += ["", ""]
                continue
            gain = one[mark] - base[mark]
            mean, error = gain.mean(), gain.std(ddof=1) / np.sqrt(len(gain))
            verdict = (
                "wins" if mean > 2 * error else "loses" if mean < -2 * error else "no difference"
            )
            cells += [f"{base[mark].mean():.4f}", f"{mean:+.5f} ± {error:.5f} {verdict}"]
        print(f"| {title} | {name} | {' | '.join(cells)} |")


def network(n_images: int, taps, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (images, concepts) of a world's images and the shipped network's activations.

    Activations (images, neurons) are pooled.
    """
    scenes, model = render(np.arange(n_images), seed), jaxle.load_model("scenes_resnet")
    return scenes.concept_labels.astype(np.float32), np.concatenate(
        [model.activations(scenes.images, tap) for tap in taps], axis=1
    )


DEFAULTS = {"lam": 0.05 / 0.99, "min_gain": 0.02, "n_candidates": 10, "max_concepts": 10}
SETTINGS = {
    "lam": (0.0125, 0.025, 0.05 / 0.99, 0.1, 0.2),
    "min_gain": (0.0025, 0.005, 0.01, 0.02, 0.04),
    "n_candidates": (3, 5, 10, 20, 40),
    "max_concepts": (2, 3, 5, 10, 15),
}
SIGNS = {"lam": "λ", "min_gain": "ε", "n_candidates": "r", "max_concepts": "v"}
READ_BY = {"greedy": tuple(SETTINGS), "preconditioned": ("min_gain", "max_concepts")}


def sensitivity(probs: np.ndarray, activations: np.ndarray) -> None:
    """Mean test correlation and length of both searches, one setting changed at a time."""
    known: dict = {}
    split = make_split(len(probs), 0)

    def score(
        search: str, options: dict, mean_length: float | None = None
    ) -> tuple[np.ndarray, float]:
        options = {name: {**DEFAULTS, **options}[name] for name in READ_BY[search]}
        key = (search, mean_length, *options.values())
        if key not in known:
            explained = jaxle.explain(
                activations,
                probs,
                CONCEPTS,
                split=split,
                search=search,
                mean_length=mean_length,
                **options,
            )
            simulated = jaxle.simulate(explained, probs[split.test], CONCEPTS)
            known[key] = (
                jaxle.correlation(simulated, activations[split.test]),
                float(explained.lengths.mean()),
            )
        return known[key]

    heads = ("setting", "greedy: ρ", "length", "preconditioned: ρ", "length")
    heads += ("no longer than greedy: ρ", "length", "its ρ − greedy's")
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|")
    for name, values in SETTINGS.items():
        for value in values:
            (greedy, short), (ours, long) = (
                score(search, {name: value}) for search in ("greedy", "preconditioned")
            )
            equal, length = score("preconditioned", {name: value}, mean_length=short)
            star = " (default)" if value == DEFAULTS[name] else ""
            read = "" if name in READ_BY["preconditioned"] else " (not read)"
            cells = [
                f"{SIGNS[name]} = {value:.3g}{star}",
                f"{greedy.mean():.4f}",
                f"{short:.2f}",
                f"{ours.mean():.4f}{read}",
                f"{long:.2f}",
                f"{equal.mean():.4f}",
                f"{length:.2f}",
                "{:+.4f} ± {:.4f}".format(*recovery.interval(equal - greedy)),
            ]
            print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description="variants of the preconditioned search")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="2,000 images, one world of planted neurons, no settings: under a minute",
    )
    args = parser.parse_args()
    n_images, worlds = (2_000, 1) if args.quick else (IMAGES, 2)
    probs, activations = network(n_images, TAPS)
    print(
        f"{os.cpu_count()} cores; {n_images:,} images, {activations.shape[1]} neurons; "
        f"{RESAMPLES} resamples, {FOLDS} folds\n"
    )
    heads = ("data", "variant", "length", "base's length", "differ", "base's ρ")
    heads += ("ρ − base's ± s.e.", "base's F1", "F1 − base's ± s.e.")
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    split = make_split(n_images, 0)
    rows = np.concatenate([split.train, split.val])
    print_comparison(
        "network", compare(probs, activations, children_of(CONCEPTS), rows, split.test)
    )
    if not args.quick:  # does what won win again?
        draws = []
        for seed in AGAIN:
            other, split = network(n_images, TAPS, seed), make_split(n_images, seed)
            draws.append(
                compare(
                    *other,
                    children_of(CONCEPTS),
                    np.concatenate([split.train, split.val]),
                    split.test,
                )
            )
        mean = {
            label: {mark: np.mean([draw[label][mark] for draw in draws], axis=0) for mark in marks}
            for label, marks in draws[0].items()
        }
        print_comparison(f"network, mean of {len(AGAIN)} other draws", mean)
    matrix = recovery.scenes_labels()
    test = np.arange(recovery.PROBE, recovery.PROBE + recovery.TEST)
    made = [recovery.world(matrix, i) for i in range(worlds)]
    for n in (500,) if args.quick else (500, 2_000, 10_000):
        parts = []
        for one in made:
            split = make_split(n, 0)
            rows = one.order[np.concatenate([split.train, split.val])]
            parts.append(
                compare(
                    matrix.probs,
                    one.activations,
                    children_of(matrix.concepts),
                    rows,
                    test,
                    one.weights != 0,
                )
            )
        joined = {
            label: {
                mark: np.concatenate([part[label][mark] for part in parts])
                for mark in parts[0][label]
            }
            for label in parts[0]
        }
        print_comparison(f"planted, N = {n:,}", joined)
    if not args.quick:
        print()
        sensitivity(probs, activations[:, -64:])  # layer3


if __name__ == "__main__":
    main()
