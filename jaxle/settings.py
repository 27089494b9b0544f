"""The settings of a run: every field that a config holds, checked before anything expensive happens.

`configs/common.py` gives each field its default and its meaning. A config that misses a field, adds one that nothing reads, or gives one a
value of another kind is refused here with one sentence, so that a typing error never runs for an hour under the default it meant to change.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from jaxle.explainers.linear import PRECONDITIONED, check_options
from jaxle.explainers.search import SEARCHES as PAPERS_SEARCHES
from jaxle.models.taps import POOLS

FIELDS: dict[str, type | tuple[type, ...]] = {
    "seed": int,
    "workdir": str,
    "data.source": str,
    "data.split": str,
    "data.limit": int,
    "data.batch_size": int,
    "data.workers": int,
    "data.split_fractions": (list, tuple),
    "data.split_files": str,
    "target.model": str,
    "target.weights": str,
    "target.dtype": str,
    "target.arguments": dict,
    "target.call": dict,
    "target.preprocess": dict,
    "target.class_names": (list, tuple),
    "target.taps": (list, tuple),
    "target.pool": str,
    "target.dead_threshold": float,
    "concepts.superclasses": dict,
    "concepts.hierarchy": str,
    "concepts.sets": (list, tuple),
    "concepts.templates": (list, tuple),
    "concepts.calibration": str,
    "methods": dict,
    "simulators": dict,
    "fit.lam": float,
    "fit.l1_ratio": float,
    "fit.tol": float,
    "fit.min_top5": float,
    "search.max_concepts": int,
    "search.n_candidates": int,
    "search.min_gain": float,
    "search.mean_length": float,
    "search.exchanges": int,
    "search.teacher": bool,
    "evaluation.ceiling": bool,
    "evaluation.untrained": bool,
    "evaluation.shuffled": bool,
    "evaluation.draws": int,
    "evaluation.permutations": int,
    "evaluation.q": float,
    "evaluation.metrics": bool,
    "evaluation.contributions": bool,
    "evaluation.selection_draws": int,
    "evaluation.ablation": str,
    "evaluation.ablation_images": int,
    "evaluation.ablation_neurons": int,
    "evaluation.impact": bool,
    "report.listing": int,
    "mesh.data": int,
    "mesh.model": int,
}
LEAST = {
    "search.mean_length": 0,
    "data.limit": 0,
    "data.batch_size": 1,
    "data.workers": 0,
    "evaluation.draws": 0,
    "evaluation.permutations": 0,
    "evaluation.selection_draws": 0,
    "evaluation.ablation_images": 1,
    "evaluation.ablation_neurons": 0,
    "report.listing": 0,
    "mesh.data": 0,
    "mesh.model": 1,
}
TOWER_FIELDS = ("model", "weights", "dtype")
METHOD_FIELDS = {
    "label": ("concepts", "search"),
    "siglip": ("concepts", "search", *TOWER_FIELDS),
    "nonsense": ("concepts", "search", *TOWER_FIELDS),
}
LIKE = "no_longer_than"  # of a preconditioned method, if wanted: another method, whose mean length it may not exceed
SEARCHES = (*PAPERS_SEARCHES, PRECONDITIONED)
HIERARCHIES, CALIBRATIONS = ("", "wordnet", "coarse"), ("auto", "known", "trained")
ABLATIONS = ("", "best", "reference")
GENERATED = re.compile(r"generated:(\d+)")


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as a plain dict with taps as a list of names; use it once, before the first stage.

    Args:
      config: nested dict, as `ConfigDict.to_dict()` gives it.

    Raises:
      ValueError: a field is missing, unknown (the nearest name is offered), of the wrong kind or out of range.
    """
    given = dict(_flatten(config))
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 1, 0.6)
            raise ValueError(
                f"unknown config field {name!r}; {f'did you mean {near[0]!r}?' if near else 'valid: ' + ', '.join(FIELDS) + '.'}"
            )
    for name, kind in FIELDS.items():
        if name not in given:
            raise ValueError(
                f"the config lacks the field {name!r}: start from configs/common.py, which has them all."
            )
        value = given[name]
        fits = isinstance(value, (int, float) if kind is float else kind) and (
            kind is bool or not isinstance(value, bool)
        )
        if not fits:
            expected = kind.__name__ if isinstance(kind, type) else "tuple"
            raise ValueError(
                f"config field {name!r} must be {'an' if expected[0] in 'aeiou' else 'a'} {expected}, got {value!r}."
            )
    for name, low in LEAST.items():
        if given[name] < low:
            raise ValueError(f"config field {name!r} must be at least {low}, got {given[name]}.")
    taps = [
        part.strip() for tap in given["target.taps"] for part in str(tap).split(",") if part.strip()
    ]
    if not taps:
        raise ValueError(
            "config field 'target.taps' names no tap: expected at least one, such as ('layer3',)."
        )
    if len(set(taps)) != len(taps):
        raise ValueError(f"config field 'target.taps' names a tap twice: {taps}.")
    _one_of("target.pool", given["target.pool"], POOLS)
    _one_of("concepts.hierarchy", given["concepts.hierarchy"], HIERARCHIES)
    _one_of("evaluation.ablation", given["evaluation.ablation"], ABLATIONS)
    if not 0 < given["evaluation.q"] < 1:
        raise ValueError(
            f"config field 'evaluation.q' must lie between 0 and 1, got {given['evaluation.q']}."
        )
    if given["evaluation.draws"] == 1:
        raise ValueError("config field 'evaluation.draws' must be 0 (none) or at least 2, got 1.")
    _one_of("concepts.calibration", given["concepts.calibration"], CALIBRATIONS)
    if given["concepts.hierarchy"] and given["concepts.superclasses"]:
        raise ValueError(
            "config fields 'concepts.hierarchy' and 'concepts.superclasses' are both set: expected one of them."
        )
    _check_entries(given["methods"], given["simulators"])
    for method in given["methods"].values():
        own = method["search"] == PRECONDITIONED
        search = dict(config["search"]) | (
            {"mean_length": config["search"]["mean_length"] or None}
            if own
            else {"mean_length": None}
        )
        check_options(**config["fit"], **search, search=method["search"])
    plain = _plain(config)
    plain["target"]["taps"] = taps
    return plain


def _check_entries(methods: Mapping[str, Any], simulators: Mapping[str, Any]) -> None:
    for section, entries in (("methods", methods), ("simulators", simulators)):
        if not entries:
            raise ValueError(f"config section {section!r} is empty: expected at least one entry.")
        for name in entries:
            if not name or any(c in name for c in "/\\.") or name.startswith("-"):
                raise ValueError(
                    f"{section} entry {name!r} cannot name a folder: expected letters, digits, '_' and '-'."
                )
    for name, method in methods.items():
        kind = method.get("concepts") if isinstance(method, Mapping) else None
        _one_of(f"methods.{name}.concepts", kind, tuple(METHOD_FIELDS))
        _check_fields(
            f"methods.{name}",
            {key: value for key, value in method.items() if key != LIKE},
            METHOD_FIELDS[kind],
        )
        _one_of(f"methods.{name}.search", method["search"], SEARCHES)
        if method.get(LIKE):
            others = tuple(
                other for other in methods if other != name and not dict(methods[other]).get(LIKE)
            )
            _one_of(f"methods.{name}.{LIKE}", method[LIKE], others)
            if method["search"] != PRECONDITIONED:
                raise ValueError(
                    f"methods.{name}.{LIKE} needs search 'preconditioned', got {method['search']!r}."
                )
    for name, simulator in simulators.items():
        if simulator != "labels":
            if not isinstance(simulator, Mapping):
                raise ValueError(
                    f"config field 'simulators.{name}' must be 'labels' or hold {', '.join(TOWER_FIELDS)}, got {simulator!r}."
                )
            _check_fields(f"simulators.{name}", simulator, TOWER_FIELDS)


def generated_images(source: str) -> int | None:
    """N of a source "generated:N": so many random pictures, made when the run begins; None for any other source."""
    found = GENERATED.fullmatch(source)
    return int(found[1]) if found else None


def _check_fields(name: str, entry: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    if set(entry) != set(fields):
        raise ValueError(f"{name} must hold {', '.join(fields)}, got {', '.join(entry)}.")
    wrong = next((field for field in fields if not isinstance(entry[field], str)), None)
    if wrong is not None:
        raise ValueError(f"config field '{name}.{wrong}' must be a str, got {entry[wrong]!r}.")


def _one_of(name: str, value: Any, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f"config field {name!r} must be one of {', '.join(valid)}, got {value!r}.")


def _flatten(config: Mapping[str, Any], prefix: str = ""):
    """Dotted name → value, down to the fields that are listed (some of them hold dicts)."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in FIELDS:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _plain(value: Any) -> Any:
    """JSON's kinds only: dicts, lists and scalars."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
