"""Explain: one method's explanations of one layer.

moments, activations × the explainer's options → Explanations
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from jaxle.concepts.contrastive import ContrastiveConcepts
from jaxle.explainers import Problem, find_explainer
from jaxle.explainers.table import mean_length
from jaxle.explanations import Explanations
from jaxle.pipeline.cache import Cache, Made, Step
from jaxle.pipeline.config import Config
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.opened import Partition
from jaxle.references import is_reference, source_fingerprint


@dataclass(frozen=True, eq=False)
class Explained:
    """The explanations of a layer by a method, and the options with which they were found."""

    key: str
    method: str
    layer: Layer
    fitted: Fitted
    explanations: Explanations
    searched: Searched

    @property
    def live(self) -> np.ndarray:
        """(neurons,) bool: not dead; what means are over."""
        return self.explanations.flags != "dead"


@dataclass(frozen=True)
class Searched:
    """How a method searches: all that its explanations depend on beside what it is given."""

    explainer: str
    options: Any  # the explainer's own record
    dead_threshold: float

    @property
    def versions(self) -> dict[str, Any]:
        """The explainer's version, and hashes: of its code where it is not jaxle's, of its file."""
        found = find_explainer(self.explainer)
        versions = {"version": found.version, "code": source_fingerprint(found.explain)}
        if "file" in found.needs:
            content = epath.Path(self.options.file).expanduser().read_bytes()
            versions["file"] = hashlib.sha256(content).hexdigest()
        return versions


def explain_all(
    cache: Cache,
    fitted: Mapping[str, Fitted],
    layers: Sequence[Layer],
    partition: Partition,
    config: Config,
) -> list[Explained]:
    """Returns every method's explanations of every layer, by layer and then as methods are named.

    A method whose length another method limits is explained after that one.
    """
    free_first = sorted(config.methods.items(), key=lambda item: bool(item[1].no_longer_than))
    made: dict[tuple[str, str], Explained] = {}
    for layer in layers:
        for name, method in free_first:
            searched = Searched(method.explainer, method.options, config.target.dead_threshold)
            if method.no_longer_than:
                limit = mean_length(made[layer.key, method.no_longer_than].explanations)
                options = dataclasses.replace(method.options, mean_length=limit)
                searched = dataclasses.replace(searched, options=options)
            made[layer.key, name] = explain(cache, name, fitted[name], layer, partition, searched)
    return [made[layer.key, name] for layer in layers for name in config.methods]


def explain(
    cache: Cache,
    method: str,
    fitted: Fitted,
    layer: Layer,
    partition: Partition,
    searched: Searched,
) -> Explained:
    """Returns one method's explanations of one layer."""
    options = (searched, searched.versions)
    stored = cache.step(EXPLAIN, f"{layer}, {method}", [fitted, layer, partition], options)
    found = Explanations.from_arrays(stored.arrays, partition.split, stored.facts)
    return Explained(stored.key, method, layer, fitted, found, searched)


def search(
    fitted: Fitted, layer: Layer, partition: Partition, searched: Searched, mesh: Any
) -> Explanations:
    """Returns what the explainer finds, from the records of a run.

    Raises:
      ValueError: it is not one explanation a neuron, in the words that passed screening or that
        the explainer brings.
    """
    name = searched.explainer
    explainer, own = find_explainer(name), fitted.concepts.matrix
    asked = "cosines" in explainer.needs
    problem = Problem(
        layer.values,
        fitted.names,
        fitted.concepts.matrix,
        partition.split,
        fitted.of(layer),
        searched.dead_threshold,
        mesh,
        units=(None, layer.units),
        cosines=own.cosines if asked and isinstance(own, ContrastiveConcepts) else None,
        layer=layer.tap,
        overlaps=fitted.overlaps.get(layer.key),
    )
    try:
        found = explainer.explain(problem, searched.options)
    except ValueError as error:
        if is_reference(name):  # of your own: what it raises says nothing of whose it is
            raise ValueError(f"explainer {name!r}: {error}") from error
        raise
    return _checked(found, problem, name, fitted.brought)


def _checked(found: Any, problem: Problem, name: str, brought: Sequence[str] = ()) -> Explanations:
    """What an explainer gave, or a ValueError of one sentence that names it."""
    n_neurons = problem.activations.shape[1]
    if not isinstance(found, Explanations):
        raise ValueError(
            f"explainer {name!r} gave {type(found).__name__}: expected jaxle.Explanations."
        )
    if not np.array_equal(found.units, np.arange(n_neurons)):
        raise ValueError(
            f"explainer {name!r} gave {len(found)} explanations of the units "
            f"{found.units[:3].tolist()}…: expected one a neuron, 0 to {n_neurons - 1} in order."
        )
    given = {*problem.words, *brought}
    unknown = [concept for concept in found.concepts if concept not in given]
    if unknown:
        raise ValueError(
            f"explainer {name!r} explains with {unknown[0]!r}, which is no concept that it was "
            f"given: expected names of problem.concepts, such as {problem.concepts[0]!r}."
        )
    try:
        json.dumps(dict(found.facts), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"explainer {name!r} gave facts that are no JSON values: {error}."
        ) from error
    return found


def _explain(
    fitted: Fitted, layer: Layer, partition: Partition, options: tuple[Searched, Any], mesh: Any
) -> Made:
    found = search(fitted, layer, partition, options[0], mesh)
    return found.to_arrays(), dict(found.facts)


EXPLAIN = Step("explain", "explain", 4, _explain)
