"""Train, val and test images (method.md §1).

Everything learned uses train, every choice val, every reported score test. They are kept apart by
index arrays, so that the same split serves every network, tap and method of a run, and can be saved
beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Int, Int64

from jaxle import options
from jaxle.arrays import checks_input

_FRACTIONS = (0.7, 0.1, 0.2)


class Split(NamedTuple):
    """Which images are train, val and test; each int64 (images,), disjoint.

    `make_split` gives them in ascending order.
    """

    train: Int64[np.ndarray, "train"]
    val: Int64[np.ndarray, "val"]
    test: Int64[np.ndarray, "test"]


@checks_input
def make_split(n: int, seed: int, fractions: Sequence[float] = _FRACTIONS) -> Split:
    """Returns a random split of n images.

    The same (n, seed, fractions) gives the same split on every machine and with every NumPy. Each
    part gets at least one image.

    Args:
      n: number of images, at least 3.
      seed: integer from 0 to 2⁶⁴ − 1.
      fractions: shares of train, val and test, all above 0, of sum 1.

    Returns:
      Split, each part in ascending order.

    Raises:
      ValueError: too few images, or fractions or a seed out of range.
    """
    seed = options.seed(seed)
    if n < len(Split._fields):
        raise ValueError(
            f"cannot split {n} image{'s' * (n != 1)} into train, val and test; expected at least 3"
        )
    if (
        len(fractions) != 3
        or not all(share > 0 for share in fractions)
        or abs(sum(fractions) - 1) > 1e-6
    ):
        raise ValueError(
            f"fractions are {tuple(fractions)}; "
            f"expected three numbers above 0 of sum 1, such as {_FRACTIONS}"
        )
    n_val, n_test = (max(1, round(share * n)) for share in fractions[1:])
    while n_val + n_test > n - 1:  # rounding left nothing for train
        n_val, n_test = (n_val - 1, n_test) if n_val > n_test else (n_val, n_test - 1)
    order = shuffled(n, seed, stream=0)
    return Split(
        np.sort(order[n_val + n_test :]),
        np.sort(order[:n_val]),
        np.sort(order[n_val : n_val + n_test]),
    )


@checks_input
def check_split(
    split: Sequence[Int[np.ndarray, "images"] | Sequence[int]] | Mapping[str, Any], n: int
) -> Split:
    """Returns a user's split, checked.

    Args:
      split: train, val and test, in this order or as a mapping from these names; each either int
        (images,), the images' numbers, or bool (all images,), which images.
      n: number of images that they index.

    Returns:
      Split of int64 arrays, each in the order given; a mask's in ascending order.

    Raises:
      ValueError: another number of parts or other names; a part that is empty, neither whole
        numbers nor a mask of all images, out of range, or holds an image twice; parts that overlap.
    """
    if isinstance(split, Mapping):
        if set(split) != set(Split._fields):
            raise ValueError(
                f"split has the parts {', '.join(map(str, split)) or 'none'}; "
                "expected three: train, val, test"
            )
        split = [split[name] for name in Split._fields]
    if isinstance(split, str) or not isinstance(split, (Sequence, np.ndarray)):
        raise ValueError(
            f"split is {type(split).__name__}; expected jaxle.Split(train, val, test), "
            "or a dict of these"
        )
    if len(split) != 3:
        raise ValueError(f"split has {len(split)} parts; expected three: train, val, test")
    parts = {}
    owner = np.full(n, -1, np.int8)
    for code, (name, part) in enumerate(zip(Split._fields, split, strict=True)):
        part = _part_numbers(part, name, n)
        wrong = part[(part < 0) | (part >= n)]
        if wrong.size:
            raise ValueError(
                f"split.{name} holds index {wrong[0]}; "
                f"expected 0 to {n - 1}, as there are {n} images"
            )
        part = part.astype(np.int64)
        taken = part[owner[part] >= 0]
        if taken.size:
            raise ValueError(
                f"image {taken[0]} is in split.{Split._fields[owner[taken[0]]]} "
                f"and in split.{name}; expected disjoint parts"
            )
        owner[part] = code
        if np.count_nonzero(owner == code) != part.size:
            values, counts = np.unique(part, return_counts=True)
            raise ValueError(f"split.{name} holds index {values[counts > 1][0]} more than once")
        parts[name] = part
    return Split(**parts)


def _part_numbers(part: Any, name: str, n: int) -> np.ndarray:
    """The numbers of a part's images, where it is a mask or numbers."""
    if hasattr(part, "detach"):  # a torch tensor
        part = part.detach().cpu()
    if np.ma.is_masked(part):
        raise ValueError(f"split.{name} has masked values; expected image indices without")
    try:
        numbers = np.asarray(part)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"split.{name} makes no array of image indices: {' '.join(str(error).split())}"
        ) from None
    if numbers.dtype == bool and numbers.shape == (n,) and numbers.any():
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"split.{name} is {numbers.dtype} of shape {numbers.shape}; "
            f"expected a non-empty list of image indices, or a mask of {n} bools, some True"
        )
    return numbers


@checks_input
def load_split(path: str | os.PathLike[str], n: int) -> Split:
    """Returns a split from index files, such as that of another run or another program.

    Args:
      path: an `.npz` file with arrays train, val and test, or a folder with train, val and test as
        `.npy` or `.txt` (one a line).
      n: number of images that the indices refer to.

    Returns:
      Split of int64 arrays, each in the order of its file.

    Raises:
      ValueError: a file that is absent or unreadable, a part that is absent, or what `check_split`
        refuses.
    """
    path = epath.Path(path).expanduser()
    if path.is_dir():
        return check_split(Split(*(_read_part(path, name) for name in Split._fields)), n)
    if path.suffix != ".npz" or not path.is_file():
        raise ValueError(
            f"split {path} is not there; "
            "expected an .npz file or a folder with train, val and test as .npy or .txt"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in Split._fields if name not in arrays]
            if missing:
                raise ValueError(
                    f"it lacks {', '.join(missing)}; "
                    f"it holds {', '.join(arrays.files) or 'nothing'}"
                )
            parts = [arrays[name] for name in Split._fields]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"cannot read split {path}: {error}") from None
    return check_split(parts, n)


@checks_input
def shuffled(n: int, seed: int, stream: int) -> Int64[np.ndarray, "images"]:
    """Returns a random order of n images that depends on (n, seed, stream) only.

    Taken from the raw stream of a bit generator, which NumPy promises never to change;
    `Generator.permutation` may change (NEP 19).

    Args:
      n: number of images.
      seed: integer from 0 to 2⁶⁴ − 1.
      stream: which of the orders of this seed; 0 is the split's, 1 the limit's.

    Returns:
      int64 (n,), a permutation of 0..n − 1.
    """
    seed = options.seed(seed)
    return np.argsort(
        np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(n), kind="stable"
    )


def _read_part(folder: epath.Path, name: str) -> np.ndarray:
    for path in (folder / f"{name}.npy", folder / f"{name}.txt"):
        if path.is_file():
            try:
                with path.open("rb") as file:
                    if path.suffix == ".npy":
                        return np.load(file, allow_pickle=False)
                    return np.loadtxt(file, dtype=np.int64, ndmin=1)
            except (OSError, EOFError, ValueError) as error:
                raise ValueError(f"cannot read split file {path}: {error}") from None
    raise ValueError(f"split folder {folder} has no {name}.npy or {name}.txt")
