"""A source from outside the package, checked where it enters and where it is read."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jaxle.references import source_fingerprint

_MEMBERS = (
    "__len__",
    "__getitem__",
    "class_names",
    "labels",
    "annotations",
    "fingerprint_fields",
)


class OutsideSource:
    """Your own source, behind the checks that jaxle's own make of their files.

    What its members hold is read when it is asked for, so that labels which take long to read are
    read when they are needed.

    Args:
      found: an object with the members of `jaxle.data.sources.Source`; or a class or function that
        makes one when it is called without arguments.
      spec: how the config names it, for messages.

    Raises:
      ValueError: it needs arguments, a member that it lacks, no image, or class names that are no
        list of str.
    """

    def __init__(self, found: Any, spec: str):
        self._what = f"data source {spec!r}"
        self._source, self._code = _made(found, self._what), source_fingerprint(found)
        lacking = [name for name in _MEMBERS if not _has(self._source, name)]
        if lacking:
            raise ValueError(
                f"{self._what} is {type(self._source).__name__}, which lacks "
                f"{', '.join(lacking)}; expected the members of jaxle.data.sources.Source"
            )
        names = self._source.class_names
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{self._what} has class_names {names!r}; expected a tuple of str")
        self.class_names = tuple(names)
        if len(self) < 1:
            raise ValueError(f"{self._what} holds no image; expected at least one")

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        record = self._source[i]
        if not isinstance(record, tuple) or len(record) != 2:
            raise ValueError(
                f"{self._what} gives {type(record).__name__} for image {i}; "
                "expected a tuple (image, label)"
            )
        image, label = np.asarray(record[0]), record[1]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"{self._what} gives image {i} as {image.dtype} of shape {image.shape}; "
                "expected uint8 (height, width, 3)"
            )
        return image, -1 if label is None else int(label)

    @property
    def labels(self) -> Int32[np.ndarray, "images"] | None:
        """As `Source.labels`."""
        if self._source.labels is None:
            return None
        labels = np.asarray(self._source.labels)
        if labels.shape != (len(self),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{self._what} has labels {labels.dtype} of shape {labels.shape}; "
                f"expected whole numbers ({len(self)},), one an image"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if wrong.size:
            raise ValueError(
                f"{self._what} has label {labels[wrong[0]]} at {wrong[0]}; "
                f"expected 0 to {len(self.class_names) - 1}, one for each class"
            )
        return np.asarray(labels, np.int32)

    @property
    def annotations(self) -> tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]] | None:
        """As `Source.annotations`."""
        if self._source.annotations is None:
            return None
        concepts, matrix = self._source.annotations
        concepts, matrix = tuple(map(str, concepts)), np.asanyarray(matrix)
        if matrix.shape != (len(self), len(concepts)) or matrix.dtype not in (np.uint8, np.bool_):
            raise ValueError(
                f"{self._what} has annotations {matrix.dtype} of shape {matrix.shape}; "
                f"expected uint8 or bool ({len(self)}, {len(concepts)}), images × concepts"
            )
        if matrix.max(initial=0) > 1:
            raise ValueError(
                f"{self._what} has annotations up to {matrix.max()}; expected 0 and 1 only"
            )
        return concepts, matrix.view(np.uint8)

    @property
    def file_names(self) -> list[str]:
        """The source's own, else "image 0", "image 1", …."""
        names = getattr(self._source, "file_names", None)
        return [f"image {i}" for i in range(len(self))] if names is None else list(names)

    @property
    def masks(self) -> Any:
        """The source's own masks, None where it has none (`data.masks.masks_of` checks them)."""
        return getattr(self._source, "masks", None)

    @property
    def pairs(self) -> Any:
        """The source's own pairs of pictures, where it has any (`data.pairs`)."""
        return self._source.pairs

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns the source's own facts, and hashes of the code that makes it and its images.

        Raises:
          ValueError: facts that are no JSON values.
        """
        own = self._source.fingerprint_fields()
        try:
            json.dumps(own, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self._what} has fingerprint_fields that are no JSON values ({error}); expected "
                "a dict of str, finite numbers, and lists and dicts of these, such as a hash"
            ) from None
        return {**own, "code": [self._code, source_fingerprint(self._source)]}


def _made(found: Any, what: str) -> Any:
    if not callable(found):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError:
        raise ValueError(
            f"{what} needs arguments; expected an object, or a class or function without any"
        ) from None
    return found()


def _has(source: Any, name: str) -> bool:
    """Whether it has the member, without computing a property."""
    absent = object()
    if inspect.getattr_static(source, name, absent) is not absent:
        return True
    return hasattr(type(source), "__getattr__") and hasattr(source, name)
