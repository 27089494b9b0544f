"""A folder of arrays: images already decoded, labels, concept labels where they are known, and what
another program computed of the images (`data.recorded`), with which a run needs no network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jaxle.data import content
from jaxle.data.names import read_names
from jaxle.data.recorded import read_recorded

MOST_UNNAMED = 1_000_000  # classes that are called by their number: more is no class number


class ArraysSource:
    """Images of one size in `images.npy`, memory mapped, or none where activations are recorded.

    Beside it may lie what `data.recorded` names, and `labels.npy`, `classes.txt` (one name a line;
    else classes are called by their number), and together `concept_labels.npy` (is concept j in
    image i?) and `concepts.txt`.

    Args:
      path: the folder: images.npy uint8 (images, height, width, 3), labels.npy int (images,),
        concept_labels.npy uint8 or bool (images, concepts) of 0 and 1.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names: tuple of str, empty without labels.
      labels: int32 (images,), index into class_names; None without labels.
      annotations: (concepts tuple of str, uint8 (images, concepts) memory map), or None.
      file_names: list of str, "image 0 of images.npy", ….
      recorded: `data.recorded.Recorded`, or None.
      has_pictures: whether there is images.npy.
      side: height of the images, 224 where there are none.

    Raises:
      ValueError: a file that is absent, not a plain array, or of another dtype, shape or range.
    """

    class_names: tuple[str, ...]
    labels: Int32[np.ndarray, "images"] | None
    annotations: tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]] | None

    def __init__(self, path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None):
        folder, self._memory = Path(path).expanduser(), memory
        self._file, self._seen, self._folder = folder / "images.npy", {}, path
        if not folder.is_dir():
            raise ValueError(f"arrays:{path}: no such folder")
        recorded = any(folder.glob("activations*"))
        self._images = None if recorded and not self._file.exists() else _pictures(self._file)
        n_pictures = None if self._images is None else len(self._images)
        self.recorded, self._recorded_files = read_recorded(folder, n_pictures)
        self.has_pictures = self._images is not None
        self.side = 224 if self._images is None else self._images.shape[1]
        self._n = n_pictures or (self.recorded and self.recorded.n_images) or 0
        self.class_names, self.labels, self.annotations = (), None, None
        if (folder / "labels.npy").exists():
            self.labels, self.class_names = self._read_labels(folder)
        elif (folder / "classes.txt").exists():
            raise ValueError(f"arrays:{path}: classes.txt without labels.npy")
        has = [(folder / name).exists() for name in ("concept_labels.npy", "concepts.txt")]
        probs = self.recorded is not None and self.recorded.concept_probs is not None
        if all(has):
            self.annotations = self._read_annotations(folder)
        elif any(has) and not probs:
            raise ValueError(
                f"arrays:{path}: concept_labels.npy and concepts.txt belong together; "
                "one of them is absent"
            )

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        if self._images is None:
            raise ValueError(
                f"arrays:{self._folder}: there is no images.npy, and a picture is asked for"
            )
        return np.asarray(self._images[i]), -1 if self.labels is None else int(self.labels[i])

    @property
    def file_names(self) -> list[str]:
        """Each image's place in the array."""
        of = " of images.npy" if self.has_pictures else ""
        return [f"image {i}{of}" for i in range(len(self))]

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns hashes of all images, labels, names and concept labels."""
        pictures = [] if self._images is None else [self._file]
        files = [*pictures, *self._recorded_files]
        self._seen = content.hash_files(files, self._memory)
        fields: dict[str, Any] = {"kind": "arrays", "images": len(self)}
        fields["shape"] = None if self._images is None else list(self._images.shape)
        names = [path.relative_to(self._file.parent).as_posix() for path in files]
        hashes = (seen.sha256 for seen in self._seen.values())
        fields["files"] = dict(zip(names, hashes, strict=True))
        if self.recorded is not None and self.recorded.concept_probs is not None:
            fields["concept_names"] = _sha256(np.array(self.recorded.concept_probs[0]))
        if self.labels is not None:
            fields |= {
                "labels": _sha256(self.labels),
                "classes": _sha256(np.array(self.class_names)),
            }
        if self.annotations is not None:
            fields |= {
                "concepts": _sha256(np.array(self.annotations[0])),
                "concept_labels": _sha256(self.annotations[1]),
            }
        return fields

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)

    def _read_labels(self, folder: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        path, expected = (
            folder / "labels.npy",
            f"whole numbers ({len(self)},), one for each image",
        )
        labels = _load(path, expected)
        if labels.shape != (len(self),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(_got(path, labels, expected))
        names_file = folder / "classes.txt"
        if not names_file.exists() and labels.max() >= MOST_UNNAMED:
            raise ValueError(
                f"{path} holds {labels.max()}; expected classes numbered from 0 to less than "
                f"{MOST_UNNAMED}, or their names in classes.txt"
            )
        names = (
            read_names(names_file)
            if names_file.exists()
            else tuple(str(k) for k in range(int(labels.max()) + 1))
        )
        wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if wrong.size:
            raise ValueError(
                f"{path} holds {labels[wrong[0]]} at {wrong[0]}; "
                f"expected 0 to {len(names) - 1}, one for each class"
            )
        return np.asarray(labels, np.int32), names

    def _read_annotations(self, folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
        concepts = read_names(folder / "concepts.txt")
        path, expected = (
            folder / "concept_labels.npy",
            f"uint8 or bool ({len(self)}, {len(concepts)}), images × concepts",
        )
        matrix = _load(path, expected)
        if matrix.shape != (len(self), len(concepts)) or matrix.dtype not in (np.uint8, np.bool_):
            raise ValueError(_got(path, matrix, expected))
        if matrix.max() > 1:
            raise ValueError(f"{path} holds {matrix.max()}; expected 0 and 1 only")
        return concepts, matrix.view(np.uint8)


def _pictures(path: Path) -> UInt8[np.ndarray, "images height width 3"]:
    expected = "uint8 (images, height, width, 3)"
    images = _load(path, expected)
    right = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
    if not right or 0 in images.shape:
        raise ValueError(_got(path, images, expected))
    return images


def _load(path: Path, expected: str) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"cannot read {path}: {reason}; expected {expected}") from None


def _got(path: Path, array: np.ndarray, expected: str) -> str:
    return f"{path} is {array.dtype} of shape {array.shape}; expected {expected}"


def _sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
