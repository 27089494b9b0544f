"""Positions: where a tap's values lie in the image, as a grid of rows and columns.

feature map (height, width, neurons)           itself
tokens (positions, neurons)                    their square; before them a class token may stand,
                                               or one and four registers
(neurons,)                                     no positions
"""

from __future__ import annotations

import math

import jax
from jaxtyping import Float

# Tokens before the patches: none, a class token, or it and the four registers of DINO.
_FIRST = (0, 1, 5)


def grid(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Returns rows and columns of a tap's map; None where it has none in two dimensions.

    Args:
      shape: of one image's value.
    """
    if len(shape) == 3:
        return shape[0], shape[1]
    side = math.isqrt(shape[0]) if len(shape) == 2 else 0
    return (side, side) if side > 1 and shape[0] - side**2 in _FIRST else None


def on_grid(
    value: Float[jax.Array, "images *positions neurons"],
) -> Float[jax.Array, "images rows columns neurons"]:
    """Returns a tap's values on its grid; for use inside jit."""
    if value.ndim == 4:
        return value
    side = math.isqrt(value.shape[1])
    return value[:, value.shape[1] - side**2 :].reshape(len(value), side, side, -1)
