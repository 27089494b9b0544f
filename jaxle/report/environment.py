"""Jinja2 as both pages of this room use it: every name is escaped, and none may be missing."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Returns the environment of templates/."""
    return Environment(
        loader=PackageLoader("jaxle.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
