"""Where each concept is: pixel masks, exact by construction.

Every pixel belongs to one part of its scene, an object (where that covers at least half of the
pixel) or the background, and a concept's pixels are those of the parts that bear it: a colour's are
its objects', a place's the background's, a position's the main object's, a count's all objects',
and a superclass's the union of its members'. A mask is empty exactly when the concept's label is 0.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

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
