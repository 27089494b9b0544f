"""Image folders: what counts as a class and as a picture, and what makes a folder unusable."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jaxle.data.folder import FolderSource


@pytest.fixture
def folder(tmp_path):
    """Two classes with pictures of known colour, among files that are none."""
    for i, name in enumerate(["dog/b.png", "dog/a.PNG", "cat/nested/z.bmp", "cat/y.jpeg"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (40 * i, 0, 0)).save(path)
    for name in [
        "dog/.hidden.png",
        "dog/notes.txt",
        "README.md",
        ".git/x.png",
        "cat/.thumbs/t.jpg",
    ]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no picture")
    return tmp_path / "photos"


def test_classes_and_pictures_in_the_order_of_their_names(folder):
    source = FolderSource(folder)
    assert source.class_names == ("cat", "dog")
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [0, 0, 1, 1]
    assert [int(source[i][0][0, 0, 0]) // 38 for i in range(len(source))] == [2, 3, 1, 0]
    image, label = source[3]
    assert (
        image.shape == (4, 5, 3)
        and image.dtype == np.uint8
        and label == 1
        and isinstance(label, int)
    )
    assert source.annotations is None
    with pytest.raises(IndexError):
        source[4]


def test_names_of_classes_from_their_file(folder):
    (folder / "classes.txt").write_text("tabby\nhound\n")
    assert FolderSource(folder).class_names == ("tabby", "hound")
    (folder / "classes.txt").write_text("tabby\n")
    with pytest.raises(ValueError, match="classes.txt holds 1 names; expected 2"):
        FolderSource(folder)


def test_unusable_folders(folder, tmp_path):
    def refused(path, message):
        with pytest.raises(ValueError, match=message) as caught:
            FolderSource(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", "absent: no such folder")
    refused(folder / "dog" / "a.PNG", "no such folder")
    refused(folder / "dog", "no class subfolders; expected .*/dog/<class>/<picture>.jpg")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: no class subfolders")
    (folder / "ant").mkdir()
    (folder / "bee").mkdir()
    refused(folder, r"no pictures \(.jpg, .*\) in ant, bee")
    for name in ("ant", "bee", "cat"):
        shutil.rmtree(folder / name)
    refused(folder, "only one class, dog; expected at least two")


def test_file_that_is_no_picture_is_named_when_it_is_read(folder):
    (folder / "cat" / "y.jpeg").write_text("not a picture")
    source = FolderSource(folder)
    with pytest.raises(ValueError, match=r"cannot decode image .*/cat/y.jpeg: not a picture"):
        source[1]
    assert source[0][1] == 0


def test_fingerprint_tells_contents_not_places(folder, tmp_path):
    before = FolderSource(folder).fingerprint_fields()
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert FolderSource(tmp_path / "elsewhere").fingerprint_fields() == before
    Image.new("RGB", (50, 40)).save(folder / "dog" / "a.PNG")
    changed = FolderSource(folder).fingerprint_fields()
    assert changed != before
    (folder / "dog" / "a.PNG").rename(folder / "dog" / "c.png")
    assert FolderSource(folder).fingerprint_fields() not in (before, changed)


def test_real_folders(test_data):
    photos = FolderSource(test_data / "photos")
    assert len(photos) == 229 and len(photos.class_names) == 119
    cifar = FolderSource(test_data / "cifar10" / "test")
    assert len(cifar) == 10_000 and cifar.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(cifar.labels).tolist() == [1000] * 10
