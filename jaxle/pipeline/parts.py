"""The parts of a pass over the images: numbered ranges of them, each an artifact of its own.

    0 … n − 1  →  parts 0, 1, …  of `part_size(n)` images;  part k  →  <folder>/<k:06d>

How many images a part has depends on the number of images alone, so that any process of any run
can compute any part. A part that is whole is never computed again; the whole arrays are read from
the parts a part at a time, and so memory does not grow with the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np
from etils import epath

from jaxle import artifacts

SMALLEST, LARGEST = 256, 2048  # images of a part
PARTS = 16  # so many, as far as these allow: what several processes share


def part_size(n: int) -> int:
    """Returns how many images a part has, of `n` in all; the last one may have fewer."""
    near = 2 ** round(math.log2(max(n, 1) / PARTS)) if n > PARTS else 1
    return min(LARGEST, max(SMALLEST, near))


def part_range(number: int, n: int) -> tuple[int, int]:
    """Returns the first image of a part, and the one after its last."""
    size = part_size(n)
    return number * size, min(n, (number + 1) * size)


def part_folder(folder: epath.Path, number: int) -> epath.Path:
    """Returns where a part lies."""
    return folder / f"{number:06d}"


def missing_parts(folder: epath.Path, n: int, arrays: Collection[str]) -> list[int]:
    """Returns the parts of `n` images that are not there, not whole, or lack one of the arrays.

    Args:
      folder: of the pass.
      n: images.
      arrays: names of what a part must have.
    """
    numbers = range(-(-n // part_size(n)))
    return [k for k in numbers if not artifacts.names(part_folder(folder, k)) >= set(arrays)]


def whole_array(folder: epath.Path, n: int, name: str) -> artifacts.Rows:
    """Returns an array (images, …) of all parts, which must be there, read as it is written.

    Args:
      folder: of the pass.
      n: images.
      name: of the array.
    """
    folders = [part_folder(folder, k) for k in range(-(-n // part_size(n)))]
    first = artifacts.load_array(folders[0], name)

    def blocks() -> Iterator[np.ndarray]:
        for part in folders:
            yield artifacts.load_array(part, name)

    return artifacts.Rows((n, *first.shape[1:]), first.dtype, blocks)
