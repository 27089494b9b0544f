"""Second moments of concepts that an image's class decides: counted, not multiplied out.

    classes (images,), members (classes, concepts) 0/1:   X_ij = members[classes_i, j]

    n_c = images of class c,   S_c = Σ y_i over them        one pass over Y: O(images · neurons)
    XᵀX = membersᵀ diag(n) members,   XᵀY = membersᵀ S      one addition for each member and neuron

Both products are with a sparse matrix: a class is a member of few superclasses. Counts are whole
numbers; sums of float32 blocks are added up and centred in float64, whatever the number of images.
All of it is NumPy and SciPy on the host, where activations are read: it costs about what reading
them from memory does. In a run of several processes each adds up its own part of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
from scipy.sparse import csr_array

from jaxle import multihost
from jaxle.arrays import Rows, row_blocks
from jaxle.mesh import spans

BLOCK_BYTES = 1 << 20  # of activations that are added up at a time: they stay in the cache
SHIFT_ROWS = 1024  # any point near the mean serves as shift
COLUMNS = 4096  # neurons whose cross moments are made at a time


@dataclass(frozen=True, eq=False)
class ByClass:
    """Concepts that an image's class decides, as what `solve.moments` reads of the images."""

    classes: Int[np.ndarray, " images"]  # from 0
    members: UInt8[np.ndarray, "classes concepts"] | Bool[np.ndarray, "classes concepts"]

    def __call__(self, index: Int[np.ndarray, " rows"]) -> Float32[np.ndarray, "rows concepts"]:
        """Returns some rows of the images × concepts matrix."""
        return self.members[self.classes[index]].astype(np.float32)

    def some(self, columns: Int[np.ndarray, " columns"]) -> ByClass:
        """Returns some of the concepts."""
        return ByClass(self.classes, self.members[:, columns])


class Counted(NamedTuple):
    """The fields of `solve.moments.Moments` after `n`."""

    mean_x: Float32[np.ndarray, " concepts"]
    mean_y: Float32[np.ndarray, " neurons"]
    gram: Float32[np.ndarray, "concepts concepts"]
    cross: Float32[np.ndarray, "concepts neurons"]
    var_y: Float32[np.ndarray, " neurons"]


class _Sums(NamedTuple):
    """Sums of y − shift over the images of each class, and of its square over all images."""

    classes: Float64[np.ndarray, "classes neurons"]
    squares: Float64[np.ndarray, " neurons"]


def count(
    features: ByClass,
    targets: Rows,
    index: Int[np.ndarray, " rows"] | None = None,
    *,
    mesh: Mesh | None = None,
) -> Counted:
    """Returns the second moments of some images, from one pass over the targets.

    Args:
      features: the concepts.
      targets: (images, neurons), any real dtype, array or memory map.
      index: (rows,) int, the images to take, one or more; None takes all.
      mesh: where it spans several processes, each reads its own part of the images.
    """
    index = np.arange(len(features.classes)) if index is None else np.asarray(index)
    n, n_classes = len(index), len(features.members)
    targets = np.asarray(targets) if isinstance(targets, jax.Array) else targets
    shift = np.asarray(targets[index[:SHIFT_ROWS]], np.float64).mean(axis=0).astype(np.float32)
    sums = _Sums(np.zeros((n_classes, len(shift))), np.zeros(len(shift)))
    chunks = list(row_blocks(n, 4 * len(shift)))
    several = spans(mesh)
    for chunk in chunks[multihost.index() :: multihost.count()] if several else chunks:
        _add(sums, features.classes, targets, index[chunk], shift)
    if several:
        sums = _Sums(*(multihost.gather(part[None]).sum(axis=0) for part in sums))
    counts = np.bincount(features.classes[index], minlength=n_classes)
    return _centre(sums, counts, csr_array(features.members.T.astype(np.int64)), shift, n)


def _add(
    sums: _Sums,
    classes: Int[np.ndarray, " images"],
    targets: Rows,
    rows: Int[np.ndarray, " rows"],
    shift: Float[np.ndarray, " neurons"],
) -> None:
    """Adds rows of the targets to the sums, in the order of their classes."""
    order = np.argsort(classes[rows], kind="stable")
    # a memory map is read where rows are added; what makes rows makes them in their order
    if isinstance(targets, np.ndarray):
        values, places = targets, rows[order]
    else:
        values, places = np.asarray(targets[rows]), order
    classes = classes[rows[order]]
    step = max(16, BLOCK_BYTES // (4 * len(shift)))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        y = np.take(values, places[block], axis=0).astype(np.float32, copy=False)
        y -= shift
        present, slot = np.unique(classes[block], return_inverse=True)
        pick = csr_array((np.ones(len(y), np.float32), (slot, np.arange(len(y)))))
        sums.classes[present] += pick @ y
        sums.squares[:] += np.einsum("ik,ik->k", y, y)


def _centre(
    sums: _Sums,
    counts: Int64[np.ndarray, " classes"],
    members: csr_array,  # (concepts, classes)
    shift: Float[np.ndarray, " neurons"],
    n: int,
) -> Counted:
    mean_x, mean = (members @ counts) / n, sums.classes.sum(axis=0) / n
    gram = (members.multiply(counts).tocsr() @ members.T).toarray() / n
    gram -= mean_x[:, None] * mean_x[None, :]
    left = sums.classes - counts[:, None] * mean[None, :]
    cross = np.empty((len(mean_x), len(mean)), np.float32)
    for start in range(0, len(mean), COLUMNS):
        some = slice(start, start + COLUMNS)
        cross[:, some] = (members @ left[:, some]) / n
    var_y = np.maximum(sums.squares / n - mean**2, 0.0)
    parts = (mean_x, shift + mean, gram, cross, var_y)
    return Counted(*(part.astype(np.float32, copy=False) for part in parts))
