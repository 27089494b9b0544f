"""Opening by name: every spec, the seeded limit, and the messages for misspelt ones."""

import numpy as np
import pytest
from PIL import Image

import jaxle
from jaxle.data.loader import batches
from jaxle.data.sources import Source, Subset, class_ends, names_of, open_source
from jaxle.data.splits import load_split
from jaxle.images import Preprocess

IMAGES = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


@pytest.fixture
def arrays(tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "labels.npy", np.arange(30) % 3)
    np.save(
        folder / "concept_labels.npy", (np.arange(30)[:, None] >> np.arange(5) & 1).astype(np.uint8)
    )
    (folder / "concepts.txt").write_text("a\nb\nc\nd\ne\n")
    return folder


def test_each_kind(arrays, tmp_path):
    for name in ("val/cat/a.png", "val/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    assert open_source(f"folder:{tmp_path}/val").class_names == ("cat", "dog")
    assert open_source(f"folder:{tmp_path}/val", "test").class_names == ("cat", "dog")
    assert (
        len(open_source(f"arrays:{arrays}"))
        == len(open_source(f"arrays:{arrays}", split="test", limit=30))
        == 30
    )
    assert len(open_source("scenes")) == 6000 and len(open_source("scenes", limit=7)) == 7


class Mine:
    """Your own source: ten images of one colour, the odd ones of class "odd"."""

    class_names = ("even", "odd")
    annotations = None

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return np.full((4, 4, 3), range(10)[i], np.uint8), i % 2

    @property
    def labels(self):
        self.read = True
        return [i % 2 for i in range(10)]

    def fingerprint_fields(self):
        return {"kind": "mine"}


class Named(Mine):
    file_names = [f"n{i}.jpg" for i in range(10)]


class Wrong(Mine):
    def __init__(self, **changes):
        for name, value in changes.items():
            setattr(self, name, value)

    labels = None

    def __getitem__(self, i):
        return self.record


MINE, NUMBER = Mine(), 3
HALF = [np.zeros((2, 2, 3), np.uint8)]


def make():
    return Named()


def needy(path):
    return Mine()


@pytest.mark.parametrize("name", ["Mine", "MINE", "Named", "make"])
def test_your_own_source_end_to_end(name):
    MINE.__dict__.pop("read", None)
    source = open_source(f"{__name__}:{name}")
    assert isinstance(source, Source) and len(source) == 10
    assert "read" not in MINE.__dict__  # labels may take long: they are read when asked for
    assert source.class_names == ("even", "odd") and source.annotations is None
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [0, 1] * 5
    fields = source.fingerprint_fields()
    assert fields["kind"] == "mine" and len(fields["code"]) == 2
    own = name in ("Named", "make")
    assert names_of(source)[7] == ("n7.jpg" if own else "image 7")
    fits = {"net": Preprocess("squash", 2)}
    read = [batch.images["net"][:, 0, 0, 0].tolist() for batch in batches(source, fits, 4)]
    assert read == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]
    few = open_source(f"{__name__}:{name}", limit=4, seed=1)
    index = [int(few[i][0][0, 0, 0]) for i in range(4)]
    assert sorted(index) == index and few.labels.tolist() == [i % 2 for i in index]
    assert names_of(few) == [f"n{i}.jpg" if own else f"image {i}" for i in index]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NUMBER", "is int, which lacks __len__, __getitem__, class_names, labels, annotations"),
        ("HALF", "is list, which lacks class_names, labels, annotations, fingerprint_fields"),
        ("needy", "needs arguments; expected an object, or a class or function without any"),
        ("Absent", "has no 'Absent', which data source"),
    ],
)
def test_an_object_that_is_no_source_is_named_with_what_it_lacks(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_source(f"{__name__}:{name}")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot import 'no_such_package.data'"):
        open_source("no_such_package.data:Mine")


@pytest.mark.parametrize(
    ("changes", "read", "message"),
    [
        ({"class_names": "ab"}, None, "class_names 'ab'; expected a tuple of str"),
        ({"class_names": (1, 2)}, None, r"class_names \(1, 2\); expected a tuple of str"),
        ({"record": 3}, lambda s: s[0], "gives int for image 0; expected a tuple"),
        ({"record": (HALF[0],)}, lambda s: s[0], "gives tuple for image 0; expected a tuple"),
        (
            {"record": (HALF[0][..., 0], 0)},
            lambda s: s[1],
            r"image 1 as uint8 of shape \(2, 2\); expected uint8 \(height, width, 3\)",
        ),
        ({"record": (HALF[0] / 2, 0)}, lambda s: s[1], "image 1 as float64"),
        ({"labels": [0, 1]}, lambda s: s.labels, r"int64 of shape \(2,\); .*\(10,\)"),
        ({"labels": [0.5] * 10}, lambda s: s.labels, "has labels float64"),
        ({"labels": [0] * 9 + [2]}, lambda s: s.labels, "label 2 at 9; expected 0 to 1"),
        (
            {"annotations": (("a",), np.zeros((3, 1), np.uint8))},
            lambda s: s.annotations,
            r"annotations uint8 of shape \(3, 1\); expected uint8 or bool \(10, 1\)",
        ),
        (
            {"annotations": (("a",), np.full((10, 1), 2, np.uint8))},
            lambda s: s.annotations,
            "annotations up to 2; expected 0 and 1 only",
        ),
        ({"file_names": ["a", "b"]}, names_of, "2 file_names for 10 images"),
    ],
)
def test_what_your_own_source_gives_is_checked_when_it_is_read(monkeypatch, changes, read, message):
    monkeypatch.setitem(globals(), "WRONG", Wrong(**changes))
    with pytest.raises(ValueError, match=message):
        source = open_source(f"{__name__}:WRONG")
        read(source)


def test_every_source_names_its_images(arrays, tmp_path):
    for name in ("val/cat/a.png", "val/dog/x/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    assert names_of(open_source(f"folder:{tmp_path}/val")) == ["cat/a.png", "dog/x/b.png"]
    assert names_of(open_source("scenes", limit=3)) == ["scene 0", "scene 1", "scene 2"]
    assert names_of(open_source(f"arrays:{arrays}"))[29] == "image 29 of images.npy"
    few = open_source(f"arrays:{arrays}", limit=3)
    assert names_of(few) == [f"image {few[i][0][0, 0, 0]} of images.npy" for i in range(3)]


def test_an_image_of_the_first_and_of_the_last_class_is_shown(tmp_path):
    for number in (1, 2, 10):
        (tmp_path / "val" / str(number)).mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / "val" / str(number) / "a.png")
    (tmp_path / "val" / "classes.txt").write_text("cat\ndog\ntruck\n")
    folder = open_source(f"folder:{tmp_path}/val")
    assert class_ends(folder) == "1/a.png is 'cat'; 10/a.png is 'truck'"
    few = open_source(f"folder:{tmp_path}/val", limit=1)
    assert class_ends(few).count(" is ") == 1
    bare = tmp_path / "bare"
    bare.mkdir()
    np.save(bare / "images.npy", np.zeros((4, 3, 3, 3), np.uint8))
    assert class_ends(open_source(f"arrays:{bare}")) == ""


def test_the_home_folder_has_its_sign(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("val/cat/a.png", "val/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    assert names_of(open_source("folder:~/val")) == ["cat/a.png", "dog/b.png"]
    assert len(open_source("arrays:~/arrays")) == len(open_source(f"arrays:{arrays}"))
    np.savez(tmp_path / "split.npz", train=[0], val=[1], test=[2])
    assert load_split("~/split.npz", 3).test == [2]
    table = jaxle.Explanations((jaxle.Explanation(0, ("a",), (1.0,), 0.0),))
    table.to_csv("~/table.csv")
    assert jaxle.Explanations.from_csv("~/table.csv").rows == table.rows
    assert (tmp_path / "table.csv").is_file()


def test_scenes_follow_the_seed():
    first, second = (open_source("scenes", limit=2, seed=seed)[1][0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_limit_takes_a_seeded_subset_in_order(arrays):
    def chosen(seed):
        source = open_source(f"arrays:{arrays}", limit=10, seed=seed)
        index = np.array([source[i][0][0, 0, 0] for i in range(len(source))], int)
        assert len(index) == 10 and np.all(np.diff(index) > 0)
        assert source.labels.tolist() == (index % 3).tolist() == [source[i][1] for i in range(10)]
        concepts, matrix = source.annotations
        assert concepts == ("a", "b", "c", "d", "e") and np.array_equal(
            matrix, index[:, None] >> np.arange(5) & 1
        )
        return index.tolist()

    assert chosen(0) == chosen(0) != chosen(1)


def test_fingerprint_distinguishes_subsets(arrays):
    def fields(**options):
        return tuple(
            sorted(
                open_source(f"arrays:{arrays}", **options).fingerprint_fields().items(), key=str
            ).__repr__()
        )

    assert fields(limit=10) == fields(limit=10)
    assert len({fields(limit=10), fields(limit=10, seed=1), fields(limit=11), fields()}) == 4
    assert fields(limit=30) == fields(limit=31, seed=5) == fields()


def test_subset_of_a_source_without_labels(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    subset = Subset(open_source(f"arrays:{tmp_path}"), [4, 2])
    assert subset.labels is None and subset.annotations is None and subset[0][0][0, 0, 0] == 4
    with pytest.raises(IndexError):
        subset[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("imagenet",),
            "data source is 'imagenet'; expected one of tfds:NAME, folder:PATH, pictures:PATH, "
            "arrays:PATH, masks:PATH, scenes, or package.module:name",
        ),
        (("foldr:/tmp",), "data source is 'foldr:/tmp'; expected one of tfds:NAME"),
        (("folder:",), "data source is 'folder:'; expected"),
        (("",), "data source is ''; expected"),
        (("scenes:3",), "data source is 'scenes:3'; expected"),
        (("scenes", None, 0), "limit is 0; expected at least 1"),
        (("folder:/no/such/folder",), "folder:/no/such/folder: no such folder"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        open_source(*arguments)
