"""Label concepts: P_ij is 1 where concept j holds of image i by the data set's labels, else 0
(method.md §3, Label).

From class labels, the columns are the classes and the superclasses; only the table classes ×
concepts is held, and rows are gathered from it. From annotations, each image has labels of its own,
which may lie in a memory map. Images × concepts is never made.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from jaxle.arrays import checks_input
from jaxle.concepts.hierarchy import resolve_superclasses
from jaxle.solve.counted import ByClass


@dataclasses.dataclass(frozen=True, eq=False)
class LabelConcepts:
    """Concepts known by labels; `LabelConcepts.make` makes it.

    Attributes:
      concepts: the names of the columns.
      dropped: superclass → why it is no column.
    """

    concepts: tuple[str, ...]
    dropped: dict[str, str]
    _table: UInt8[np.ndarray, "rows concepts"] | Bool[np.ndarray, "rows concepts"]
    _row_of: Int[np.ndarray, "images"] | None  # into the table; None: image i has row i

    @classmethod
    @checks_input
    def make(
        cls,
        labels: Int[np.ndarray, "images"] | None,
        class_names: Sequence[str],
        superclasses: Mapping[str, Sequence[str]] | None = None,
        annotations: tuple[
            Sequence[str],
            UInt8[np.ndarray, "images concepts"] | Bool[np.ndarray, "images concepts"],
        ]
        | None = None,
    ) -> LabelConcepts:
        """Returns a data set's concepts: annotations where it has them, else classes and
        superclasses.

        Args:
          labels: int (images,), index into class_names; None where the data have none.
          class_names: the classes.
          superclasses: name → members, as `resolve_superclasses` takes it.
          annotations: (concepts, uint8 or bool (images, concepts) of 0 and 1, may be a memory map);
            None where the data have none.

        Returns:
          With annotations their columns; else the classes in their order, then the superclasses
          that remain.

        Raises:
          ValueError: neither labels nor annotations, labels out of range, names that repeat,
            superclasses beside annotations, or what `resolve_superclasses` refuses.
        """
        if annotations is not None:
            if superclasses:
                raise ValueError(
                    "superclasses are given, but the data are annotated image by image; "
                    "expected them among the annotations"
                )
            return cls(*_annotated(*annotations))
        if labels is None:
            raise ValueError(
                "the data have neither class labels nor annotations; "
                "expected either, as Label concepts are made of them"
            )
        labels = _checked(labels, class_names)
        hierarchy = resolve_superclasses(superclasses or {}, class_names)
        table = np.concatenate(
            [np.eye(len(class_names), dtype=np.uint8), hierarchy.membership.astype(np.uint8)],
            axis=1,
        )
        return cls((*class_names, *hierarchy.names), hierarchy.dropped, table, labels)

    @property
    def by_class(self) -> ByClass | None:
        """The columns as what an image's class decides; None of annotations."""
        return None if self._row_of is None else ByClass(self._row_of, self._table)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._table) if self._row_of is None else len(self._row_of)

    def rows(
        self,
        index: Int[np.ndarray, "rows"] | Sequence[int],
        columns: Int[np.ndarray, "columns"] | Sequence[int] | slice | None = None,
    ) -> Float32[np.ndarray, "rows columns"]:
        """Returns some rows of the images × concepts matrix, a tile where it is consumed.

        Args:
          index: int (rows,), images.
          columns: int (columns,) or a slice, concepts; None for all.

        Returns:
          float32 (rows, columns), 0 or 1.
        """
        index = np.asarray(index)
        if self._row_of is not None:
            index = self._row_of[index]
        if columns is None or isinstance(columns, slice):
            tile = self._table[index][:, columns or slice(None)]
        else:
            tile = self._table[index[:, None], np.asarray(columns)[None, :]]
        return tile.astype(np.float32)


def _checked(labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    if len(class_names) < 2 or len(set(class_names)) < len(class_names):
        raise ValueError(
            f"class names are {tuple(class_names)[:10]}; expected at least two, all different"
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers (images,)"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if wrong.size:
        raise ValueError(
            f"label of image {wrong[0]} is {labels[wrong[0]]}; expected 0 to {len(class_names) - 1}"
        )
    return labels


def _annotated(concepts: Sequence[str], matrix: np.ndarray) -> tuple:
    if (
        matrix.ndim != 2
        or matrix.shape[1] != len(concepts)
        or matrix.dtype not in (np.uint8, np.bool_)
    ):
        raise ValueError(
            f"annotations are {matrix.dtype} of shape {matrix.shape}; "
            f"expected uint8 (images, {len(concepts)} concepts)"
        )
    twice = sorted(concept for concept, times in collections.Counter(concepts).items() if times > 1)
    if twice:
        raise ValueError(f"annotated concepts repeat: {', '.join(twice[:10])}")
    return tuple(concepts), {}, matrix, None
