"""A workdir always describes one run, the one of its config.json."""

import hashlib
import json
import os
import socket
import threading
import time

import numpy as np
import pytest
from etils import epath

from jaxle.data.sources import names_of, open_source
from jaxle.pipeline import defaults, lock
from jaxle.pipeline.lock import LOCK, locked
from jaxle.pipeline.workdir import open_workdir, run_key, settings, table_paths
from tests import runs

TABLES = {"scores.csv", "summary.json", "run.json", "timing.json"}


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A finished run of two taps and two methods; not to be written to."""
    workdir = tmp_path_factory.mktemp("used") / "run"
    fields = {"target.taps": ("layer1", "layer2"), "methods.ours": defaults.label("top_k")}
    runs.quick(workdir, {**fields, "evaluation.contributions": True})
    return workdir


@pytest.fixture
def workdir(used, tmp_path):
    """A copy of it, with a note of the user's own beside the tables."""
    for path in (path for path in used.rglob("*") if path.is_file()):
        own = tmp_path / "run" / path.relative_to(used)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(path.read_bytes())
    (tmp_path / "run" / "layer2" / "notes.txt").write_text("mine")
    return tmp_path / "run"


def cached(workdir):
    return {path.name for path in (workdir / "cache").iterdir()}


def test_another_run_in_a_used_workdir_leaves_nothing_of_the_first_but_the_cache(workdir):
    before, split = cached(workdir), np.load(workdir / "split" / "train.npy")
    assert TABLES <= {path.name for path in workdir.iterdir()}
    runs.quick(workdir, {"seed": 5}, ("probe", "fit"))
    left = {path.relative_to(workdir).as_posix() for path in workdir.rglob("*") if path.is_file()}
    left = {name for name in left if not name.startswith("cache/")}
    assert left == {
        "config.json",
        "metrics.jsonl",
        "timing.json",
        "split/train.npy",
        "split/val.npy",
        "split/test.npy",
        "split/names.txt",
        "layer2/notes.txt",
    }
    assert not (workdir / "layer1").exists()  # a tap whose folder is empty has none
    assert json.loads((workdir / "config.json").read_text())["seed"] == 5
    assert not np.array_equal(np.load(workdir / "split" / "train.npy"), split)
    assert before < cached(workdir)


def test_the_first_run_again_finds_its_cache_and_makes_its_tables_anew(used, workdir):
    (workdir / "layer2" / "notes.txt").unlink()
    (workdir / "metrics.jsonl").unlink()
    runs.quick(workdir, {"target.taps": ("layer2",)})
    assert not (workdir / "layer1").exists() and (workdir / "layer2" / "label").exists()
    assert not (workdir / "layer2" / "ours").exists()
    (workdir / "metrics.jsonl").unlink()
    fields = {"target.taps": ("layer1", "layer2"), "methods.ours": defaults.label("top_k")}
    runs.quick(workdir, {**fields, "evaluation.contributions": True})
    assert all(note["reused"] for note in runs.notes(workdir))
    new = {name: data for name, data in runs.files(workdir).items() if "cache/" not in name}
    assert new == {name: data for name, data in runs.files(used).items() if "cache/" not in name}


def test_every_table_is_named_in_run_json_with_its_hash_and_the_runs_key(used):
    index = json.loads((used / "run.json").read_text())
    summary = json.loads((used / "summary.json").read_text())
    config = json.loads((used / "config.json").read_text())
    assert index["run"] == summary["config_fingerprint"]
    fields = {"target.taps": ("layer1", "layer2"), "methods.ours": defaults.label("top_k")}
    own = runs.settings(used, {**fields, "evaluation.contributions": True})
    assert index["run"] == run_key(own) and settings(own) == config
    clock = {"metrics.jsonl", "timing.json"}
    there = {
        path.relative_to(used).as_posix()
        for path in used.rglob("*")
        if path.is_file() and path.name not in {"run.json", "config.json", *clock}
    }
    assert set(index["tables"]) == {name for name in there if not name.startswith("cache/")}
    assert {f"{tap}/{method}/{name}.csv" for tap in ("layer1", "layer2")
            for method in ("label", "ours") for name in ("explanations", "concepts")
            } <= set(index["tables"])  # fmt: skip
    for name, digest in index["tables"].items():
        assert hashlib.sha256((used / name).read_bytes()).hexdigest() == digest


def test_the_key_of_a_run_is_of_its_settings_and_not_of_its_place(tmp_path):
    first = run_key(runs.settings(tmp_path / "a"))
    assert first == run_key(runs.settings(tmp_path / "b"))
    changes = ({"seed": 1}, {"target.class_names": ("a",)}, {"report.listing": 1})
    keys = {run_key(runs.settings(tmp_path, change)) for change in changes}
    assert len(keys | {first}) == 4


def test_another_target_is_refused_and_nothing_is_lost(workdir):
    before = runs.files(workdir)
    with pytest.raises(ValueError) as error:
        runs.quick(workdir, {"target.model": "scenes_siglip_s", "target.taps": ("img/embedding",)})
    assert str(error.value) == (
        f"workdir {workdir} holds a run of scenes_resnet, and this run explains scenes_siglip_s: "
        "give it another folder by --config.workdir."
    )
    with pytest.raises(ValueError, match="and this run explains scenes_resnet other.npz"):
        open_workdir(runs.settings(workdir, {"target.weights": "other.npz"}))
    assert runs.files(workdir) == before


def test_names_of_the_images_stand_beside_the_split(used):
    names = (used / "split" / "names.txt").read_text().split("\n")[:-1]
    source = open_source("scenes", limit=80, seed=0)
    assert names == names_of(source) and len(set(names)) == 80
    parts = [np.load(used / "split" / f"{name}.npy") for name in ("train", "val", "test")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(80))


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ValueError, match="is a file: expected a folder, or a new name"):
        open_workdir(runs.settings(tmp_path / "run"))


def test_half_a_config_is_one_of_another_run(workdir):
    text = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(text[: len(text) // 2])
    own = runs.settings(workdir)
    open_workdir(own)
    assert json.loads((workdir / "config.json").read_text()) == settings(own)
    assert not table_paths(epath.Path(workdir))


def test_one_run_at_a_time(tmp_path):
    folder = epath.Path(tmp_path / "run")
    with locked(folder):
        owner = json.loads((folder / LOCK).read_text())
        assert owner == {"host": socket.gethostname(), "pid": os.getpid()}
    assert not (folder / LOCK).exists()
    parent = os.getppid()
    (folder / LOCK).write_text(json.dumps({"host": socket.gethostname(), "pid": parent}))
    with pytest.raises(ValueError, match=f"another run \\(process {parent} on ") as error:
        with locked(folder):
            raise AssertionError("the lock of a living process was taken")
    assert "give this one another --config.workdir" in str(error.value)
    assert (folder / LOCK).exists()  # the other's


@pytest.mark.parametrize("left", ['{"host": "', "", '{"host": HOST, "pid": 4194303}'])
def test_a_lock_that_a_killed_run_left_is_taken_over(tmp_path, left):
    (tmp_path / LOCK).write_text(left.replace("HOST", json.dumps(socket.gethostname())))
    with locked(epath.Path(tmp_path)):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_that_another_host_touches_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOOK", 0.05)
    (tmp_path / LOCK).write_text(json.dumps({"host": "another host", "pid": 1}))
    touched = threading.Timer(0.5, os.utime, (tmp_path / LOCK,))
    touched.start()
    with pytest.raises(ValueError, match="on another host"):
        with locked(epath.Path(tmp_path)):
            raise AssertionError("the lock of another host was taken")
    touched.join()


def test_a_lock_that_another_host_stops_touching_or_removes_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOOK", 0.05)
    text = json.dumps({"host": "another host", "pid": 1})
    for stale, leaves in ((0.5, lambda: None), (600.0, (tmp_path / LOCK).unlink)):
        monkeypatch.setattr(lock, "STALE", stale)
        (tmp_path / LOCK).write_text(text)
        leaving = threading.Timer(0.2, leaves)
        leaving.start()
        with locked(epath.Path(tmp_path)):
            assert (tmp_path / LOCK).read_text() != text
        leaving.join()


def test_a_lock_of_a_host_that_is_gone_is_taken_over(tmp_path, monkeypatch):
    """As where a preempted machine comes back under another name: nobody touches its lock."""
    (tmp_path / LOCK).write_text(json.dumps({"host": "another host", "pid": 1}))
    old = time.time() - lock.STALE - 60
    os.utime(tmp_path / LOCK, (old, old))
    monkeypatch.setattr(lock, "TOUCHED", 0.01)
    with locked(epath.Path(tmp_path)):
        os.utime(tmp_path / LOCK, (old, old))
        until = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime < old + 60:
            assert time.monotonic() < until, "the lock was not touched"
            time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir()] == []
