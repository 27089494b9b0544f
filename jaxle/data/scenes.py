"""The embedded default's world as a source of probe images, every concept of which is known."""

from __future__ import annotations

import functools
import hashlib
import threading
from typing import Any

import numpy as np
from jaxtyping import Int16, Int32, UInt8

from jaxle.scenes.edits import EditedPairs, edited_pairs
from jaxle.scenes.masks import label_maps
from jaxle.scenes.vocabulary import CLASS_NAMES, CONCEPTS
from jaxle.scenes.world import render

_SAMPLES = 16  # images that stand for all in the fingerprint
_APART = 2**24  # scenes between the pairs of one seed and those of the next
_TOGETHER = 64  # scenes whose masks are made at once


class ScenesSource:
    """The first `n` images of the procedural world of one seed, rendered when first asked for.

    Args:
      n: number of images.
      seed: the world's seed.

    Attributes:
      class_names: tuple of str.
      labels: int32 (images,), index into class_names.
      annotations: (concepts tuple of str, uint8 (images, concepts) of 0 and 1).
      masks: every concept's pixels, as `jaxle.data.masks.Masks`.
      file_names: list of str, "scene 0", ….
    """

    class_names = tuple(CLASS_NAMES)

    def __init__(self, n: int, seed: int):
        self._n, self._seed = n, seed
        self.masks = SceneMasks(seed)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        return self._scenes[0][i], int(self._scenes[1][i])

    @property
    def labels(self) -> Int32[np.ndarray, "images"]:
        """Index into `class_names` of each image."""
        return self._scenes[1]

    @property
    def annotations(self) -> tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]]:
        """Concepts, and 0 or 1 for each image and concept."""
        return tuple(CONCEPTS), self._scenes[2]

    @property
    def file_names(self) -> list[str]:
        """Each image's number in the world."""
        return [f"scene {i}" for i in range(len(self))]

    def pairs(self, n: int, seed: int) -> EditedPairs:
        """Returns pairs of pictures that differ in one edit; none is among the source's images.

        Args:
          n: how many.
          seed: another one gives pairs of other scenes of the same world.
        """
        return edited_pairs(n, self._seed, first=len(self) + _APART * (seed % 2**32))

    @functools.cached_property
    def _scenes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, class_ids, concept_labels = render(np.arange(self._n), self._seed)
        return images, class_ids, concept_labels

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns seed, number, and a hash of some images, which changes with the renderer."""
        first = render(np.arange(_SAMPLES), self._seed)
        sample = hashlib.sha256(
            b"".join(np.ascontiguousarray(part).tobytes() for part in first)
        ).hexdigest()
        return {"kind": "scenes", "images": self._n, "seed": self._seed, "sample": sample}


class SceneMasks:
    """Which concepts each pixel of the scenes of one seed bears; all of them are labelled in full.

    Attributes:
      concepts: the words of the annotations.
      categories: one for all.
    """

    concepts = tuple(CONCEPTS)
    categories = ("scene",) * len(CONCEPTS)

    def __init__(self, seed: int):
        self._seed, self._lock = seed, threading.Lock()
        self._chunks: dict[int, np.ndarray] = {}  # the last few

    def label_maps(self, i: int) -> Int16[np.ndarray, "layers height width"]:
        """As `jaxle.data.masks.Masks.label_maps`."""
        number, place = divmod(i, _TOGETHER)
        with self._lock:  # many threads ask for neighbours
            if number not in self._chunks:
                if len(self._chunks) > 8:
                    del self._chunks[next(iter(self._chunks))]
                index = np.arange(number * _TOGETHER, (number + 1) * _TOGETHER)
                self._chunks[number] = label_maps(index, self._seed)
            return self._chunks[number][place]

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns the seed, and a hash of some masks, which changes with the renderer."""
        first = label_maps(np.arange(_SAMPLES), self._seed)
        return {"seed": self._seed, "sample": hashlib.sha256(first.tobytes()).hexdigest()}

    def __getstate__(self) -> dict[str, int]:
        return {"seed": self._seed}  # to a process that decodes

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["seed"])
