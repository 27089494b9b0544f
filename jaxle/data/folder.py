"""An image folder: one subfolder a class, as torchvision's ImageFolder and the ImageNet archives have it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxle.data.names import read_names
from jaxle.images import decode

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class FolderSource:
    """Pictures under `PATH/<class>/…`; only their names are read at first, each picture when it is asked for.

    Classes are the subfolders in the order of their names, called by them, or by the lines of `PATH/classes.txt` in the same order where
    that file exists. A class's own subfolders are read too. Hidden files and files without a picture's extension are no pictures.

    Args:
      path: the folder.

    Attributes:
      class_names: tuple of str.
      labels: int32 (images,), index into class_names.
      annotations: None.

    Raises:
      ValueError: no such folder, no class subfolder, a class without pictures, or a single class.
    """

    annotations = None

    def __init__(self, path: str | os.PathLike):
        self._root = Path(path)
        if not self._root.is_dir():
            raise ValueError(f"folder:{path}: no such folder")
        with os.scandir(self._root) as entries:
            folders = sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
        if not folders:
            raise ValueError(
                f"folder:{path}: no class subfolders; expected {path}/<class>/<picture>.jpg"
            )
        found = [sorted(_pictures(self._root / folder, folder)) for folder in folders]
        empty = [folder for folder, pictures in zip(folders, found, strict=True) if not pictures]
        if empty:
            raise ValueError(
                f"folder:{path}: no pictures ({', '.join(_EXTENSIONS)}) in {', '.join(empty[:10])}"
            )
        if len(folders) == 1:
            raise ValueError(
                f"folder:{path}: only one class, {folders[0]}; expected at least two subfolders, or no label varies"
            )
        names_file = self._root / "classes.txt"
        self.class_names = (
            read_names(names_file, len(folders)) if names_file.exists() else tuple(folders)
        )
        self.labels = np.repeat(
            np.arange(len(folders), dtype=np.int32), [len(pictures) for pictures in found]
        )
        self._files = [name for pictures in found for name, _ in pictures]
        self._sizes = [size for pictures in found for _, size in pictures]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return decode(f"{self._root}/{self._files[i]}"), int(self.labels[i])

    def fingerprint_fields(self) -> dict[str, Any]:
        """Facts that tell this content from other content, alike on every machine: names and sizes of the files, and the class names."""
        listing = "\n".join(
            f"{size} {name}" for name, size in zip(self._files, self._sizes, strict=True)
        )
        names = "\n".join(self.class_names)
        return {
            "kind": "folder",
            "images": len(self),
            "files": _sha256(listing),
            "classes": _sha256(names),
        }


def _pictures(folder: str | os.PathLike, name: str) -> Iterator[tuple[str, int]]:
    """(name below the root, bytes) of every picture."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _pictures(entry.path, f"{name}/{entry.name}")
            elif entry.name.lower().endswith(_EXTENSIONS):
                yield f"{name}/{entry.name}", entry.stat().st_size


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
