"""A neuron's page as JSON values: its images, their sums term by term, its shares and errors.

    arrays of one layer (pipeline.shown) → a dict a neuron                  docs/report_data.md

A neuron's pictures are numbered from 0 in the order in which they are first used; everything else
of the neuron refers to these numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from jaxle.report.bins import NO_IMAGE, RANKS
from jaxle.report.shards import DIGITS, numbers


@dataclass(frozen=True, eq=False)
class Entry:
    """One method and simulator on a layer.

    Attributes:
      simulated: of all test images.
      over, under: test images whose activation is most over- and under-predicted; −1 for none.
      probs: Pr(concept) of the images of `Pictures.rows`, `over` and `under` in this order.
      shares: mean Pr(concept) in every bin of the real activation.
    """

    simulated: Float[np.ndarray, "images neurons"]
    over: Int[np.ndarray, "neurons errors"]
    under: Int[np.ndarray, "neurons errors"]
    probs: Float[np.ndarray, "neurons shown slots"]
    shares: Float[np.ndarray, "neurons bins slots"]


@dataclass(frozen=True, eq=False)
class Pictures:
    """A layer's images.

    Attributes:
      real: activations of all test images.
      by_bin, by_rank: test images; −1 for none.
      edges: of the bins.
      histogram: test images in finer bins.
      maps: the neuron's value by position in the images of `rows`, 0–255; None without positions.
    """

    real: Float[np.ndarray, "images neurons"]
    by_bin: Int[np.ndarray, "neurons bins each"]
    by_rank: Int[np.ndarray, "neurons ranks near"]
    edges: Float[np.ndarray, "neurons edges"]
    histogram: Int[np.ndarray, "neurons bars"]
    maps: UInt8[np.ndarray, "neurons shown height width"] | None = None

    @property
    def rows(self) -> Int[np.ndarray, "neurons shown"]:
        """Images by bin, then by rank."""
        parts = (self.by_bin, self.by_rank)
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


@dataclass(frozen=True, eq=False)
class Beside:
    """What else a page holds of a neuron.

    Attributes:
      near: method → a list a neuron of [number among all neurons of the report, correlation].
      parts: method → column of concepts.csv → a list a neuron of one value a concept.
      pushes: a list a neuron of [class, change of its logit when the neuron grows by one
        standard deviation].
    """

    near: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    pushes: Sequence[Any] = ()


def rows_shown(pictures: Pictures, entries: Sequence[Entry], neuron: int) -> list[int]:
    """Returns the test images that a neuron's page shows, in the order in which they are used."""
    parts = [pictures.by_rank[neuron], pictures.by_bin[neuron][::-1]]
    for entry in entries:
        parts += [entry.over[neuron], entry.under[neuron]]
    rows = np.concatenate([part.ravel() for part in parts])
    return list(dict.fromkeys(rows[rows != NO_IMAGE].tolist()))


def details(
    pictures: Pictures,
    entries: Mapping[int, Entry],
    beside: Beside,
    number: Callable[[int], int],
    scattered: Shaped[np.ndarray, " points"],
) -> Iterator[dict[str, Any]]:
    """Yields the page of one neuron after another.

    Args:
      pictures: of the layer.
      entries: number of a row of the report's `rows` → the method and simulator.
      beside: what else is known.
      number: test image → number of its picture in the report.
      scattered: test images whose real and simulated activations are drawn against each other.
    """
    ordered = list(entries.values())
    scatter = numbers(pictures.real[scattered].T)
    drawn = {name: numbers(entry.simulated[scattered].T) for name, entry in entries.items()}
    for k in range(pictures.real.shape[1]):
        rows = rows_shown(pictures, ordered, k)
        place = {row: i for i, row in enumerate(rows)} | {NO_IMAGE: -1}
        found: dict[str, Any] = {
            "edges": numbers(pictures.edges[k][[0, -1]], DIGITS),
            "histogram": pictures.histogram[k].tolist(),
            "pictures": [number(row) for row in rows],
            "real": numbers(pictures.real[rows, k], DIGITS),
            "bins": [_places(part, place) for part in pictures.by_bin[k]],
            "ranks": _ranks(pictures.by_rank[k], place),
            "scatter": scatter[k],
            "entries": {},
            "near": {method: near[k] for method, near in beside.near.items()},
            "parts": {
                method: {name: values[k] for name, values in columns.items()}
                for method, columns in beside.parts.items()
            },
        }
        if pictures.maps is not None:
            found["maps"] = _maps(pictures.rows[k], pictures.maps[k], rows)
        if len(beside.pushes):
            found["pushes"] = beside.pushes[k]
        for name, entry in entries.items():
            found["entries"][str(name)] = {
                "simulated": numbers(entry.simulated[rows, k], DIGITS),
                "probs": _probs(pictures, entry, k, rows),
                "over": _places(entry.over[k], place),
                "under": _places(entry.under[k], place),
                "shares": numbers(entry.shares[k]),
                "scatter": drawn[name][k],
            }
        yield found


def _ranks(by_rank: np.ndarray, place: Mapping[int, int]) -> list[list[Any]]:
    """Rank and pictures up to it; of fewer images than the first rank, all of them."""
    found = []
    for rank, part in zip(RANKS, by_rank, strict=True):
        those = _places(part, place)
        if part[-1] != NO_IMAGE:
            found.append([rank, those])
        elif rank == RANKS[0] and those:
            found.append([len(those), those])
    return found


def _places(rows: np.ndarray, place: Mapping[int, int]) -> list[int]:
    return [place[row] for row in rows.tolist() if row != NO_IMAGE]


def _probs(pictures: Pictures, entry: Entry, k: int, rows: Sequence[int]) -> list[Any]:
    """Of each picture one probability a concept; None of a picture that another entry brought."""
    own = np.concatenate([pictures.rows[k], entry.over[k], entry.under[k]]).tolist()
    slot = {row: i for i, row in enumerate(own)}
    values = numbers(entry.probs[k], DIGITS)
    return [values[slot[row]] if row in slot else None for row in rows]


def _maps(shown: np.ndarray, maps: np.ndarray, rows: Sequence[int]) -> dict[str, Any]:
    """Which pictures have a map, and the bytes of all, row by row, in base 64."""
    slot = {row: i for i, row in enumerate(shown.tolist())}
    have = [i for i, row in enumerate(rows) if row in slot]
    content = maps[[slot[rows[i]] for i in have]]
    text = base64.b64encode(np.ascontiguousarray(content).tobytes()).decode("ascii")
    return {"pictures": have, "shape": list(maps.shape[1:]), "bytes": text}
