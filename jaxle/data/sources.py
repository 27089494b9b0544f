"""Probe images by name: what `config.data.source` may say, and what every source gives.

A source is a random-access sequence; nothing in it is decoded before it is asked for. Your own
source, any object with the members of `Source`, is named "package.module:name".

What a run finds in its cache is filed under the content of its images, not under their place:

    folder, pictures,      sha256 of every file that is read, the names of images, labels, classes;
    arrays, tfds, masks    a file whose stamp is as it was is not read again (`jaxle.data.content`
                           says what that trusts)
    scenes                 seed, number, and the first 16 images as they are rendered now
    your own               your `fingerprint_fields`, which is trusted, and the code of your module
                           and of what it imports from your own tree; not that of installed packages
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, UInt8

from jaxle.arrays import checks_input
from jaxle.data.arrays import ArraysSource
from jaxle.data.folder import FolderSource
from jaxle.data.label_maps import MaskFolder
from jaxle.data.masks import SubsetMasks
from jaxle.data.names import readable
from jaxle.data.outside import OutsideSource
from jaxle.data.pictures import open_folder, open_pictures
from jaxle.data.recorded import Recorded
from jaxle.data.scenes import ScenesSource
from jaxle.data.splits import shuffled
from jaxle.data.tfds import TfdsSource
from jaxle.references import is_reference, load_reference

_SCENES = 6000
PathLike = str | os.PathLike[str]


@runtime_checkable
class Source(Protocol):
    """What every source gives.

    Attributes:
      class_names: tuple of str, one a class; empty without labels.
      labels: int32 (images,), index into class_names of each image; None without labels.
      annotations: (concepts tuple of str, uint8 (images, concepts) of 0 and 1); None where images
        have no concept labels of their own.
      file_names: optional, list of str, one an image; read through `names_of`.
      masks: optional, which concepts each pixel bears; read through `jaxle.data.masks.masks_of`.
    """

    if TYPE_CHECKING:  # an instance check at run time must not compute labels

        @property
        def class_names(self) -> tuple[str, ...]: ...

        @property
        def labels(self) -> Int32[np.ndarray, "images"] | None: ...

        @property
        def annotations(
            self,
        ) -> tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]] | None: ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, i: int, /) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        """Returns one image, uint8, 0–255, and its label, −1 where unknown.

        Raises:
          ValueError: an image that cannot be decoded, named.
        """
        ...

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns JSON facts that differ where the content differs, alike on every machine.

        Results in a cache are trusted where these are equal: a hash of all that is read is best.
        """
        ...


class Asked(NamedTuple):
    """What a config asks of a source."""

    rest: str  # after the colon of the spec
    split: str | None
    limit: int | None
    seed: int
    memory: PathLike | None


class Kind(NamedTuple):
    """One kind of source: the word for what follows the colon ("" for nothing), what it is, and the
    function that opens it."""

    argument: str
    meaning: str
    open: Callable[[Asked], Source]


SOURCES: dict[str, Kind] = {
    "tfds": Kind(
        "NAME",
        "a TensorFlow Datasets data set, in array_record files",
        lambda asked: TfdsSource(asked.rest, asked.split or None, memory=asked.memory),
    ),
    "folder": Kind(
        "PATH",
        "a folder with one subfolder of images a class, or a flat one of images without labels",
        lambda asked: open_folder(asked.rest, asked.memory),
    ),
    "pictures": Kind(
        "PATH",
        "pictures without labels: a folder of any depth, .tar shards, .parquet, a saved data set",
        lambda asked: open_pictures(asked.rest, asked.memory),
    ),
    "arrays": Kind(
        "PATH",
        "a folder of NumPy arrays, images.npy among them",
        lambda asked: ArraysSource(asked.rest, asked.memory),
    ),
    "masks": Kind(
        "PATH",
        "a folder of images with label maps, in the layout of ADE20K or of Broden",
        lambda asked: MaskFolder(asked.rest, asked.memory),
    ),
    "scenes": Kind(
        "",
        "images of the procedural world that jaxle carries",
        lambda asked: ScenesSource(_SCENES if asked.limit is None else asked.limit, asked.seed),
    ),
}


@checks_input
def open_source(
    spec: str,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    memory: PathLike | None = None,
) -> Source:
    """Returns the probe images that a config names.

    Args:
      spec: "tfds:NAME", "folder:PATH", "pictures:PATH", "arrays:PATH", "masks:PATH", "scenes"; or
        "package.module:name" of your own source, or of a class or function that makes one
        without arguments.
      split: tfds: the split's name; the other sources have no splits and leave it aside, so that a
        config made for tfds takes a folder.
      limit: at most so many images: a random subset, the same for the same seed, in the source's
        order. For scenes: how many are drawn (6,000 where None).
      seed: chooses the subset; the seed of the world of scenes.
      memory: a file in which hashes of image files are remembered; None reads them all each time
        that a fingerprint is asked for.

    Raises:
      ValueError: an unknown spec (the valid ones are named), a limit below 1, an object that is no
        source (what it lacks is named), or what the source itself refuses.
    """
    kind, _, rest = str(spec).partition(":")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 image, or None for all")
    if kind in SOURCES and bool(rest) == bool(SOURCES[kind].argument):
        source = SOURCES[kind].open(Asked(rest, split, limit, seed, memory))
    elif kind not in SOURCES and is_reference(str(spec)):
        source = OutsideSource(load_reference(spec, "data source"), spec)
    else:
        raise ValueError(
            f"data source is {spec!r}; expected one of {', '.join(specs())}, "
            "or package.module:name of your own source"
        )
    if limit is None or limit >= len(source):
        return source
    return Subset(source, np.sort(shuffled(len(source), seed, stream=1)[:limit]))


def specs() -> list[str]:
    """Returns how each kind of source is written: "tfds:NAME", …."""
    return [f"{name}:{kind.argument}".removesuffix(":") for name, kind in SOURCES.items()]


def names_of(source: Source) -> list[str]:
    """Returns a name for each image: the source's `file_names`, else "image 0", "image 1", ….

    Names are text of one line; what is no UTF-8 is read as Latin-1.

    Raises:
      ValueError: `file_names` that are not one str an image.
    """
    names = getattr(source, "file_names", None)
    if names is None:
        return [f"image {i}" for i in range(len(source))]
    names = list(names)
    if len(names) != len(source) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"the source has {len(names)} file_names for {len(source)} images; "
            "expected one str an image"
        )
    return [readable(name) for name in names]


def class_ends(source: Source) -> str:
    """Returns a line that shows an image of the first and of the last class, "" without classes.

    Names that lie beside the images in another order, such as numbered folders read as text, give
    every image a wrong class without any other sign: a look at two images finds it.
    """
    if source.labels is None or not source.class_names:
        return ""
    labels, names = np.asarray(source.labels), names_of(source)
    ends = dict.fromkeys((int(labels.min()), int(labels.max())))
    return "; ".join(
        f"{names[int(np.argmax(labels == end))]} is {source.class_names[end]!r}" for end in ends
    )


def recorded_of(source: Source) -> Recorded | None:
    """Returns what another program computed of a source's images, None where there is nothing."""
    return getattr(source, "recorded", None)


def has_pictures(source: Source) -> bool:
    """Returns whether a source gives images; arrays may hold activations alone."""
    return getattr(source, "has_pictures", True)


def changed_files(source: Source) -> list[str]:
    """Returns the files of a source that were touched since its fingerprint was taken; none for
    sources that do not say."""
    find = getattr(source, "changed_files", None)
    return [] if find is None else find()


class Subset:
    """Some images of another source.

    Args:
      source: the other source.
      index: int (images,), positions in it, in the order wanted.
    """

    def __init__(self, source: Source, index: Int[np.ndarray, "images"] | Sequence[int]):
        self._source, self._index = source, np.asarray(index, np.int64)
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        return self._source[int(self._index[i])]

    @property
    def labels(self) -> Int32[np.ndarray, "images"] | None:
        """As `Source.labels`."""
        labels = self._source.labels
        return None if labels is None else labels[self._index]

    @property
    def annotations(self) -> tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]] | None:
        """As `Source.annotations`."""
        annotations = self._source.annotations
        if annotations is None:
            return None
        concepts, matrix = annotations
        return concepts, np.asarray(matrix[self._index])

    @property
    def file_names(self) -> list[str]:
        """The other source's names of these images."""
        names = names_of(self._source)
        return [names[i] for i in self._index]

    @property
    def masks(self) -> Any:
        """The other source's masks of these images, None where it has none."""
        masks = getattr(self._source, "masks", None)
        return None if masks is None else SubsetMasks(masks, self._index)

    @property
    def recorded(self) -> Recorded | None:
        """The other source's arrays of these images (`data.recorded`), None where it has none."""
        recorded = recorded_of(self._source)
        return None if recorded is None else recorded.of(self._index)

    @property
    def has_pictures(self) -> bool:
        """Whether the other source has pictures."""
        return has_pictures(self._source)

    @property
    def side(self) -> int:
        """The other source's."""
        return self._source.side  # pyright: ignore[reportAttributeAccessIssue]  # optional

    @property
    def pairs(self) -> Any:
        """The other source's pairs of pictures, where it has any (`data.pairs`)."""
        return self._source.pairs  # pyright: ignore[reportAttributeAccessIssue]  # optional

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns the other source's facts of these images, or all its facts and the positions."""
        if isinstance(self._source, FolderSource):
            return self._source.fingerprint_of(self._index.tolist())
        return {
            **self._source.fingerprint_fields(),
            "subset": hashlib.sha256(self._index.tobytes()).hexdigest(),
        }

    def changed_files(self) -> list[str]:
        """Returns the other source's."""
        return changed_files(self._source)
