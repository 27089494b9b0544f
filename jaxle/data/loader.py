"""Reading probe images: each is decoded once and fitted for every network, in the source's order
and ahead of the computation.

What Grain handles as one record is a run of images of one batch: with one image a record, stacking
them would cost a second copy of every image. Runs are read by threads (decoding and resizing leave
Python's lock free) or by worker processes, which also spread the Python between the images over the
cores, but take seconds to start. An error travels as data, so that all images before it are
delivered.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Iterator, Mapping

import grain
import numpy as np
from jaxtyping import Int64, UInt8

from jaxle.data import processes
from jaxle.data.sources import Source
from jaxle.images import Preprocess

_RUN = 32
_MAX_THREADS = 16


def batches(
    source: Source,
    fits: Mapping[str, Preprocess],
    batch_size: int,
    start: int = 0,
    stop: int | None = None,
    workers: int = 0,
) -> Iterator[tuple[Int64[np.ndarray, "images"], dict[str, UInt8[np.ndarray, "images _ _ 3"]]]]:
    """Yields the images of a source in batches, fitted for every network.

    An interrupted pass goes on with `start`; several hosts read each their own `start` to `stop`.

    Args:
      source: the images.
      fits: network name → how its images are preprocessed. Networks that differ in mean and std
        only share one array.
      batch_size: images in a batch.
      start, stop: first image, and the one after the last; None for the source's end.
      workers: processes that decode; 0 decodes in threads of this process. Worth their start for
        many large images and many cores.

    Yields:
      (index, images): index int64 (images,), without gaps; images dict of network name → uint8
      (images, size, size, 3), 0–255. Only the last batch is shorter, and the one before an error.

    Raises:
      ValueError: an image that cannot be decoded (its file is named), after all images before it
        were yielded; start, stop, batch_size or workers out of range.
    """
    n = len(source)
    stop = n if stop is None else stop
    if not 0 <= start <= stop <= n:
        raise ValueError(f"asked for images {start} to {stop}; expected a range within 0 to {n}")
    if batch_size < 1 or workers < 0:
        raise ValueError(
            f"batch_size is {batch_size}, workers {workers}; expected at least 1 and at least 0"
        )
    return _batches(source, fits, batch_size, start, stop, workers)


def _batches(source, fits, batch_size, start, stop, workers):
    resize_of = {
        name: dataclasses.replace(fit, mean=(0, 0, 0), std=(1, 1, 1)) for name, fit in fits.items()
    }
    resizes = list(dict.fromkeys(resize_of.values()))
    runs_per_batch = -(-batch_size // _RUN)
    runs = _runs(_ReadRun(source, resizes, batch_size, runs_per_batch, start, stop), workers)
    try:
        for first in range(start, stop, batch_size):
            n, parts, error = 0, [], None
            while len(parts) < runs_per_batch and error is None:
                count, part, error = next(runs)
                n += count
                parts.append(part)
            if n:
                fitted = dict(
                    zip(
                        resizes,
                        (np.concatenate(arrays) for arrays in zip(*parts, strict=True)),
                        strict=True,
                    )
                )
                yield (
                    np.arange(first, first + n),
                    {name: fitted[resize] for name, resize in resize_of.items()},
                )
            if error is not None:
                raise ValueError(error)
    finally:
        runs.close()


def _runs(read_run: _ReadRun, workers: int) -> Generator[tuple]:
    """All runs, in order, read ahead by two batches: one on its way to the device, one in the
    making."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    ahead = max(threads, 2 * read_run.runs_per_batch)
    if workers:
        yield from processes.read(read_run, len(read_run), workers, -(-ahead // workers))
        return
    runs = grain.MapDataset.range(len(read_run)).map(read_run)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    found = iter(runs.to_iter_dataset(options))
    try:
        yield from found
    finally:
        found.close()


@dataclasses.dataclass(frozen=True)
class _ReadRun:
    """Reads the k-th run of images.

    A record and not a closure, so that it can be sent to worker processes.
    """

    source: Source
    resizes: list[Preprocess]
    batch_size: int
    runs_per_batch: int
    start: int
    stop: int

    def __len__(self):
        return -(-(self.stop - self.start) // self.batch_size) * self.runs_per_batch

    def __call__(self, k):
        batch, part = divmod(k, self.runs_per_batch)
        first = self.start + batch * self.batch_size + part * _RUN
        n = max(0, min(_RUN, self.batch_size - part * _RUN, self.stop - first))
        fitted = [np.empty((n, resize.size, resize.size, 3), np.uint8) for resize in self.resizes]
        for i in range(n):
            what = ""
            try:
                image, _ = self.source[first + i]  # names its file in an error
                what = f"image {first + i}: "
                for out, resize in zip(fitted, self.resizes, strict=True):
                    out[i] = resize.fit(image)
            except ValueError as error:
                return i, [out[:i] for out in fitted], f"{what}{error}"
        return n, fitted, None
