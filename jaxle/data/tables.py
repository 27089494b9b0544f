"""Pictures in a column of a table: parquet files, or a folder that Hugging Face's datasets saved.

    *.parquet                        a column of bytes, or of {bytes, path}: one image a row
    state.json, data-*.arrow         what `Dataset.save_to_disk` writes: mapped, not read
    ClassLabel in the file's schema  labels and their names, if no row is without (−1)

pyarrow reads them; tensorflow-datasets brings it. A parquet file is read by row groups, of which
the last few are held.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from jaxle.data import content
from jaxle.images import decode

if TYPE_CHECKING:
    import pyarrow as pa
else:  # imported where a table is read: a third of a second
    pa = Any

_HELD = 4  # row groups of parquet files in memory at a time


class _Part(NamedTuple):
    """Rows that are read together."""

    name: str
    rows: int
    read: Callable[[str], Any]  # name → pyarrow's column


class TableSource:
    """The images of a table, in the order of its files and rows.

    Args:
      paths: parquet files; or a folder with state.json and .arrow files.
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names: tuple of str, of the one column of labels in the schema; empty without.
      labels: int32 (images,), or None.
      annotations: None.
      file_names: list of str, "train-0.parquet row 3".

    Raises:
      ValueError: files that cannot be read, no column of images or several, images that lie
        elsewhere, another schema than the first file's.
    """

    annotations = None

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        memory: str | os.PathLike[str] | None = None,
    ):
        self._given, self._memory, self._seen = paths, memory, {}
        saved = isinstance(paths, (str, os.PathLike))
        self._paths = _saved(Path(paths)) if saved else [Path(path) for path in paths]
        self._where = str(self._paths[0])
        opened = [(_arrow if saved else _parquet)(path) for path in self._paths]
        schema = opened[0][0]
        for path, (other, _) in zip(self._paths, opened, strict=True):
            if not other.equals(schema):
                raise ValueError(f"{path} has other columns than {self._where}; expected one table")
        self._column = _image_column(schema, self._where)
        self._parts = [part for _, parts in opened for part in parts]
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])
        self.file_names = [
            f"{part.name} row {row}" for part in self._parts for row in range(part.rows)
        ]
        if not self.file_names:
            raise ValueError(f"{self._where}: the table has no row")
        self.class_names, self.labels = self._read_labels(schema)
        self._lock = threading.Lock()
        self._read = functools.lru_cache(_HELD)(self._read_part)

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        place = int(np.searchsorted(self._starts, i, side="right")) - 1
        with self._lock:
            column = self._read(place)
        value, name = column[i - int(self._starts[place])].as_py(), self.file_names[i]
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise ValueError(
                f"cannot read image {name}: the table holds no bytes of it; expected images that "
                "are embedded, as datasets' save_to_disk and to_parquet write them"
            )
        return decode(data, name), -1 if self.labels is None else int(self.labels[i])

    def __reduce__(self):  # files are opened again in the process that reads
        return TableSource, (self._given, self._memory)

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns hashes of the files and the column that is read, alike on every machine."""
        self._seen = content.hash_files(map(str, self._paths), self._memory)
        hashes = [self._seen[str(path)].sha256 for path in self._paths]
        names = hashlib.sha256("\n".join(self.class_names).encode()).hexdigest()
        fields = {"kind": "table", "images": len(self), "files": hashes, "column": self._column}
        return {**fields, "labelled": self.labels is not None, "classes": names}

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)

    def _read_part(self, place: int) -> pa.ChunkedArray:
        return self._parts[place].read(self._column)

    def _read_labels(
        self, schema: pa.Schema
    ) -> tuple[tuple[str, ...], Int32[np.ndarray, "images"] | None]:
        features = _features(schema)
        named = [k for k, v in features.items() if _kind(v) == "ClassLabel" and v.get("names")]
        if len(named) != 1:
            return (), None
        labels = np.concatenate(
            [np.asarray(part.read(named[0]).to_numpy(), np.float64) for part in self._parts]
        )
        names = tuple(map(str, features[named[0]]["names"]))
        if not (np.isfinite(labels) & (labels >= 0) & (labels < len(names))).all():
            return (), None  # a test set without labels has −1
        return names, labels.astype(np.int32)


def _saved(folder: Path) -> list[Path]:
    """The files of a saved data set, in their order."""
    if folder.is_file():
        folder = folder.parent
    state = folder / "state.json"
    if not state.is_file():
        raise ValueError(
            f"pictures:{folder}: .arrow files without state.json; expected a folder that "
            "Dataset.save_to_disk wrote (of a DatasetDict one of its splits)"
        )
    try:
        held = json.loads(state.read_text())
        names = [entry["filename"] for entry in held["_data_files"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{state} lists no data files; expected that of a saved Dataset") from None
    if held.get("_indices_files"):
        raise ValueError(
            f"pictures:{folder}: the rows are chosen by an index beside them; save the data set "
            "again after flatten_indices()"
        )
    if not names:
        raise ValueError(f"{state} lists no data files; expected that of a saved Dataset")
    return [folder / name for name in names]


def _arrow(path: Path) -> tuple[pa.Schema, list[_Part]]:
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {path}: {_line(error)}; expected an Arrow stream") from None
    return table.schema, [_Part(path.name, len(table), table.column)]


def _parquet(path: Path) -> tuple[pa.Schema, list[_Part]]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {path}: {_line(error)}; expected a parquet file") from None

    def part(group: int) -> _Part:
        def read(column: str) -> pa.ChunkedArray:
            return file.read_row_group(group, [column]).column(column)

        name = path.name if file.num_row_groups == 1 else f"{path.name} group {group}"
        return _Part(name, file.metadata.row_group(group).num_rows, read)

    return file.schema_arrow, [part(group) for group in range(file.num_row_groups)]


def _image_column(schema: pa.Schema, where: str) -> str:
    """The one column of images: by the schema's features, else the one of bytes."""
    features = _features(schema)
    found = [name for name, feature in features.items() if _kind(feature) == "Image"]
    found = found or [field.name for field in schema if _holds_bytes(field.type)]
    if len(found) != 1:
        held = ", ".join(found) if found else f"none among {', '.join(schema.names)}"
        raise ValueError(f"{where}: columns of images are {held}; expected one")
    return found[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What datasets wrote of the columns; nothing where another program wrote the file."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"] if text else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: f for name, f in features.items() if isinstance(f, dict)}


def _kind(feature: dict[str, Any]) -> str:
    return str(feature.get("_type", ""))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
