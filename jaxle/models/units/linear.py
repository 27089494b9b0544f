"""Linear units: directions of a tap's space, and how a change of one is written back.

    f = E (v − mean) + bias          v ← v + (new f_k − f_k) d_k

A decoder row d_k that a direction e_k lacks is e_k / ‖e_k‖²: the smallest change of the tap's value
that gives the unit its new value. It changes other units that are not orthogonal to it, too, as a
change of one neuron changes every unit that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from jaxle.models.checkpoints import tensors_hash
from jaxle.models.units.unit_map import UnitForm, UnitMap


def directions_map(
    kind: str,
    directions: Real[np.ndarray, "units width"],
    decoder: Real[np.ndarray, "units width"] | None = None,
    *,
    mean: Real[np.ndarray, " width"] | None = None,
    bias: Real[np.ndarray, " units"] | None = None,
    rectified: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> UnitMap:
    """Returns units that are projections on directions, rectified or not.

    Args:
      kind: the row of `UNITS`.
      directions: (units, width), one a row, none of them 0.
      decoder: (units, width); None for e_k / ‖e_k‖².
      mean: subtracted from the tap's values.
      bias: added to the projections.
      rectified: whether negative ones become 0.
      facts: for summary.json.
    """
    directions = np.asarray(directions, np.float64)
    if decoder is None:
        decoder = directions / np.sum(directions**2, axis=1, keepdims=True)
    arrays = {
        "encoder": _float32(directions),
        "decoder": _float32(decoder),
        "bias": np.zeros(len(directions), np.float32) if bias is None else _float32(bias),
    }
    if mean is not None:
        arrays["centre"] = _float32(mean)
    activation = "relu" if rectified else "identity"
    return unit_map(kind, arrays, activation=activation, facts=facts)


def unit_map(
    kind: str,
    arrays: Mapping[str, Float[np.ndarray, "..."]],
    *,
    facts: Mapping[str, Any] | None = None,
    about: Mapping[str, str] | None = None,
    **form: Any,
) -> UnitMap:
    """Returns a map of these arrays; `form` holds further fields of `UnitForm`."""
    arrays = {name: _float32(value) for name, value in arrays.items()}
    units, width = arrays["encoder"].shape
    own = UnitForm(kind, units, width, tensors_hash(arrays), **form)
    return UnitMap(own, arrays, dict(facts or {}), dict(about or {}))


def _float32(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)
