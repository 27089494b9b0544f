"""One run at a time in a workdir: a lock file that names the host and the process of its owner.

A lock whose process is gone (the run was killed) is taken over. Of a process on another host
nothing can be known from here but that it touches its lock every minute: who finds such a lock
waits until it is touched, or until it was not for ten minutes, as that of a preempted host. Object
stores have no locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from jaxle import multihost
from jaxle.report.progress import say

LOCK = ".lock"
TOUCHED = 60.0  # seconds between two touches
STALE = 600.0  # seconds
LOOK = 5.0  # seconds between two looks at another host's


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Holds the lock of a workdir, which is made where it is not there.

    Raises:
      ValueError: another run holds it; host, process and file are named.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if "://" in os.fspath(workdir):
        yield
        return
    path = Path(os.fspath(workdir)) / LOCK
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    _take(path, mine)
    ended = threading.Event()
    threading.Thread(target=_touch, args=(path, ended), daemon=True, name="jaxle-lock").start()
    try:
        with multihost.before_exit(lambda: _release(path, mine)):
            yield
    finally:
        ended.set()
        _release(path, mine)


def _release(path: Path, mine: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == mine:
        path.unlink()


def _take(path: Path, mine: str) -> None:
    for _ in range(3):  # a stale lock is removed, and another process may be quicker
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(mine)
            return
        except FileExistsError:
            _check(path)
            path.unlink(missing_ok=True)
    raise ValueError(f"another run is starting in {path.parent}: run the same command again later.")


def _check(path: Path) -> None:
    """Raises a ValueError where the lock's owner may be alive."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        host, pid = str(owner["host"]), int(owner["pid"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return  # half a lock, of a process that died while writing it, or one that is gone
    if host == socket.gethostname() and not _alive(pid):
        return
    if host != socket.gethostname() and _left(path, host):
        return
    raise ValueError(
        f"another run (process {pid} on {host}) works in {path.parent}: wait for its end, or give "
        f"this one another --config.workdir; if no such process is alive, delete {path}."
    )


def _left(path: Path, host: str) -> bool:
    """Returns whether another host has left its lock; waits until that, or a touch, is seen."""
    age = _age(path)
    if age <= STALE:
        say(f"{path} is of a run on {host}: waits until that run touches it, or {STALE:.0f} s")
    while age <= STALE:
        time.sleep(LOOK)
        before, age = age, _age(path)
        if age < before:
            return not path.exists()
    return True


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCHED):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system; 0 where it is gone."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{LOCK}.") as now:
            return os.stat(now.name).st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # a lock that this process left behind
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
