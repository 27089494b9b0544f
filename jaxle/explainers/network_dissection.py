"""Network Dissection: the concept whose pixels overlap most with where a neuron is active.

    T_k        of the neuron's values at all positions of all images, the share 0.005 is larger
    M_k        its map, upsampled bilinearly to the masks' size, above T_k
    IoU(k, c)  Σ|M_k ∩ L_c| / Σ|M_k ∪ L_c| over the images that are labelled in c's category
    description = the concept of largest IoU;  a *detector* where that is above 0.04

Source: Bau, Zhou, Khosla, Oliva & Torralba, Network Dissection, CVPR 2017 (arXiv 1704.05796),
sections 2.2 and 2.3, written anew. Deliberate differences from the authors' code are in
docs/methods.md.

A run counts the overlaps in one step for all taps (`pipeline.dissect`); `dissect` does the same
from arrays. Of equal IoU the first concept counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxle.arrays import Array, checks_input
from jaxle.explainers.protocol import Overlaps, Problem
from jaxle.explanations import Explanation, Explanations, check_names
from jaxle.options import option, read
from jaxle.solve import overlap
from jaxle.solve.quantile import PASSES, TopShare

TOGETHER = 32  # images a program


@dataclass(frozen=True)
class NetworkDissection:
    """Options of `network_dissection`; the defaults are the paper's."""

    share: float = option(
        0.005, "share of positions where a neuron counts as active", above=0, below=1
    )
    side: int = option(
        112, "pixels a side at which maps and masks are compared; smaller masks as they are", low=1
    )


def explain(problem: Problem, options: NetworkDissection) -> Explanations:
    """Returns one description a neuron, of the concepts with masks that passed screening.

    The score columns are `pixel iou`, that of the description, and `detector`, 1 above 0.04. A
    neuron whose active pixels meet no concept is unexplained.
    """
    overlaps = problem.overlaps
    assert overlaps is not None, "the explainer needs masks"
    known = {name: j for j, name in enumerate(overlaps.concepts)}
    columns = [known[name] for name in problem.concepts if name in known]
    assert columns, "pipeline.dissect refuses a method without"
    constant = ~problem.measured.train.varies()
    table = _table(overlaps, np.array(columns), problem.dead, constant)
    return dataclasses.replace(table, split=problem.split)


@checks_input
def dissect(
    maps: Float[Array, "images rows columns neurons"],
    label_maps: Int[np.ndarray, "images layers height width"],
    concepts: Sequence[str],
    categories: Sequence[str] | None = None,
    *,
    share: float = NetworkDissection.share,
) -> Explanations:
    """Returns Network Dissection's description of every neuron from arrays of maps and labels.

    Args:
      maps: (images, rows, columns, neurons), a layer's activations at every position.
      label_maps: (images, layers, height, width), several labels a pixel: 0 for none, else a
        concept's number + 1. Maps are compared with them at their size.
      concepts: their names, each once.
      categories: the category of each concept, where images are labelled in some categories only;
        None: every image is labelled in full.
      share: of positions where a neuron counts as active.

    Returns:
      Explanations, with score columns `pixel iou` and `detector`.

    Raises:
      ValueError: maps that are not finite, numbers that no concept has, names that are there twice,
        another number of images, layers or categories than expected, a share out of range.
    """
    share = read(NetworkDissection, {"share": share}).share
    concepts = tuple(concepts)
    check_names(concepts)
    values = _measured(_array(maps, "maps", "iuf", "images, rows, columns, neurons"))
    label_maps = _array(label_maps, "label_maps", "iu", "images, layers, height, width")
    if len(values) != len(label_maps) or not len(values):
        raise ValueError(
            f"maps are of {len(values)} images, label_maps of {len(label_maps)}: expected the same "
            "images, at least one."
        )
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"maps hold a value that is not finite, in image {np.argwhere(~finite)[0][0]}."
        )
    if len(set(concepts)) < len(concepts) or not concepts:
        raise ValueError(f"concepts must be different names, at least one, got {concepts[:3]}.")
    low, high = int(label_maps.min(initial=0)), int(label_maps.max(initial=0))
    if low < 0 or high > len(concepts):
        raise ValueError(
            f"label_maps hold {low if low < 0 else high}: expected 0 for none, or 1 to "
            f"{len(concepts)}, a concept's number + 1."
        )
    of_each = [""] * len(concepts) if categories is None else list(categories)
    if len(of_each) != len(concepts):
        raise ValueError(
            f"categories are {len(of_each)} for {len(concepts)} concepts: expected one for each."
        )
    names = list(dict.fromkeys(of_each))
    category = np.array([names.index(name) for name in of_each], np.int32)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for start in range(0, len(values), TOGETHER):
            some = np.minimum(np.arange(start, start + TOGETHER), len(values) - 1)
            real = np.arange(start, start + TOGETHER) < len(values)
            yield values[some], np.asarray(label_maps[some], np.int32), real

    chosen, n_positions = TopShare(values.shape[3], share), int(np.prod(values.shape[1:3]))
    for _ in range(PASSES):
        for some, _, real in pieces():
            chosen.add(some.reshape(-1, values.shape[3]), np.repeat(real, n_positions))
        chosen.close()
    thresholds, total = chosen.thresholds, None
    for some, labels, real in pieces():
        labels = np.where(real[:, None, None, None], labels, 0)
        counts = overlap.tally(
            {"": some},
            {"": thresholds},
            labels,
            category,
            n_concepts=len(concepts),
            n_categories=len(names),
        )[""]
        counts = overlap.Counts(*(np.asarray(x, np.int64) for x in counts))
        total = counts if total is None else total + counts
    assert total is not None
    iou = total.iou(category)
    side = max(label_maps.shape[2:])
    found = Overlaps(concepts, iou, thresholds, len(values), side)
    flat = values.reshape(-1, values.shape[-1])
    constant = flat.min(axis=0) == flat.max(axis=0)
    return _table(found, np.arange(len(concepts)), constant, constant)


def _array(x: Any, name: str, kinds: str, axes: str) -> np.ndarray:
    """Returns an array of four axes, none of which is empty, or raises a ValueError."""
    try:
        values = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} must be one array ({axes}), got unlike parts.") from None
    wanted = "whole numbers" if kinds == "iu" else "real numbers"
    if values.ndim != 4 or values.dtype.kind not in kinds or not values.size:
        raise ValueError(
            f"{name} must be {wanted} of shape ({axes}), none of them 0; "
            f"got {values.dtype} of shape {values.shape}."
        )
    return values


def _measured(maps: np.ndarray) -> np.ndarray:
    """Maps in float32, each neuron's from 0 to 1 where another dtype holds more than float32 does.

    Thresholds and overlaps depend on the order of a neuron's values alone.
    """
    if maps.dtype in (np.float32, np.float16) or maps.dtype.kind not in "fiu" or not maps.size:
        return np.asarray(maps, np.float32)
    wide = np.asarray(maps, np.float64)
    if not np.isfinite(wide).all():
        return np.where(np.isfinite(wide), 0, np.nan).astype(np.float32)
    over = tuple(range(wide.ndim - 1))
    low, high = wide.min(axis=over), wide.max(axis=over)
    half = high / 2 - low / 2  # of the range, which itself could overflow
    unit = (wide / 2 - low / 2) / np.where(half > 0, half, 1)
    return unit.astype(np.float32)


def _table(
    overlaps: Overlaps,
    columns: Int[np.ndarray, " concepts"],
    dead: Bool[np.ndarray, " neurons"],
    constant: Bool[np.ndarray, " neurons"],
) -> Explanations:
    """Descriptions out of some columns, and their scores."""
    chosen, score, detector = overlap.best(overlaps.iou[:, columns])
    rows = []
    for k, j in enumerate(columns[chosen].tolist()):
        flag = "dead" if dead[k] else "constant" if constant[k] else ""
        if flag or score[k] == 0:
            rows.append(Explanation(k, (), (), 0.0, None, flag or "unexplained"))
        else:
            name = overlaps.concepts[j]
            rows.append(Explanation(k, (name,), (1.0,), 0.0, None, "", "description"))
    explained = np.array([bool(row.concepts) for row in rows])
    scores = {
        "pixel iou": np.where(explained, score, 0.0),
        "detector": (explained & detector).astype(np.float64),
    }
    facts = {
        "n_masked_concepts": len(columns),
        "n_detectors": int((explained & detector).sum()),
        "n_mask_images": overlaps.n_images,
        "mask_side": overlaps.side,
    }
    return Explanations(tuple(rows), scores, facts=facts)
