"""R²: the share of the activation's variance that the simulation explains, on val's scale.

R² = 1 − Σ(a − c·s − d)²/Σ(a − ā)²,   c and d by least squares on val (method.md §8)

Computed in float64 on the host: nothing is compiled, whatever the number of images.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Real

from jaxle.arrays import Array, checks_input
from jaxle.evaluation.pairs import as_pair, check_same_neurons, column_blocks
from jaxle.evaluation.scores import Column, Computed, Evidence, Metric
from jaxle.stats import is_constant
from jaxle.units import InUnits, find_units


@checks_input
def r2(
    simulated_val: Real[Array, "val_images neurons"],
    activations_val: Real[Array, "val_images neurons"],
    simulated: Real[Array, "images neurons"],
    activations: Real[Array, "images neurons"],
) -> Float32[np.ndarray, " neurons"]:
    """Returns R² on test, neuron by neuron.

    Args:
      simulated_val, activations_val: (images, neurons), val images, on which the line is fitted.
      simulated, activations: (images, neurons), test images.

    Returns:
      (neurons,) float32, at most 1; negative where val's line does worse than the mean; 0 where the
      activation is constant on test.

    Raises:
      ValueError: shapes that do not fit, or a value that is not finite.
    """
    val = as_pair(simulated_val, activations_val, name="simulated_val")
    test = as_pair(simulated, activations)
    check_same_neurons(val.simulated, test.simulated)
    simulated_val, simulated = _in_units_of_val(val.simulated, test.simulated)
    activations_val, activations = _in_units_of_val(val.activations, test.activations)
    n_images, n_neurons = activations.shape
    out = np.zeros(n_neurons, np.float32)
    for block in column_blocks(n_neurons, 8 * max(n_images, len(simulated_val))):
        arrays = (
            np.asarray(x[:, block]).astype(np.float64)
            for x in (simulated_val, activations_val, simulated, activations)
        )
        out[block] = _r2(*arrays)
    return out


def _in_units_of_val(val, test):
    """Both in units that float32 holds, the same for both: R² does not change."""
    units = find_units(val)
    if units is None:
        units = find_units(test)
    return (val, test) if units is None else (InUnits(val, units)[:], InUnits(test, units)[:])


def _r2(s_val, a_val, s, a):
    mean_s, mean_a = s_val.mean(axis=0), a_val.mean(axis=0)
    s_val, a_val = s_val - mean_s, a_val - mean_a
    var = np.mean(s_val**2, axis=0)
    varies = ~is_constant(np.sqrt(var), mean_s)
    slope = np.where(varies, np.mean(s_val * a_val, axis=0) / np.where(varies, var, 1.0), 0.0)
    rest = a - mean_a - slope * (s - mean_s)
    mean = a.mean(axis=0)
    spread = np.mean((a - mean) ** 2, axis=0)
    constant = is_constant(np.sqrt(spread), mean)
    value = 1 - np.mean(rest**2, axis=0) / np.where(constant, 1.0, spread)
    # float32 holds no less: a line of val that fails by more has failed as well
    return np.maximum(np.where(constant, 0.0, value), np.finfo(np.float32).min)


def _compute(evidence: Evidence) -> Computed:
    if len(evidence.activations_val) == 0:
        return {}, {}
    value = r2(
        evidence.simulated_val,
        evidence.activations_val,
        evidence.simulated,
        evidence.activations,
    )
    return {"r2": value}, {}


METRIC = Metric(
    (
        Column(
            "r2",
            -float("inf"),
            1.0,
            "higher",
            "1 − Σ(a − c·s − d)²/Σ(a − ā)², c and d fitted on val: "
            "unlike ρ it falls where the scale found on val does not hold",
        ),
    ),
    _compute,
)
