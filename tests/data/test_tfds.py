"""tfds data sets: read at random, without TensorFlow, from a tiny one that is prepared here."""

import io
import pickle
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxle.data.tfds import TfdsSource

COLOURS = {"train": [10, 20, 30], "test": [40, 50, 60, 70, 80]}


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (9, 8), value).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def builder(title, features, example, in_catalogue=False):
    """A data set whose generator needs neither network nor TensorFlow: its images come as bytes."""

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=not in_catalogue):
        name = title
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {split: self._generate_examples(values) for split, values in COLOURS.items()}

        def _generate_examples(self, values):
            for value in values:
                yield value, example(value)

    return Made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    label = tfds.features.ClassLabel(names=["cat", "dog"])
    sets = {
        "pets": (
            {"image": image, "label": label, "id": tfds.features.Text()},
            lambda v: {"image": png(v), "label": v // 10 % 2, "id": f"{v}"},
        ),
        "plain": ({"picture": image}, lambda v: {"picture": png(v)}),
        "words": ({"id": tfds.features.Text()}, lambda v: {"id": f"{v}"}),
    }
    for name, (features, example) in sets.items():
        builder(name, features, example)(
            data_dir=folder, file_format="array_record"
        ).download_and_prepare()
    return folder


def test_pictures_labels_and_names(prepared):
    source = TfdsSource("pets", "test", prepared)
    assert len(source) == 5 and source.class_names == ("cat", "dog") and source.annotations is None
    seen = [source[i] for i in range(5)]
    assert sorted(int(image[0, 0, 0]) for image, _ in seen) == COLOURS["test"]
    assert all(
        image.shape == (8, 9, 3) and image.dtype == np.uint8 and label == image[0, 0, 0] // 10 % 2
        for image, label in seen
    )
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [
        label for _, label in seen
    ]
    assert len(TfdsSource("pets:1.0.0", "test[:40%]", prepared)) == 2


def test_other_features(prepared):
    source = TfdsSource("plain", "train", prepared)
    assert (
        source[0][0].shape == (8, 9, 3)
        and source[0][1] == -1
        and source.labels is None
        and source.class_names == ()
    )
    with pytest.raises(ValueError, match="tfds:words has no image feature; its features are id"):
        TfdsSource("words", "train", prepared)


def test_images_are_named_by_their_record(prepared):
    source = TfdsSource("pets", "test", prepared)
    assert source.file_names == [f"record {i}" for i in range(5)]
    assert "_read_labels" not in vars(source)  # which would read every record
    assert len(source.labels) == 5 and "_read_labels" in vars(source)


def test_source_travels_to_worker_processes(prepared):
    source = TfdsSource("pets", "test", prepared)
    assert np.array_equal(pickle.loads(pickle.dumps(source))[3][0], source[3][0])


def test_fingerprint_distinguishes_splits(prepared):
    fields = [
        TfdsSource("pets", split, prepared).fingerprint_fields()
        for split in ("train", "test", "test[:3]", "test")
    ]
    assert fields[1] == fields[3] and fields[0] != fields[1] != fields[2]
    assert fields[1]["name"] == "pets/1.0.0" and fields[1]["images"] == 5


def test_a_record_changed_in_place_gives_another_fingerprint(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    before = TfdsSource("pets", "test", tmp_path / "copy").fingerprint_fields()
    assert before == TfdsSource("pets", "test", prepared).fingerprint_fields()
    (records,) = (tmp_path / "copy").glob("pets/*/*test*array_record*")
    data = bytearray(records.read_bytes())
    data[len(data) // 2] ^= 1
    records.write_bytes(data)
    after = TfdsSource("pets", "test", tmp_path / "copy").fingerprint_fields()
    assert {**after, "files": before["files"]} == before and after != before


def test_damaged_record_is_named(prepared, monkeypatch):
    source = TfdsSource("pets", "test", prepared)
    source._records = [{"image": b"text", "label": 0}]
    with pytest.raises(
        ValueError, match="cannot decode image record 0 of tfds:pets/1.0.0 test: not a picture"
    ):
        source[0]


def test_wrong_names(prepared):
    with pytest.raises(
        ValueError, match="tfds:pets has no split 'val'; expected one of train, test"
    ):
        TfdsSource("pets", "val", prepared)
    with pytest.raises(
        ValueError, match="tfds:pets has no split None; expected one of train, test"
    ):
        TfdsSource("pets", None, prepared)
    with pytest.raises(ValueError, match="tfds:no_such_data is not known to tensorflow_datasets"):
        TfdsSource("no_such_data", "test", prepared)


def test_data_set_that_cannot_be_prepared_names_the_command(tmp_path):
    def no_network(value):
        raise ConnectionError("Name or service not known\nand a long story")

    builder("far_away", {"image": tfds.features.Image()}, no_network, in_catalogue=True)
    with pytest.raises(
        ValueError, match="tfds:far_away is not prepared in .*far_away.*Name or service not known"
    ) as caught:
        TfdsSource("far_away", "test", tmp_path)
    assert "tfds build far_away --file_format=array_record" in str(
        caught.value
    ) and "\n" not in str(caught.value)


def test_tensorflow_stays_unimported(prepared):
    TfdsSource("pets", "test", prepared)[0]
    assert "tensorflow" not in sys.modules
