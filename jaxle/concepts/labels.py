"""Label concepts: P_ij is 1 where concept j holds of image i by the data set's own labels, else 0 (METHOD §3, Label).

From class labels, the columns are the classes and the superclasses; only the table classes × concepts is held, and rows are gathered from
it. From annotations, each image has labels of its own, which may lie in a memory map. Images × concepts is never made.
"""

import dataclasses

import numpy as np

from jaxle.concepts.hierarchy import resolve_superclasses


@dataclasses.dataclass(frozen=True, eq=False)
class LabelConcepts:
    """Concepts known by labels; `label_concepts` and `annotated_concepts` make it.

    Attributes:
        concepts: tuple of str, the names of the columns.
        dropped: dict of superclass → why it is no column.
    """

    concepts: tuple[str, ...]
    dropped: dict[str, str]
    _table: np.ndarray  # uint8 (rows of the table, concepts)
    _row_of: np.ndarray | None  # int (images,) into the table; None: image i has row i

    def __len__(self):
        """Number of images."""
        return len(self._table) if self._row_of is None else len(self._row_of)

    def rows(self, index, columns=None):
        """Some rows of the images × concepts matrix; use it wherever a tile of it is consumed.

        Args:
            index: int (rows,), images.
            columns: int (columns,), concepts; None for all.

        Returns:
            float32 (rows, columns), 0 or 1.
        """
        index = np.asarray(index)
        if self._row_of is not None:
            index = self._row_of[index]
        tile = self._table[index] if columns is None else self._table[index[:, None], np.asarray(columns)[None, :]]
        return tile.astype(np.float32)


def label_concepts(class_names, labels, superclasses=None):
    """Classes and superclasses as concepts; use it for a data set with class labels.

    Args:
        class_names: tuple of str.
        labels: int (images,), index into class_names; None where the source has none.
        superclasses: dict of name → members, as `resolve_superclasses` takes it.

    Returns:
        LabelConcepts: the classes in their order, then the superclasses that remain.

    Raises:
        ValueError: no labels, a label out of range, fewer than two classes, or what `resolve_superclasses` refuses.
    """
    if labels is None:
        raise ValueError("the data source has no class labels; expected labels, as Label concepts are made from them")
    if len(class_names) < 2 or len(set(class_names)) < len(class_names):
        raise ValueError(f"class names are {tuple(class_names)[:10]}; expected at least two, all different")
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers (images,)")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if wrong.size:
        raise ValueError(f"label of image {wrong[0]} is {labels[wrong[0]]}; expected 0 to {len(class_names) - 1}")
    hierarchy = resolve_superclasses(superclasses or {}, class_names)
    table = np.concatenate([np.eye(len(class_names), dtype=np.uint8), hierarchy.membership.astype(np.uint8)], axis=1)
    return LabelConcepts((*class_names, *hierarchy.names), hierarchy.dropped, table, labels)


def annotated_concepts(annotations):
    """Concepts labelled image by image; use it for a source with annotations, such as scenes.

    Args:
        annotations: (concepts tuple of str, uint8 or bool (images, concepts) of 0 and 1, may be a memory map); None where there are none.

    Returns:
        LabelConcepts.

    Raises:
        ValueError: no annotations, names that do not fit the columns or repeat, or another dtype.
    """
    if annotations is None:
        raise ValueError("the data source has no annotations; expected labels of every concept for every image")
    concepts, matrix = annotations
    if matrix.ndim != 2 or matrix.shape[1] != len(concepts) or matrix.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"annotations are {matrix.dtype} of shape {matrix.shape}; expected uint8 (images, {len(concepts)} concepts)")
    if len(set(concepts)) < len(concepts):
        raise ValueError(f"annotated concepts repeat: {', '.join(sorted({c for c in concepts if concepts.count(c) > 1}))}")
    return LabelConcepts(tuple(concepts), {}, matrix, None)
