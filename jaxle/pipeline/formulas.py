"""Formulas: pairs of concepts by AND and AND NOT as further columns of a concept matrix.

concepts × train → pairs worth a column → concepts and their pairs, made as tiles

Source: `explainers.formula_columns`; docs/methods.md, "Formulas", says what they gain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxle.explainers import find_explainer
from jaxle.explainers.formula_columns import LEAST_IMAGES, Pairs, find_pairs, with_pairs
from jaxle.pipeline.cache import Cache, Made, Step, derived_key
from jaxle.pipeline.config import Config
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.opened import Partition
from jaxle.report.progress import say


def with_formulas(
    cache: Cache, matrices: Mapping[str, ConceptMatrix], partition: Partition, config: Config
) -> dict[str, ConceptMatrix]:
    """Returns method → matrix, that of a method which asks for formulas with its pairs.

    `concepts.formulas` counts for the methods whose explainer counts words and whose words mean
    something; the others keep their concepts.
    """
    made: dict[str, ConceptMatrix] = {}
    found = {}
    for name, matrix in matrices.items():
        method = config.methods[name]
        able = find_explainer(method.explainer).formulas and matrix.kind != "nonsense"
        if able and (method.formulas or config.concepts.formulas) > 1:
            if matrix.key not in made:
                made[matrix.key] = paired(cache, matrix, partition, config.fit.min_top5)
            matrix = made[matrix.key]
        found[name] = matrix
    return found


def paired(
    cache: Cache, concepts: ConceptMatrix, partition: Partition, min_top5: float
) -> ConceptMatrix:
    """Returns a matrix of the concepts and their pairs; the same matrix where there are none."""
    what = f"pairs of {len(concepts.names)} {concepts.kind} concepts"
    stored = cache.step(FORMULAS, what, [concepts, partition], {"min_top5": min_top5})
    first, second, negated = (stored.arrays[name] for name in ("first", "second", "negated"))
    pairs = Pairs(first, second, negated, stored.facts["n_found"])
    if not len(pairs.first):
        say(
            f"  {what}: none becomes a column, for want of two concepts that {LEAST_IMAGES} or "
            "more train images hold together, and as many hold apart"
        )
        return concepts
    say(f"  {what}: {len(pairs.first)} of {pairs.n_found} formulas become columns")
    key = derived_key("formula_matrix", 1, [concepts], stored.key)
    matrix = with_pairs(concepts.matrix, pairs)
    return dataclasses.replace(concepts, key=key, matrix=matrix, base=concepts)


def _pairs(
    concepts: ConceptMatrix, partition: Partition, options: Mapping[str, float], mesh: Any
) -> Made:
    least, train = options["min_top5"], partition.split.train
    pairs = find_pairs(concepts.matrix, train, min_top5=least, mesh=mesh)
    arrays = {"first": pairs.first, "second": pairs.second, "negated": pairs.negated}
    return arrays, {"n_found": pairs.n_found}


FORMULAS = Step("formulas", "fit", 1, _pairs)
