"""A many-target elastic net with scikit-learn's objective: raw columns, intercept fitted.

    min_{w,b}  1/(2n) ‖X w + b − y_k‖² + λ ( η ‖w‖₁ + (1−η)/2 ‖w‖² )

for every column y_k of the targets at once. The images are read once, for their second moments
(`solve.moments`); `solve.elastic_net` does the rest. Columns that float32 does not hold well are
fitted in units of their own (`units`):

    x' = (x − m_x) s_x,  y' = (y − m_y) s_y:   w = w' s_x/s_y,   b = m_y + b'/s_y − Σ m_x w

scikit-learn's ElasticNet
(https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.ElasticNet.html) calls λ
`alpha` and η `l1_ratio`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Real

from jaxle.arrays import Array, as_matrix, check_equal_rows, check_same_order, checks_input
from jaxle.compilation import use_compilation_cache
from jaxle.solve.elastic_net import Solution, path
from jaxle.solve.moments import second_moments
from jaxle.units import InUnits, Units, find_units


@checks_input
def elastic_net(
    features: Real[Array, "rows features"],
    targets: Real[Array, "rows targets"],
    *,
    lam: float | Sequence[float] | np.ndarray,
    l1_ratio: float,
    tol: float = 1e-6,
    mesh: Mesh | None = None,
) -> Solution | list[Solution]:
    """Returns a Lasso or elastic net for thousands of targets on the same features.

    The result is scikit-learn's `ElasticNet(alpha=lam, l1_ratio=l1_ratio)` on every target, with a
    duality gap that bounds its error. Work grows with rows × features² once and little per target,
    so it pays where there are many targets. Offsets and scales of columns do not matter: float64
    and integer columns are centred in float64, and columns of any scale are fitted at scale 1. The
    fit itself is float32: a target that lam·l1_ratio hardly penalises (below about 1e-5 of
    std(x)·std(y)) ends with `converged` False, and its gap says how far off it may be.

    Args:
      features: (rows, features), whatever `jaxle.arrays.as_matrix` takes: NumPy, JAX, memory maps,
        nested lists, frames, sparse matrices, tensors.
      targets: (rows, targets), likewise.
      lam: λ > 0; or a decreasing sequence, solved as a path in which each starts from the one
        before.
      l1_ratio: η in (0, 1]; 1 is the Lasso.
      tol: stop where the duality gap is within tol of the objective at zero weights, which is half
        the target's variance.
      mesh: rows, then targets, are split over its axis `data`.

    Returns:
      Solution with weights (features, targets), bias (targets,), gap (targets,), converged
      (targets,), iterations (targets,); a list of them for a sequence. Its numbers are float32 and
      JAX's; float64 and NumPy's where float32 could not hold them: if features or targets are
      float64 or wide integers, or some column has an extreme scale. A constant feature has
      weight 0.

    Raises:
      ValueError: arrays that are not finite matrices of equally many rows; lam, l1_ratio or tol out
        of range; a sequence that does not decrease; a result beyond float64.
    """
    check_same_order(features, targets, ("features", "targets"))
    features = as_matrix(features, "features", ("rows", "features"))
    targets = as_matrix(targets, "targets", ("rows", "targets"))
    check_equal_rows(features, targets, ("features", "targets"), "rows")
    lams, l1_ratio, tol = _check_options(lam, l1_ratio, tol)
    use_compilation_cache()
    found = [find_units(features), find_units(targets)]
    wide = any(
        np.dtype(x.dtype).itemsize > 4
        or np.dtype(x.dtype).kind in "iu"
        and np.dtype(x.dtype).itemsize > 2
        for x in (features, targets)
    )
    x, y = (
        matrix if units is None else InUnits(matrix, units)
        for matrix, units in zip((features, targets), found, strict=True)
    )
    units_x, units_y = (
        units or Units.none(matrix.shape[1])
        for matrix, units in zip((features, targets), found, strict=True)
    )
    moments = second_moments(x, y, mesh=mesh)
    sizes = units_x.size, units_y.size
    options = {"tol": tol, "standardise": False, "mesh": mesh, "sizes": sizes}
    solutions = path(moments, lams, l1_ratio, **options)
    if wide or found != [None, None]:
        solutions = [_in_users_units(solution, units_x, units_y) for solution in solutions]
    return solutions if np.ndim(lam) else solutions[0]


def _check_options(lam, l1_ratio, tol) -> tuple[list[float], float, float]:
    """λ as a list, η and tol, as floats."""

    def number(value, name: str, words: str) -> float:
        value = value.item() if np.ndim(value) == 0 and hasattr(value, "item") else value
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be {words}, got {value!r}.")
        return float(value)

    if isinstance(lam, (str, bytes, dict)) or np.ndim(lam) > 1:
        raise ValueError(f"lam must be one number or a decreasing sequence, got {lam!r}.")
    lams = [number(value, "lam", "a number") for value in (lam if np.ndim(lam) else [lam])]
    for value in lams:
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(
                "lam must be greater than 0 (the fit without penalty is least squares) and finite, "
                f"got {value}."
            )
    l1_ratio, tol = number(l1_ratio, "l1_ratio", "in (0, 1]"), number(tol, "tol", "in (0, 1)")
    if not 0 < l1_ratio <= 1:
        raise ValueError(
            f"l1_ratio must be in (0, 1] (without L1 the fit is ridge), got {l1_ratio}."
        )
    if not 0 < tol < 1:
        raise ValueError(f"tol must be in (0, 1), got {tol}.")
    return lams, l1_ratio, tol


def _in_users_units(solution: Solution, x: Units, y: Units) -> Solution:
    """The solution of the columns that the user gave, float64."""
    weights, bias, gradient, gap = (np.asarray(part, np.float64) for part in solution[:4])
    with np.errstate(over="ignore", invalid="ignore"):
        weights = weights * x.scale[:, None] * y.size[None, :]
        bias = y.centre + bias * y.size - x.centre @ weights
        gradient = gradient * x.size[:, None] * y.size[None, :]
        gap = gap * y.size**2
    beyond = ~(np.isfinite(weights).all(axis=0) & np.isfinite(bias) & np.isfinite(gap))
    if beyond.any():
        raise ValueError(
            f"weights, bias and gap of target {int(np.flatnonzero(beyond)[0])} must be numbers "
            "that float64 holds: divide features or targets by a power of ten."
        )
    rest = (np.asarray(part) for part in solution[4:])
    return Solution(weights, bias, gradient, gap, *rest)
