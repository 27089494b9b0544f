"""A TensorFlow Datasets data set, read at random without TensorFlow.

`tfds.data_source` reads array_record files (https://www.tensorflow.org/datasets/data_source).
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jaxle.data import content
from jaxle.hosts import reachable
from jaxle.images import decode

_CHUNK = 1024  # records read at once for their labels


class TfdsSource:
    """One split of a prepared data set, such as "cifar10" or "imagenet2012:5.1.0".

    It is downloaded and prepared where that is possible.

    Args:
      name: as `tfds.builder` takes it.
      split: as tfds has it ("test", "validation[:20%]"); may be None where the data set has only
        one.
      data_dir: where data sets are prepared; None for tfds's own choice (`TFDS_DATA_DIR`, else
        ~/tensorflow_datasets).
      memory: a file in which hashes of files are remembered (`jaxle.data.content`).

    Attributes:
      class_names: tuple of str; empty where there is no class label.
      labels: int32 (images,), or None. Read from the records when first asked for, which reads
        every record's bytes once.
      annotations: None.
      file_names: list of str, "record 0", ….

    Raises:
      ValueError: an unknown name, a data set that is not prepared and cannot be, an unknown split,
        no image in its records.
    """

    annotations = None

    def __init__(
        self,
        name: str,
        split: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        memory: str | os.PathLike[str] | None = None,
    ):
        import tensorflow_datasets as tfds

        builder = _prepared(name, data_dir)
        if split is None and len(builder.info.splits) == 1:
            split = next(iter(builder.info.splits))
        if split is None or str(split).split("[")[0] not in builder.info.splits:
            raise ValueError(
                f"tfds:{name} has no split {split!r}; "
                f"expected one of {', '.join(builder.info.splits)}"
            )
        features = dict(builder.info.features)
        self._image = _key(features, tfds.features.Image, "image")
        self._label = _key(features, tfds.features.ClassLabel, "label")
        if self._image is None:
            raise ValueError(
                f"tfds:{name} has no image feature; its features are {', '.join(features)}"
            )
        self.class_names = tuple(features[self._label].names) if self._label else ()
        self._where = f"tfds:{builder.info.full_name} {split}"
        features_read = [name for name in (self._image, self._label) if name]
        self._facts = {
            "kind": "tfds",
            "name": builder.info.full_name,
            "split": str(split),
            "features": features_read,
            "classes": list(self.class_names),
        }
        self._files = [os.fspath(path) for path in builder.info.splits[split].filepaths]
        self._memory, self._seen = memory, {}
        self._records = builder.as_data_source(
            split=split, decoders={self._image: tfds.decode.SkipDecoding()}
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
        record = self._records[i]
        label = int(record[self._label]) if self._label else -1
        return decode(record[self._image], name=f"record {i} of {self._where}"), label

    @property
    def labels(self) -> Int32[np.ndarray, "images"] | None:
        """Index into `class_names` of each image; None without class labels."""
        return self._read_labels

    @functools.cached_property
    def _read_labels(self) -> Int32[np.ndarray, "images"] | None:
        if self._label is None:
            return None
        labels = np.empty(len(self), np.int32)
        for start in range(0, len(self), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(self)))
            labels[rows.start : rows.stop] = [
                record[self._label] for record in self._records.__getitems__(list(rows))
            ]
        return labels

    @property
    def file_names(self) -> list[str]:
        """Each image's number in the split."""
        return [f"record {i}" for i in range(len(self))]

    def fingerprint_fields(self) -> dict[str, Any]:
        """Returns name, version, split and classes, and a hash of every file of records."""
        self._seen = content.hash_files(self._files, self._memory)
        files = {os.path.basename(name): seen.sha256 for name, seen in self._seen.items()}
        return {**self._facts, "images": len(self), "files": files}

    def changed_files(self) -> list[str]:
        """Returns the files that were touched since their fingerprint was taken."""
        return content.changed(self._seen)


def lacking(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
    """Returns a sentence where a data set is not prepared and cannot be now, else None.

    Args:
      name, data_dir: as of `TfdsSource`.
    """
    try:
        builder = _builder(name, data_dir)
    except ValueError as error:
        return str(error)
    return None if builder.is_prepared() else _out_of_reach(builder, name)


def is_prepared(name: str, data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Returns whether opening a data set downloads nothing. Raises ValueError for no such one."""
    return _builder(name, data_dir).is_prepared()


def _builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise ValueError(
            f"tfds:{name} is not known to tensorflow_datasets: {_first_line(error)}"
        ) from None


def _prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    builder = _builder(name, data_dir)
    if builder.is_prepared():
        return builder
    if sentence := _out_of_reach(builder, name):
        raise ValueError(sentence)
    try:
        builder.download_and_prepare()
    except (OSError, ImportError, AssertionError, ValueError, RuntimeError) as error:
        raise ValueError(_unprepared(builder, name, _first_line(error))) from None
    return builder


def _out_of_reach(builder: Any, name: str) -> str | None:
    """A sentence where a file that the data set is made of is neither here nor to be had."""
    from tensorflow_datasets.core.download.resource import get_dl_fname

    folder = builder.data_dir_root / "downloads"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        manual = folder / "manual"
        if manual.exists() and any(manual.iterdir()):
            return None
        return _unprepared(
            builder, name, f"its archives, which one must ask for, are not in {manual}"
        )
    for url, info in (builder.url_infos or {}).items():
        if not (folder / get_dl_fname(url, info.checksum)).exists() and not reachable(url):
            return _unprepared(builder, name, f"cannot reach {url}")
    return None


def _unprepared(builder: Any, name: str, why: str) -> str:
    command = f"tfds build {name.partition(':')[0]} --file_format=array_record"
    return (
        f"tfds:{name} is not prepared in {builder.data_path} and could not be ({why}): give a "
        "folder with one subfolder of images a class in its place (folder:PATH), or prepare it "
        "where there is a network and TensorFlow, which `tfds build` needs: "
        f"pip install 'jaxle[tf]' && {command}"
    )


def _key(features, kind, usual):
    keys = [key for key in features if isinstance(features[key], kind)]
    return usual if usual in keys else keys[0] if keys else None


def _first_line(error):
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
