"""Pairs of pictures that differ in one thing, from a source that can make them.

A source offers them by one method more than `Source` asks for, `pairs(n, seed)`, which returns an
object with the members of `Pairs`. `scenes` does; your own may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jaxle.arrays import checks_input
from jaxle.data.sources import Source


@runtime_checkable
class Pairs(Protocol):
    """Pictures a and b of the same scenes, and what is true of them; `scenes.edits` makes such.

    Attributes:
      images_a, images_b: (pairs,) pictures, each uint8 (height, width, 3), 0–255.
      labels_a, labels_b: uint8 (pairs, concepts) of 0 and 1, true of them.
      edits: tuple of str, what was changed, one a pair.
      concepts: tuple of str, the labels' columns.
    """

    @property
    def images_a(self) -> Sequence[np.ndarray] | np.ndarray: ...

    @property
    def images_b(self) -> Sequence[np.ndarray] | np.ndarray: ...

    @property
    def labels_a(
        self,
    ) -> UInt8[np.ndarray, "pairs concepts"] | Bool[np.ndarray, "pairs concepts"]: ...

    @property
    def labels_b(
        self,
    ) -> UInt8[np.ndarray, "pairs concepts"] | Bool[np.ndarray, "pairs concepts"]: ...

    @property
    def edits(self) -> tuple[str, ...]: ...

    @property
    def concepts(self) -> tuple[str, ...]: ...


class BothSides:
    """The pictures of some pairs as one source: all first ones, then all second ones.

    Attributes:
      n_pairs: how many.
      edits: of each pair.
      class_names: none; labels: None; annotations: those of the pictures.
    """

    class_names: tuple[str, ...] = ()
    labels: Int32[np.ndarray, "images"] | None = None

    def __init__(self, pairs: Pairs):
        self.edits, self.n_pairs = tuple(pairs.edits), len(pairs.edits)
        self._sides = pairs.images_a, pairs.images_b
        labels = np.concatenate([pairs.labels_a, pairs.labels_b])
        self.annotations: tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]] | None
        self.annotations = tuple(pairs.concepts), labels.astype(np.uint8)

    def __len__(self) -> int:
        return 2 * self.n_pairs

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        side, number = divmod(i, self.n_pairs)
        return np.asarray(self._sides[side][number]), -1

    @property
    def file_names(self) -> list[str]:
        """Number and side of each picture."""
        return [f"pair {i}, {side}" for side in "ab" for i in range(self.n_pairs)]

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns a hash of every picture and every label."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            image = self[i][0]
            digest.update(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        assert self.annotations is not None, "they are made of labels"
        concepts, labels = self.annotations
        digest.update(labels.tobytes())
        names = {"concepts": list(concepts), "edits": list(self.edits)}
        return {"kind": "pairs", "content": digest.hexdigest(), **names}


@checks_input
def render_pairs(source: Source, n: int, seed: int, spec: str) -> BothSides:
    """Returns both sides of `n` pairs of a source, checked.

    Args:
      source: the probe images' source.
      n: how many pairs.
      seed: which ones.
      spec: how the config names the source, for messages.

    Raises:
      ValueError: a source without pairs, or pairs that are not what `Pairs` says.
    """
    make = getattr(source, "pairs", None)
    if not callable(make):
        raise ValueError(
            f"the counterfactual test needs a source with a method pairs(n, seed), and {spec!r} "
            "has none: expected scenes, a source of your own with it, or evaluation.counterfactual "
            "of 0."
        )
    pairs: Any = make(n, seed)
    what = f"pairs of data source {spec!r}"
    names = ("images_a", "images_b", "labels_a", "labels_b", "edits", "concepts")
    lacking = [name for name in names if not hasattr(pairs, name)]
    if lacking:
        raise ValueError(f"{what} lack {', '.join(lacking)}; expected the members of Pairs")
    for name in ("images_a", "images_b", "edits"):
        if len(getattr(pairs, name)) != n:
            raise ValueError(f"{what} have {len(getattr(pairs, name))} {name}; expected {n}")
    for name in ("labels_a", "labels_b"):
        labels, wanted = np.asarray(getattr(pairs, name)), (n, len(pairs.concepts))
        if labels.shape != wanted or labels.dtype not in (np.uint8, np.bool_):
            raise ValueError(
                f"{what} have {name} {labels.dtype} of shape {labels.shape}; "
                f"expected uint8 or bool {wanted}, pairs × concepts"
            )
        if labels.max(initial=0) > 1:
            raise ValueError(f"{what} have {name} up to {labels.max()}; expected 0 and 1 only")
    for side in ("images_a", "images_b"):
        for i, image in enumerate(map(np.asarray, getattr(pairs, side))):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"{what} have {side}[{i}] as {image.dtype} of shape {image.shape}; "
                    "expected uint8 (height, width, 3)"
                )
    return BothSides(pairs)
