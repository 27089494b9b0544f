"""Claim: an untrained network that is compared with others gets at most 5 % of its neurons "better
explained", a trained one most of its own, and counts do not depend on the seed of a permutation.

    python -m jaxle.launch --config configs/quickstart.py
    python benchmarks/controls.py runs/quickstart

1. Of each tap and method by labels, simulated by labels: the trained network against all untrained
   ones; each untrained one held out, against the others; beside it what ranks among the others'
   neurons would give ("pooled").
2. The count of neurons explained at all, by permuted test images, over ten seeds.
3. Networks that are drawn alike, S + 1 at a time, one of them held out: the share of its neurons
   that count as better, for distributions that the formula assumes and others.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jaxle  # noqa: E402
from jaxle.evaluation.controls import better_than_controls  # noqa: E402
from jaxle.evaluation.discoveries import benjamini_hochberg  # noqa: E402
from jaxle.evaluation.permutation import permutation_test  # noqa: E402
from jaxle.evaluation.scores import live  # noqa: E402

SEEDS, TRIALS, NEURONS = 10, 200, 64
BETWEEN, WITHIN = (0.03, 0.09, 0.2), 0.12  # sd of artanh ρ, of networks' means and their neurons


def pooled(rho: np.ndarray, controls: list[np.ndarray]) -> int:
    """Returns how many neurons ranks among all the controls' neurons would find."""
    pool = np.sort(np.concatenate(controls))
    above = len(pool) - np.searchsorted(pool, rho, side="left")
    return benjamini_hochberg((1 + above) / (1 + len(pool))).n_found


def of_run(run) -> None:
    """Prints parts 1 and 2."""
    names = list(run.index["arrays"]["networks"])
    networks = [name for name in names if name.startswith("untrained")]
    heads, held, stable = [], [], []
    methods = [name for name in run.methods if run.config.methods[name].concepts == "label"]
    for tap in run.taps:
        for method in methods:
            matrix, search = run.concept_matrix(method), run.config.methods[method].explainer
            probs = np.asarray(matrix.rows(np.arange(len(run.names))))
            rho, counts = {}, {}
            for name in ("trained", *networks):
                values = run.activations(tap, name)
                found = jaxle.explain(
                    values, probs, matrix.concepts, split=run.split, search=search
                )
                s = jaxle.simulate(found, probs, matrix.concepts, run.split.test)
                a = np.asarray(values[run.split.test])
                rho[name] = np.asarray(jaxle.correlation(s, a), np.float64)[live(found)]
                if name in ("trained", networks[0]):
                    counts[name] = [
                        benjamini_hochberg(permutation_test(s, a, seed=i).p_values[live(found)])
                        for i in range(SEEDS)
                    ]
            others = [rho[name] for name in networks]
            about = {"tap": tap, "method": method}
            got = better_than_controls(rho["trained"], others)
            heads.append({**about, "headline": str(got)})
            for name in networks:
                rest = [rho[other] for other in networks if other != name]
                own = better_than_controls(rho[name], rest)
                n, p = len(rho[name]), own.smallest_p
                row = {**about, "held out": name, "mean ρ": rho[name].mean(), "neurons": n}
                row |= {"better": own.n_found, "pooled": pooled(rho[name], rest), "smallest p": p}
                held.append(row)
            for name, many in counts.items():
                n = [one.n_found for one in many]
                stable.append({**about, "network": name, "least": min(n), "most": max(n)})
    for row in heads:
        print(f"{row['tap']} · {row['method']}: {row['headline']}")
    table = pd.DataFrame(held)
    print(f"\n{table.round(3).to_string(index=False)}")
    share = [(table[name] / table["neurons"]).mean() for name in ("better", "pooled")]
    print(f"held out, mean share of neurons: {share[0]:.3f}, pooled {share[1]:.3f}")
    print(f"\nexplained at all, {SEEDS} seeds\n{pd.DataFrame(stable).to_string(index=False)}")


def drawn(rng: np.random.Generator, n: int, kind: str, between: float) -> np.ndarray:
    """Returns correlations of networks that are drawn alike, (networks, neurons)."""
    moved = {
        "t(3) means": lambda: rng.standard_t(3, n) / np.sqrt(3),
        "skewed means": lambda: rng.exponential(size=n) - 1,
    }.get(kind, lambda: rng.normal(size=n))()
    noise = rng.normal(size=(n, NEURONS))
    if kind == "skewed neurons":
        noise = rng.exponential(size=(n, NEURONS)) - 1
    if kind == "own spreads":
        noise *= rng.lognormal(0, 0.3, size=(n, 1))
    return np.tanh(0.25 + between * moved[:, None] + WITHIN * noise)


def simulations() -> None:
    """Prints part 3."""
    rows, rng = [], np.random.default_rng(0)
    for kind in ("normal", "t(3) means", "skewed means", "skewed neurons", "own spreads"):
        for between in BETWEEN:
            for n in (4, 5, 10):
                shares = np.zeros((TRIALS, 2))
                for trial in shares:
                    held_out, *others = drawn(rng, n + 1, kind, between)
                    trial[:] = (
                        better_than_controls(held_out, others).n_found,
                        pooled(held_out, others),
                    )
                better, ranks = shares.mean(axis=0) / NEURONS
                row = {"networks": kind, "sd of means": between, "controls": n}
                rows.append({**row, "better": better, "pooled": ranks})
    print(f"\nshare of a held-out network's {NEURONS} neurons, {TRIALS} trials")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def main() -> None:
    """Prints all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", help="a finished run with controls; none: part 3 alone")
    options = parser.parse_args()
    if options.run:
        of_run(jaxle.load_run(options.run))
    simulations()


if __name__ == "__main__":
    main()
