"""Names of classes, concepts and images: text files with one a line, and names of files as text."""

from __future__ import annotations

import collections
import os
from pathlib import Path


def readable(name: str) -> str:
    """Returns a file's name or path as text that can be written: line breaks as spaces, and parts
    whose bytes are no UTF-8 as Latin-1."""
    return name if name.isprintable() else "/".join(map(_readable, name.split("/")))


def _readable(part: str) -> str:
    try:
        part.encode("utf-8")
    except UnicodeEncodeError:
        part = os.fsencode(part).decode("latin-1")
    return " ".join(part.splitlines())


def read_names(path: str | os.PathLike[str], expected: int | None = None) -> tuple[str, ...]:
    """Returns the names of `classes.txt` or `concepts.txt`, one a line.

    Spaces at both ends and blank lines are dropped.

    Args:
      path: UTF-8 text file.
      expected: how many names there must be; any number where None.

    Returns:
      In the order of the file, all different.

    Raises:
      ValueError: absent, not UTF-8, empty, a name twice, or another number of names than expected.
    """
    path = Path(path)
    try:
        names = tuple(
            line.strip()
            for line in path.read_text(encoding="utf-8-sig").splitlines()
            if line.strip()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read names from {path}: {error}") from None
    twice = sorted(name for name, times in collections.Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"{path} holds more than once: {', '.join(twice[:10])}")
    if not names:
        raise ValueError(f"{path} holds no names; expected one a line")
    if expected is not None and len(names) != expected:
        raise ValueError(f"{path} holds {len(names)} names; expected {expected}")
    return names
