"""What a column of scores.csv holds: its range, which direction is better, and a line of meaning.

Rooms that score neurons state their columns as such records, beside the functions that compute
them. The header of scores.csv, the means of summary.json and docs/scores.md come from them.
"""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of scores.csv, a value a neuron.

    Attributes:
      name: as in the header.
      low, high: its range; infinite where it has no bound.
      better: "higher", "lower", or "" where neither is.
      meaning: one line.
      averaged: whether summary.json holds its mean over neurons.
      counted: the column of True and False that names the neurons a mean is over; "" for all live
        ones.
    """

    name: str
    low: float | int
    high: float | int
    better: Literal["higher", "lower", ""]
    meaning: str
    averaged: bool = True
    counted: str = ""
