"""Being asked to stop: SIGTERM, with which a scheduler announces that it takes the machine away.

    SIGTERM → a flag → the step or part in progress ends and is saved → `Stopped`

A second SIGTERM ends the process at once, as it ends any other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command is to be run again
_SAID = b"jaxle: SIGTERM: stops as soon as what is in progress is saved\n"
_asked = threading.Event()


class Stopped(Exception):
    """The run was asked to stop; the message says what it saved last."""


@contextlib.contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """SIGTERM meanwhile makes the next `check` raise; called in the main thread."""
    before = signal.signal(signal.SIGTERM, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def check(saved: str) -> None:
    """Raises `Stopped` where the process was asked to stop.

    Args:
      saved: what was saved last.
    """
    if _asked.is_set():
        raise Stopped(saved)


def asked() -> bool:
    """Returns whether the process was asked to stop."""
    return _asked.is_set()


def end_now(status: int) -> NoReturn:
    """Ends at once: threads and processes that decode images are stopped, not waited for."""
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.write(2, _SAID)  # a bar may hold the lock of what prints lines
