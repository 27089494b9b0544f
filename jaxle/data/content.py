"""Files known by their content: each is hashed once, and again when its file says it was touched.

What was hashed is remembered with the file's stamp: size, times of its last change and of the last
change of its inode (mtime and ctime, ns), and inode. A program may set a file's mtime, but not its
ctime, so that a file with the stamp that it had holds what it held. Not trusted is a stamp younger
than a minute when it was taken: another write in the same tick of the clock, or through a memory
map, would leave it as it is. Where a file system keeps no ctime (Windows, object stores), a file
changed at the same size with its old mtime put back is taken for unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from etils import epath

from jaxle import artifacts

_PIECE = 1 << 26  # bytes of a large file that are hashed at once
_CHUNK = 1 << 20  # bytes read at once
_YOUNG = 60e9  # ns
_THREADS = 16
_TOGETHER = 256  # files whose stamps one thread reads in turn


class Seen(NamedTuple):
    """A file as it was hashed.

    Attributes:
      stamp: size, mtime, ctime, inode.
      sha256: of its bytes; of a large file, of the hashes of its pieces.
    """

    stamp: tuple[int, ...]
    sha256: str


def hash_files(
    paths: Iterable[epath.PathLike], memory: epath.PathLike | None = None
) -> dict[str, Seen]:
    """Returns path → stamp and hash of files; those that are remembered are not read.

    Args:
      paths: local or remote.
      memory: a file in which what is hashed is remembered; None remembers nothing.

    Raises:
      ValueError: a file that cannot be read, named.
    """
    memory = None if memory is None else epath.Path(memory)
    known, now = _recall(memory), time.time_ns()
    with ThreadPoolExecutor(_THREADS) as threads:
        names = [os.fspath(path) for path in paths]
        parts = [names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)]
        stamps = {name: stamp for part in threads.map(_stamps, parts) for name, stamp in part}
        found = {n: known[n] for n, s in stamps.items() if n in known and known[n].stamp == s}
        missing = [name for name in stamps if name not in found]
        starts = [(name, at) for name in missing for at in range(0, stamps[name][0] or 1, _PIECE)]
        pieces: dict[str, list[bytes]] = {name: [] for name in missing}
        for (name, _), digest in zip(starts, threads.map(_hash_piece, starts), strict=True):
            pieces[name].append(digest)
    for name, own in pieces.items():
        whole = own[0] if len(own) == 1 else hashlib.sha256(b"".join(own)).digest()
        found[name] = Seen(stamps[name], whole.hex())
    if memory is not None and missing:
        old = {n: found[n] for n in missing if max(stamps[n][1:3]) < now - _YOUNG}
        with contextlib.suppress(OSError):  # a finished run may lie where nothing can be written
            _remember(memory, {**known, **old})
    return {name: found[name] for name in stamps}


def changed(seen: Mapping[str, Seen]) -> list[str]:
    """Returns the files that were touched since they were hashed, or are gone."""
    found = []
    for name, own in seen.items():
        try:
            same = _stamp(name) == own.stamp
        except ValueError:
            same = False
        if not same:
            found.append(name)
    return found


def _stamps(names: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, _stamp(name)) for name in names]


def _stamp(name: str) -> tuple[int, ...]:
    try:
        if "://" in name:
            stat = epath.Path(name).stat()
            return stat.length, int(stat.mtime * 10**9), 0, 0
        local = os.stat(name)
    except OSError as error:
        raise _unreadable(name, error) from None
    return local.st_size, local.st_mtime_ns, local.st_ctime_ns, local.st_ino


def _hash_piece(piece: tuple[str, int]) -> bytes:
    name, start = piece
    digest, left = hashlib.sha256(), _PIECE
    try:
        with open(name, "rb") if "://" not in name else epath.Path(name).open("rb") as file:
            file.seek(start)
            while left and (chunk := file.read(min(left, _CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise _unreadable(name, error) from None
    return digest.digest()


def _unreadable(name: str, error: OSError) -> ValueError:
    return ValueError(f"cannot read {name}: {error.strerror or error}")


def _remember(memory: epath.Path, seen: Mapping[str, Seen]) -> None:
    entries = {name: [*own.stamp, own.sha256] for name, own in seen.items()}
    artifacts.write_text(memory, json.dumps(entries))


def _recall(memory: epath.Path | None) -> dict[str, Seen]:
    """What is remembered; nothing where the file is absent or half a file."""
    if memory is None or not memory.exists():
        return {}
    try:
        held = json.loads(memory.read_text())
        return {name: Seen(tuple(entry[:-1]), entry[-1]) for name, entry in held.items()}
    except (ValueError, AttributeError, TypeError, IndexError):
        return {}
