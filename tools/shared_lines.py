"""For the site of docs/: an argument list such as "lam, l1_ratio: …" describes each of its names.

mkdocs.yml loads this extension of griffe, which reads the docstrings. One entry per name gives each
its type and default in the table, and `mkdocs build --strict` refuses a name that the signature
does not have.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# the first line of an entry for several names, and the lines that continue it
_ENTRY = re.compile(
    r"^(?P<indent> +)(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)",
    re.MULTILINE,
)


def split_entries(docstring: str) -> str:
    """Returns the docstring with one entry per name."""

    def entries(match: re.Match[str]) -> str:
        names = match["names"].split(", ")
        return "\n".join(f"{match['indent']}{name}: {match['text']}" for name in names)

    return _ENTRY.sub(entries, docstring)


class SharedLines(griffe.Extension):
    """Splits the entries of every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = split_entries(obj.docstring.value)
