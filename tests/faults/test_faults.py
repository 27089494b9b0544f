"""What can go wrong with a run: exit status, one sentence, and nothing computed is lost.

One run of 80 pictures, read in five parts, meets one fault after the other in one workdir; in the
end it has made the files of a run that met none, each part and each step once.
"""

import os
from collections import Counter
from typing import NamedTuple

import pytest
from PIL import Image

from jaxle.data.scenes import ScenesSource
from tests import forks, runs

CONFIG = """
from jaxle.pipeline import defaults

def get_config():
    config = defaults.get_config()
    config.data.batch_size = 16
    config.target.taps = ("layer1",)
    config.evaluation.ceiling = False
    config.evaluation.draws = 0
    config.evaluation.permutations = 0
    config.evaluation.contributions = False
    config.report.listing = 0
    return config
"""
# The program, whose parts are of 16 images; one fault as the first file at a place is written.
PROGRAM = """
import os, signal, sys
from jaxle import artifacts
from jaxle.pipeline import lock, parts

parts.SMALLEST = 16
fault, place = sys.argv.pop(1), sys.argv.pop(1)
whole, met = artifacts.write_file, []

def write_file(path, write):
    if place and place in os.fspath(path) and not met:
        met.append(path)
        if fault == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            def write(file):
                file.write(b"half a file")
                raise OSError(28, os.strerror(28))
    whole(path, write)

def refuse(path, *mode, **more):
    raise OSError(30, os.strerror(30), os.fspath(path))

artifacts.write_file = write_file
if fault == "read-only":
    lock.open = refuse
from jaxle import launch
launch.run()
"""
SOURCES = """
import os, time
from jaxle.data.folder import FolderSource

class Faulty(FolderSource):
    def __init__(self):
        super().__init__(os.environ["PICTURES"])

class Hanging(Faulty):
    def __getitem__(self, i):
        if i == 40:
            time.sleep(600)
        return super().__getitem__(i)

class Killed(Faulty):
    "A picture so large that the system ends the process that decodes it."
    def __getitem__(self, i):
        if i == 40:
            os.kill(os.getpid(), 9)
        return super().__getitem__(i)
"""


class Place(NamedTuple):
    """A folder with a config, pictures, and the environment of programs."""

    folder: str
    pictures: str
    environment: dict

    def launch(self, workdir, *arguments, fault="", at="", pictures=None, source=None):
        source = source or f"folder:{pictures or self.pictures}"
        command = ["-c", PROGRAM, fault, at, f"--config={self.folder}/faults.py"]
        command += [f"--config.data.source={source}", f"--config.workdir={workdir}"]
        command += [f"--stages={','.join(runs.SCORED)}", *arguments]
        environment = {**self.environment, "PICTURES": str(pictures or self.pictures)}
        return forks.python(command, self.folder, environment)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.py").write_text(CONFIG)
    (folder / "faulty_sources.py").write_text(SOURCES)
    scenes = ScenesSource(80, 0)
    for i in range(80):
        image, label = scenes[i]
        path = folder / "pictures" / scenes.class_names[label] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    environment = runs.environment(tmp_path_factory)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(runs.ROOT)])
    return Place(folder, folder / "pictures", environment)


@pytest.fixture(scope="module")
def undisturbed(place):
    """A run that meets no fault."""
    done = place.launch(place.folder / "undisturbed")
    assert done.returncode == 0, done.stderr
    return place.folder / "undisturbed"


def made(workdir):
    """How often each part and each step was made."""
    return Counter(
        (note["step"], note["what"])
        for note in runs.notes(workdir)
        if not note["reused"] and note["what"] != "pass"
    )


def last_line(done):
    return done.stderr.splitlines()[-1]


def test_one_run_meets_one_fault_after_the_other(place, undisturbed, tmp_path, monkeypatch):
    run = tmp_path / "run"
    for fault, at, status, words in (
        ("full disk", "/000002/", 1, ("No space left on device", "the same command resumes")),
        ("SIGTERM", "/000003/", 75, ("stopped by SIGTERM after saving part 3 of the probe pass",)),
        ("read-only", "", 1, (".lock: Read-only file system", "the same command resumes")),
        ("SIGTERM", "cache/fit-", 75, ("stopped by SIGTERM after saving fit of",)),
        ("full disk", "cache/explain-", 1, ("No space left", "what was computed is kept")),
        ("SIGTERM", "cache/score-", 75, ("after saving score of layer1", "same command resumes")),
        ("full disk", "summary.json", 1, ("summary.json: No space left on device",)),
        ("", "", 0, ()),
    ):
        done = place.launch(run, fault=fault, at=at)
        assert done.returncode == status, (fault, at, done.stderr)
        assert all(word in last_line(done) for word in words), (fault, at, done.stderr)
        assert "Traceback" not in done.stderr and not (run / ".lock").exists()
    assert runs.files(run) == runs.files(undisturbed)
    assert made(run) == made(undisturbed)
    assert set(made(run).values()) == {1} and ("probe", "part 4") in made(run)
