"""Claim: what says nothing of a neuron has no excess over the best constant, while α is above 0.

    python benchmarks/ablation_zero.py [--images 6000]

The scenes network's layer3, explained by the labels of its images (`jaxle.explain`), scored by
`linear_ablation_scores`: the explanations, the explanations of permuted activations, noise, the
best constant, and the mean. Printed are means over neurons on test images. One core, a minute.
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import jaxle  # noqa: E402
from jaxle.data.scenes import ScenesSource  # noqa: E402
from jaxle.evaluation.nulls import PermutedActivations  # noqa: E402
from jaxle.intervention.ablation import linear_ablation_scores  # noqa: E402

TAP = "layer3"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=6000)
    source = ScenesSource(parser.parse_args().images, 0)
    network = jaxle.load_model("scenes_resnet")
    images = np.stack([source[i][0] for i in range(len(source))])
    names, labels = source.annotations[0], source.annotations[1].astype(np.float32)
    q = network.activations(images, TAP)
    dense = network.variables["params"]["linear"]
    tail = np.asarray(dense["kernel"]), np.asarray(dense["bias"])
    real = jaxle.explain(q, labels, names)
    assert real.split is not None
    permuted = jaxle.explain(PermutedActivations(q, real.split, 0, 0)[:], labels, names)
    val, test = real.split.val, real.split.test
    simulations = {
        "explanations": jaxle.simulate(real, labels, names),
        "explanations of permuted activations": jaxle.simulate(permuted, labels, names),
        "noise": np.random.default_rng(0).standard_normal(q.shape),
        "a constant": np.broadcast_to(q[val].mean(axis=0), q.shape),
    }
    print(
        f"{'simulation':<40}{'optim':>8}{'constant':>10}{'excess':>8}{'reference':>11}{'norm':>8}"
    )
    for name, s in simulations.items():
        given = (q, *tail, source.labels, s[val], s[test], val, test)
        best, paper = (linear_ablation_scores(*given, optim=o) for o in ("best", "reference"))
        figures = (best.optim, best.constant, best.excess, paper.optim, best.norm)
        widths = (8, 10, 8, 11, 8)
        print(
            f"{name:<40}"
            + "".join(f"{x.mean():>{w}.3f}" for x, w in zip(figures, widths, strict=True))
        )


if __name__ == "__main__":
    main()
