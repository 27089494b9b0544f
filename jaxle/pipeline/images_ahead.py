"""Images on the devices, decoded and copied there while those before them are computed.

source → runs of images (threads or processes) → batches → devices
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxle.data.loader import Decoding, batches
from jaxle.data.sources import Source
from jaxle.images import Preprocess
from jaxle.mesh import split_rows


class Pass(NamedTuple):
    """How images are read.

    Attributes:
      batch_size: at most so many a step, over all devices of this process.
      decoding: by threads or processes.
      saved: called with the number of each part that was written.
    """

    batch_size: int
    decoding: Decoding = Decoding()
    saved: Callable[[int], None] = lambda number: None


class Rates(NamedTuple):
    """How fast a pass was.

    Attributes:
      images: that this process read.
      seconds: that it took, compilation left out.
      wait_share: share of them in which the devices' next images were waited for.
      decode_rate: images a second that decoding and fitting alone would have given, of all threads
        or processes together.
    """

    images: int
    seconds: float
    wait_share: float
    decode_rate: float

    def facts(self) -> dict[str, float]:
        """Returns them, and the images a second, for metrics.jsonl."""
        return {**self._asdict(), "rate": self.images / max(self.seconds, 1e-9)}


class Wanted(NamedTuple):
    """How each network's images are preprocessed, and the networks whose pictures are hashed."""

    fits: Mapping[str, Preprocess]
    hashed: tuple[str, ...]


class Shape(NamedTuple):
    """Images a step, and the devices whose axis `data` they are split over."""

    size: int
    mesh: Mesh


class Placed(NamedTuple):
    """A batch whose pictures are on the devices.

    Attributes:
      index: int64 (images,), which they are.
      images: network name → uint8 (size, height, width, 3); one array where pictures are the same.
      hashes: as of `data.loader.Batch`.
    """

    index: np.ndarray
    images: Mapping[str, jax.Array]
    hashes: Mapping[str, np.ndarray]


class Clock:
    """Seconds of a pass: since it began, of waiting for images, and of decoding."""

    def __init__(self):
        self._began, self.waited, self.decoded = time.perf_counter(), 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    def rates(self, images: int, at_once: int) -> Rates:
        seconds = time.perf_counter() - self._began
        decode_rate = images * at_once / max(self.decoded, 1e-9)
        return Rates(images, seconds, self.waited / max(seconds, 1e-9), decode_rate)


def step_size(asked: int, part: int) -> int:
    """Returns the most images a step, at most `asked`, that parts are made of evenly."""
    return -(-part // -(-part // asked))


def read_ahead(
    source: Source,
    wanted: Wanted,
    ranges: Sequence[tuple[int, int]],
    shape: Shape,
    how: Decoding,
    clock: Clock,
) -> Generator[Placed]:
    """Yields the images of some ranges; one thread makes the next batch meanwhile.

    Args:
      source, ranges, how: as of `data.loader.batches`.
      wanted: what networks are given.
      shape: of a batch.
      clock: of waiting and of decoding.

    Raises:
      As `data.loader.batches`.
    """
    read = batches(source, wanted.fits, shape.size, ranges, how, wanted.hashed)
    rows = split_rows(shape.mesh)

    def place() -> tuple[Placed, float] | None:
        if (batch := next(read, None)) is None:
            return None
        arrays = {id(images): images for images in batch.images.values()}
        placed = {key: jax.device_put(images, rows) for key, images in arrays.items()}
        images = {name: placed[id(array)] for name, array in batch.images.items()}
        return Placed(batch.index, images, batch.hashes), batch.seconds

    with contextlib.ExitStack() as closing:
        thread = ThreadPoolExecutor(1, "jaxle-images")
        closing.callback(thread.shutdown, wait=False)
        closing.callback(thread.submit, read.close)
        coming = thread.submit(place)
        while True:
            with clock.waiting():
                found = coming.result()
            if found is None:
                return
            coming = thread.submit(place)
            clock.decoded += found[1]
            yield found[0]
