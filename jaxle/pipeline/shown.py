"""Shown: which test images a neuron's page shows, and what its words are in each.

    layer      → images by bin and by rank, a histogram
    simulated  → largest errors, Pr(concept) of every image that is shown, each concept's shares

Numbers of images are rows of the test split, −1 for none. `pipeline.report` turns these arrays and
the tables of the run into pages; nothing is computed there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.simulation import over_columns, simulable
from jaxle.explainers.protocol import ConceptRows
from jaxle.explanations import Explanations
from jaxle.intervention.affine import norm
from jaxle.pipeline.cache import Cache, Made, Step, Stored
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.opened import Partition
from jaxle.pipeline.simulate import Simulated, Simulator
from jaxle.report.bins import (
    BINS,
    NO_IMAGE,
    RANKS,
    activation_bins,
    images_of_bins,
    images_of_ranks,
)
from jaxle.solve.tiles import host_columns

PER_BIN, PER_RANK, PER_ERROR = 5, 5, 5
FINE = 4  # bars of the histogram a bin
BLOCK = 64  # neurons whose concepts share a tile of probabilities


@dataclass(frozen=True, eq=False)
class Shown:
    """Of a layer's neurons, the images that are shown whatever explains them.

    Arrays: `by_bin` (neurons, bins, images), `by_rank` (neurons, ranks, images), `edges` (neurons,
    bins + 1), `histogram` (neurons, bars): test images by activation.
    """

    key: str
    layer: Layer
    arrays: Mapping[str, np.ndarray]

    @property
    def rows(self) -> np.ndarray:
        """(neurons, images) of both, bins first."""
        parts = (self.arrays["by_bin"], self.arrays["by_rank"])
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def show(cache: Cache, layer: Layer, partition: Partition) -> Shown:
    """Returns the images of a layer's neurons by bin and by rank."""
    stored = cache.step(SHOW, str(layer), [layer, partition])
    return Shown(stored.key, layer, stored.arrays)


def sums(cache: Cache, simulated: Simulated, shown: Shown, partition: Partition) -> Stored:
    """Returns what an explanation adds up to in every image that is shown: see `_sums`."""
    explained, simulator = simulated.explained, simulated.simulator
    what = f"{explained.layer}, {explained.method} by {simulator.name}"
    return cache.step(SUMS, what, [simulated, shown, partition, simulator])


def _show(layer: Layer, partition: Partition, options: None, mesh: Any) -> Made:
    test = np.asarray(layer.values[partition.split.test], np.float64)
    made: dict[str, list[np.ndarray]] = {
        name: [] for name in ("by_bin", "by_rank", "edges", "histogram")
    }
    for values in test.T:
        bins = activation_bins(values)
        fine = activation_bins(values, n_bins=BINS * FINE)
        made["by_bin"].append(images_of_bins(values, bins, PER_BIN).astype(np.int32))
        made["by_rank"].append(images_of_ranks(values, RANKS, PER_RANK).astype(np.int32))
        made["edges"].append(bins.edges)
        made["histogram"].append(fine.counts)
    return {name: np.stack(parts) for name, parts in made.items()}, {}


def _sums(
    simulated: Simulated,
    shown: Shown,
    partition: Partition,
    simulator: Simulator,
    options: None,
    mesh: Any,
) -> Made:
    """Largest errors, and probabilities of an explanation's concepts in all images that are shown.

    A bare text or formula has no scale: its errors are those of c·s + d, fitted on val.

    Arrays: `over`, `under` (neurons, images), errors by size; `probs` (neurons, images, slots) of
    the images of `shown.rows`, `over` and `under` in this order, NaN where a name has no column;
    `shares` (neurons, bins, slots), means over the test images of a bin.
    """
    test, concepts = partition.split.test, simulator.concepts
    able = simulable(simulated.explained.explanations, concepts.names)
    table, matrix = over_columns(able, concepts.matrix)  # a formula has a column, too
    real = np.asarray(shown.layer.values[test], np.float32)
    over, under = _errors(_on_scale(simulated, shown.layer, partition), real)
    rows = np.concatenate([shown.rows, over, under], axis=1)
    slots = max(1, int(table.terms.max(initial=1)))
    probs = np.full((*rows.shape, slots), np.nan, np.float32)
    shares = np.full((len(table), BINS, slots), np.nan, np.float32)
    for part, columns, tile in _tiles(matrix, table, test):
        for k in range(part.start, part.stop):
            own = columns[k - part.start]
            values = tile[:, np.maximum(own, 0)]
            values[:, own < 0] = np.nan
            probs[k, :, : len(own)] = values[np.maximum(rows[k], 0)]
            bins = np.searchsorted(shown.arrays["edges"][k], real[:, k], side="right") - 1
            members = np.clip(bins, 0, BINS - 1)
            shares[k, :, : len(own)] = _means(members, values)
    probs[rows == NO_IMAGE] = np.nan
    return {"over": over, "under": under, "probs": probs, "shares": shares}, {}


def _on_scale(simulated: Simulated, layer: Layer, partition: Partition) -> np.ndarray:
    """(images, neurons) simulated activations of test, those of bare texts as c·s + d."""
    test = np.array(simulated.test, np.float32)
    bare = np.flatnonzero([row.is_bare for row in simulated.explained.explanations])
    if len(bare):
        val = np.asarray(layer.values[partition.split.val])[:, bare]
        scale, shift = norm(np.asarray(simulated.val)[:, bare], val)
        test[:, bare] = scale * test[:, bare] + shift
    return test


def _errors(simulated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(neurons, images) rows of the largest over- and under-predictions, largest first."""
    n = min(PER_ERROR, max(1, len(real) // 2))
    over, under = [], []
    for start in range(0, real.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        errors = simulated[:, part] - real[:, part]
        over.append(_largest(errors, n))
        under.append(_largest(-errors, n))
    return np.concatenate(over), np.concatenate(under)


def _largest(errors: np.ndarray, n: int) -> np.ndarray:
    """(neurons, n) rows of the largest positive errors, largest first; −1 where none is above 0."""
    part = np.argpartition(-errors, n - 1, axis=0)[:n]
    values = np.take_along_axis(errors, part, axis=0)
    order = np.lexsort((part, -values), axis=0)
    rows = np.take_along_axis(part, order, axis=0)
    found = np.where(np.take_along_axis(errors, rows, axis=0) > 0, rows, NO_IMAGE)
    return found.T.astype(np.int32)


def _means(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(bins, concepts) means over the images of a bin, NaN of no image."""
    order = np.argsort(members, kind="stable")
    counts = np.bincount(members, minlength=BINS)
    sums = np.zeros((BINS, values.shape[1]))
    some = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[some]
    sums[some] = np.add.reduceat(values[order].astype(np.float64), starts, axis=0)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)


def _tiles(
    matrix: ConceptRows, table: Explanations, test: np.ndarray
) -> Iterator[tuple[slice, list[np.ndarray], np.ndarray]]:
    """(neurons, each one's columns of the tile, tile (images, columns)) of block after block.

    A column is −1 where the matrix has no concept of that name.
    """
    place = {name: j for j, name in enumerate(matrix.concepts)}
    for start in range(0, len(table), BLOCK):
        part = slice(start, min(start + BLOCK, len(table)))
        names = [[place.get(name, -1) for name in row.concepts] for row in table.rows[part]]
        used = np.array(sorted({j for own in names for j in own if j >= 0}), np.int64)
        inside = {int(j): i for i, j in enumerate(used)} | {-1: -1}
        tile = np.zeros((len(test), 1), np.float32)
        if len(used):
            tile = np.asarray(host_columns(matrix.rows, test, used), np.float32)
        yield part, [np.array([inside[j] for j in own], np.int64) for own in names], tile


SHOW = Step("shown", "report", 1, _show, alone=True)
SUMS = Step("sums", "report", 2, _sums, alone=True)
