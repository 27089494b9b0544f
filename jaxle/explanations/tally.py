"""Network Dissection's tallies: `label` and `score` (IoU) of every unit, beside much else.

    unit,category,label,score,color-label,color-truth,…        one row a unit, units from 1

The public code of Network Dissection (github.com/CSAILVision/NetDissect) numbers units from 1, and
marks scenes by `-s` and colours by `-c`. The paper's authors number from 0 and write words: the
tally's `greenhouse-indoor-s` of unit 10 is `greenhouse, indoor` of unit 9 in their table. So do we.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

SCENE, COLOUR = "-s", "-c"


def is_tally(header: Collection[str]) -> bool:
    """Whether these columns are those of a tally, and not of a table of explanations."""
    return {"label", "score"} <= set(header) and not {"description", "bias"} & set(header)


def units(counted: Sequence[int]) -> list[int]:
    """Returns unit numbers from 0, of such as a tally counts from 1; they stay if 0 is there."""
    first = 0 if 0 in counted else 1
    return [number - first for number in counted]


def name(label: str) -> str:
    """Returns a label in words."""
    if label.endswith(SCENE):
        label = label.removesuffix(SCENE).replace("-", ", ")
    return " ".join(label.removesuffix(COLOUR).replace("_", " ").split())
