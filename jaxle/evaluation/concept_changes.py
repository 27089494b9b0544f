"""What a neuron does when one concept of its explanation comes or goes in a picture.

    effect_kj = mean over pairs that toggle j of  sign(ΔP_j) · Δq_k

An edit toggles several concepts at once, such as red and apple; each is credited with the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from jaxle.evaluation.changes import Estimate, agreement
from jaxle.explanations import Explanations

TOGGLED = 0.5  # change of a probability from which a pair toggles the concept


@dataclass(frozen=True, eq=False)
class ConceptChanges:
    """What a neuron does when a concept of its explanation comes or goes.

    In the order of the explanation's concepts, padded with 0 to the longest.

    Attributes:
      n_pairs: pairs that toggle the concept: its probability changes by ½ or more.
      effect: mean change of the activation as the concept comes, in its standard deviations; 0
        where no pair toggles it.
      agreement: share of those pairs with a change that is not negligible on which the activation
        changes as the weight's sign says.
    """

    n_pairs: Int64[np.ndarray, "neurons longest"]
    effect: Float64[np.ndarray, "neurons longest"]
    agreement: Estimate


def concept_changes(
    explanations: Explanations,
    names: Sequence[str],
    change: Float64[np.ndarray, "pairs used"],
    real: Float64[np.ndarray, "pairs neurons"],
    negligible: float,
) -> ConceptChanges:
    """Returns what neurons do when the concepts of their explanations come or go.

    Args:
      explanations: one row a neuron.
      names: every concept that they use.
      change: of the probabilities of `names`.
      real: change of each neuron, in standard deviations.
      negligible: a smaller one counts as none, for the agreement.
    """
    direction = np.where(np.abs(change) >= TOGGLED, np.sign(change), 0.0)
    times = np.abs(direction).sum(axis=0)
    moved = np.where(np.abs(real) > negligible, np.sign(real), 0.0)
    # (used, neurons): as each concept comes, the mean change; how often up, how often down
    effect = direction.T @ real / np.maximum(times, 1)[:, None]
    net, decided = direction.T @ moved, np.abs(direction).T @ np.abs(moved)
    place = {name: j for j, name in enumerate(names)}
    shape = (len(explanations), max([1, *explanations.terms.tolist()]))
    which, sign = np.zeros(shape, np.int64), np.zeros(shape)
    for k, row in enumerate(explanations):
        which[k, : len(row.concepts)] = [place[name] for name in row.concepts]
        sign[k, : len(row.weights)] = np.sign(row.weights)
    at = which, np.arange(len(explanations))[:, None]
    if not len(names):
        nothing = np.zeros(shape)
        return ConceptChanges(np.zeros(shape, np.int64), nothing, agreement(nothing, nothing))
    own, n = net[at] * sign, decided[at] * (sign != 0)
    return ConceptChanges(
        np.where(sign != 0, times[which], 0).astype(np.int64),
        np.where(sign != 0, effect[at], 0.0),
        agreement((n + own) / 2, (n - own) / 2),
    )
