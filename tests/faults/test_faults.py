"""What can go wrong with a run: exit status, one sentence, and nothing computed is lost.

One run of 80 pictures, read in five parts, meets one fault after the other in one workdir; in the
end it has made the files of a run that met none, each part and each step once.
"""

import json
import os
import shutil
import signal
from typing import NamedTuple

import pytest
from PIL import Image

from jaxle.data.scenes import ScenesSource
from tests import forks, runs
from tests.faults.kills import files, kill_at_random, made

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
if fault == "killed":  # by an alarm that nothing catches: as abrupt as SIGKILL
    signal.setitimer(signal.ITIMER_REAL, float(place))
    place = ""
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


def parts(workdir):
    """How often each part of the images was made."""
    return {what: n for (step, what), n in made(workdir).items() if step == "part"}


def last_line(done):
    return done.stderr.splitlines()[-1]


def test_a_pass_says_how_fast_it_was(undisturbed):
    (line,) = (note for note in runs.notes(undisturbed) if note["step"] == "pass")
    assert line["what"] == "80 images" and line["images"] == 80 and line["seconds"] > 0
    assert 0 <= line["wait_share"] <= 1
    assert line["rate"] == pytest.approx(80 / line["seconds"], rel=0.01) and line["decode_rate"] > 0


def test_one_run_meets_one_fault_after_the_other(place, undisturbed, tmp_path):
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
    assert files(run) == files(undisturbed)
    assert made(run) == made(undisturbed)
    assert set(made(run).values()) == {1} and ("part", "part 4 of 80 images") in made(run)


def test_killed_at_random_moments_it_ends_with_the_same_files(place, undisturbed, tmp_path):
    """The short form of `tests.faults.kills`."""

    def run(workdir, limit):
        own = {} if limit is None else {"fault": "killed", "at": str(limit)}
        status = place.launch(workdir, **own).returncode
        return None if status == -signal.SIGALRM else status

    timing = json.loads((undisturbed / "timing.json").read_text())
    seconds = timing["total_seconds"] - timing["compile_seconds"]  # those of a warm run
    seen = kill_at_random(run, tmp_path, undisturbed, seconds, kills=4, seed=0)
    assert seen.kills == 4 and seen.ends >= 1 and not seen.wrong, seen.wrong


def test_cut_and_changed_results_are_made_again(place, undisturbed, tmp_path):
    """A part of the pass is cut, and what the fit gave has another byte."""
    run = tmp_path / "run"
    assert place.launch(run, fault="SIGTERM", at="/000003/").returncode == 75
    (part,) = (run / "cache").glob("probe-parts-*/000001")
    cut = next(part.glob("*layer1*"))
    cut.write_bytes(cut.read_bytes()[:-100])
    done = place.launch(run, fault="SIGTERM", at="cache/explain-")
    assert done.returncode == 75
    assert "cached result 000001 is damaged" in done.stderr and "made again" in done.stderr
    changed = next((run / "cache").glob("fit-*/*.npy"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x9b")
    done = place.launch(run)
    assert done.returncode == 0 and "cached result fit-" in done.stderr
    assert files(run) == files(undisturbed)
    again = made(run) - made(undisturbed)
    assert {step for step, _ in again} == {"part", "fit"} and set(again.values()) == {1}
    assert [what for step, what in again if step == "part"] == ["part 1 of 80 images"]


@pytest.fixture
def damaged(place, tmp_path):
    """The pictures, of which one is half a file, one is empty and one is text."""
    shutil.copytree(place.pictures, tmp_path / "pictures")
    files = sorted((tmp_path / "pictures").rglob("*.png"))
    broken = [files[i] for i in (41, 55, 79)]
    for path, data in zip(broken, (broken[0].read_bytes()[:200], b"", b"no picture"), strict=True):
        path.write_bytes(data)
    return tmp_path / "pictures", broken


def test_a_damaged_image_stops_the_run_or_is_skipped(place, damaged, tmp_path):
    pictures, broken = damaged
    names = [str(path.relative_to(pictures)) for path in broken]
    run = tmp_path / "run"
    done = place.launch(run, pictures=pictures)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot decode image {broken[0]}: " in last_line(done)
    assert "mend it, or set data.on_error=skip to leave it out" in last_line(done)
    assert list(parts(run)) == ["part 0 of 80 images", "part 1 of 80 images"]  # which are kept

    done = place.launch(run, "--config.data.on_error=skip", pictures=pictures)
    assert done.returncode == 0, done.stderr
    lines = (run / "skipped.csv").read_text().splitlines()
    assert lines[0] == "image,reason" and len(lines) == 4
    for line, name, reason in zip(lines[1:], names, ("cannot", "empty", "not a pict"), strict=True):
        assert line.startswith(f"{name},") and reason in line
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["n_skipped"], summary["n_images"]) == (3, 77)
    assert "3 images of 80 could not be decoded and are left out; skipped.csv" in done.stdout

    for path in broken:
        path.unlink()
    other = place.launch(tmp_path / "other", pictures=pictures)
    assert other.returncode == 0, other.stderr
    for name in ("scores.csv", "layer1/label/explanations.csv", "split/names.txt"):
        assert (run / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    # the same images are the same images: nothing of the other run is computed here
    again = place.launch(run, pictures=pictures)
    assert again.returncode == 0 and not (run / "skipped.csv").exists()
    made_once = [(k, 80) for k in (0, 1)] + [(k, 77) for k in range(5)]
    assert parts(run) == {f"part {k} of {n} images": 1 for k, n in made_once}


def test_an_image_that_hangs_is_named(place, tmp_path):
    done = place.launch(
        tmp_path / "run", "--config.data.timeout=1", source="faulty_sources:Hanging"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert last_line(done).startswith("jaxle: images 32 to 47 (")
    assert "were not decoded within data.timeout=1 seconds" in last_line(done)
    assert "part 0 of 80 images" in parts(tmp_path / "run")


def test_a_process_that_the_system_ends_is_one_sentence(place, tmp_path):
    own = ("--config.data.workers=1", "--config.data.batch_size=16")
    run = tmp_path / "run"
    done = place.launch(run, *own, source="faulty_sources:Killed")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "a process that decodes images ended by itself" in last_line(done)
    assert "expected fewer data.workers, or 0 for threads" in last_line(done)
    assert not (run / ".lock").exists()
