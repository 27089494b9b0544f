"""Lists of names: a text file with one name a line (classes, concepts)."""

from __future__ import annotations

import collections
import os
from pathlib import Path


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
