"""Pictures without labels: a folder of them, flat or nested, in files, tars or tables.

    pictures:PATH   PATH is one .tar or .parquet, or a folder with any of
                      *.tar            webdataset's shards                   (`data.tars`)
                      *.parquet        a table with a column of images       (`data.tables`)
                      *.arrow          what datasets' `save_to_disk` writes  (`data.tables`)
                      image files, in subfolders of any depth                (here)
    folder:PATH     the same of image files, where no subfolder names a class

Explanations by an encoder need no labels. What needs them is left out of a run, and said.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxle.data import content
from jaxle.data.folder import EXTENSIONS, FolderSource, image_files
from jaxle.data.names import readable
from jaxle.data.tables import TableSource
from jaxle.data.tars import TarSource
from jaxle.images import decode


class PictureFolder:
    """Image files anywhere below a folder, in the order of their names.

    Hidden files and folders, and files without an image's extension, are left aside.

    Args:
      path: the folder.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names, labels, annotations: none.
      file_names: list of str, each image's path below the folder.

    Raises:
      ValueError: no such folder, or no image in it.
    """

    class_names: tuple[str, ...] = ()
    labels = None
    annotations = None

    def __init__(self, path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None):
        self._root, self._memory = Path(path).expanduser(), memory
        self._seen: dict[str, content.Seen] = {}
        if not self._root.is_dir():
            raise ValueError(f"pictures:{path}: no such folder")
        self._files = sorted(_below(self._root))
        if not self._files:
            raise ValueError(f"pictures:{path}: no images ({', '.join(EXTENSIONS)}) in it")
        self.file_names = [readable(name) for name in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        return decode(self._path(i)), -1

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns names and contents of the files, alike on every machine.

        Raises:
          ValueError: a file that cannot be read, named.
        """
        paths = [self._path(i) for i in range(len(self))]
        self._seen = content.hash_files(paths, self._memory)
        lines = zip(paths, self._files, strict=True)
        listing = "\n".join(f"{self._seen[path].sha256} {name}" for path, name in lines)
        digest = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
        return {"kind": "pictures", "images": len(self), "files": digest}

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)

    def _path(self, i: int) -> str:
        return f"{self._root}/{self._files[i]}"


def open_folder(
    path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None
) -> FolderSource | PictureFolder:
    """Returns the images of a folder: labelled by subfolders, or a flat folder's without labels.

    Raises:
      ValueError: as `FolderSource` and `PictureFolder`.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        with os.scandir(root) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
        pictures = any(e.is_file() and e.name.lower().endswith(EXTENSIONS) for e in shown)
        if pictures and not any(entry.is_dir() for entry in shown):
            return PictureFolder(path, memory)
    return FolderSource(path, memory)


def open_pictures(
    path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None
) -> PictureFolder | TarSource | TableSource:
    """Returns pictures in whatever form they lie there.

    Args:
      path: a folder or a file, as the module says.
      memory: a file in which hashes of files are remembered.

    Raises:
      ValueError: nothing there, or several forms side by side.
    """
    root = Path(path).expanduser()
    files = [root] if root.is_file() else sorted(root.iterdir()) if root.is_dir() else []
    found = {
        end: [file for file in files if file.name.lower().endswith(end)]
        for end in (".tar", ".parquet", ".arrow")
    }
    forms = [end for end, own in found.items() if own]
    if forms and any(file.name.lower().endswith(EXTENSIONS) for file in files):
        forms.append("image")
    if len(forms) > 1:
        raise ValueError(
            f"pictures:{path}: holds {' and '.join(forms)} files; expected one kind of them"
        )
    if not forms:
        if root.is_file():
            raise ValueError(
                f"pictures:{path}: is a file of no known kind; expected a folder of pictures, or a "
                ".tar (not compressed) or .parquet file"
            )
        if (root / "dataset_dict.json").is_file():
            raise ValueError(
                f"pictures:{path}: holds the splits of a DatasetDict; expected one of them, such "
                f"as pictures:{path}/train"
            )
        return PictureFolder(path, memory)
    if forms == [".tar"]:
        return TarSource(found[".tar"], memory)
    return TableSource(root if forms == [".arrow"] else found[forms[0]], memory)


def _below(root: Path) -> Iterator[str]:
    """Name below the root of every image."""
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from image_files(entry.path, entry.name)
            elif entry.name.lower().endswith(EXTENSIONS):
                yield entry.name
