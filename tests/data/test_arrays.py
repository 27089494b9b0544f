"""Array folders: pictures stay on disk, and each file that does not fit is named."""

import numpy as np
import pytest

from jaxle.data.arrays import ArraysSource

IMAGES = np.arange(5 * 4 * 3 * 3, dtype=np.uint8).reshape(5, 4, 3, 3)
LABELS = np.array([1, 0, 2, 2, 1], np.int64)
CONCEPT_LABELS = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [1, 1]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    np.save(tmp_path / "concept_labels.npy", CONCEPT_LABELS)
    (tmp_path / "classes.txt").write_text("cat\ndog\ncar\n")
    (tmp_path / "concepts.txt").write_text("fur\nwheel\n")
    return tmp_path


def test_everything(folder):
    source = ArraysSource(folder)
    image, label = source[2]
    assert (
        len(source) == 5
        and np.array_equal(image, IMAGES[2])
        and label == 2
        and isinstance(label, int)
    )
    assert (
        source.class_names == ("cat", "dog", "car")
        and source.labels.dtype == np.int32
        and source.labels.tolist() == LABELS.tolist()
    )
    concepts, matrix = source.annotations
    assert (
        concepts == ("fur", "wheel")
        and matrix.dtype == np.uint8
        and np.array_equal(matrix, CONCEPT_LABELS)
    )
    assert isinstance(source._images, np.memmap) and isinstance(matrix, np.memmap)


def test_pictures_alone(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    source = ArraysSource(tmp_path)
    assert (
        source[4][1] == -1
        and source.labels is None
        and source.class_names == ()
        and source.annotations is None
    )


def test_classes_without_names_are_called_by_their_number(folder):
    (folder / "classes.txt").unlink()
    assert ArraysSource(folder).class_names == ("0", "1", "2")


def test_true_and_false_are_concept_labels_too(folder):
    np.save(folder / "concept_labels.npy", CONCEPT_LABELS.astype(bool))
    matrix = ArraysSource(folder).annotations[1]
    assert matrix.dtype == np.uint8 and np.array_equal(matrix, CONCEPT_LABELS)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "images.npy",
            IMAGES.astype(np.float32),
            r"images.npy is float32 of shape \(5, 4, 3, 3\); expected uint8",
        ),
        ("images.npy", IMAGES[:, :, :, 0], r"images.npy is uint8 of shape \(5, 4, 3\)"),
        ("images.npy", IMAGES[:0], r"images.npy is uint8 of shape \(0, 4, 3, 3\)"),
        ("images.npy", np.array([{}], object), "cannot read .*images.npy: .*Python objects"),
        (
            "labels.npy",
            LABELS[:4],
            r"labels.npy is int64 of shape \(4,\); expected whole numbers \(5,\)",
        ),
        ("labels.npy", LABELS.astype(float), "labels.npy is float64"),
        ("labels.npy", LABELS + 1, "labels.npy holds 3 at 2; expected 0 to 2"),
        ("labels.npy", LABELS - 1, "labels.npy holds -1 at 1; expected 0 to 2"),
        (
            "concept_labels.npy",
            CONCEPT_LABELS[:, :1],
            r"concept_labels.npy is uint8 of shape \(5, 1\); expected uint8 or bool \(5, 2\)",
        ),
        ("concept_labels.npy", CONCEPT_LABELS * 0.5, "concept_labels.npy is float64"),
        (
            "concept_labels.npy",
            CONCEPT_LABELS * np.uint8(2),
            "concept_labels.npy holds 2; expected 0 and 1 only",
        ),
    ],
)
def test_unusable_arrays(folder, name, array, message):
    np.save(folder / name, array)
    with pytest.raises(ValueError, match=message):
        ArraysSource(folder)


def test_a_number_that_is_no_class_is_no_million_of_classes(folder):
    (folder / "classes.txt").unlink()
    np.save(folder / "labels.npy", np.where(LABELS == 0, 2 * 10**6, LABELS))
    with pytest.raises(ValueError, match="labels.npy holds 2000000; expected classes numbered"):
        ArraysSource(folder)


def test_unusable_files(folder, tmp_path):
    def refused(path, message):
        with pytest.raises(ValueError, match=message) as caught:
            ArraysSource(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", "absent: no such folder")
    (folder / "concepts.txt").unlink()
    refused(folder, "belong together; one of them is absent")
    (folder / "labels.npy").unlink()
    refused(folder, "classes.txt without labels.npy")
    whole = (folder / "images.npy").read_bytes()
    for content in (b"", b"text", whole[:90], whole[:-20]):
        (folder / "images.npy").write_bytes(content)
        refused(folder, "cannot read .*images.npy")
    (folder / "images.npy").unlink()
    refused(folder, "cannot read .*images.npy: no such file; expected uint8")


def test_fingerprint_is_of_contents_and_not_of_places(folder):
    before = ArraysSource(folder).fingerprint_fields()
    assert ArraysSource(str(folder) + "/").fingerprint_fields() == before
    seen = [before]
    for name, array in [
        ("images.npy", IMAGES + np.uint8(1)),
        ("labels.npy", LABELS[::-1]),
        ("concept_labels.npy", CONCEPT_LABELS[::-1]),
    ]:
        np.save(folder / name, array)
        seen.append(ArraysSource(folder).fingerprint_fields())
    (folder / "classes.txt").write_text("cat\ndog\nbus\n")
    seen.append(ArraysSource(folder).fingerprint_fields())
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
