"""Reading probe images: each is decoded once and fitted for every network, in the source's order
and ahead of the computation.

What Grain handles as one record is a run of images of one batch: with one image a record, stacking
them would cost a second copy of every image. Runs are read by threads (decoding and resizing leave
Python's lock free) or by worker processes, which also spread the Python between the images over the
cores, but take seconds to start. An error travels as data, so that all images before it are
delivered.

Images are resized on the host, by the code that their networks' authors used; of a photograph of
500 × 375 pixels that is half of the work, decoding the other half. A device could repeat Pillow's
arithmetic (fixed-point weights of 22 bits, rounded to bytes between two passes), but whole pictures
of every size would have to travel padded to a few, four times the bytes of fitted ones, and float32
resizes such as jax.image.resize give other bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from jaxle.data import processes
from jaxle.data.duplicates import picture_hashes
from jaxle.data.sources import Source, names_of
from jaxle.images import Preprocess

_RUN = 32
_MAX_THREADS = 16


class UnreadableImage(ValueError):
    """An image that its source cannot give: its file is missing, damaged, or no picture.

    Attributes:
      image: its number in the source.
    """

    def __init__(self, message: str, image: int):
        super().__init__(message, image)  # as it is pickled
        self.image = image

    def __str__(self) -> str:
        return self.args[0]


class Batch(NamedTuple):
    """Some images, fitted for every network.

    Attributes:
      index: int64 (images,), which they are, without gaps.
      images: network name → uint8 (batch_size, size, size, 3), 0–255; rows beyond `index` are 0.
      hashes: name of a network that asked for them → uint64 (images,), of its fitted pictures.
      seconds: that decoding and fitting took, of all threads or processes together.
    """

    index: Int64[np.ndarray, " images"]
    images: dict[str, UInt8[np.ndarray, "batch_size _ _ 3"]]
    hashes: dict[str, UInt64[np.ndarray, " images"]]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How images are decoded.

    Attributes:
      workers: processes that decode; 0 decodes in threads of this process. Processes are worth
        their start for many large images and many cores.
      timeout: seconds for which 32 images are waited for; 0: for ever.
    """

    workers: int = 0
    timeout: float = 0

    @property
    def at_once(self) -> int:
        """How many images are decoded at the same time."""
        return self.workers or min(_MAX_THREADS, _cores())


def _cores() -> int:
    """Those that this process may use: of a node that several share, its own."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def batches(
    source: Source,
    fits: Mapping[str, Preprocess],
    batch_size: int,
    ranges: Sequence[tuple[int, int]] | None = None,
    how: Decoding = Decoding(),
    hashed: Collection[str] = (),
) -> Generator[Batch]:
    """Yields the images of a source in batches, fitted for every network.

    An interrupted pass goes on with the ranges that are left; several hosts read each their own.

    Args:
      source: the images.
      fits: network name → how its images are preprocessed. Networks that differ in mean and std
        only share one array.
      batch_size: images in a batch.
      ranges: (first image, the one after the last) of what is read, in this order; None: all. No
        batch has images of two ranges.
      how: threads or processes, and how long an image is waited for.
      hashed: the networks whose fitted pictures are hashed (`data.duplicates.picture_hashes`).

    Yields:
      Batches; only the last one of a range is not full, and the one before an error.

    Raises:
      UnreadableImage: an image that cannot be decoded (its file is named), after all images before
        it were yielded; a ValueError for one that cannot be fitted.
      TimeoutError: images that took too long (they are named).
      ValueError: ranges, batch_size or workers out of range.
    """
    n = len(source)
    for start, stop in ranges or ():
        if not 0 <= start <= stop <= n:
            raise ValueError(
                f"asked for images {start} to {stop}; expected a range within 0 to {n}"
            )
    if batch_size < 1 or how.workers < 0:
        raise ValueError(
            f"batch_size is {batch_size}, workers {how.workers}; expected at least 1 and at least 0"
        )
    asked = ((0, n),) if ranges is None else tuple(ranges)
    return _batches(source, fits, batch_size, asked, how, hashed)


def _batches(source, fits, batch_size, ranges, how, hashed):
    resize_of = {
        name: dataclasses.replace(fit, mean=(0, 0, 0), std=(1, 1, 1)) for name, fit in fits.items()
    }
    resizes = list(dict.fromkeys(resize_of.values()))
    to_hash = frozenset(resizes.index(resize_of[name]) for name in hashed)
    read_run = _ReadRun(source, resizes, batch_size, ranges, to_hash)
    runs = _runs(read_run, how)
    try:
        for start, stop in ranges:
            for first in range(start, stop, batch_size):
                whole = [np.zeros((batch_size, r.size, r.size, 3), np.uint8) for r in resizes]
                n, seconds, error, hashes = 0, 0.0, None, {k: [] for k in to_hash}
                for _ in range(read_run.runs_per_batch):
                    run = next(runs)
                    for out, images in zip(whole, run.images, strict=True):
                        out[n : n + run.count] = images
                    for k, own in run.hashes.items():
                        hashes[k].append(own)
                    n, seconds = n + run.count, seconds + run.seconds
                    error = next(iter(run.errors), None)
                    if error is not None:
                        break
                if n:
                    place = {name: resizes.index(resize) for name, resize in resize_of.items()}
                    images = {name: whole[k] for name, k in place.items()}
                    found = {name: np.concatenate(hashes[place[name]]) for name in hashed}
                    yield Batch(np.arange(first, first + n), images, found, seconds)
                if error is not None:
                    raise error
    finally:
        runs.close()


def unreadable(source: Source, start: int, how: Decoding = Decoding()) -> dict[int, str]:
    """Returns the images that cannot be decoded, from one on: number → what is wrong.

    Every image is decoded, and none is kept.

    Args:
      source: the images.
      start: the first image that is looked at.
      how: threads or processes, and how long an image is waited for.

    Raises:
      TimeoutError: images that took too long (they are named).
    """
    look = _ReadRun(source, [], _RUN, ((start, len(source)),), every=True)
    with contextlib.closing(_runs(look, how)) as runs:
        errors = [error for run in runs for error in run.errors]
    return {error.image: str(error) for error in errors if isinstance(error, UnreadableImage)}


def read_image(source: Source, i: int) -> UInt8[np.ndarray, "height width 3"]:
    """Returns one image of a source.

    Raises:
      UnreadableImage: it cannot be decoded.
    """
    try:
        image, _ = source[i]
    except ValueError as error:
        raise UnreadableImage(str(error), i) from None
    return image


class _Run(NamedTuple):
    """What a run of images gave: how many before an error, fitted for every resize, hashed for
    some."""

    count: int
    images: list[np.ndarray]
    hashes: dict[int, np.ndarray]
    seconds: float
    errors: Sequence[ValueError]


def _runs(read_run: _ReadRun, how: Decoding) -> Generator[_Run]:
    """All runs, in order, read ahead by two batches: one on its way to the device, one in the
    making."""
    ahead, n = max(how.at_once, 2 * read_run.runs_per_batch), len(read_run)
    patience = _Patience(read_run, how.timeout)
    if how.workers:
        yield from processes.read(read_run, n, how.workers, -(-ahead // how.workers), patience)
        return
    runs = grain.MapDataset.range(n).map(read_run)
    options = grain.ReadOptions(num_threads=how.at_once, prefetch_buffer_size=ahead)
    found = iter(runs.to_iter_dataset(options))
    thread = ThreadPoolExecutor(1, "jaxle-runs")
    try:
        for k in range(n):
            yield patience(thread.submit(next, found), k)
    finally:
        thread.submit(found.close)  # not waited for: one that hangs would never come
        thread.shutdown(wait=False)


@dataclasses.dataclass(frozen=True)
class _Patience:
    """Waits for a run of images, and says which they are where they do not come."""

    read_run: _ReadRun
    seconds: float

    def __call__(self, future: Future, k: int) -> Any:
        try:
            return future.result(self.seconds or None)
        except TimeoutError:
            if future.done():  # an error of the source itself
                raise
        first, n = self.read_run.place(k)
        names = names_of(self.read_run.source)
        raise TimeoutError(
            f"images {first} to {first + n - 1} ({names[first]} to {names[first + n - 1]}) were "
            f"not decoded within data.timeout={self.seconds:g} seconds: expected files that can "
            "be read, or a longer data.timeout; what was computed is kept"
        )


@dataclasses.dataclass(frozen=True)
class _ReadRun:
    """Reads the k-th run of images.

    A record and not a closure, so that it can be sent to worker processes.
    """

    source: Source
    resizes: list[Preprocess]
    batch_size: int
    ranges: tuple[tuple[int, int], ...]
    hashed: frozenset[int] = frozenset()  # positions among the resizes
    every: bool = False  # images after one that cannot be decoded are read too
    runs_per_batch: int = dataclasses.field(init=False)
    ends: Int64[np.ndarray, " ranges"] = dataclasses.field(init=False)  # runs before and in each

    def __post_init__(self):
        per_batch = -(-self.batch_size // _RUN)
        counts = [-(-(stop - start) // self.batch_size) * per_batch for start, stop in self.ranges]
        object.__setattr__(self, "runs_per_batch", per_batch)
        object.__setattr__(self, "ends", np.cumsum(counts, dtype=np.int64))

    def __len__(self):
        return int(self.ends[-1]) if self.ranges else 0

    def place(self, k: int) -> tuple[int, int]:
        """First image of the k-th run, and how many it has."""
        of = int(np.searchsorted(self.ends, k, side="right"))
        start, stop = self.ranges[of]
        batch, part = divmod(k - (int(self.ends[of - 1]) if of else 0), self.runs_per_batch)
        first = start + batch * self.batch_size + part * _RUN
        return first, max(0, min(_RUN, self.batch_size - part * _RUN, stop - first))

    def __call__(self, k):
        began = time.perf_counter()
        first, n = self.place(k)
        fitted = [np.empty((n, resize.size, resize.size, 3), np.uint8) for resize in self.resizes]
        count, errors = n, []
        for i in range(n):
            try:
                image = read_image(self.source, first + i)
                self._fit(image, fitted, i, first)
            except ValueError as error:
                count = min(count, i)
                errors.append(error)
                if not self.every:
                    break
        images = [out[:count] for out in fitted]
        hashes = {k: picture_hashes(images[k]) for k in self.hashed}
        return _Run(count, images, hashes, time.perf_counter() - began, errors)

    def _fit(self, image, fitted, i, first):
        for out, resize in zip(fitted, self.resizes, strict=True):
            try:
                out[i] = resize.fit(image)
            except ValueError as error:
                raise ValueError(f"image {first + i}: {error}") from None
