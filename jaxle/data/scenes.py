"""The embedded default's world as a source of probe images: every concept of every picture is known exactly."""

import functools
import hashlib
from typing import Any

import numpy as np

from jaxle.scenes.vocabulary import CLASS_NAMES, CONCEPTS
from jaxle.scenes.world import render

_SAMPLES = 16  # pictures that stand for all in the fingerprint


class ScenesSource:
    """The first `n` pictures of the procedural world of one seed; rendered once, when first asked for.

    Args:
      n: number of pictures.
      seed: the world's seed.

    Attributes:
      class_names: tuple of str.
      labels: int32 (images,), index into class_names.
      annotations: (concepts tuple of str, uint8 (images, concepts) of 0 and 1).
    """

    class_names = tuple(CLASS_NAMES)

    def __init__(self, n: int, seed: int):
        self._n, self._seed = n, seed

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self._scenes[0][i], int(self._scenes[1][i])

    @property
    def labels(self) -> np.ndarray:
        return self._scenes[1]

    @property
    def annotations(self) -> tuple[tuple[str, ...], np.ndarray]:
        return tuple(CONCEPTS), self._scenes[2]

    @functools.cached_property
    def _scenes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return tuple(render(np.arange(self._n), self._seed))

    def fingerprint_fields(self) -> dict[str, Any]:
        """Facts that tell this content from other content: seed, number, and some pictures, which change with the renderer."""
        first = render(np.arange(_SAMPLES), self._seed)
        sample = hashlib.sha256(
            b"".join(np.ascontiguousarray(part).tobytes() for part in first)
        ).hexdigest()
        return {"kind": "scenes", "images": self._n, "seed": self._seed, "sample": sample}
