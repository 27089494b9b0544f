"""Is a neuron better explained than one of a network that learned nothing?

    z = artanh ρ of neuron k;   z_jl of neuron l of untrained network j, mean z̄_j over its neurons
    s²  = Var_j(z̄_j)·(1 + 1/S)             S networks: how far the mean of a further one may lie
    p_k = (1 + Σ_jl P(T > (z_k − mean_j z̄_j − (z_jl − z̄_j))/s))/(1 + number of jl),   T ~ t(S − 1)

p_k is the chance that a neuron of a further untrained network is explained at least as well. Its
network may lie above or below those at hand (T), and it within its network as theirs do within
their own (z_jl − z̄_j). Where all networks have one mean, s = 0, p_k is the rank among all neurons
of all controls. Where networks vary by more than their neurons do, that rank is not enough: all
neurons of a network move together, and one that lies above the others gets them all. With s, an
untrained network that is compared with others gets less than 5 % of its neurons on average.

    P(ρ > ρ_untrained) = mean over networks of the share of pairs (k, l) with ρ_k > ρ_jl, ties half
    excess             = mean_k ρ_k − mean_j ρ̄_j

Their intervals have two parts, Var/K over the layer's neurons and, over networks, Var·(1 + 1/S):
what a further untrained network may reach, as for p. With Var/S alone, an untrained network that
happens to lie high would be called better than untrained ones. Student's t is by Welch and
Satterthwaite; the interval of P is Wilson's for as many neurons as have the same variance. What a
layer is compared with is untrained networks of one architecture. Other trainings of the same
network are another question.
Source: method.md §8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Real
from scipy.special import stdtr, stdtrit

from jaxle.arrays import check_live, checks_input
from jaxle.columns import Column
from jaxle.evaluation.correlation import correlation
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.scores import Computed, Evidence, Metric, Scores
from jaxle.options import number

LEVEL = 0.95
MOST = 0.9999  # ρ beyond which z no longer grows
TIES = 2e-6  # in z: less is the round-off of correlations in float32
BLOCK = 1 << 22  # numbers held at once


class Effect(NamedTuple):
    """A difference with the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Better:
    """A layer against the same layer of untrained networks.

    Attributes:
      p_values: (neurons,), the chance that an untrained network's neuron does as well; 1 where
        dead.
      q_values: (neurons,), by Benjamini and Hochberg over live neurons.
      found: (neurons,) bool, those better explained than an untrained network's.
      smallest_p: what ρ = 1 would have: where it is above `q`, nothing can be found.
      q: false discovery rate.
      probability: that a neuron is better explained than an untrained network's.
      excess: mean ρ beyond the untrained networks'.
      means: mean ρ of each untrained network.
      n_neurons: live neurons of all untrained networks.
    """

    p_values: Float64[np.ndarray, " neurons"]
    q_values: Float64[np.ndarray, " neurons"]
    found: Bool[np.ndarray, " neurons"]
    smallest_p: float
    q: float
    probability: Effect
    excess: Effect
    means: tuple[float, ...]
    n_neurons: int

    @property
    def n_found(self) -> int:
        """How many neurons are better explained than an untrained network's."""
        return int(self.found.sum())

    @property
    def facts(self) -> dict[str, Any]:
        """Flat JSON values, for summary.json; no `n_better` where none could be found at all."""
        found: dict[str, Any] = {
            "n_controls": len(self.means),
            "n_control_neurons": self.n_neurons,
            "control_correlations": list(self.means),
            "smallest_control_p": self.smallest_p,
            "better_q": self.q,
        }
        if self.smallest_p <= self.q:
            found["n_better"] = self.n_found
        for name, effect in (("better_probability", self.probability), ("excess", self.excess)):
            found |= {name: effect.value, f"{name}_low": effect.low, f"{name}_high": effect.high}
        return found

    def __str__(self) -> str:
        p, excess = self.probability, self.excess
        count = f"{self.n_found} of {len(self.found)} neurons better explained"
        if self.smallest_p > self.q:
            count = f"no neuron can be found better explained (smallest p {self.smallest_p:.2g})"
        return (
            f"{count} than an untrained network's at q = {self.q:g} ({len(self.means)} networks; "
            f"P(ρ > ρ untrained) {p.value:.2f} [{p.low:.2f}, {p.high:.2f}]; "
            f"{excess.value:+.2f} [{excess.low:.2f}, {excess.high:.2f}])"
        )


@checks_input
def better_than_controls(
    rho: Real[np.ndarray, " neurons"],
    controls: Sequence[Scores | Real[np.ndarray, " _"]],
    *,
    q: float = 0.05,
    live: Bool[np.ndarray, " neurons"] | None = None,
) -> Better:
    """Returns which neurons are better explained than an untrained network's, and by how much.

    Args:
      rho: (neurons,) test correlations of a layer.
      controls: as `control_correlations` takes them; five networks or more. One says nothing of
        how networks vary: p is 1 then, and the intervals hold all that is possible.
      q: false discovery rate.
      live: (neurons,) bool; the others are not tested. None for all.

    Raises:
      ValueError: no control with a live neuron, or bad values.
    """
    rho = np.asarray(rho, np.float64)
    live = check_live(live, rho.shape)
    others = [c for c in control_correlations(controls) if len(c)]
    if not others:
        raise ValueError("expected at least one untrained network with a live neuron, got none.")
    wrong = rho[~(np.abs(rho) <= 1 + 1e-6)]
    if wrong.size:
        raise ValueError(f"rho must hold correlations from −1 to 1, got {wrong[0]}.")
    q = number("q", q, float, above=0, below=1)
    p = np.where(live, _p_values(rho, others), 1.0)
    found = benjamini_hochberg(p, q, live)
    return Better(
        p,
        found.q_values,
        found.found,
        float(_p_values(np.ones(1), others)[0]),
        q,
        _probability(rho[live], others),
        _excess(rho[live], others),
        tuple(float(c.mean()) for c in others),
        sum(map(len, others)),
    )


@checks_input
def control_correlations(
    controls: Sequence[Scores | Real[np.ndarray, " _"]],
) -> tuple[Float64[np.ndarray, " _"], ...]:
    """Returns the correlations of the live neurons of each untrained network.

    Args:
      controls: of each network, what `jaxle.evaluate` gave for the same layer, or the test
        correlations of its live neurons.

    Raises:
      ValueError: scores without a correlation, or correlations outside [−1, 1].
    """
    found = []
    for i, control in enumerate(controls):
        values = control
        if isinstance(control, Scores):
            if "correlation" not in control.columns:
                raise ValueError(
                    f"controls[{i}] has no correlation, but {', '.join(control.columns)}: "
                    "evaluate it with the metric 'correlation'."
                )
            values = np.asarray(control.columns["correlation"])
            values = values if control.live is None else values[control.live]
        values = np.asarray(values)
        if values.dtype.kind not in "biuf":
            raise ValueError(
                f"controls[{i}] must hold one correlation from −1 to 1 a neuron, "
                f"got {type(control).__name__} of dtype {values.dtype}."
            )
        values = values.astype(np.float64)
        if values.ndim != 1 or not (np.abs(values) <= 1 + 1e-6).all():
            raise ValueError(
                f"controls[{i}] must hold one correlation from −1 to 1 a neuron, "
                f"got shape {values.shape} with values {values.ravel()[:3]}."
            )
        found.append(values)
    return tuple(found)


def _p_values(rho: np.ndarray, controls: Sequence[np.ndarray]) -> np.ndarray:
    """(neurons,) the chance that a neuron of a further control is explained as well."""
    n = len(controls)
    if n < 2:
        return np.ones(len(rho))
    z, others = _fisher(rho), [_fisher(control) for control in controls]
    means = np.array([own.mean() for own in others])
    within = np.sort(np.concatenate([own - own.mean() for own in others]))
    spread = means.std(ddof=1) * np.sqrt(1 + 1 / n)
    beyond = z - means.mean()
    if spread < TIES:
        above = len(within) - np.searchsorted(within, beyond - TIES)
    else:
        step = max(1, BLOCK // len(within))
        parts = [beyond[i : i + step, None] - within for i in range(0, len(beyond), step)]
        above = np.concatenate([stdtr(n - 1, -part / spread).sum(axis=1) for part in parts])
    return (1.0 + above) / (1.0 + len(within))


def _fisher(rho: np.ndarray) -> np.ndarray:
    return np.arctanh(np.clip(rho, -MOST, MOST))


def _probability(rho: np.ndarray, controls: Sequence[np.ndarray]) -> Effect:
    n, n_neurons = len(controls), len(rho)
    if not n_neurons:
        return Effect(0.5, 0.0, 1.0)
    below = np.stack([_below(rho, np.sort(control)) for control in controls])
    value = float(below.mean())
    if n < 2 or n_neurons < 2:
        return Effect(value, 0.0, 1.0)
    variance, t = _spread(below.mean(axis=0), below.mean(axis=1))
    shrunk = (value * n_neurons + 1) / (n_neurons + 2)
    enough = shrunk * (1 - shrunk)
    size = n_neurons if variance * n_neurons < enough else enough / variance
    centre = (value + t * t / (2 * size)) / (1 + t * t / size)
    half = t / (1 + t * t / size) * np.sqrt(value * (1 - value) / size + (t / (2 * size)) ** 2)
    return Effect(value, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def _below(rho: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """(neurons,) share of a control's neurons that lie below each, half of those that equal it."""
    low, high = np.searchsorted(ordered, rho - TIES), np.searchsorted(ordered, rho + TIES)
    return (low + high) / (2 * len(ordered))


def _excess(rho: np.ndarray, controls: Sequence[np.ndarray]) -> Effect:
    means = np.array([control.mean() for control in controls])
    value = float(rho.mean() - means.mean()) if len(rho) else 0.0
    if len(means) < 2 or len(rho) < 2:
        return Effect(value, -2.0, 2.0)
    variance, t = _spread(rho, means)
    half = float(t * np.sqrt(variance))
    return Effect(value, value - half, value + half)


def _spread(neurons: np.ndarray, networks: np.ndarray) -> tuple[float, float]:
    """Variance of a mean over neurons less a further network's mean, and Student's t for it."""
    n = len(networks)
    parts = [float(neurons.var(ddof=1)) / len(neurons), float(networks.var(ddof=1)) * (1 + 1 / n)]
    total, freedom = sum(parts), len(networks) - 1.0
    if total > 0:
        sizes = (len(neurons) - 1, len(networks) - 1)
        freedom = total**2 / sum(part**2 / size for part, size in zip(parts, sizes, strict=True))
    return total, float(stdtrit(freedom, (1 + LEVEL) / 2))


def _compute(evidence: Evidence) -> Computed:
    if not any(len(control) for control in evidence.controls):
        return {}, {}
    rho = correlation(evidence.simulated, evidence.activations)
    got = better_than_controls(rho, evidence.controls, q=evidence.q, live=evidence.live)
    return {"control_p_value": got.p_values, "control_q_value": got.q_values}, got.facts


METRIC = Metric(
    (
        Column(
            "control_p_value",
            0.0,
            1.0,
            "lower",
            "chance that a neuron of a further untrained network is explained as well",
            averaged=False,
        ),
        Column(
            "control_q_value",
            0.0,
            1.0,
            "lower",
            "smallest false discovery rate at which this neuron counts as better explained than an "
            "untrained network's",
            averaged=False,
        ),
    ),
    _compute,
)
