"""Label concepts: the right ones and zeros, by rows and columns, without ever holding images ×
concepts."""

import numpy as np
import pytest

from jaxle.concepts.labels import LabelConcepts

CLASSES = ("cat", "dog", "car")
LABELS = np.array([2, 0, 1, 1, 0], np.int32)
SUPERCLASSES = {"animal": ["cat", "dog"], "everything": ["animal", "car"]}
WHOLE = np.array([[0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]], np.float32)


def test_classes_then_superclasses():
    made = LabelConcepts.make(LABELS, CLASSES, SUPERCLASSES)
    assert (
        made.concepts == ("cat", "dog", "car", "animal")
        and list(made.dropped) == ["everything"]
        and len(made) == 5
    )
    rows = made.rows(np.arange(5))
    assert rows.dtype == np.float32
    assert np.array_equal(rows, WHOLE)


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("columns", [None, slice(None), slice(1, 3), [3], [2, 0, 0], []])
def test_rows_and_columns_are_picked(annotated, columns):
    if annotated:
        made = LabelConcepts.make(None, (), None, (["a", "b", "c", "d"], WHOLE.astype(np.uint8)))
    else:
        made = LabelConcepts.make(LABELS, CLASSES, SUPERCLASSES)
    picked = (
        WHOLE[[4, 0, 4]]
        if columns is None
        else WHOLE[[4, 0, 4]][:, columns if isinstance(columns, slice) else np.array(columns, int)]
    )
    given = (
        columns if columns is None or isinstance(columns, slice) else np.array(columns, np.int64)
    )
    got = made.rows(np.array([4, 0, 4]), given)
    assert got.dtype == np.float32 and np.array_equal(got, picked)


def test_annotations_stay_in_their_memory_map(tmp_path):
    np.save(tmp_path / "a.npy", WHOLE.astype(np.uint8))
    matrix = np.load(tmp_path / "a.npy", mmap_mode="r")
    made = LabelConcepts.make(LABELS, CLASSES, None, (("a", "b", "c", "d"), matrix))
    assert made.concepts == ("a", "b", "c", "d") and len(made) == 5
    assert made._table is matrix
    assert np.array_equal(made.rows([1, 3]), WHOLE[[1, 3]])


def test_memory_grows_with_classes_not_with_images():
    labels = np.zeros(1_000_000, np.int32)
    made = LabelConcepts.make(labels, [f"class {k}" for k in range(100)])
    assert made._row_of is labels and made._table.shape == (100, 100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": None}, "neither class labels nor annotations"),
        ({"labels": np.array([0, 3])}, "label of image 1 is 3; expected 0 to 2"),
        ({"labels": np.array([-1, 0])}, "label of image 0 is -1"),
        ({"labels": np.array([0.0, 1.0])}, "labels are float64 of shape"),
        ({"labels": np.zeros((2, 2), int)}, r"labels are int64 of shape \(2, 2\)"),
        ({"class_names": ("cat",)}, "expected at least two, all different"),
        ({"class_names": ("cat", "cat", "car")}, "expected at least two, all different"),
        (
            {"annotations": (("a",), WHOLE.astype(np.uint8))},
            r"annotations are uint8 of shape \(5, 4\); expected uint8 \(images, 1 concepts\)",
        ),
        ({"annotations": (("a", "b", "c", "d"), WHOLE)}, "annotations are float32"),
        (
            {"annotations": (("a", "b", "a", "d"), WHOLE.astype(bool))},
            "annotated concepts repeat: a",
        ),
        (
            {
                "annotations": (("a", "b", "c", "d"), WHOLE.astype(bool)),
                "superclasses": SUPERCLASSES,
            },
            "annotated image by image",
        ),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelConcepts.make(**({"labels": LABELS, "class_names": CLASSES} | arguments))
