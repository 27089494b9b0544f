"""Objects named by text, "package.module:name": a config's source, network, explainer or metric.

A reference is imported, never evaluated. Plain names are looked up by the caller, in the table of
the package that holds them.
"""

from __future__ import annotations

import importlib
from typing import Any


def is_reference(text: str) -> bool:
    """Whether the text has the form "package.module:name"."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(map(str.isidentifier, module.split(".")))


def load_reference(text: str, what: str) -> Any:
    """Returns the object that "package.module:name" names.

    Args:
      text: the reference.
      what: what it stands for, for the message: "data source", "explainer", ….

    Raises:
      ValueError: not of that form, a module that cannot be imported, or a name that it lacks.
    """
    if not is_reference(text):
        raise ValueError(f"{what} {text!r} is not a reference; expected package.module:name.")
    where, _, name = text.partition(":")
    try:
        module = importlib.import_module(where)
    except ImportError as error:
        raise ValueError(f"cannot import {where!r} of {what} {text!r}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"module {where!r} has no {name!r}, which {what} {text!r} names.")
    return getattr(module, name)
