"""A folder of images with label maps: ADE20K's layout, and Broden's.

    ADE20K   images/**/NAME.jpg    annotations/**/NAME.png   one number a pixel, 0 for none
             objectInfo150.txt (or .csv): columns Idx, Name;  or names.txt: line k names number k
    Broden   index.csv             image, split, ih, iw, sh, sw, and a column a category: names of
                                   label maps below images/, or numbers of the whole image, by `;`
             label.csv             number, name, category
             images/…              a label map's number is red + 256 · green

Maps are read when asked for. The concepts of an image are those that any pixel of it bears, so that
explanations by labels and by masks speak of the same words.
"""

from __future__ import annotations

import collections
import csv
import functools
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from jaxle.data import content
from jaxle.data.names import read_names, readable
from jaxle.images import decode

_NAMES = ("objectInfo150.txt", "objectInfo150.csv", "names.txt")
_EXTENSIONS = (".jpg", ".jpeg", ".png")
_ABOUT = ("image", "split", "ih", "iw", "sh", "sw")  # columns of index.csv that are no category
_THREADS = 16
Layer = str | int  # a label map below the folder, or the number that all pixels bear


class _Listing(NamedTuple):
    """What a folder says of its images before any is decoded.

    Attributes:
      images: names below the folder, one an image.
      layers: of each image.
      sizes: height and width that the maps must have; None takes those of the image.
      names: number in the files → concept.
      categories: concept → category.
      where: the file of the names, for messages.
    """

    images: list[str]
    layers: list[tuple[Layer, ...]]
    sizes: list[tuple[int, int] | None]
    names: Mapping[int, str]
    categories: Mapping[str, str]
    where: str


class MaskFolder:
    """Images with label maps; the source `masks:PATH`.

    Args:
      path: the folder; Broden's layout where it holds index.csv, else ADE20K's.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names, labels: none.
      annotations: (concepts, uint8 (images, concepts)): which concept any pixel of an image bears;
        reads every label map when first asked for.
      masks: the label maps, as `jaxle.data.masks.Masks`.
      file_names: list of str, each image's path below the folder's images/.

    Raises:
      ValueError: no such folder or file, no image, an image without a label map, no names.
    """

    class_names: tuple[str, ...] = ()
    labels = None

    def __init__(self, path: str | os.PathLike[str], memory: str | os.PathLike[str] | None = None):
        root, self._memory = Path(path).expanduser(), memory
        self._root, self._seen = root, {}
        if not root.is_dir():
            raise ValueError(f"masks:{path}: no such folder")
        self._listing = _broden(root) if (root / "index.csv").exists() else _ade(root)
        self.masks = LabelMaps(root, self._listing, memory)
        self.file_names = [readable(name.removeprefix("images/")) for name in self._listing.images]

    def __len__(self) -> int:
        return len(self._listing.images)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        return decode(f"{self._root}/{self._listing.images[i]}"), -1

    @property
    def annotations(self) -> tuple[tuple[str, ...], UInt8[np.ndarray, "images concepts"]]:
        """Concepts, and 0 or 1 for each image and concept."""
        return self.masks.concepts, self._borne

    @functools.cached_property
    def _borne(self) -> UInt8[np.ndarray, "images concepts"]:
        found = np.zeros((len(self), len(self.masks.concepts) + 1), np.uint8)

        def mark(i: int) -> None:
            found[i, np.unique(self.masks.label_maps(i))] = 1

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(mark, range(len(self))))
        return np.ascontiguousarray(found[:, 1:])

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns names and contents of images and of label maps: annotations are of both."""
        paths = [f"{self._root}/{name}" for name in self._listing.images]
        self._seen = content.hash_files(paths, self._memory)
        listing = zip(paths, self._listing.images, strict=True)
        lines = (f"{self._seen[path].sha256} {name}" for path, name in listing)
        return {
            "kind": "masks",
            "images": len(self),
            "files": _sha256("\n".join(lines)),
            "masks": self.masks.fingerprint_fields(),
        }

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed({**self._seen, **self.masks.seen})


class LabelMaps:
    """The label maps of a `MaskFolder`.

    Attributes:
      concepts: the names that the folder lists, by number.
      categories: Broden's; "object" for ADE20K.
      seen: file → stamp and hash, as they were when a fingerprint was taken.
    """

    def __init__(self, root: Path, listing: _Listing, memory: str | os.PathLike[str] | None):
        self._root, self._listing, self._memory = root, listing, memory
        self.seen: Mapping[str, content.Seen] = {}
        numbers = sorted(listing.names)
        self.concepts = tuple(listing.names[number] for number in numbers)
        self.categories = tuple(listing.categories[name] for name in self.concepts)
        self._columns = np.full(max(numbers) + 1, -1, np.int32)
        self._columns[numbers] = np.arange(1, len(numbers) + 1)
        self._columns[0] = 0  # no label

    def label_maps(self, i: int) -> Int[np.ndarray, "layers height width"]:
        """As `jaxle.data.masks.Masks.label_maps`.

        Raises:
          ValueError: a map that cannot be read or is of another size; a number without a name.
        """
        size, image = self._listing.sizes[i], self._listing.images[i]
        found: list[np.ndarray] = []
        for layer in self._listing.layers[i]:
            if isinstance(layer, int):
                found.append(
                    self._named(np.full((1, 1), layer), f"image {self._listing.images[i]}")
                )
                continue
            numbers = _read_map(self._root, layer)
            size = size or _size_of(self._root, image)
            if numbers.shape != size:
                raise ValueError(
                    f"label map {layer} is of {numbers.shape[0]} × {numbers.shape[1]} pixels; "
                    f"expected {size[0]} × {size[1]}, as its image or index.csv has it"
                )
            found.append(self._named(numbers, f"label map {layer}"))
        shape = max((one.shape for one in found), default=(1, 1))
        return np.array([np.broadcast_to(one, shape) for one in found], np.int32).reshape(
            -1, *shape
        )

    def _named(self, numbers: np.ndarray, what: str) -> np.ndarray:
        """Numbers of the files as columns of `concepts`, + 1."""
        most = int(numbers.max())
        places = self._columns[np.minimum(numbers, len(self._columns) - 1)]
        if most >= len(self._columns) or places.min() < 0:
            unnamed = most if most >= len(self._columns) else int(numbers[places < 0][0])
            raise ValueError(
                f"{what} holds the number {unnamed}, which {self._listing.where} does not name"
            )
        return places

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns names of the concepts, and names and contents of the files."""
        every = dict.fromkeys(x for one in self._listing.layers for x in one if isinstance(x, str))
        self.seen = content.hash_files((f"{self._root}/{name}" for name in every), self._memory)
        hashes = {name: self.seen[f"{self._root}/{name}"].sha256 for name in every}
        layers = self._listing.layers
        lines = (" ".join(hashes.get(str(x), "") + str(x) for x in one) for one in layers)
        about = "\n".join(f"{n} {name}" for n, name in sorted(self._listing.names.items()))
        return {
            "layers": _sha256("\n".join(lines)),
            "names": _sha256(about),
            "categories": _sha256("\n".join(self.categories)),
        }


# --- ADE20K ---------------------------------------------------------------------------------------
def _ade(root: Path) -> _Listing:
    for folder in ("images", "annotations"):
        if not (root / folder).is_dir():
            raise ValueError(
                f"masks:{root}: no index.csv and no folder {folder}/; expected Broden's layout, or "
                "ADE20K's with images/ and annotations/"
            )
    found = [file for file in _NAMES if (root / file).exists()]
    if not found:
        raise ValueError(f"masks:{root}: no list of names; expected one of {', '.join(_NAMES)}")
    names = _ade_names(root / found[0])
    images = sorted(
        path.relative_to(root).as_posix()
        for path in (root / "images").rglob("*")
        if path.suffix.lower() in _EXTENSIONS and not path.name.startswith(".")
    )
    if not images:
        raise ValueError(f"masks:{root}: no images ({', '.join(_EXTENSIONS)}) in images/")
    maps = [
        f"annotations/{Path(name).relative_to('images').with_suffix('.png')}" for name in images
    ]
    missing = [i for i, name in enumerate(maps) if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"masks:{root}: {len(missing)} of {len(images)} images have no label map, such as "
            f"{images[missing[0]]}; expected {maps[missing[0]]}"
        )
    return _Listing(
        images,
        [(name,) for name in maps],
        [None] * len(images),
        names,
        dict.fromkeys(names.values(), "object"),
        found[0],
    )


def _ade_names(file: Path) -> dict[int, str]:
    """Number → name: the first of its synonyms where no other concept has the same."""
    text = _text(file)
    if file.name == "names.txt":
        lines = text.rstrip().splitlines()
        if "" in map(str.strip, lines):
            raise ValueError(f"{file} has a blank line; expected a name for every number, from 1")
        return dict(enumerate(read_names(file), 1))
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = _rows(file, text, delimiter)
    if not rows or not {"Idx", "Name"} <= set(rows[0]):
        raise ValueError(f"{file} has no columns Idx and Name; expected ADE20K's list of names")
    whole = _whole(((row["Idx"], row["Name"].strip()) for row in rows), file)
    return _distinct(whole, lambda name: re.split("[,;]", name)[0].strip())


# --- Broden ---------------------------------------------------------------------------------------
def _broden(root: Path) -> _Listing:
    rows, labels = _table(root / "index.csv", ("image",)), root / "label.csv"
    named = _table(labels, ("number", "name", "category"))
    whole = _whole(((row["number"], row["name"]) for row in named), labels)
    names = _distinct({n: name for n, name in whole.items() if n}, _in_words)
    categories = {
        names[number]: _category(row["category"])
        for row in named
        if (number := int(row["number"])) in names
    }
    columns = [name for name in rows[0] if name not in _ABOUT]
    layers, sizes = [], []
    for row in rows:
        items = [x for name in columns for x in (row[name] or "").split(";") if x]
        index = root / "index.csv"
        numbers = [_number(x, index) if x.isdecimal() else f"images/{x}" for x in items]
        layers.append(tuple(numbers))
        known = row.get("sh") and row.get("sw")
        sizes.append((_number(row["sh"], index), _number(row["sw"], index)) if known else None)
    images = [f"images/{row['image']}" for row in rows]
    files = [*images, *(x for one in layers for x in one if isinstance(x, str))]
    missing = [name for name in files if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"masks:{root}: index.csv names {len(missing)} files that do not exist, such as "
            f"{missing[0]}"
        )
    return _Listing(images, layers, sizes, names, categories, "label.csv")


def _table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected a table with {', '.join(columns)}")
    rows = _rows(file, _text(file))
    lacking = [name for name in columns if not rows or name not in rows[0]]
    if lacking:
        raise ValueError(f"{file} has no column {lacking[0]}; expected {', '.join(columns)}")
    return rows


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}; save it as UTF-8") from None


def _rows(file: Path, text: str, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table, each with a cell for every column."""
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    for row in reader:
        if any(row.pop(None, ())) or None in row.values():
            raise ValueError(
                f"{file}, line {reader.line_num}: another number of cells than the header's "
                f"{len(reader.fieldnames or ())}"
            )
        rows.append(row)
    return rows


def _in_words(label: str) -> str:
    """Broden marks scenes by -s and colours by -c."""
    if label.endswith("-s"):
        label = label.removesuffix("-s").replace("-", ", ")
    return " ".join(label.removesuffix("-c").replace("_", " ").split())


def _category(text: str) -> str:
    """The category in which a label is most frequent, of such as object(120);part(4)."""
    found = re.findall(r"([^();]+)(?:\(([0-9]+)\))?", text)
    return max(found, key=lambda one: int(one[1] or 0))[0].strip() if found else ""


# --- both -----------------------------------------------------------------------------------------
def _distinct(whole: Mapping[int, str], shorten: Callable[[str], str]) -> dict[int, str]:
    """Names shortened, but for those that would then be the same."""
    short = {number: shorten(name) or name for number, name in whole.items()}
    times = collections.Counter(short.values())
    names = {n: short[n] if times[short[n]] == 1 else whole[n] for n in whole}
    twice = [name for name, n in collections.Counter(names.values()).items() if n > 1 or not name]
    if twice or not names:
        raise ValueError(
            f"the list of names holds {twice[0]!r} twice or empty; expected each name once"
            if twice
            else "the list of names is empty; expected one name a number"
        )
    return names


def _whole(rows: Iterable[tuple[str, str]], file: Path) -> dict[int, str]:
    """Number → name."""
    found: dict[int, str] = {}
    for text, name in rows:
        number = _number(text, file)
        if number in found:
            raise ValueError(
                f"{file} names the number {number} twice, {found[number]!r} and {name!r}; "
                "expected each number once"
            )
        found[number] = name
    return found


def _number(text: str, file: Path) -> int:
    if not str(text).strip().isdecimal():
        raise ValueError(f"{file} has the number {text!r}; expected a whole number of at least 0")
    if len(str(text).strip()) > 6:
        raise ValueError(f"{file} has the number {text!r}; expected at most six digits")
    return int(text)


def _read_map(root: Path, name: str) -> np.ndarray:
    """One number a pixel: grey or palette as it is, red + 256 · green in colour."""
    try:
        with Image.open(root / name) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read label map {name}: {error}") from None
    if values.ndim == 3:
        return values[..., 0].astype(np.int32) + 256 * values[..., 1].astype(np.int32)
    return values.astype(np.int32)


def _size_of(root: Path, name: str) -> tuple[int, int]:
    try:
        with Image.open(root / name) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read image {name}: {error}") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
