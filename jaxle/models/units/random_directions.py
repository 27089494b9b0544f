"""Random directions: a control for directions of any other origin, which they should beat.

K ≤ width: a random rotation's first K axes, orthogonal to each other; K > width: directions drawn
uniformly. All have length 1.
"""

from __future__ import annotations

import numpy as np

from jaxle.models.units.linear import directions_map
from jaxle.models.units.unit_map import UnitMap

MOST = 1 << 28  # numbers: 2 GB while they are drawn


def random_directions(width: int, count: int, seed: int) -> UnitMap:
    """Returns `count` random directions of a tap's space.

    Args:
      width: columns of the tap.
      count: how many.
      seed: of the draw, an integer from 0 to 2⁶⁴ − 1.

    Raises:
      ValueError: more than `MOST` numbers.
    """
    if count * width > MOST:
        raise ValueError(
            f"target.units=random:{count} asks for {count} directions of {width} columns: expected "
            f"at most {MOST // width}."
        )
    drawn = np.random.default_rng(seed).standard_normal((max(count, width), width))
    if count <= width:
        # columns of Q with the signs of R's diagonal are uniform over rotations (Mezzadri 2007)
        q, r = np.linalg.qr(drawn[:width].T)
        drawn = (q * np.sign(np.diag(r))).T
    drawn = drawn[:count] / np.linalg.norm(drawn[:count], axis=1, keepdims=True)
    return directions_map("random", drawn, drawn, facts={"seed": seed})
