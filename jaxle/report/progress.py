"""Progress: a bar on a terminal, a plain line now and then elsewhere.

Of several processes that make one run the first says how it goes.
"""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from jaxle import multihost

SECONDS_BETWEEN_LINES = 10.0


def say(line: str) -> None:
    """Prints one line of progress to stderr, above a bar if one is showing."""
    if not multihost.first():
        return
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


class Bar:
    """A bar with rate and time left, of so many steps; elsewhere than on a terminal, lines.

    Args:
      label: what is counted.
      total: how many; 0 shows nothing.
      done: were there already.
    """

    def __init__(self, label: str, total: int, done: int = 0):
        self._label, self._total, self._done, self._made = label, total, done, 0
        self._began = self._last = time.monotonic()
        self._first = 0  # steps of the first time, which may have begun with other work
        self._bar = None
        if total and sys.stderr.isatty() and multihost.first():
            self._bar = tqdm(
                desc=label,
                total=total,
                initial=done,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, what: str = "", by: int = 1) -> None:
        """Counts some more, and names what was done on the bar."""
        self._made += by
        if self._bar is not None:
            self._bar.set_postfix_str(what, refresh=False)
            self._bar.update(by)
            return
        now = time.monotonic()
        if not self._first:
            self._began, self._first = now, by
        elif self._total and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last, place = now, self._done + self._made
            rate = (self._made - self._first) / max(now - self._began, 1e-9)
            left = (self._total - place) / rate
            say(f"{self._label}: {place}/{self._total}, {rate:.3g} a second, {left:.0f} s left")
