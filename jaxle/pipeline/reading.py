"""From a config file to the settings of a run: names, kinds, ranges, and what contradicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from jaxle.evaluation import find_metrics
from jaxle.explainers import find_explainer
from jaxle.models.units import read_units
from jaxle.options import checked, describe, read, suggest
from jaxle.pipeline.cache import plain
from jaxle.pipeline.config import Config, Encoder, Method
from jaxle.references import is_reference

LABELS = "labels"  # the simulator that is the data's own labels
GIVEN = "given"  # the matrix, and the simulator, that lies beside the images
ENCODER = tuple(describe(Encoder))
SECTIONS: dict[str, type] = {
    name: kind
    for name, kind in get_type_hints(Config).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}


def read_config(given: Mapping[str, Any]) -> Config:
    """Returns the config as records, every field checked.

    Args:
      given: nested dict, as `ConfigDict.to_dict()` gives it; what is left out has its default.

    Raises:
      ValueError: a field that is unknown (the nearest name is offered), of another kind or out of
        range; entries that contradict each other.
    """
    fields = [field.name for field in dataclasses.fields(Config)]
    for name in given:
        if name not in fields:
            raise ValueError(f"unknown config field {name!r}: {suggest(name, fields)}.")
    parts: dict[str, Any] = {}
    for name, cls in SECTIONS.items():
        parts[name] = read(cls, _mapping(name, given.get(name, {})), f"config field {name}.")
    shared = _set(parts["fit"]) | _set(parts["search"])
    for name, entry in _entries("methods", given):
        parts.setdefault("methods", {})[name] = _method(f"methods.{name}", entry, shared)
    for name, entry in _entries("simulators", given):
        parts.setdefault("simulators", {})[name] = _simulator(f"simulators.{name}", entry)
    top = {name: given[name] for name in describe(Config) if name in given}
    config = Config(**parts, **checked(Config, top, "config field "))
    target = dataclasses.replace(config.target, taps=_taps(config.target.taps))
    config = dataclasses.replace(config, target=target)
    _check(config)
    return config


def write_config(config: Config) -> dict[str, Any]:
    """Returns the settings as JSON values, in the form in which `read_config` reads them."""
    values = plain(config)
    for method in values["methods"].values():
        method |= method.pop("encoder") or {}
        method |= method.pop("options")
    return values


def _set(section: Any) -> dict[str, Any]:
    """The fields of a section that differ from their defaults: those every method takes."""
    standard = describe(type(section))
    return {name: v for name, v in vars(section).items() if v != standard[name].default}


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"config section {name!r} must hold fields, got {value!r}.")
    return value


def _entries(section: str, given: Mapping[str, Any]):
    entries = _mapping(section, given.get(section, {}))
    if not entries:
        raise ValueError(f"config section {section!r} is empty: expected at least one entry.")
    for name in entries:
        if not name or any(c in name for c in "/\\.") or name.startswith("-"):
            raise ValueError(
                f"{section} entry {name!r} cannot name a folder: "
                "expected letters, digits, '_' and '-'."
            )
    return entries.items()


def _method(where: str, given: Any, shared: Mapping[str, Any]) -> Method:
    """A method with its encoder and its explainer's options.

    An option that is left as None is the shared one of that name, where a user set it, else the
    explainer's own default.
    """
    entry = dict(_mapping(where, given))
    own = {name: entry.pop(name) for name in describe(Method) if name in entry}
    method = Method(**checked(Method, own, f"config field {where}."))
    encoder = None
    if method.concepts not in ("label", GIVEN):
        own = {name: entry.pop(name) for name in ENCODER if name in entry}
        encoder = _encoder(where, own)
    cls = find_explainer(method.explainer).options
    fields = describe(cls)
    values = {name: value for name, value in shared.items() if name in fields}
    values |= {name: value for name, value in entry.items() if value is not None}
    for name in values:
        if name not in fields:
            raise ValueError(f"unknown config field {where}.{name}: {suggest(name, fields)}.")
    options = read(cls, values, f"config field {where}.")
    return dataclasses.replace(method, encoder=encoder, options=options)


def _encoder(where: str, given: Mapping[str, Any]) -> Encoder:
    encoder = read(Encoder, given, f"config field {where}.")
    if not encoder.model:
        raise ValueError(
            f"config field {where}.model must name an encoder, such as siglip_l_16_384."
        )
    return encoder


def _simulator(where: str, given: Any) -> str | Encoder:
    if isinstance(given, Mapping):
        return _encoder(where, given)
    if given in (LABELS, GIVEN) or (isinstance(given, str) and is_reference(given)):
        return given
    raise ValueError(
        f"config field {where} must be 'labels', 'given', package.module:name, "
        f"or hold {', '.join(ENCODER)}, got {given!r}."
    )


def _taps(given: tuple[str, ...]) -> tuple[str, ...]:
    """Tap names, of which several may be written in one text with commas."""
    taps = tuple(part.strip() for tap in given for part in str(tap).split(",") if part.strip())
    if not taps:
        raise ValueError("config field target.taps names no tap: expected one, such as layer3.")
    if len(set(taps)) != len(taps):
        raise ValueError(f"config field target.taps names a tap twice: {', '.join(taps)}.")
    return taps


def _check(config: Config) -> None:
    """Raises a ValueError where fields contradict each other."""
    if config.concepts.hierarchy and config.concepts.superclasses:
        raise ValueError(
            "config fields concepts.hierarchy and concepts.superclasses are both set: "
            "expected one of them."
        )
    units = read_units(config.target.units, config.target.unit_options)
    if units is not None and units.maker.takes == "FILE" and len(config.target.taps) > 1:
        raise ValueError(
            f"config field target.units={config.target.units!r} is of one tap, and target.taps "
            f"names {len(config.target.taps)}: expected one."
        )
    if config.evaluation.draws == 1:
        raise ValueError("config field evaluation.draws must be 0 (none) or at least 2, got 1.")
    find_metrics(config.evaluation.metrics)
    for name, method in config.methods.items():
        _check_needs(f"methods.{name}", method)
        other = method.no_longer_than
        if not other:
            continue
        free = [key for key, m in config.methods.items() if key != name and not m.no_longer_than]
        if other not in free:
            raise ValueError(
                f"config field methods.{name}.no_longer_than must be one of "
                f"{', '.join(free) or 'none'}, got {other!r}."
            )
        if not find_explainer(method.explainer).limits_length:
            raise ValueError(
                f"methods.{name}.no_longer_than needs an explainer whose mean length can be set, "
                f"such as preconditioned, got {method.explainer!r}."
            )


def _check_needs(where: str, method: Method) -> None:
    """Raises a ValueError where a method lacks what its explainer needs, or asks for too much."""
    needs, counts = (getattr(find_explainer(method.explainer), n) for n in ("needs", "formulas"))
    if method.formulas > 1 and (not counts or method.concepts == "nonsense"):
        raise ValueError(
            f"config field {where}.formulas={method.formulas} needs concepts that mean something "
            "and an explainer that counts words, such as preconditioned, got "
            f"{method.concepts!r} and {method.explainer!r}."
        )
    if "cosines" in needs and method.encoder is None:
        raise ValueError(
            f"config field {where}.explainer {method.explainer!r} needs an encoder's cosines, and "
            f"{where}.concepts is {method.concepts!r}: expected 'siglip', with a model."
        )
    if "file" in needs and not method.options.file:
        raise ValueError(
            f"config field {where}.file is empty: expected the file that explainer "
            f"{method.explainer!r} reads."
        )
