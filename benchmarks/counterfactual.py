"""Claim: on pairs of pictures that differ in one edit, a trained network's neurons change as their
explanations say, and more than those of untrained ones; companions of a concept do not pass.

    python benchmarks/counterfactual.py [--pairs 800] [--untrained 5]

1. The shipped scenes network against untrained ones (`random_init_seed` 0, 1, …): each explained by
   `jaxle.explain` on the labels of 6,000 images, each tested on the same pairs of other images.
   Printed per layer: agreement, following and correlation (`evaluation.changes`), the difference
   with its 95 % interval over pairs and initialisations, and by kind of edit how strongly networks
   react (`response`, standard deviations) and how far explanations predict it. Where an untrained
   layer's response is large, it truly follows that attribute.
2. Planted neurons that compute one concept exactly, with and without noise: explained by it, and by
   a concept that comes along with it in images while edits toggle the two apart.

One core, about four minutes. CPU.
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np
import pandas as pd

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import jaxle  # noqa: E402
from jaxle.data.scenes import ScenesSource  # noqa: E402
from jaxle.evaluation.contrast import contrast  # noqa: E402
from jaxle.evaluation.counterfactual import Counterfactual, counterfactual  # noqa: E402
from jaxle.explanations import Explanation, Explanations  # noqa: E402
from jaxle.scenes.edits import EditedPairs  # noqa: E402
from jaxle.scenes.vocabulary import CONCEPTS, IMPLIES  # noqa: E402

IMAGES, TAPS = 6000, ("layer1", "layer2", "layer3")
ALIKE, ENOUGH = 0.15, 15  # least correlation of companions; least pairs that toggle a concept


def networks(
    pairs: EditedPairs, source: ScenesSource, n_untrained: int
) -> dict[str, list[Counterfactual]]:
    """Returns tap → the test of the trained network and of each untrained one."""
    images = np.stack([source[i][0] for i in range(len(source))])
    labels = source.annotations[1].astype(np.float32)
    found: dict[str, list[Counterfactual]] = {tap: [] for tap in TAPS}
    for seed in (None, *range(n_untrained)):
        more = {} if seed is None else {"random_init_seed": seed}
        network = jaxle.load_model("scenes_resnet", **more)
        for tap in TAPS:
            explanations = jaxle.explain(network.activations(images, tap), labels, CONCEPTS)
            q_a, q_b = (network.activations(x, tap) for x in (pairs.images_a, pairs.images_b))
            found[tap].append(judge(explanations, q_a, q_b, pairs))
    return found


def companions(pairs: EditedPairs, labels: np.ndarray, share: float) -> tuple[np.ndarray, ...]:
    """Returns (true, named) concepts that come together in images and hardly in edits.

    Edits toggle both on at most a share of the pairs that toggle the named one, and neither is the
    other by definition.
    """
    change = np.abs(pairs.labels_b.astype(int) - pairs.labels_a)
    together = change.T @ change
    times = np.diag(together)
    alike = np.corrcoef(labels.astype(float).T) > ALIKE
    free = alike & ~(IMPLIES | IMPLIES.T) & (together <= share * times[None, :])
    return np.nonzero(free & (times >= ENOUGH)[:, None] & (times >= ENOUGH)[None, :])


def planted(
    pairs: EditedPairs, true: np.ndarray, named: np.ndarray, noise: float
) -> Counterfactual:
    """Returns the test of neurons that compute `true`, explained by `named`."""
    rng = np.random.default_rng(0)
    q_a, q_b = (
        labels[:, true] + noise * rng.normal(size=(len(labels), len(true)))
        for labels in (pairs.labels_a, pairs.labels_b)
    )
    rows = [Explanation(k, (CONCEPTS[int(j)],), (1.0,), 0.0) for k, j in enumerate(named)]
    return judge(Explanations(tuple(rows)), q_a, q_b, pairs)


def judge(
    explanations: Explanations, q_a: np.ndarray, q_b: np.ndarray, pairs: EditedPairs
) -> Counterfactual:
    """Returns the test by the labels of the edits."""
    a, b = pairs.labels_a, pairs.labels_b
    return counterfactual(explanations, q_a, q_b, a, b, CONCEPTS, kinds=pairs.edits)


def main() -> None:
    """Prints both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--untrained", type=int, default=5)
    options = parser.parse_args()
    pd.set_option("display.width", 160)
    source = ScenesSource(IMAGES, 0)
    pairs = source.pairs(options.pairs, 0)

    print(f"planted neurons, {options.pairs} pairs\n")
    labels = source.annotations[1]
    times = np.abs(pairs.labels_b.astype(int) - pairs.labels_a).sum(axis=0)
    every = np.flatnonzero(times >= ENOUGH)
    apart, nearly = (companions(pairs, labels, share) for share in (0.0, 0.1))
    for noise in (0.0, 0.1, 0.3):
        for what, true, named in (
            ("their concept", every, every),
            ("a companion, never toggled together", *apart),
            ("a companion, toggled together on up to 10 %", *nearly),
        ):
            if not len(true):
                print(f"too few pairs for neurons explained by {what}")
                continue
            print(f"noise {noise}, explained by {what}: {planted(pairs, true, named, noise)}")

    for tap, (trained, *untrained) in networks(pairs, source, options.untrained).items():
        print(f"\n{tap}: {trained}")
        for number, one in enumerate(untrained):
            print(f"  untrained {number}: {one}")
        print(contrast(trained, untrained).to_frame().round(3).to_string(index=False))
        frames = [one.kind_frame().set_index("kind") for one in (trained, *untrained)]
        values = np.mean([frame.to_numpy(float) for frame in frames[1:]], axis=0)
        mean = pd.DataFrame(values, frames[0].index, frames[0].columns).drop(columns="n_pairs")
        beside = frames[0].join(mean.add_suffix(" untrained"))
        print(beside.round(3).to_string())


if __name__ == "__main__":
    main()
