"""The counterfactual test: two pictures that differ in one thing, predicted and real change.

    predicted  p_k = Σ_i w_ki · (P_i(b) − P_i(a)),   real  r_k = q_k(b) − q_k(a)

A correlation over images cannot distinguish the concept that a neuron computes from one that comes
along with it. A pair of pictures can: where only the companion changes, the neuron must stay. So
this test does not depend on which images are at hand, only on pairs, such as those that
`jaxle.scenes.edits.edited_pairs` renders. `evaluation.changes` has the measures and their
intervals.

What it cannot say: an edit that changes one attribute changes all concepts that mean it, such as
red, warm colour and apple at once, and the test credits each of them. And a network that has learnt
nothing follows some attributes, too, such as size and brightness; `evaluation.contrast` compares.

Source: method.md §8; the idea that pairs separate trained from untrained networks: TAPAScore
(arXiv 2606.24716).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Real

from jaxle.arrays import Array, as_matrix, check_equal_rows, check_live, checks_input
from jaxle.columns import Column
from jaxle.evaluation.changes import (
    MEASURES,
    Changes,
    Estimate,
    Mean,
    agreement,
    compare_changes,
    correlation,
    following,
    mean_interval,
    resampled_means,
    scaled_change,
    standardised_change,
)
from jaxle.evaluation.concept_changes import ConceptChanges, concept_changes
from jaxle.evaluation.evaluate import check_explanations
from jaxle.evaluation.scores import live as live_of
from jaxle.evaluation.simulation import Held, check_columns, names, over_columns
from jaxle.explanations import Explanations
from jaxle.solve.tiles import host_columns


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """What `counterfactual` gives, for every neuron of a layer.

    Attributes:
      explanations: those that were tested.
      changes: predicted and real ones of every pair.
      live: not dead.
      judged: with enough pairs to say anything: at least `min_pairs` on which a change is
        predicted and the neuron changes. Of the others no claim is made.
      agreement, following, correlation: a value a neuron, with intervals.
      means: name of the three → the layer's mean: the first two over judged neurons, the last over
        live ones, of which an unexplained one counts as 0.
      by_concept: for the concepts of each explanation.
      draws: the same means on every resample of the pairs, the first as they are, for `contrast`.
      kinds: kind of each pair; "" where none was given.
      options: those that it was made with.
    """

    explanations: Explanations
    changes: Changes
    live: Bool[np.ndarray, " neurons"]
    judged: Bool[np.ndarray, " neurons"]
    agreement: Estimate
    following: Estimate
    correlation: Estimate
    means: Mapping[str, Mean]
    draws: Mapping[str, Float64[np.ndarray, " draws"]]
    by_concept: ConceptChanges
    kinds: tuple[str, ...]
    options: Mapping[str, float]

    @property
    def n_following(self) -> int:
        """Judged neurons that surely follow most predictions: A/M above ½ by its exact low end.

        A neuron of chance, and one that stays where it should change, is among them in at most
        2.5 % of cases.
        """
        for_ = (self.changes.outcome > 0).sum(axis=0)
        most = agreement(for_, self.changes.n_predicted - for_).low > 0.5
        return int((self.judged & most).sum())

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of scores.csv, (neurons,) each."""
        found: dict[str, np.ndarray] = {}
        for name in MEASURES:
            value, low, high = getattr(self, name)
            ends = {f"counterfactual_{name}_low": low, f"counterfactual_{name}_high": high}
            found |= {f"counterfactual_{name}": value} | ends
        pairs = self.changes.n_decided
        return {**found, "counterfactual_pairs": pairs, "counterfactual_judged": self.judged}

    def to_frame(self) -> pd.DataFrame:
        """Returns a table with one row a neuron: unit, explanation, and `columns`."""
        about = self.explanations.to_frame()[["unit", "explanation", "flag"]]
        return about.assign(n_predicted=self.changes.n_predicted, **self.columns)

    def concept_frame(self) -> pd.DataFrame:
        """Returns a table with one row a neuron and concept of its explanation."""
        own, terms = self.by_concept, self.explanations.terms
        neurons, slots = np.nonzero(np.arange(own.effect.shape[1]) < terms[:, None])
        rows = [self.explanations[k] for k in neurons.tolist()]
        value, low, high = (part[neurons, slots] for part in own.agreement)
        return pd.DataFrame(
            {
                "unit": self.explanations.units[neurons],
                "concept": [row.concepts[i] for row, i in zip(rows, slots.tolist(), strict=True)],
                "weight": [row.weights[i] for row, i in zip(rows, slots.tolist(), strict=True)],
                "n_pairs": own.n_pairs[neurons, slots],
                "effect": own.effect[neurons, slots],
                "agreement": value,
                "agreement_low": low,
                "agreement_high": high,
            }
        )

    def kind_frame(self) -> pd.DataFrame:
        """Returns a table with one row a kind of pair, over live neurons.

        `response` is the mean size of the real change in standard deviations, whether predicted or
        not: how strongly the layer reacts to such edits. `predicted` is the share of neurons and
        pairs for which a change is predicted, `agreement` and `following` are of these, pooled.
        """
        rows = []
        for kind in dict.fromkeys(self.kinds):
            of = np.array([name == kind for name in self.kinds])
            outcome, asked, real = (
                values[of][:, self.live]
                for values in (self.changes.outcome, self.changes.is_predicted, self.changes.real)
            )
            for_, against = (np.asarray((outcome == side).sum()) for side in (1, -1))
            rows.append(
                {
                    "kind": kind,
                    "n_pairs": len(outcome),
                    "response": _mean(np.abs(real)),
                    "predicted": _mean(asked),
                    "agreement": float(agreement(for_, against).value),
                    "following": float(following(for_, against, np.asarray(asked.sum())).value),
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        pairs, neurons = self.changes.real.shape
        means = ", ".join(
            f"{name} {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
            for name, found in self.means.items()
        )
        return (
            f"Counterfactual of {neurons} neurons on {pairs} pairs, {int(self.judged.sum())} "
            f"judged: {means}; {self.n_following} surely follow most predictions"
        )


@checks_input
def counterfactual(
    explanations: Explanations,
    activations_a: Real[Array, "pairs neurons"],
    activations_b: Real[Array, "pairs neurons"],
    probs_a: Real[Array, "pairs concepts"],
    probs_b: Real[Array, "pairs concepts"],
    concepts: Sequence[str],
    *,
    kinds: Sequence[str] | None = None,
    live: Bool[np.ndarray, " neurons"] | None = None,
    negligible: float = 0.1,
    least_predicted: float | None = None,
    min_pairs: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> Counterfactual:
    """Tests explanations on pairs of pictures: do neurons change as their words say?

    Give it pictures that no explanation was fitted on, pairs of different scenes, and probabilities
    that are true of the pictures: labels of the edits where there are any.

    Args:
      explanations: one row a neuron, in order.
      activations_a, activations_b: (pairs, neurons), the network on the first and on the second
        picture of each pair; whatever `jaxle.arrays.as_matrix` takes, as the next two.
      probs_a, probs_b: (pairs, concepts), the probability (0–1) of each concept in them, or labels.
      concepts: the columns' names; they may be more than the explanations use.
      kinds: of each pair, what was edited, for `kind_frame`; None for no kinds.
      live: (neurons,) bool, which neurons count; None for those that are not flagged dead.
      negligible: a change counts where it is larger than so many standard deviations of what
        changes (the activation, or its simulation), over the pictures of both sides. That is free
        of units and of a neuron's sparsity.
      least_predicted: the same for predicted changes alone; None takes `negligible`. Labels change
        by 0 or 1, and any small value does. Probabilities of an encoder waver with its errors;
        where no labels are known take 0.5 or more, or errors count as predictions.
      min_pairs: a neuron is judged with at least so many pairs on which a change is predicted and
        the neuron changes.
      draws: resamples of the pairs, for the intervals of means, at least 2.
      seed: of these, an integer from 0 to 2⁶⁴ − 1.

    Returns:
      Counterfactual: no value is NaN; where nothing can be said, chance and the whole range.

    Raises:
      ValueError: arrays that do not fit, values that are not finite, a concept that is missing, or
        an option out of range.
    """
    activations_a, activations_b = _sides(
        {"activations_a": activations_a, "activations_b": activations_b}, ("pairs", "neurons")
    )
    probs_a, probs_b = _sides({"probs_a": probs_a, "probs_b": probs_b}, ("pairs", "concepts"))
    check_equal_rows(activations_a, probs_a, ("activations_a", "probs_a"), "pairs")
    check_columns(concepts, probs_a.shape[1])
    n_pairs, n_neurons = activations_a.shape
    check_explanations(explanations, n_neurons)
    kinds = ("",) * n_pairs if kinds is None else tuple(kinds)
    least_predicted = negligible if least_predicted is None else least_predicted
    _check_options(kinds, n_pairs, (negligible, least_predicted), min_pairs, draws)
    live = live_of(explanations) if live is None else check_live(live, (n_neurons,))

    _check_known(explanations, concepts)
    sides = (Held(probs, tuple(concepts)) for probs in (probs_a, probs_b))
    (own, a), (_, b) = (over_columns(explanations, side) for side in sides)
    terms = names(own)
    place, every = {name: j for j, name in enumerate(a.concepts)}, np.arange(n_pairs)
    used = np.array([place[name] for name in terms], np.int64)
    p_a, p_b = (np.asarray(host_columns(side.rows, every, used), np.float64) for side in (a, b))
    weights = own.weight_matrix(terms)[0].astype(np.float64)
    # the difference before the product: no round-off where nothing changes
    simulated = np.concatenate([p_a, p_b]) @ weights
    predicted = scaled_change((p_b - p_a) @ weights, simulated)
    real = standardised_change(np.asarray(activations_a), np.asarray(activations_b))
    changes = compare_changes(predicted, real, negligible, least_predicted)

    for_, against = ((changes.outcome == side).sum(axis=0) for side in (1, -1))
    judged = live & (changes.n_decided >= min_pairs)
    resampled = resampled_means(changes, judged, live, draws, seed)
    return Counterfactual(
        explanations,
        changes,
        live,
        judged,
        agreement(for_, against),
        following(for_, against, changes.n_predicted),
        correlation(changes),
        {name: mean_interval(name, of, changes, judged) for name, of in resampled.items()},
        resampled,
        concept_changes(own, terms, p_b - p_a, real, negligible),
        kinds,
        {
            "negligible": float(negligible),
            "least_predicted": float(least_predicted),
            "min_pairs": int(min_pairs),
            "draws": int(draws),
            "seed": int(seed),
        },
    )


@checks_input
def _sides(sides: Mapping[str, Array], axes: tuple[str, str]) -> tuple[Array, Array]:
    """Returns both as `as_matrix` does, or raises a ValueError unless they are of one shape."""
    first, second = sides
    a, b = (as_matrix(x, name, axes) for name, x in sides.items())
    if a.shape != b.shape:
        raise ValueError(
            f"{first} and {second} must be the two sides of the same pairs, "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}."
        )
    return a, b


@checks_input
def _check_options(
    kinds: tuple[str, ...], n_pairs: int, least: tuple[float, float], min_pairs: int, draws: int
) -> None:
    if len(kinds) != n_pairs or not all(isinstance(kind, str) for kind in kinds):
        raise ValueError(f"kinds must be {n_pairs} texts, one a pair, got {len(kinds)}.")
    for name, value in zip(("negligible", "least_predicted"), least, strict=True):
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not 0 <= value < np.inf:
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}.")
    for name, value, low in (("min_pairs", min_pairs, 1), ("draws", draws, 2)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")


def _check_known(explanations: Explanations, concepts: Sequence[str]) -> None:
    """Raises a ValueError where there is no column for a concept, not of a formula."""
    known = frozenset(concepts)
    rows = [row for row in explanations if row.kind != "formula"]
    missing = list(dict.fromkeys(c for row in rows for c in row.concepts if c not in known))
    if missing:
        raise ValueError(
            f"concepts lacks {len(missing)} that the explanations use, such as {missing[:5]}: "
            "expected a column of probs_a and probs_b for each."
        )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


_MEANINGS = {
    "agreement": (0.0, "share of them on which it changes in the predicted direction; ½: chance"),
    "following": (
        -1.0,
        "(as predicted − the other way)/pairs with a predicted change, where no change counts as "
        "neither; 0: chance",
    ),
    "correlation": (-1.0, "correlation of predicted and real changes over all pairs, both ways"),
}


def _columns() -> tuple[Column, ...]:
    found = []
    for name, (low, meaning) in _MEANINGS.items():
        column = f"counterfactual_{name}"
        counted = "" if name == "correlation" else "counterfactual_judged"
        found.append(Column(column, low, 1.0, "higher", meaning, counted=counted))
        for end, word in (("low", "lower"), ("high", "upper")):
            about = f"{word} end of its 95 % confidence interval over pairs"
            found.append(Column(f"{column}_{end}", low, 1.0, "", about, averaged=False))
    pairs = "pairs of edited pictures on which a change is predicted and the neuron changes"
    judged = "whether these are enough to say anything; the others enter no mean of the first two"
    found.append(Column("counterfactual_pairs", 0.0, float("inf"), "", pairs))
    found.append(Column("counterfactual_judged", 0.0, 1.0, "", judged, averaged=False))
    return tuple(found)


COLUMNS = _columns()  # of scores.csv, by `counterfactual`
