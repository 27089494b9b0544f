"""Contribute: what each concept of an explanation adds, and how often it is chosen again.

    share, leave_one_out   from second moments of the simulator's probabilities on test images
    frequency              refits on resampled train and val images

Source: method.md §8; `evaluation.contributions`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxle.evaluation.contributions import contributions, selection_frequency
from jaxle.evaluation.resampling import resampled
from jaxle.evaluation.simulation import over_columns, simulable
from jaxle.explanations import Explanations
from jaxle.mesh import data_size
from jaxle.pipeline.cache import Cache, Made, Several, Step
from jaxle.pipeline.explain import Explained, search
from jaxle.pipeline.layers import Columns, Layer
from jaxle.pipeline.opened import Partition
from jaxle.pipeline.simulate import Simulated, Simulator
from jaxle.solve import tiles, wording
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments, merge, second_moments

LEAST_SLOTS = 8  # of concepts in an explanation, then powers of two: few programs


@dataclass(frozen=True, eq=False)
class OnTest:
    """Second moments of a simulator's probabilities and the trained layers on test images."""

    key: str
    moments: Moments
    spans: Mapping[str, slice]  # layer's key → its columns


def on_test(
    cache: Cache, simulator: Simulator, layers: Sequence[Layer], partition: Partition
) -> OnTest:
    """Returns the moments from which contributions are read, for all layers at once."""
    trained = Several(tuple(layers))
    what = f"{simulator.name}, {len(simulator.concepts.names)} concepts"
    arrays = cache.step(ON_TEST, what, [simulator, trained, partition])
    fields = {name: arrays.arrays[name] for name in Moments._fields if name != "n"}
    moments = Moments(n=int(arrays.arrays["n"]), **fields)
    return OnTest(arrays.key, moments, Columns(trained).spans)


def _on_test(simulator: Simulator, trained, partition, options: None, mesh: Any) -> Made:
    rows, test = simulator.concepts.matrix.rows, partition.split.test
    targets, n = Columns(trained), len(simulator.concepts.names)
    columns = tiles.repeated(np.arange(n))
    width = len(columns) + tiles.bucket(targets.shape[1])
    tile_rows = tiles.tile_rows([len(test)], width, data_size(mesh))
    moments = second_moments(
        lambda i: rows(i, columns), targets, test, mesh=mesh, tile_rows=tile_rows
    ).concepts(n)
    return {name: np.asarray(value) for name, value in moments._asdict().items()}, {}


def contribute(
    cache: Cache, simulated: Simulated, tested: OnTest, partition: Partition
) -> dict[str, np.ndarray]:
    """Returns `share` and `leave_one_out`, (neurons, most) in each explanation's own order."""
    explained = simulated.explained
    what = f"{explained.layer}, {explained.method} by {simulated.simulator.name}"
    if any(row.kind == "formula" for row in explained.explanations):
        return dict(cache.step(CONTRIBUTE_FORMULAS, what, [simulated, partition]).arrays)
    return dict(cache.step(CONTRIBUTE, what, [simulated, tested]).arrays)


def _contribute(simulated: Simulated, tested: OnTest, options: None, mesh: Any) -> Made:
    explained, names = simulated.explained, simulated.simulator.concepts.names
    moments = tested.moments.neurons(tested.spans[explained.layer.key])
    got = contributions(explained.explanations, names, moments)
    return {"share": got.share, "leave_one_out": got.leave_one_out}, {}


def _contribute_formulas(
    simulated: Simulated, partition: Partition, options: None, mesh: Any
) -> Made:
    """The moments of the formulas that one method uses; one that cannot be made adds nothing."""
    explained, concepts = simulated.explained, simulated.simulator.concepts
    able = simulable(explained.explanations, concepts.names)
    able, matrix = over_columns(able, concepts.matrix)
    names, rows, test = tuple(matrix.concepts), matrix.rows, partition.split.test
    moments = second_moments(lambda i: rows(i), explained.layer.values, test, mesh=mesh)
    got, most = contributions(able, names, moments), max([1, *explained.explanations.terms])
    share, without = (
        np.pad(part, ((0, 0), (0, most - part.shape[1]))) for part in (got.share, got.leave_one_out)
    )
    return {"share": share, "leave_one_out": without}, {}


@dataclass(frozen=True)
class Draws:
    """Of refits on resampled images."""

    draws: int
    seed: int


@dataclass(frozen=True, eq=False)
class Equivalents:
    """Of each concept of each explanation, the names that could stand in its place."""

    key: str
    names: tuple[tuple[tuple[str, ...], ...], ...]


def equivalents(cache: Cache, explained: Explained) -> Equivalents:
    """Returns concepts that explain as much in another's place, within the noise of the images."""
    what = f"{explained.layer}, {explained.method}"
    stored = cache.step(EQUIVALENTS, what, [explained])
    known, found = explained.fitted.names, []
    for row, listed in zip(explained.explanations, stored.arrays["index"], strict=True):
        slots = listed[: len(row.concepts)].tolist()
        found.append(tuple(tuple(known[j] for j in slot if j >= 0) for slot in slots))
    return Equivalents(stored.key, tuple(found))


def _equivalents(explained: Explained, options: None, mesh: Any) -> Made:
    fitted, table = explained.fitted, explained.fitted.named(explained.explanations)
    measured = fitted.of(explained.layer)
    moments = measured.total or merge([measured.train, measured.val])
    place = {name: j for j, name in enumerate(fitted.names)}
    slots = max(LEAST_SLOTS, 1 << (int(table.terms.max(initial=1)) - 1).bit_length())
    selected = np.full((len(table), slots), -1, np.int32)
    for k, row in enumerate(table):
        # a formula is no column of the moments of concepts alone
        selected[k, : len(row.concepts)] = [place.get(name, -1) for name in row.concepts]
    return {"index": wording.equivalents(moments, selected, words=fitted.lengths, mesh=mesh)}, {}


def select_again(
    cache: Cache, explained: Explained, alike: Equivalents, partition: Partition, how: Draws
) -> tuple[np.ndarray, float]:
    """Returns how often each concept, or one as good, is chosen again (neurons, most), and the
    mean overlap."""
    what = f"{explained.layer}, {explained.method}, {how.draws} draws"
    stored = cache.step(SELECT_AGAIN, what, [explained, alike, partition], how)
    return stored.arrays["frequency"], stored.facts["mean_overlap"]


def _select_again(
    explained: Explained, alike: Equivalents, partition: Partition, options: Draws, mesh: Any
) -> Made:
    fitted, layer, split = explained.fitted, explained.layer, partition.split
    measured, rows = fitted.of(layer), fitted.concepts.matrix.rows

    def resample(draw: int) -> Measured:
        how = {"seed": options.seed, "mesh": mesh}
        return resampled(measured, rows, layer.measurable, split, draw, **how)

    def refit(got: Measured) -> Explanations:
        again = dataclasses.replace(fitted, measured=got, spans={layer.key: slice(None)})
        return fitted.named(search(again, layer, partition, explained.searched, mesh))

    table = fitted.named(explained.explanations)
    stable = selection_frequency(
        table, resample, refit, draws=options.draws, equivalents=alike.names
    )
    live = explained.live
    overlap = float(stable.overlap[live].mean()) if live.any() else 0.0
    return {"frequency": stable.frequency}, {"mean_overlap": overlap}


ON_TEST = Step("on_test", "score", 1, _on_test)
CONTRIBUTE = Step("contribute", "score", 1, _contribute)
CONTRIBUTE_FORMULAS = Step("contribute_formulas", "score", 1, _contribute_formulas)
EQUIVALENTS = Step("equivalents", "score", 1, _equivalents)
SELECT_AGAIN = Step("select_again", "score", 2, _select_again)
