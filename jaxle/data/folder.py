"""An image folder: one subfolder a class, as torchvision's ImageFolder and the ImageNet archives
have it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxle.data import content
from jaxle.data.names import read_names, readable
from jaxle.images import decode

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class FolderSource:
    """Images under `PATH/<class>/…`; only their names are read at first, each image when asked for.

    Classes are the subfolders, numbered ones (1, 2, …, 10) in the order of their numbers, others in
    the order of their names. They are called by their folders, or by the lines of
    `PATH/classes.txt` in the same order where that file exists. A class's own subfolders are read
    too. Hidden files and files without an image's extension are left aside.

    Args:
      path: the folder.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names: tuple of str.
      labels: int32 (images,), index into class_names.
      annotations: None.
      file_names: list of str, each image's path below the folder.

    Raises:
      ValueError: no such folder, no class subfolder, a class without images, a single class, or
        `classes.txt` beside folders whose order is ambiguous.
    """

    annotations = None

    def __init__(self, path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None):
        self._root, self._memory = Path(path).expanduser(), memory
        self._seen: dict[str, content.Seen] = {}
        if not self._root.is_dir():
            raise ValueError(f"folder:{path}: no such folder")
        names_file = self._root / "classes.txt"
        folders = _ordered(
            [
                entry.name
                for entry in os.scandir(self._root)
                if entry.is_dir() and not entry.name.startswith(".")
            ],
            f"folder:{path}",
            named=names_file.exists(),
        )
        if not folders:
            raise ValueError(
                f"folder:{path}: no class subfolders; expected {path}/<class>/<image>.jpg, or for "
                f"images without labels pictures:{path}"
            )
        found = [sorted(image_files(self._root / folder, folder)) for folder in folders]
        empty = [folder for folder, images in zip(folders, found, strict=True) if not images]
        if empty:
            raise ValueError(
                f"folder:{path}: no images ({', '.join(EXTENSIONS)}) in {', '.join(empty[:10])}"
            )
        if len(folders) == 1:
            raise ValueError(
                f"folder:{path}: only one class, {folders[0]}; "
                f"expected at least two subfolders, or for images without labels pictures:{path}"
            )
        self.class_names = (
            read_names(names_file, len(folders))
            if names_file.exists()
            else tuple(readable(folder) for folder in folders)
        )
        self.labels = np.repeat(
            np.arange(len(folders), dtype=np.int32), [len(images) for images in found]
        )
        self.file_names = [name for images in found for name in images]

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        return decode(self._path(i)), int(self.labels[i])

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns names and contents of the files, and the classes, alike on every machine.

        Raises:
          ValueError: a file that cannot be read, named.
        """
        return self.fingerprint_of(range(len(self)))

    def fingerprint_of(self, index: Iterable[int]) -> dict[str, Any]:
        """Returns the same of some images; the others are not read."""
        chosen = [(self._path(i), self.file_names[i], self.labels[i]) for i in index]
        self._seen = content.hash_files((path for path, _, _ in chosen), self._memory)
        listing = (f"{self._seen[path].sha256} {label} {name}" for path, name, label in chosen)
        return {
            "kind": "folder",
            "images": len(chosen),
            "files": _sha256("\n".join(listing)),
            "classes": _sha256("\n".join(self.class_names)),
        }

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)

    def _path(self, i: int) -> str:
        return f"{self._root}/{self.file_names[i]}"


def _ordered(folders: list[str], what: str, named: bool) -> list[str]:
    """Class folders in the order of their labels; `named`: their names come from a list.

    Raises a ValueError where a list of names fits two orders: class1, class10, class2 by their
    names, class1, class2, class10 by their numbers.
    """
    by_name = sorted(folders)
    by_number = sorted(by_name, key=_by_number)
    if all(re.fullmatch(r"[0-9]+", folder) for folder in folders):
        for one, other in zip(by_number, by_number[1:], strict=False):
            if int(one) == int(other):
                raise ValueError(
                    f"{what}: class folders {one} and {other} are the same number; "
                    "expected different ones"
                )
        return by_number
    if named and by_name != by_number:
        one, other = next((a, b) for a, b in zip(by_name, by_number, strict=True) if a != b)
        raise ValueError(
            f"{what}: classes.txt names the class folders in order, and the order is ambiguous: "
            f"{one} comes before {other} by name, after it by number; expected numbers of equal "
            "length, such as class02, or no classes.txt"
        )
    return by_name


def _by_number(folder: str) -> list[tuple[int, int, str]]:
    """A key that orders runs of digits by their value."""
    parts = re.findall(r"[0-9]+|[^0-9]+", folder)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]


def image_files(folder: str | os.PathLike[str], name: str) -> Iterator[str]:
    """Yields the name below the root of every image in a folder and its subfolders.

    Args:
      folder: where to look.
      name: what it is called below the root.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from image_files(entry.path, f"{name}/{entry.name}")
            elif entry.name.lower().endswith(EXTENSIONS):
                yield f"{name}/{entry.name}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
