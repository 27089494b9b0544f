"""Pictures in tar files, as webdataset's shards hold them, read where they lie.

    shard-000.tar: 0001.jpg 0001.json 0002.jpg …  →  one image a member with an image's extension

A tar has no index: the headers are read once, and each image later by its offset and size. Captions
and labels beside the images are left aside.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxle.data import content
from jaxle.data.folder import EXTENSIONS
from jaxle.data.names import readable
from jaxle.images import decode


class _Member(NamedTuple):
    shard: int
    name: str
    offset: int
    size: int


class TarSource:
    """The images of some tar files, in the order of the files and of their members.

    Args:
      paths: the files, not compressed.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names, labels, annotations: none.
      file_names: list of str, "shard.tar/member.jpg".

    Raises:
      ValueError: a file that is no tar or is compressed, or no image in any of them.
    """

    class_names: tuple[str, ...] = ()
    labels = None
    annotations = None

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        memory: str | os.PathLike[str] | None = None,
    ):
        self._paths, self._memory = [Path(path) for path in paths], memory
        self._seen: dict[str, content.Seen] = {}
        self._members = [
            member for shard, path in enumerate(self._paths) for member in _members(shard, path)
        ]
        if not self._members:
            raise ValueError(
                f"pictures:{self._paths[0]}: no member is an image ({', '.join(EXTENSIONS)})"
            )
        self.file_names = [
            readable(f"{self._paths[member.shard].name}/{member.name}") for member in self._members
        ]

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        member, name = self._members[i], self.file_names[i]
        try:
            with open(self._paths[member.shard], "rb") as file:
                file.seek(member.offset)
                data = file.read(member.size)
        except OSError as error:
            raise ValueError(f"cannot read image {name}: {error.strerror or error}") from None
        if len(data) < member.size:
            raise ValueError(f"cannot read image {name}: the tar file ends within it")
        return decode(data, name), -1

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns hashes of the files, and which members are read, alike on every machine."""
        self._seen = content.hash_files(map(str, self._paths), self._memory)
        digest = hashlib.sha256("\n".join(self.file_names).encode()).hexdigest()
        hashes = [self._seen[str(path)].sha256 for path in self._paths]
        return {"kind": "tars", "images": len(self), "files": hashes, "names": digest}

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)


def _members(shard: int, path: Path) -> list[_Member]:
    try:
        with tarfile.open(path, "r:") as tar:
            return [
                _Member(shard, each.name, each.offset_data, each.size)
                for each in tar
                if each.isreg() and each.name.lower().endswith(EXTENSIONS)
            ]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"cannot read {path}: {error}; expected a tar file that is not compressed"
        ) from None
