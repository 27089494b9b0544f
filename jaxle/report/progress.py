"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def say(line: str) -> None:
    """Print one line of progress to stderr, above a bar if one is showing."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


def progress(items: Iterable[T], label: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield the items, showing how many of `total` have passed; `done` were there already."""
    if sys.stderr.isatty():
        yield from tqdm(
            items,
            desc=label,
            total=total,
            initial=done,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
        )
        return
    last = time.monotonic()
    for count, item in enumerate(items, done + 1):
        yield item
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{label}: {count}/{total}")
