"""Arrays on disk that can be trusted: named by a fingerprint of what made them, written atomically,
verified when read.

An artifact is a folder of `.npy` files and a `manifest.json` that holds each file's sha256 and the
facts that go with them. The manifest is written last, so a folder without one is unfinished work
and counts as absent; a file that does not match its hash makes the whole artifact count as absent,
with a warning. Paths go through `etils.epath`, so that `gs://` works as a local folder does.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from absl import logging
from etils import epath

MANIFEST = "manifest.json"


class Artifact(NamedTuple):
    """What a stage made: `arrays` by name (memory-mapped where the folder is local) and JSON
    `facts`."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


class Rows(NamedTuple):
    """An array that is written as its rows come, and never held whole.

    Attributes:
      shape: of the whole.
      dtype: of the whole.
      blocks: gives its rows in order, a block (rows, …) at a time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Sixteen hex digits that name exactly these fields; use it on all that a stage reads, and on
    nothing else.

    Args:
      fields: JSON values (dict, list, str, finite float, int, bool, None); tuples count as lists.

    Raises:
      TypeError: a value that JSON does not know. ValueError: a float that is not finite.
    """
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_file(path: epath.PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Put a file in place whole or not at all: temporary name, `write(file)`, fsync, rename.

    Raises:
      OSError: the disk is full, or refuses otherwise; it has the path.
    """
    path = epath.Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (
        path.parent / f".{path.name}.tmp"
    )  # one name, so that a killed run leaves nothing that the next one does not replace
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            if isinstance(file, io.BufferedWriter):  # a local file; object stores commit on close
                os.fsync(file.fileno())
    except OSError as error:
        if error.filename is not None:
            raise
        # a write says no name; NumPy says no reason either, but how many bytes a disk has taken
        reason = error.strerror or os.strerror(errno.ENOSPC)
        raise OSError(error.errno or errno.ENOSPC, reason, os.fspath(path)) from error
    temporary.replace(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Write UTF-8 text atomically, its line ends as they are."""
    write_file(path, lambda file: file.write(text.encode()))


def write_json(path: epath.PathLike, value: Any) -> None:
    """Write `value` as JSON atomically and in one form: sorted keys, two spaces, a last newline, no
    NaN."""
    write_text(
        path,
        json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    )


def write(
    folder: epath.PathLike, arrays: Mapping[str, np.ndarray | Rows], facts: Mapping[str, Any]
) -> Artifact:
    """Write an artifact and return it as `read` would.

    Args:
      folder: where; whatever else lies there, such as what an interrupted run left, is removed
        once the artifact is whole.
      arrays: name → array of any shape and plain dtype (no objects), or its rows block by block.
      facts: JSON values.
    """
    folder = epath.Path(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {name: _write_array(folder / f"{name}.npy", a) for name, a in sorted(arrays.items())}
    write_json(folder / MANIFEST, {"files": files, "facts": dict(facts)})
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name not in {f"{name}.npy" for name in files}:
            path.rmtree() if path.is_dir() else path.unlink()
    manifest = json.loads((folder / MANIFEST).read_text())
    return Artifact({name: load_array(folder, name) for name in files}, manifest["facts"])


def read(folder: epath.PathLike) -> Artifact | None:
    """The artifact in `folder`, or None where there is none that is whole; a damaged one is named
    in a warning and counts as none."""
    manifest = _verified(epath.Path(folder))
    if manifest is None:
        return None
    return Artifact(
        {name: load_array(folder, name) for name in manifest["files"]}, manifest["facts"]
    )


def names(folder: epath.PathLike) -> frozenset[str]:
    """Names of the arrays of a whole artifact, none where `read` would find none; none is opened,
    so that any number of artifacts can be looked at."""
    manifest = _verified(epath.Path(folder))
    return frozenset() if manifest is None else frozenset(manifest["files"])


def load_array(folder: epath.PathLike, name: str) -> np.ndarray:
    """One array of an artifact that is known to be whole: it is not verified."""
    path = epath.Path(folder) / f"{name}.npy"
    if "://" in os.fspath(path):
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


class _Hashed:
    """A file that hashes and counts what is written to it."""

    def __init__(self, file: IO[bytes]):
        self._file, self._hash, self._bytes = file, hashlib.sha256(), 0

    def write(self, data: Any) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._bytes += memoryview(data).nbytes

    def entry(self) -> dict[str, Any]:
        return {"sha256": self._hash.hexdigest(), "bytes": self._bytes}


def _write_array(path: epath.Path, array: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {}

    def write_to(file: IO[bytes]) -> None:
        hashed = _Hashed(file)
        if isinstance(array, Rows):
            _write_rows(hashed, array)
        else:  # NumPy writes to whatever has `write`, some megabytes at a time
            np.save(hashed, np.asarray(array), allow_pickle=False)  # pyright: ignore
        entry.update(hashed.entry())

    write_file(path, write_to)
    return entry


def _write_rows(file: _Hashed, rows: Rows) -> None:
    dtype, count = np.dtype(rows.dtype), 0
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": rows.shape,
    }
    np.lib.format.write_array_header_1_0(file, header)  # pyright: ignore
    for block in rows.blocks():
        assert block.dtype == dtype and block.shape[1:] == rows.shape[1:], "blocks of one array"
        file.write(np.ascontiguousarray(block).data)
        count += len(block)
    assert count == rows.shape[0], f"{count} rows of {rows.shape[0]}"


def _verified(folder: epath.Path) -> dict[str, Any] | None:
    """The manifest of an artifact whose files match their hashes, else None."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files, _ = manifest["files"], manifest["facts"]
        damaged = [
            name for name, entry in files.items() if not _is_whole(folder / f"{name}.npy", entry)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        damaged = ["its manifest"]
    if damaged:
        logging.warning(
            "The cached result %s is damaged (%s does not match its hash); it is made again.",
            folder.name,
            ", ".join(damaged),
        )
        return None
    return manifest


def _is_whole(path: epath.Path, entry: Mapping[str, Any]) -> bool:
    if not path.exists() or path.stat().length != entry["bytes"]:
        return False
    return _sha256(path) == entry["sha256"]


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        # epath types what it opens as IO; it is a binary file
        return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
