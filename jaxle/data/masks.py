"""Pixel masks: which concepts each pixel of an image bears, where a source knows it.

A source that does has one more member, `masks`, an object with the members of `Masks`:

    label_maps(i) → (layers, height, width) whole numbers: 0 none, else a concept's number + 1

A pixel bears as many concepts as there are layers. A layer of one value is a label of the whole
image. Maps may be of another size than the image, and must show all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int16, Int32

from jaxle.images import Preprocess

MOST = 2**15 - 1  # concepts


@runtime_checkable
class Masks(Protocol):
    """What a source's `masks` gives.

    Attributes:
      concepts: names, each once; the same words as in the source's annotations, where it has any.
      categories: the category of each; a concept is judged on the images that are labelled in its
        category. One name for all where every image is labelled in full.
    """

    if TYPE_CHECKING:

        @property
        def concepts(self) -> tuple[str, ...]: ...

        @property
        def categories(self) -> tuple[str, ...]: ...

    def label_maps(self, i: int, /) -> Int[np.ndarray, "layers height width"]:
        """Returns one image's label maps; called from several threads.

        Raises:
          ValueError: maps that cannot be read, named.
        """
        ...

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns JSON facts that differ where the masks differ, alike on every machine."""
        ...


def masks_of(source: Any) -> Masks | None:
    """Returns the masks of a `jaxle.data.sources.Source`, or None where it has none.

    Raises:
      ValueError: members that are missing; names that are not str, or there twice; another number
        of categories than of concepts.
    """
    masks = getattr(source, "masks", None)
    if masks is None:
        return None
    expected = "expected the members of jaxle.data.masks.Masks"
    members = ("concepts", "categories", "label_maps", "fingerprint_fields")
    if lacking := [name for name in members if not hasattr(masks, name)]:
        raise ValueError(f"the source's masks lack {', '.join(lacking)}; {expected}")
    concepts, categories = tuple(masks.concepts), tuple(masks.categories)
    if not concepts or not all(isinstance(name, str) and name for name in concepts):
        raise ValueError(f"the source's masks have concepts {concepts[:3]!r}; expected names")
    if len(set(concepts)) < len(concepts):
        twice = next(name for i, name in enumerate(concepts) if name in concepts[:i])
        raise ValueError(f"the source's masks name concept {twice!r} twice; expected each once")
    if len(concepts) > MOST:
        raise ValueError(f"the source's masks have {len(concepts)} concepts; expected up to {MOST}")
    if len(categories) != len(concepts):
        raise ValueError(
            f"the source's masks have {len(categories)} categories for {len(concepts)} concepts; "
            "expected one for each"
        )
    return masks


def read_masks(
    masks: Masks, i: int, preprocess: Preprocess | None, side: int
) -> Int16[np.ndarray, "layers side side"]:
    """Returns one image's label maps as a network sees them: cropped like its input, and of a size.

    Args:
      masks: of the source.
      i: the image.
      preprocess: how the network's images are fitted; None takes the whole image.
      side: height and width of the result; the nearest label is taken.

    Raises:
      ValueError: maps of another kind or shape, or a number that no concept has.
    """
    found = np.asarray(masks.label_maps(i))
    if found.ndim != 3 or 0 in found.shape[1:] or found.dtype.kind not in "iub":
        raise ValueError(
            f"the label maps of image {i} are {found.dtype} of shape {found.shape}; "
            "expected whole numbers (layers, height, width)"
        )
    low, high = int(found.min(initial=0)), int(found.max(initial=0))
    if low < 0 or high > len(masks.concepts):
        raise ValueError(
            f"the label maps of image {i} hold {low if low < 0 else high}; expected 0 for none, or "
            f"1 to {len(masks.concepts)}, a concept's number + 1"
        )
    height, width = found.shape[1:]
    top, left, bottom, right = (0.0, 0.0, 1.0, 1.0)
    if preprocess is not None:
        top, left, bottom, right = window(preprocess, height, width)
    centres = (np.arange(side) + 0.5) / side
    rows = ((top + (bottom - top) * centres) * height).astype(np.int64)
    columns = ((left + (right - left) * centres) * width).astype(np.int64)
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    return found[:, rows[:, None], columns[None]].astype(np.int16)


def window(preprocess: Preprocess, height: int, width: int) -> tuple[float, float, float, float]:
    """Returns what part of an image a network is given: top, left, bottom, right, of 0 to 1."""
    new_height, new_width = preprocess.resized(height, width)
    top, left = preprocess.corner(new_height, new_width)
    bottom, right = top + preprocess.size, left + preprocess.size
    return top / new_height, left / new_width, bottom / new_height, right / new_width


class SubsetMasks:
    """The masks of some images of another source.

    Args:
      masks: of all.
      index: (images,) positions among these.
    """

    def __init__(self, masks: Masks, index: Int[np.ndarray, " images"]):
        self._masks, self._index = masks, index
        self.concepts, self.categories = masks.concepts, masks.categories

    def label_maps(self, i: int) -> Int[np.ndarray, "layers height width"]:
        """As `Masks.label_maps`."""
        return self._masks.label_maps(int(self._index[i]))

    def fingerprint_fields(self) -> dict[str, Any]:
        """The other masks' facts; which images they are of, the source's own facts say."""
        return self._masks.fingerprint_fields()


def category_numbers(masks: Masks) -> tuple[tuple[str, ...], Int32[np.ndarray, " concepts"]]:
    """Returns the categories, each once, and each concept's number among them."""
    names = tuple(dict.fromkeys(masks.categories))
    return names, np.array([names.index(name) for name in masks.categories], np.int32)
