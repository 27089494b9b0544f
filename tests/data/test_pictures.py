"""Pictures without labels: folders, tars, parquet files, saved data sets, made by the test."""

import io
import json
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxle.data.pictures import PictureFolder, open_folder, open_pictures
from jaxle.data.sources import Source, open_source

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), np.uint8)
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def png(i) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(PICTURES[i]).save(file, "PNG")
        return file.getvalue()


def table(rows, labels=None, features=None, form="struct"):
    values = [png(i) for i in rows]
    image = pa.array([{"bytes": x, "path": None} for x in values] if form == "struct" else values)
    columns = {"image": image, "caption": pa.array([f"picture {i}" for i in rows])}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
    found = pa.table(columns)
    if features is not None:
        text = json.dumps({"info": {"features": features}})
        found = found.replace_schema_metadata({"huggingface": text})
    return found


def in_folders(root):
    for i, name in enumerate(("b/x.png", "b/c/y.png", "a.PNG", ".hidden/z.png", "note.txt")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))
    return [2, 1, 0]  # a.PNG, b/c/y.png, b/x.png


def in_tars(root):
    for shard, rows in (("0.tar", (3, 0)), ("1.tar", (5,))):
        with tarfile.open(root / shard, "w") as tar:
            for i in rows:
                for name, data in ((f"{i}.png", png(i)), (f"{i}.json", b"{}")):
                    about = tarfile.TarInfo(name)
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    return [3, 0, 5]


def in_parquet(root):
    pq.write_table(table(range(5)), root / "train-0.parquet", row_group_size=2)
    pq.write_table(table((6,)), root / "train-1.parquet")
    return [0, 1, 2, 3, 4, 6]


def in_arrow(root):
    for i, rows in enumerate(((4, 1), (2,))):
        own = table(rows, features=FEATURES | {"label": {}})
        with pa.OSFile(str(root / f"data-{i}.arrow"), "wb") as file:
            with pa.ipc.new_stream(file, own.schema) as writer:
                writer.write_table(own)
    files = [{"filename": f"data-{i}.arrow"} for i in range(2)]
    (root / "state.json").write_text(json.dumps({"_data_files": files}))
    return [4, 1, 2]


@pytest.mark.parametrize("write", [in_folders, in_tars, in_parquet, in_arrow])
def test_pictures_are_read_as_they_were_written(tmp_path, write):
    rows = write(tmp_path)
    source = open_source(f"pictures:{tmp_path}", memory=tmp_path / ".seen")
    assert isinstance(source, Source) and len(source) == len(rows) == len(source.file_names)
    assert source.class_names == () and source.labels is None and source.annotations is None
    for again in (source, pickle.loads(pickle.dumps(source))):  # worker processes get a copy
        found = [again[i] for i in range(len(rows))]
        assert all((image == PICTURES[i]).all() for (image, _), i in zip(found, rows, strict=True))
        assert {label for _, label in found} == {-1}
    fields = source.fingerprint_fields()
    assert fields == open_source(f"pictures:{tmp_path}").fingerprint_fields()
    assert source.changed_files() == [] and len(set(source.file_names)) == len(rows)
    some = open_source(f"pictures:{tmp_path}", limit=2)
    assert len(some) == 2 and some.fingerprint_fields() != fields


def test_one_file_is_a_source(tmp_path):
    in_tars(tmp_path)
    assert len(open_pictures(tmp_path / "1.tar")) == 1
    pq.write_table(table((1, 2), form="bytes"), tmp_path / "t.parquet")
    assert (open_pictures(tmp_path / "t.parquet")[1][0] == PICTURES[2]).all()


def test_labels_of_the_schema_are_read(tmp_path):
    pq.write_table(table((0, 1), (1, 0), FEATURES), tmp_path / "t.parquet")
    source = open_source(f"pictures:{tmp_path}")
    assert source.class_names == ("cat", "dog") and source.labels.tolist() == [1, 0]
    assert source[0][1] == 1
    pq.write_table(table((0, 1), (1, -1), FEATURES), tmp_path / "t.parquet")  # a test set
    assert open_source(f"pictures:{tmp_path}").labels is None


def test_a_changed_file_is_another_source(tmp_path):
    in_tars(tmp_path)
    source = open_source(f"pictures:{tmp_path}")
    before = source.fingerprint_fields()
    data = bytearray((tmp_path / "1.tar").read_bytes())
    data[600] ^= 1
    (tmp_path / "1.tar").write_bytes(data)
    assert source.changed_files() == [str(tmp_path / "1.tar")]
    assert open_source(f"pictures:{tmp_path}").fingerprint_fields() != before


def test_a_flat_folder_needs_no_classes(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    assert isinstance(open_folder(tmp_path), PictureFolder)
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match="or for images without labels pictures:"):
        open_folder(tmp_path / "sub")


def write(name, data=b"x"):
    return lambda root: (root / name).write_bytes(data)


def no_bytes(root):
    image = pa.array([{"bytes": None, "path": "elsewhere.png"}])
    pq.write_table(pa.table({"image": image}), root / "t.parquet")
    open_pictures(root)[0]


BAD = [
    (lambda root: None, "no images (.jpg, "),
    (lambda root: root.rmdir(), "no such folder"),
    (write("a.tar"), "expected a tar file that is not compressed"),
    (write("a.tar", b"\0" * 10240), "no member is an image"),
    (write("a.parquet"), "expected a parquet file"),
    (write("a.arrow"), ".arrow files without state.json"),
    (
        lambda root: (in_tars(root), (root / "a.PNG").write_bytes(b"")),
        "holds .tar and image files; expected one kind",
    ),
    (
        lambda root: (root / "dataset_dict.json").write_text("{}"),
        "holds the splits of a DatasetDict; expected one of them, such as pictures:",
    ),
    (lambda root: (in_tars(root), in_parquet(root)), "holds .tar and .parquet files; expected one"),
    (lambda root: (in_arrow(root), write("state.json", b"{}")(root)), "lists no data files"),
    (
        lambda root: (
            in_arrow(root),
            write("state.json", b'{"_data_files": [{"filename": "data-0.arrow"}], '
                  b'"_indices_files": [{"filename": "i"}]}')(root),
        ),
        "save the data set again after flatten_indices()",
    ),
    (
        lambda root: (in_arrow(root), write("data-0.arrow")(root)),
        "data-0.arrow: ",
    ),
    (
        lambda root: pq.write_table(pa.table({"text": ["a"]}), root / "t.parquet"),
        "columns of images are none among text; expected one",
    ),
    (
        lambda root: pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), root / "t.parquet"),
        "columns of images are a, b; expected one",
    ),
    (
        lambda root: (
            in_parquet(root), pq.write_table(pa.table({"image": [b"x"]}), root / "z.parquet")
        ),
        "z.parquet has other columns than",
    ),
    (no_bytes, "the table holds no bytes of it; expected images that are embedded"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_is_one_sentence(tmp_path, make, words):
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(ValueError) as error:
        make(root)
        open_pictures(root)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_picture_that_is_none_is_named(tmp_path):
    in_parquet(tmp_path)
    pq.write_table(pa.table({"image": [b"no picture"]}), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="cannot decode image bad.parquet row 0: not a picture"):
        open_pictures(tmp_path / "bad.parquet")[0]
