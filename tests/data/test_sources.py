"""Opening by name: every spec, the seeded limit, and what a misspelt config is told."""

import numpy as np
import pytest
from PIL import Image

from jaxle.data.sources import Subset, open_source

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


def test_fingerprint_tells_subsets_apart(arrays):
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
            "data source is 'imagenet'; expected one of tfds:NAME, folder:PATH, arrays:PATH, scenes",
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
