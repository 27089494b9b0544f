"""Images that cannot be decoded, left out where the config says so: data.on_error=skip.

    the pass meets one → those after it are found → a list in the cache → the run begins again
    the list + the source → a `Subset` without them: keys, split, labels and names are its own

Data without such images cost nothing. Otherwise the images from the first such one on are decoded
once more, and what the pass had read before it is read again. The list lies under a fingerprint of
the whole source, so that this is done once.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from etils import epath

from jaxle import artifacts, multihost
from jaxle.data.loader import Decoding, UnreadableImage, unreadable
from jaxle.data.sources import Source, Subset, names_of
from jaxle.data.splits import Split
from jaxle.report.progress import say

TABLE = "skipped.csv"
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Skipped:
    """The images of a source that are left out.

    Attributes:
      place: where the list lies.
      index: int64 (skipped,), their numbers in the whole source.
      names, reasons: of each.
    """

    place: epath.Path
    index: np.ndarray
    names: tuple[str, ...]
    reasons: tuple[str, ...]

    def kept(self, n: int) -> np.ndarray:
        """Returns the numbers of the others, of `n` images in all."""
        return np.setdiff1d(np.arange(n), self.index)


class BeginAgain(Exception):
    """Images were found that cannot be decoded: the run opens the source again, without them."""


def find_skipped(source: Source, folder: epath.Path) -> Skipped:
    """Returns which images of a source are known to be unreadable.

    Args:
      source: the whole one.
      folder: where lists lie.
    """
    place = folder / f"unreadable-{artifacts.fingerprint(source.fingerprint_fields())}"
    found = artifacts.read(place)
    if found is None:
        return Skipped(place, np.zeros(0, np.int64), (), ())
    names, reasons = (tuple(found.facts[name]) for name in ("names", "reasons"))
    return Skipped(place, np.array(found.arrays["index"]), names, reasons)


def without(source: Source, skipped: Skipped) -> Source:
    """Returns a source without some images; itself where there are none."""
    return Subset(source, skipped.kept(len(source))) if len(skipped.index) else source


def split_without(split: Split, skipped: Skipped | None) -> Split:
    """Returns a split of the whole source as one of the images that are left.

    Raises:
      ValueError: a part of which none is left.
    """
    if skipped is None:
        return split
    left = [part[~np.isin(part, skipped.index)] for part in split]
    for name, part in zip(split._fields, left, strict=True):
        if not len(part):
            raise ValueError(
                f"no image of split.{name} can be decoded: expected others in data.split_files"
            )
    return Split(*(part - np.searchsorted(skipped.index, part) for part in left))


def leave_out(
    source: Source, skipped: Skipped | None, error: UnreadableImage | None, how: Decoding
) -> bool:
    """Returns whether any process found an image that cannot be decoded: the list has it then.

    The process that found the first of them lists those after it.

    Args:
      source: of which one was found.
      skipped: what is left out of it already; None where the run is to stop.
      error: what this process found.
      how: threads or processes.

    Raises:
      ValueError: the run is to stop; or the image can be read now.
    """
    if error is not None and skipped is None:
        raise ValueError(
            f"{error}: expected a picture; mend it, or set data.on_error=skip to leave it out"
        ) from error
    found = multihost.each(None if error is None else error.image)
    bad = [number for number in found if number is not None]
    if not bad:
        return False
    if error is not None and skipped is not None and error.image == min(bad):
        _list(source, skipped, error, how)
    multihost.wait("the images that are left out")
    return True


def _list(source: Source, skipped: Skipped, error: UnreadableImage, how: Decoding) -> None:
    """Adds an image, and those after it that cannot be decoded, to the list."""
    say(f"{error}; the images after it are looked at, and such ones are left out")
    found = unreadable(source, error.image, how)
    if error.image not in found:
        raise error
    kept = skipped.kept(len(source) + len(skipped.index))
    names = names_of(source)
    before = zip(skipped.names, skipped.reasons, strict=True)
    every = dict(zip(skipped.index.tolist(), before, strict=True))
    every |= {int(kept[i]): (names[i], reason) for i, reason in found.items()}
    index = sorted(every)
    facts = {"names": [every[i][0] for i in index], "reasons": [every[i][1] for i in index]}
    artifacts.write(skipped.place, {"index": np.array(index, np.int64)}, facts)


def begins_again(run: Callable[P, R]) -> Callable[P, R]:
    """A run that begins again whenever it has found images to leave out."""

    @functools.wraps(run)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return run(*args, **kwargs)
            except BeginAgain as found:
                say(f"{found}; the run begins again without them")

    return repeated


def write_skipped(workdir: epath.Path, skipped: Skipped | None) -> None:
    """Writes skipped.csv, a row an image; none where no image is left out."""
    path = workdir / TABLE
    if skipped is None or not len(skipped.index):
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "reason"))
    writer.writerows(zip(skipped.names, skipped.reasons, strict=True))
    artifacts.write_text(path, text.getvalue())
