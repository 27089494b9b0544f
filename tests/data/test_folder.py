"""Image folders: what counts as a class and as a picture, and what makes a folder unusable."""

import os
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from jaxle.data.folder import FolderSource
from jaxle.data.sources import names_of


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


def numbered(root, names, classes=None):
    """Class folders with one image each, whose red is the class's place in `names`."""
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (2, 2), (10 * i, 0, 0)).save(root / name / "a.png")
    if classes:
        (root / "classes.txt").write_text("\n".join(classes))
    return root


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path):
    names = [str(i) for i in range(1, 13)]
    source = FolderSource(numbered(tmp_path / "plain", names))
    assert source.class_names == tuple(names)
    assert [int(source[i][0][0, 0, 0]) for i in range(12)] == [10 * i for i in range(12)]
    classes = [f"class of {name}" for name in names]
    source = FolderSource(numbered(tmp_path / "named", names, classes))
    assert source.class_names == tuple(classes) and source.file_names[9] == "10/a.png"
    padded = [f"{i:03d}" for i in range(1, 13)]
    assert FolderSource(numbered(tmp_path / "padded", padded)).class_names == tuple(padded)


def test_an_ambiguous_order_of_named_folders_is_refused(tmp_path):
    names = ["class1", "class2", "class10"]
    assert FolderSource(numbered(tmp_path / "a", names)).class_names == tuple(sorted(names))
    with pytest.raises(ValueError, match="class10 comes before class2 by name, after it by number"):
        FolderSource(numbered(tmp_path / "b", names, ["cat", "dog", "car"]))
    same = numbered(tmp_path / "c", ["class01", "class02", "class10"], ["cat", "dog", "car"])
    assert FolderSource(same).class_names == ("cat", "dog", "car")
    with pytest.raises(ValueError, match="class folders 01 and 1 are the same number"):
        FolderSource(numbered(tmp_path / "d", ["1", "01", "2"]))


def test_odd_names_become_text_of_one_line(tmp_path):
    root = os.fsencode(tmp_path)
    for name in (b"caf\xe9", b"two\nlines", "na\u00efve".encode()):
        os.makedirs(root + b"/" + name)
        Image.new("RGB", (2, 2)).save(io := BytesIO(), "PNG")
        with open(root + b"/" + name + b"/a\xe9.png", "wb") as file:
            file.write(io.getvalue())
    source = FolderSource(tmp_path)
    assert sorted(source.class_names) == ["caf\u00e9", "na\u00efve", "two lines"]
    assert sorted(names_of(source)) == [
        f"{name}/a\u00e9.png" for name in sorted(source.class_names)
    ]
    assert all(source[i][0].shape == (2, 2, 3) for i in range(3))


def test_unusable_folders(folder, tmp_path):
    def refused(path, message):
        with pytest.raises(ValueError, match=message) as caught:
            FolderSource(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "absent", "absent: no such folder")
    refused(folder / "dog" / "a.PNG", "no such folder")
    refused(folder / "dog", "no class subfolders; expected .*/dog/<class>/<image>.jpg")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: no class subfolders")
    (folder / "ant").mkdir()
    (folder / "bee").mkdir()
    refused(folder, r"no images \(.jpg, .*\) in ant, bee")
    for name in ("ant", "bee", "cat"):
        shutil.rmtree(folder / name)
    refused(folder, "only one class, dog; expected at least two")


def test_file_that_is_no_picture_is_named_when_it_is_read(folder):
    (folder / "cat" / "y.jpeg").write_text("not a picture")
    source = FolderSource(folder)
    with pytest.raises(ValueError, match=r"cannot decode image .*/cat/y.jpeg: not a picture"):
        source[1]
    assert source[0][1] == 0


def test_fingerprint_is_of_contents_and_not_of_places(folder, tmp_path):
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
