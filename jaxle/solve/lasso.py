"""A many-target elastic net with scikit-learn's objective: raw columns, intercept fitted.

    min_{w,b}  1/(2n) ‖X w + b − y_k‖² + λ ( η ‖w‖₁ + (1−η)/2 ‖w‖² )

for every column y_k of the targets at once. The images are read once, for their second moments
(`solve.moments`); `solve.elastic_net` does the rest. scikit-learn's ElasticNet
(https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.ElasticNet.html) calls λ
`alpha` and η `l1_ratio`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Real

from jaxle.arrays import Array, check_equal_rows, check_matrix, checks_input
from jaxle.solve.elastic_net import Solution, path, solve
from jaxle.solve.moments import second_moments


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
    so it pays where there are many targets. Arithmetic is float32: a target that lam·l1_ratio
    hardly penalises (below about 1e-5 of std(x)·std(y)) ends with `converged` False, and its gap
    says how far off it may be.

    Args:
      features: (rows, features), any real dtype, NumPy, JAX or memory-mapped.
      targets: (rows, targets), likewise.
      lam: λ > 0; or a decreasing sequence, solved as a path in which each starts from the one
        before.
      l1_ratio: η in (0, 1]; 1 is the Lasso.
      tol: stop where the duality gap is within tol of the objective at zero weights, which is half
        the target's variance.
      mesh: rows, then targets, are split over its axis `data`.

    Returns:
      Solution with weights (features, targets), bias (targets,), gap (targets,), converged
      (targets,), iterations (targets,), float32; a list of them for a sequence. A constant feature
      has weight 0.

    Raises:
      ValueError: arrays that are not finite matrices of equally many rows; lam, l1_ratio or tol out
        of range; a sequence that does not decrease.
    """
    check_matrix(features, "features", ("rows", "features"))
    check_matrix(targets, "targets", ("rows", "targets"))
    check_equal_rows(features, targets, ("features", "targets"), "rows")
    if not 0 < tol < 1:
        raise ValueError(f"tol must be in (0, 1), got {tol}.")
    moments = second_moments(features, targets, mesh=mesh)
    lams = np.asarray(lam, np.float64)
    if lams.ndim == 0:
        return solve(moments, float(lams), l1_ratio, tol=tol, standardise=False, mesh=mesh)
    return path(moments, lams.tolist(), l1_ratio, tol=tol, standardise=False, mesh=mesh)
