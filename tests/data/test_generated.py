"""Generated pictures: the same for the same seed, all different, opened as a folder, made again
where they are unfinished."""

import numpy as np
import pytest

from jaxle.data.folder import FolderSource
from jaxle.data.generated import draw, generate_folder, generated_count
from jaxle.images import decode

NAMES = [f"n{i:08d}" for i in range(20)]


def test_a_folder_source_of_the_first_classes(tmp_path):
    path = generate_folder(tmp_path, 10, NAMES, size=(40, 56))
    source = FolderSource(path)
    assert len(source) == 10 and source.class_names == ("n00000000", "n00000001")
    assert source.labels.tolist() == [0] * 5 + [1] * 5
    pictures = np.stack([source[i][0] for i in range(10)])
    assert pictures.shape == (10, 40, 56, 3) and pictures.dtype == np.uint8
    assert len(np.unique(pictures.reshape(10, -1), axis=0)) == 10


def test_four_images_a_class_or_more_where_classes_are_few(tmp_path):
    assert (
        np.bincount(
            FolderSource(generate_folder(tmp_path, 48, NAMES, size=(24, 24))).labels
        ).tolist()
        == [4] * 12
    )
    assert np.bincount(
        FolderSource(generate_folder(tmp_path, 13, NAMES[:3], size=(24, 24))).labels
    ).tolist() == [5, 4, 4]
    assert len(FolderSource(generate_folder(tmp_path, 2, NAMES, size=(24, 24)))) == 2
    assert len(FolderSource(generate_folder(tmp_path, 8, (), size=(24, 24))).class_names) == 2


def test_the_number_is_read_off_the_spec():
    assert generated_count("generated:48") == 48 and generated_count("generated:0") == 0
    for spec in ("generated", "generated:", "generated:4x", "folder:generated:4", "scenes"):
        assert generated_count(spec) is None


def test_images_depend_on_seed_and_place_alone(tmp_path):
    np.testing.assert_array_equal(draw(3, 5, (30, 40)), draw(3, 5, (30, 40)))
    assert not np.array_equal(draw(3, 5, (30, 40)), draw(3, 6, (30, 40))) and not np.array_equal(
        draw(3, 5, (30, 40)), draw(4, 5, (30, 40))
    )
    first, again = (
        generate_folder(tmp_path / name, 6, NAMES, seed=1, size=(24, 32)) for name in "ab"
    )
    assert FolderSource(first).fingerprint_fields() == FolderSource(again).fingerprint_fields()
    for one, other in zip(sorted(first.rglob("*.jpg")), sorted(again.rglob("*.jpg")), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_images_are_smooth_and_use_the_range():
    picture = draw(0, 0, (120, 160)).astype(float)
    assert np.abs(np.diff(picture, axis=1)).mean() < 0.2 * picture.std() and picture.std() > 10


def test_what_is_whole_is_kept_and_what_is_not_is_made_again(tmp_path):
    path = generate_folder(tmp_path, 6, NAMES, size=(24, 32))
    times = {file: file.stat().st_mtime_ns for file in path.rglob("*.jpg")}
    assert generate_folder(tmp_path, 6, NAMES, size=(24, 32)) == path
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*.jpg")} == times
    (path / "generated.json").unlink()  # as a killed run leaves it
    victim = sorted(times)[2]
    victim.write_bytes(victim.read_bytes()[:100])
    assert generate_folder(tmp_path, 6, NAMES, size=(24, 32)) == path and len(times) == 6
    assert decode(victim).shape == (24, 32, 3)
    assert generate_folder(tmp_path, 6, NAMES, seed=1, size=(24, 32)) != path


def test_one_sentence_for_what_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="generated:1 asks for 1 images; expected at least 2"):
        generate_folder(tmp_path, 1, NAMES)
    with pytest.raises(ValueError, match="expected at least 2"):
        generate_folder(tmp_path, 8, ["only"])
