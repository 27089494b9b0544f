"""The embedded default's world as a source of probe images: every concept of every picture is known exactly."""

import functools
import hashlib

import numpy as np

from jaxle.scenes.world import CLASS_NAMES, CONCEPTS, render

_CHUNK = 500  # pictures rendered at once, to bound the renderer's own memory


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

    def __init__(self, n, seed):
        self._n, self._seed = n, seed

    def __len__(self):
        return self._n

    def __getitem__(self, i):
        return self._scenes[0][i], int(self._scenes[1][i])

    @property
    def labels(self):
        return self._scenes[1]

    @property
    def annotations(self):
        return tuple(CONCEPTS), self._scenes[2]

    @functools.cached_property
    def _scenes(self):
        chunks = [render(np.arange(start, min(start + _CHUNK, self._n)), self._seed) for start in range(0, self._n, _CHUNK)]
        return tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))

    def fingerprint_fields(self):
        """Facts that tell this content from other content: seed, number, and one picture, which changes with the renderer."""
        first = render(np.arange(1), self._seed)
        sample = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in first)).hexdigest()
        return {"kind": "scenes", "images": self._n, "seed": self._seed, "sample": sample}
