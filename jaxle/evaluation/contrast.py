"""A trained network against untrained ones on the same pairs of pictures.

    D = T − (U_1 + … + U_S)/S        of a layer's mean agreement, following, correlation
    D ± t·√(V + s²/S)                V: of D over resampled pairs, the same for all networks
                                     s²: of the U_j, over initialisations

with Student's t, degrees of freedom by Welch and Satterthwaite (S − 1 for the initialisations). The
U_j vary with the pairs, too, so that the interval is a little wide. What it covers is this trained
network against the mean of untrained ones, on other pairs; it does not cover other trainings. An
untrained network follows some attributes, too, such as size and brightness: the question is not
whether it scores, but by how much less.

With one untrained network nothing is known of others, and the interval is over pairs alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.special import stdtrit

from jaxle.arrays import checks_input
from jaxle.evaluation.changes import LEVEL, MEASURES, Mean
from jaxle.evaluation.counterfactual import Counterfactual


@dataclass(frozen=True, eq=False)
class Contrast:
    """A trained network's means minus those of untrained ones, by name of `changes.MEASURES`.

    Attributes:
      trained: the trained network's means.
      untrained: each untrained network's, in the order given.
      difference: of the trained network's and the mean of the others', with its interval.
      p_value: (1 + number of untrained networks that are at least as good)/(1 + their number): how
        often a network that is one of them would be so good. It cannot fall below 1/(1 + number).
      n_pairs: how many pairs.
    """

    trained: Mapping[str, float]
    untrained: Mapping[str, tuple[float, ...]]
    difference: Mapping[str, Mean]
    p_value: Mapping[str, float]
    n_pairs: int

    @property
    def n_untrained(self) -> int:
        """How many untrained networks."""
        return len(next(iter(self.untrained.values())))

    @property
    def facts(self) -> dict[str, float | int]:
        """Flat JSON values, for summary.json."""
        found: dict[str, float | int] = {"n_untrained": self.n_untrained}
        for name, (value, low, high) in self.difference.items():
            found |= {
                f"untrained_{name}": float(np.mean(self.untrained[name])),
                f"{name}_gain": float(value),
                f"{name}_gain_low": float(low),
                f"{name}_gain_high": float(high),
            }
        return found

    def to_frame(self) -> pd.DataFrame:
        """Returns a table with one row a measure."""
        rows = []
        for name, (value, low, high) in self.difference.items():
            others = self.untrained[name]
            row = {"measure": name, "trained": self.trained[name]}
            row |= {"untrained": float(np.mean(others)), "worst": min(others), "best": max(others)}
            row |= {"difference": value, "low": low, "high": high}
            rows.append({**row, "p_value": self.p_value[name]})
        return pd.DataFrame(rows)


@checks_input
def contrast(trained: Counterfactual, untrained: Sequence[Counterfactual]) -> Contrast:
    """Compares a layer of a trained network with the same layer of untrained ones.

    Args:
      trained: of `counterfactual`.
      untrained: of the same layer of networks that learnt nothing, each with explanations of its
        own neurons, on the same pairs of pictures and with the same options; five or more, since
        one of them is a noisy control.

    Raises:
      ValueError: no untrained network, other pairs, or other options of `counterfactual`.
    """
    networks = [trained, *untrained]
    if len(networks) < 2:
        raise ValueError("expected at least one untrained network to compare with, got none.")
    for name, of in (
        ("pairs", lambda one: (len(one.changes.real), one.kinds)),
        ("options", lambda one: tuple(sorted(one.options.items()))),
    ):
        if len({of(one) for one in networks}) > 1:
            raise ValueError(f"the networks were tested with different {name}: expected the same.")
    return contrast_draws(
        trained.draws, [one.draws for one in untrained], len(trained.changes.real)
    )


Draws = Mapping[str, Float64[np.ndarray, " draws"]]  # name of MEASURES → `Counterfactual.draws`


def contrast_draws(trained: Draws, untrained: Sequence[Draws], n_pairs: int) -> Contrast:
    """Returns what `contrast` does, from the means of each network on the same draws."""
    difference, p_value = {}, {}
    for name in MEASURES:
        ours, others = trained[name], np.stack([own[name] for own in untrained])
        difference[name] = _interval(ours - others.mean(axis=0), others[:, 0], n_pairs)
        p_value[name] = (1 + int((others[:, 0] >= ours[0]).sum())) / (1 + len(others))
    first = {name: float(trained[name][0]) for name in MEASURES}
    rest = {name: tuple(float(own[name][0]) for own in untrained) for name in MEASURES}
    return Contrast(first, rest, difference, p_value, n_pairs)


def _interval(moved: np.ndarray, others: np.ndarray, n_pairs: int) -> Mean:
    over_pairs = float(moved[1:].var(ddof=1))
    over_inits = float(others.var(ddof=1)) / len(others) if len(others) > 1 else 0.0
    total = over_pairs + over_inits
    freedom = np.inf
    if total > 0:
        parts = over_pairs**2 / max(n_pairs - 1, 1) + over_inits**2 / max(len(others) - 1, 1)
        freedom = total**2 / parts
    half = float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(total))
    return Mean(float(moved[0]), float(moved[0] - half), float(moved[0] + half))
