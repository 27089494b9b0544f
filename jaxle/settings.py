"""The settings of a run: every field that a config holds, checked before anything expensive happens.

`configs/common.py` gives each field its default and its meaning. A config that misses a field, adds one that nothing reads, or gives one a
value of another kind is refused here with one sentence, so that a typing error never runs for an hour under the default it meant to change.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from jaxle.explainers.linear import check_options
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
    "methods": dict,
    "simulators": dict,
    "fit.lam": float,
    "fit.l1_ratio": float,
    "fit.tol": float,
    "fit.min_top5": float,
    "search.max_concepts": int,
    "search.n_candidates": int,
    "search.min_gain": float,
    "evaluation.ceiling": bool,
    "evaluation.untrained": bool,
    "report.listing": int,
    "mesh.data": int,
    "mesh.model": int,
}
LEAST = {"data.limit": 0, "data.batch_size": 1, "data.workers": 0, "report.listing": 0, "mesh.data": 0, "mesh.model": 1}
METHOD_FIELDS = {"concepts": ("label",), "search": ("greedy", "top_k")}
SIMULATORS = ("labels",)


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
            raise ValueError(f"the config lacks the field {name!r}: start from configs/common.py, which has them all.")
        value = given[name]
        fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
        if not fits:
            expected = kind.__name__ if isinstance(kind, type) else "tuple"
            raise ValueError(f"config field {name!r} must be {'an' if expected[0] in 'aeiou' else 'a'} {expected}, got {value!r}.")
    for name, low in (
        ("data.limit", 0),
        ("data.batch_size", 1),
        ("data.workers", 0),
        ("report.listing", 0),
        ("mesh.data", 0),
        ("mesh.model", 1),
    ):
        if given[name] < low:
            raise ValueError(f"config field {name!r} must be at least {low}, got {given[name]}.")
    taps = [part.strip() for tap in given["target.taps"] for part in str(tap).split(",") if part.strip()]
    if not taps:
        raise ValueError("config field 'target.taps' names no tap: expected at least one, such as ('layer3',).")
    if len(set(taps)) != len(taps):
        raise ValueError(f"config field 'target.taps' names a tap twice: {taps}.")
    _one_of("target.pool", given["target.pool"], POOLS)
    _check_entries(given["methods"], given["simulators"])
    for method in given["methods"].values():
        fit, search = config["fit"], config["search"]
        check_options(**fit, **search, search=method["search"])
    plain = _plain(config)
    plain["target"]["taps"] = taps
    return plain


def _check_entries(methods: Mapping[str, Any], simulators: Mapping[str, Any]) -> None:
    for section, entries in (("methods", methods), ("simulators", simulators)):
        if not entries:
            raise ValueError(f"config section {section!r} is empty: expected at least one entry.")
        for name in entries:
            if not name or any(c in name for c in "/\\.") or name.startswith("-"):
                raise ValueError(f"{section} entry {name!r} cannot name a folder: expected letters, digits, '_' and '-'.")
    for name, method in methods.items():
        if not isinstance(method, Mapping) or set(method) != set(METHOD_FIELDS):
            raise ValueError(
                f"methods.{name} must hold {', '.join(METHOD_FIELDS)}, got {method if not isinstance(method, Mapping) else list(method)}."
            )
        for key, valid in METHOD_FIELDS.items():
            _one_of(f"methods.{name}.{key}", method[key], valid)
    for name, simulator in simulators.items():
        _one_of(f"simulators.{name}", simulator, SIMULATORS)


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
