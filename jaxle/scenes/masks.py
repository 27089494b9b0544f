"""Where each concept is: pixel masks, exact by construction.

Every pixel belongs to one part of its scene, an object (where that covers at least half of the
pixel) or the background, and a concept's pixels are those of the parts that bear it: a colour's are
its objects', a place's the background's, a position's the main object's, a count's all objects',
and a superclass's the union of its members'. A mask is empty exactly when the concept's label is 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, Int16

from jaxle.arrays import checks_input
from jaxle.scenes.layout import SIDE, SLOTS, layout, membership
from jaxle.scenes.vocabulary import CONCEPTS
from jaxle.scenes.world import CHUNK, check_index, paint


@checks_input
def masks(
    index: Int[np.ndarray, " images"], seed: int
) -> Bool[np.ndarray, "images concepts height width"]:
    """Returns each concept's pixels, for instance to compare a channel's activation map with them.

    That comparison is Network Dissection's.

    Args:
      index: int (images,), as for `render`; a few hundred at a time, since each image takes half a
        megabyte.
      seed: of the world.

    Returns:
      bool (images, concepts, 64, 64).

    Raises:
      ValueError: an index that is not 1-D, whole and non-negative.
    """
    index = check_index(index)
    marked = np.zeros((len(index), len(CONCEPTS), SIDE, SIDE), bool)
    for start in range(0, len(index), CHUNK):
        rows = slice(start, start + CHUNK)
        scenes = layout(index[rows], seed)
        _, owner = paint(index[rows], seed, scenes)
        bears = membership(scenes)
        for part in range(SLOTS + 1):
            here = owner == (part if part < SLOTS else -1)
            marked[rows] |= bears[:, part, :, None, None] & here[:, None]
    return marked


@checks_input
def label_maps(
    index: Int[np.ndarray, " images"], seed: int
) -> Int16[np.ndarray, "images layers height width"]:
    """Returns what `masks` gives, as numbers: a layer for each concept that a pixel may bear.

    Args:
      index: int (images,), as for `render`.
      seed: of the world.

    Returns:
      int16 (images, layers, 64, 64): 0 for none, else a number of `CONCEPTS` + 1; as many layers as
      the part of most concepts has.

    Raises:
      ValueError: an index that is not 1-D, whole and non-negative.
    """
    index = check_index(index)
    scenes = layout(index, seed)
    _, owner = paint(index, seed, scenes)
    bears = membership(scenes)
    n_layers = int(bears.sum(axis=2).max(initial=0))
    first = np.argsort(~bears, axis=2, kind="stable")[:, :, :n_layers]
    numbers = np.where(np.take_along_axis(bears, first, axis=2), first + 1, 0).astype(np.int16)
    part = np.where(owner < 0, SLOTS, owner)
    found = numbers[np.arange(len(index))[:, None, None], part]
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2))
