"""Probe images by name: what `config.data.source` may say, and what every source gives.

A source is a random-access sequence; nothing in it is decoded before it is asked for.
"""

import hashlib
from typing import Any, Protocol

import numpy as np

from jaxle.data.arrays import ArraysSource
from jaxle.data.folder import FolderSource
from jaxle.data.scenes import ScenesSource
from jaxle.data.splits import shuffled
from jaxle.data.tfds import TfdsSource

SPECS = ("tfds:NAME", "folder:PATH", "arrays:PATH", "scenes")
_AT_PATH = {"folder": FolderSource, "arrays": ArraysSource}
_SCENES = 6000


class Source(Protocol):
    """What every source gives; any object of the user's own that has it will do.

    Attributes:
      class_names: tuple of str, empty without labels.
      labels: int32 (images,), index into class_names; None without labels.
      annotations: (concepts tuple of str, uint8 (images, concepts) of 0 and 1); None where concepts are not labelled image by image.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray | None
    annotations: tuple[tuple[str, ...], np.ndarray] | None

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        """One image, uint8 (height, width, 3), and its label, −1 where unknown. Raises ValueError where it cannot be decoded."""

    def fingerprint_fields(self) -> dict[str, Any]:
        """JSON facts that tell this content from other content, alike on every machine."""


def open_source(
    spec: str, split: str | None = None, limit: int | None = None, seed: int = 0
) -> Source:
    """Opens the probe images that a config names.

    Args:
      spec: "tfds:NAME", "folder:PATH", "arrays:PATH" or "scenes".
      split: tfds: the split's name; the other sources have no splits and leave it aside, so that a config made for tfds takes a folder.
      limit: at most so many images: a random subset, the same for the same seed, in the source's order. For scenes: how many are drawn
        (6,000 where None).
      seed: chooses the subset; the seed of the world of scenes.

    Returns:
      The source.

    Raises:
      ValueError: an unknown spec (the valid ones are named), a limit below 1, or what the source itself refuses.
    """
    kind, _, rest = str(spec).partition(":")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 image, or None for all")
    if kind == "scenes" and not rest:
        return ScenesSource(_SCENES if limit is None else limit, seed)
    if kind not in ("tfds", *_AT_PATH) or not rest:
        raise ValueError(f"data source is {spec!r}; expected one of {', '.join(SPECS)}")
    source = TfdsSource(rest, split or None) if kind == "tfds" else _AT_PATH[kind](rest)
    if limit is None or limit >= len(source):
        return source
    return Subset(source, np.sort(shuffled(len(source), seed, stream=1)[:limit]))


class Subset:
    """Some images of another source; use it wherever a run reads only part of one.

    Args:
      source: the other source.
      index: int (images,), positions in it, in the order wanted.
    """

    def __init__(self, source: Source, index: np.ndarray):
        self._source, self._index = source, np.asarray(index, np.int64)
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self._source[int(self._index[i])]

    @property
    def labels(self) -> np.ndarray | None:
        return None if self._source.labels is None else self._source.labels[self._index]

    @property
    def annotations(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        if self._source.annotations is None:
            return None
        concepts, matrix = self._source.annotations
        return concepts, np.asarray(matrix[self._index])

    def fingerprint_fields(self) -> dict[str, Any]:
        """The other source's facts and the positions."""
        return {
            **self._source.fingerprint_fields(),
            "subset": hashlib.sha256(self._index.tobytes()).hexdigest(),
        }
