"""Folders of images with label maps, in ADE20K's layout and in Broden's, made small here."""

import numpy as np
import pytest
from PIL import Image

from jaxle.data.masks import masks_of, read_masks
from jaxle.data.sources import Source, Subset, open_source

INFO = """Idx\tRatio\tTrain\tVal\tStuff\tName
1\t0.15\t11664\t1172\t1\twall
2\t0.11\t6046\t612\t1\tbuilding, edifice
3\t0.08\t8265\t796\t1\tscreen, silver screen
4\t0.01\t100\t10\t0\tscreen, CRT screen
"""
INDEX = """image,split,ih,iw,sh,sw,color,object,part,scene,texture
a/1.png,train,8,8,4,4,a/1_color.png,a/1_object.png;a/1_more.png,a/1_part.png,3,
a/2.png,val,8,8,4,4,,,,,6;5
"""
LABEL = """number,name,category,frequency,coverage,syns
0,-,,0,0,
1,black-c,color(2),2,0.5,
2,sky,object(3);part(1),3,0.5,
3,greenhouse-indoor-s,scene(1),1,1,
4,orange-c,color(1),1,0.2,
5,orange,object(1),1,0.2,
6,striped,texture(4),4,0.4,
300,dog_head,object(1);part(9),9,0.1,
"""


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8), mode).save(path)


def coloured(numbers):
    """A label map of Broden: red + 256 · green."""
    numbers = np.asarray(numbers)
    return np.stack([numbers % 256, numbers // 256, 0 * numbers], axis=-1)


@pytest.fixture
def ade(tmp_path):
    rng = np.random.default_rng(0)
    for i, name in enumerate(("training/x", "training/y", "validation/z")):
        save(tmp_path / "images" / f"{name}.jpg", rng.integers(0, 255, (6, 9, 3)))
        save(tmp_path / "annotations" / f"{name}.png", np.full((6, 9), i * 2))
    (tmp_path / "objectInfo150.txt").write_text(INFO)
    return tmp_path


@pytest.fixture
def broden(tmp_path):
    for name in "12":
        save(tmp_path / f"images/a/{name}.png", np.full((8, 8, 3), 9))
    rows = np.repeat(np.arange(4)[:, None], 4, axis=1)
    save(tmp_path / "images/a/1_color.png", coloured(np.where(rows < 2, 1, 4)))
    save(tmp_path / "images/a/1_object.png", coloured(np.where(rows < 2, 2, 0)))
    save(tmp_path / "images/a/1_more.png", coloured(np.where(rows < 1, 5, 0)))
    save(tmp_path / "images/a/1_part.png", coloured(np.where(rows < 1, 300, 0)))
    (tmp_path / "index.csv").write_text(INDEX)
    (tmp_path / "label.csv").write_text(LABEL)
    return tmp_path


def test_ade20k(ade):
    source = open_source(f"masks:{ade}")
    assert isinstance(source, Source) and len(source) == 3
    assert source.file_names == ["training/x.jpg", "training/y.jpg", "validation/z.jpg"]
    assert source[0][0].shape == (6, 9, 3) and source[0][1] == -1
    masks = masks_of(source)
    # the first of the synonyms, but where another concept has it
    assert masks.concepts == ("wall", "building", "screen, silver screen", "screen, CRT screen")
    assert set(masks.categories) == {"object"}
    assert [int(masks.label_maps(i).max()) for i in range(3)] == [0, 2, 4]
    concepts, borne = source.annotations
    assert concepts == masks.concepts
    assert borne.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert read_masks(masks, 2, None, 5).shape == (1, 5, 5)
    assert Subset(source, [2]).masks.label_maps(0).max() == 4


def test_a_changed_label_map_changes_the_fingerprint(ade):
    before = open_source(f"masks:{ade}").fingerprint_fields()
    assert open_source(f"masks:{ade}").fingerprint_fields() == before
    save(ade / "annotations/training/x.png", np.full((6, 9), 1))
    source = open_source(f"masks:{ade}")
    after = source.fingerprint_fields()
    assert after["files"] == before["files"] and after["masks"] != before["masks"]
    assert source.changed_files() == []
    save(ade / "annotations/training/x.png", np.full((6, 9), 3))
    assert [name.rpartition("/")[2] for name in source.changed_files()] == ["x.png"]


def test_names_of_one_line_each(ade):
    (ade / "objectInfo150.txt").unlink()
    (ade / "names.txt").write_text("wall\nbuilding\nscreen\ntree\n")
    assert masks_of(open_source(f"masks:{ade}")).concepts == ("wall", "building", "screen", "tree")


def test_names_of_the_table_with_commas(ade):
    (ade / "objectInfo150.txt").unlink()
    rows = ("1,wall", "2,building;edifice", "3,sky", "4,tree")
    (ade / "objectInfo150.csv").write_text("\n".join(("Idx,Name", *rows)))
    assert masks_of(open_source(f"masks:{ade}")).concepts == ("wall", "building", "sky", "tree")


def test_broden(broden):
    source = open_source(f"masks:{broden}")
    masks = masks_of(source)
    # -c and -s go, but where two concepts would then bear one name
    assert masks.concepts == (
        "black",
        "sky",
        "greenhouse, indoor",
        "orange-c",
        "orange",
        "striped",
        "dog head",
    )
    assert masks.categories == ("color", "object", "scene", "color", "object", "texture", "part")
    first = masks.label_maps(0)
    assert first.shape == (5, 4, 4)  # colour, two of objects, part, and the scene of all pixels
    assert first[:, 0, 0].tolist() == [1, 2, 5, 7, 3]
    assert first[:, 3, 0].tolist() == [4, 0, 0, 0, 3]
    assert masks.label_maps(1).tolist() == [[[6]], [[5]]]  # of the whole image
    assert source.annotations[1].tolist() == [[1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1, 0]]
    assert source.file_names == ["a/1.png", "a/2.png"]


def no_map(ade):
    (ade / "annotations/training/y.png").unlink()


def no_names(ade):
    (ade / "objectInfo150.txt").unlink()


def no_columns(ade):
    (ade / "objectInfo150.txt").write_text("1\twall\n2\tbuilding\n")


def no_folder(ade):
    (ade / "annotations").rename(ade / "labels")


def twice(ade):
    (ade / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\twall\n")


def no_image(ade):
    for path in (ade / "images").rglob("*.jpg"):
        path.unlink()


def odd_number(ade):
    (ade / "objectInfo150.txt").write_text("Idx\tName\none\twall\n")


@pytest.mark.parametrize(
    "spoil, words",
    [
        (no_map, "1 of 3 images have no label map, such as images/training/y.jpg; expected annot"),
        (no_names, "no list of names; expected one of objectInfo150.txt, objectInfo150.csv, names"),
        (no_columns, "has no columns Idx and Name; expected ADE20K's list of names"),
        (no_folder, "no index.csv and no folder annotations/; expected Broden's layout, or ADE20K"),
        (twice, "the list of names holds 'wall' twice or empty; expected each name once"),
        (no_image, "no images (.jpg, .jpeg, .png) in images/"),
        (odd_number, "has the number 'one'; expected a whole number of at least 0"),
    ],
)
def test_bad_folders_are_refused(ade, spoil, words):
    spoil(ade)
    with pytest.raises(ValueError) as error:
        open_source(f"masks:{ade}")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_bad_maps_are_refused(ade):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        open_source("masks:nowhere")
    save(ade / "annotations/training/x.png", np.full((9, 6), 1))
    save(ade / "annotations/training/y.png", np.full((6, 9), 7))
    (ade / "annotations/validation/z.png").write_bytes(b"no picture")
    masks = open_source(f"masks:{ade}").masks
    for i, words in enumerate(
        (
            "label map annotations/training/x.png is of 9 × 6 pixels; expected 6 × 9, as its image",
            "y.png holds the number 7, which objectInfo150.txt does not name",
            "cannot read label map annotations/validation/z.png",
        )
    ):
        with pytest.raises(ValueError, match=words):
            masks.label_maps(i)


@pytest.mark.parametrize(
    "file, old, new, words",
    [
        ("index.csv", "a/1_part.png", "a/9.png", "index.csv names 1 files that do not exist, such"),
        ("index.csv", "image,", "picture,", "has no column image; expected image"),
        ("label.csv", "number,", "n,", "has no column number; expected number, name, category"),
        ("label.csv", "300,", "three,", "has the number 'three'; expected a whole number of at"),
    ],
)
def test_bad_tables_are_refused(broden, file, old, new, words):
    text = (broden / file).read_text()
    (broden / file).write_text(text.replace(old, new))
    with pytest.raises(ValueError) as error:
        open_source(f"masks:{broden}")
    assert words in str(error.value)
