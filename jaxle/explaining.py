"""From activations and concepts to explanations, as artifacts of a run: moments, candidates, search; per tap and method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxle import settings
from jaxle.explainers import linear, preconditioned
from jaxle.explainers.linear import PRECONDITIONED
from jaxle.explanations import Explanations
from jaxle.matrices import method_concepts, probed, words
from jaxle.probing import tap_name
from jaxle.run import Made, Run, once, split_key, where
from jaxle.solve.moments import Moments


def activations(x: Run, variant: str, tap: str) -> np.ndarray:
    """(images, neurons) of all probe images; may be a memory map."""
    return probed(x, variant).artifact.arrays[f"activations.{tap_name(tap)}"]


def folds(x: Run, method: str) -> int:
    """How many folds the moments are kept in: for all methods on the same concepts, if any of them needs folds."""
    mine = _concepts_of(x.config["methods"][method])
    needed = (
        entry["search"] == PRECONDITIONED
        for entry in x.config["methods"].values()
        if _concepts_of(entry) == mine
    )
    return preconditioned.N_FOLDS if any(needed) else 0


def _concepts_of(entry: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in entry.items() if name not in ("search", settings.LIKE)}


def measured(x: Run, variant: str, tap: str, method: str) -> Made:
    """Moments over the concepts that pass screening.

    Facts: `concepts` (their names), `n_screened_out`, and by set of words the share `screened_out`.
    """
    concepts, fields = method_concepts(x, method)
    nonsense = x.config["methods"][method]["concepts"] == "nonsense"  # it is there to be fitted
    min_top5 = 0.0 if nonsense else x.config["fit"]["min_top5"]
    fields = fields | {
        "probe": probed(x, variant).key,
        "tap": tap,
        "min_top5": min_top5,
        "split": split_key(x.split),
        "folds": folds(x, method),
    }

    def make(_):
        values = activations(x, variant, tap)
        got = linear.measure(
            concepts.rows,
            len(concepts.concepts),
            values,
            x.split,
            min_top5,
            x.mesh,
            folds=folds(x, method),
        )
        named = {"train": got.train, "val": got.val} | {
            f"fold{i}": fold for i, fold in enumerate(got.folds)
        }
        arrays = {
            f"{part}.{name}": np.asarray(value)
            for part, moments in named.items()
            for name, value in moments._asdict().items()
        }
        facts = {
            "concepts": [concepts.concepts[j] for j in got.kept],
            "n_screened_out": len(concepts.concepts) - len(got.kept),
        }
        return arrays | {"kept": got.kept, "maxima": linear.maximum(values)}, facts | _screened_out(
            x, method, set(facts["concepts"])
        )

    return once(x, "fit-moments", f"{where(variant, tap, method)}, moments", fields, make)


def _screened_out(x: Run, method: str, kept: set[str]) -> dict[str, Any]:
    """Of each set of words, the share that did not pass."""
    if x.config["methods"][method]["concepts"] != "siglip":
        return {}
    found = words(x)
    passed = {origin: [] for origin in found.origin}
    for concept, origin in zip(found.concepts, found.origin, strict=True):
        passed[origin].append(concept in kept)
    return {
        "screened_out": {
            origin.rpartition("/")[2]: 1 - sum(those) / len(those)
            for origin, those in passed.items()
        }
    }


def unpacked(made: Made) -> linear.Measured:
    """What `linear.measure` gave, from the artifact of `measured`."""
    arrays = made.artifact.arrays

    def moments(part: str) -> Moments:
        fields = {
            name: jnp.asarray(arrays[f"{part}.{name}"]) for name in Moments._fields if name != "n"
        }
        return Moments(n=int(arrays[f"{part}.n"]), **fields)

    n_folds = sum(name.startswith("fold") and name.endswith(".n") for name in arrays)
    return linear.Measured(
        np.asarray(arrays["kept"]),
        moments("train"),
        moments("val"),
        tuple(moments(f"fold{i}") for i in range(n_folds)),
    )


def ranked(x: Run, variant: str, tap: str, method: str) -> Made:
    """Every neuron's candidates in order: the arrays of `linear.Ranked`."""
    moments = measured(x, variant, tap, method)

    def make(_):
        return linear.rank(unpacked(moments), **_rank_options(x), mesh=x.mesh)._asdict(), {}

    return once(
        x,
        "fit",
        f"{where(variant, tap, method)}, elastic net",
        {"moments": moments.key, **_rank_options(x)},
        make,
    )


def explained(x: Run, variant: str, tap: str, method: str) -> tuple[Made, Explanations]:
    """The explanations, and the artifact that holds them as a table."""
    search, moments = x.config["methods"][method]["search"], measured(x, variant, tap, method)
    facts, maxima = moments.artifact.facts, moments.artifact.arrays["maxima"]
    upstream = moments if search == PRECONDITIONED else ranked(x, variant, tap, method)
    limit = length_limit(x, variant, tap, method)

    def make(_):
        candidates = None
        if search != PRECONDITIONED:
            candidates = linear.Ranked(
                **{name: np.asarray(value) for name, value in upstream.artifact.arrays.items()}
            )
        found = choose(x, method, unpacked(moments), candidates, facts["concepts"], maxima, limit)
        more = {name: facts[name] for name in ("n_screened_out", "screened_out") if name in facts}
        return found.to_arrays(), {**found.facts, **more}

    fields = {"fit": upstream.key, "search": search, **_options(x, search)} | (
        {} if limit is None else {"mean_length": limit}
    )
    made = once(x, "search", where(variant, tap, method), fields, make)
    return made, Explanations.from_arrays(made.artifact.arrays, x.split, made.artifact.facts)


def choose(
    x: Run,
    method: str,
    got: linear.Measured,
    candidates: linear.Ranked | None,
    concepts: Sequence[str],
    maxima: np.ndarray,
    mean_length: float | None = None,
) -> Explanations:
    """A method's search with the run's options; candidates are ranked first where it needs them and none are given."""
    search = x.config["methods"][method]["search"]
    options = _options(x, search) | {"mesh": x.mesh}
    if search == PRECONDITIONED:
        options["mean_length"] = mean_length
        return preconditioned.explain(got, concepts, maxima, x.split, **options)
    if candidates is None:
        candidates = linear.rank(got, **_rank_options(x), mesh=x.mesh)
    return linear.select(got, candidates, concepts, maxima, x.split, search=search, **options)


def length_limit(x: Run, variant: str, tap: str, method: str) -> float | None:
    """The mean length that a preconditioned method may have: another method's on the same tap, or the config's; None for no limit."""
    other = x.config["methods"][method].get(settings.LIKE)
    if not other:
        return x.config["search"]["mean_length"] or None
    _, explanations = explained(x, variant, tap, other)
    counted = ~np.isin(explanations.flags, ("dead", "constant"))
    return max(1.0, float(explanations.lengths[counted].mean())) if counted.any() else None


def _options(x: Run, search: str) -> dict[str, Any]:
    names = ("teacher", "exchanges") if search == PRECONDITIONED else ("n_candidates",)
    read = {name: x.config["search"][name] for name in ("max_concepts", "min_gain", *names)}
    return read | {"dead_threshold": x.config["target"]["dead_threshold"]}


def _rank_options(x: Run) -> dict[str, Any]:
    pool_size = x.config["search"]["n_candidates"] * x.config["search"]["max_concepts"]
    return {name: x.config["fit"][name] for name in ("lam", "l1_ratio", "tol")} | {
        "pool_size": pool_size
    }
