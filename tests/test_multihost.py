"""Several processes that make one run: the same tables as one, and each way of losing one."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxle import multihost
from jaxle.pipeline import defaults
from tests import runs, together

FIELDS = {
    "data.limit": 600,
    "evaluation.permutations": 100,
    "methods.preconditioned": defaults.label("preconditioned", no_longer_than="label"),
}
LAUNCH = ["-m", "jaxle.launch", "--config", f"{runs.ROOT}/tests/multihost_config.py"]
ASIDE = """
import sys
import time
import jax
import numpy as np
from jaxle import multihost
from jaxle.mesh import local, make_mesh

where, count, me = (argument.partition("=")[2] for argument in sys.argv[1:])
multihost.start(where, int(count), int(me), silence=5, patience=4)
n, i = multihost.count(), multihost.index()
assert (n, i, multihost.first()) == (2, int(me), me == "0")
assert multihost.agree({"of": i}) == {"of": 0}
assert multihost.each(10 * i) == [0, 10]
for dtype in (np.float64, np.float32, np.int64, bool):
    whole = np.arange(6).reshape(3, 2)[[0, 1]] * np.array(np.pi if dtype == np.float64 else 1)
    assert (multihost.gather((whole + i).astype(dtype)) ==
            np.concatenate([whole, whole + 1]).astype(dtype)).all(), dtype
assert [multihost.share(5), multihost.share(4)] == [[slice(0, 2), slice(0, 2)],
                                                    [slice(2, 5), slice(2, 4)]][i]
order, mesh = [], make_mesh()
assert list(local(mesh).devices.flat) == jax.local_devices() and mesh.size == 4
with multihost.first_before_others("open"):
    order.append(i)
with multihost.alone():
    assert multihost.count() == 1 and multihost.first() and multihost.agree(i) == i
    assert list(local(mesh).devices.flat) == jax.local_devices()
multihost.wait("all")
try:
    multihost.same(i, "config")
except ValueError as error:
    print(error, flush=True)
if i == 1:
    time.sleep(30)
try:
    multihost.wait("nobody")
except ConnectionError as error:
    print(error, flush=True)
with multihost.before_exit(lambda: print("released", flush=True)):
    multihost.stopped("enough.", 3)
"""

MET = """
import sys
import time
from jaxle import multihost

where, count, me = (argument.partition("=")[2] for argument in sys.argv[1:])
multihost.start(where, int(count), int(me), patience=20)
multihost.wait("all")
print("met", flush=True)
time.sleep(1)
if me == "0" and sys.argv[0].endswith("says.py"):
    multihost.stopped("enough.", 3)
time.sleep(30)
"""


def test_without_others_nothing_changes():
    assert (multihost.count(), multihost.index(), multihost.first()) == (1, 0, True)
    assert multihost.agree("a") == "a" and multihost.each("a") == ["a"]
    assert multihost.share(7) == slice(0, 7)
    x = np.arange(3.0)
    assert (multihost.gather(x) == x).all()
    multihost.same(1, "config")
    multihost.wait("nobody")
    with multihost.first_before_others("open"), multihost.alone():
        assert multihost.first()
    multihost.finish()


@pytest.mark.parametrize(
    "given, words",
    [
        (("h:1", 0, -1), "expected all three"),
        (("", 2, 0), "expected all three"),
        (("h:1", 2, -1), "expected all three"),
        (("h:1", 2, 2), "expected 0 to 1"),
    ],
)
def test_what_does_not_say_which_process_this_is_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        multihost.start(*given)


@pytest.mark.parametrize(
    "environment, several",
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # an allocation, and no srun
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_ID": "0", "JAX_PLATFORMS": "cpu"}, False),
    ],
)
def test_the_environment_says_whether_there_are_others(environment, several):
    assert multihost.detected(environment) is several


def test_what_two_processes_tell_each_other(tmp_path):
    """Values, arrays of every kind, a config that differs, and one process that does not come."""
    script = tmp_path / "aside.py"
    script.write_text(ASIDE)
    first, second = together.start(2, [str(script)], tmp_path, dict(os.environ))
    status, said = first.end(60)
    assert status == 3 and said.rstrip().endswith("released"), said
    assert re.search(r"process 0 waited 4 s for process 1 of 2 \(pid \d+ on \S+\)", said)
    status, said = second.end(20)
    assert status == 3, said  # that of the one that ended first
    assert "process 1 of 2 has another config than process 0" in said
    assert re.search(r"process 0 of 2 \(pid \d+ on \S+\) stopped: enough\.", said)


def test_process_0_is_named_by_the_others_however_it_ends(tmp_path):
    """Without a word, killed; or with one, which is heard though asking who is there waits."""
    for name in ("says.py", "dies.py"):
        (tmp_path / name).write_text(MET)
    says, dies = (
        together.start(2, [str(tmp_path / name)], tmp_path, dict(os.environ))
        for name in ("says.py", "dies.py")
    )
    _await(dies, lambda: "met" in dies[1].log.read_text())
    dies[0].process.kill()
    status, said = dies[1].end(20)
    assert status == 1, said
    assert re.search(r"process 0 of 2 \(pid \d+ on \S+\) does not answer; what was", said)
    status, said = says[1].end(20)
    assert status == 3 and re.search(r"process 0 of 2 .* stopped: enough\.", said), said
    assert says[0].end(20)[0] == 3 and dies[0].end(5)[0] == -signal.SIGKILL


def test_a_process_that_meets_no_others_says_so(tmp_path):
    (tmp_path / "met.py").write_text(MET.replace("patience=20", "patience=1"))
    arguments = ["met.py", "--coordinator=127.0.0.1:1", "--processes=2", "--process=1"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "process 1 did not meet the others at 127.0.0.1:1: all must be started" in done.stderr


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"process 0 cannot listen at port .*{where}"):
            multihost.start(where, 2, 0)
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        multihost.start("127.0.0.1", 2, 0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process on one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    runs.quick(workdir, FIELDS)
    return workdir


def test_four_processes_of_which_one_is_killed_and_two_that_finish(alone, tmp_path_factory):
    """In a bucket: the others name the one that is gone, and two make the tables of one."""
    folder = tmp_path_factory.mktemp("together")
    environment = runs.environment(tmp_path_factory) | {
        "JAXLE_TEST_BUCKETS": str(folder),
        "PYTHONPATH": f"{runs.ROOT / 'tests' / 'bucket'}:{runs.ROOT}",
    }
    arguments = [*LAUNCH, "--config.workdir=gs://b/run", "--config.mesh.silence=5"]
    four = together.start(4, arguments, folder, environment)
    workdir = folder / "b" / "run"
    _await(four, lambda: any(workdir.glob("cache/fit-*/manifest.json")))
    four[2].process.kill()
    killed = time.monotonic()
    for number in (0, 1, 3):
        status, said = four[number].end(30)
        name = rf"process 2 of 4 \(pid {four[2].process.pid} on \S+\) does not answer"
        assert status == 1 and re.search(name, said), said
    assert time.monotonic() - killed < 20
    assert four[2].end(10)[0] == -signal.SIGKILL
    assert not (workdir / "scores.csv").exists()
    before = set(workdir.glob("cache/*/manifest.json"))
    assert before

    first, second = together.start(2, arguments, folder, environment)
    status, said = first.end(240)
    assert status == 0, said
    assert second.end(60)[0] == 0
    notes = runs.notes(workdir)
    assert sum(note["step"] == "pass" for note in notes) == 1  # the images were read once
    for method in ("label", "preconditioned"):
        _assert_close(workdir, alone, f"layer1/{method}/explanations.csv")
    _assert_close(workdir, alone, "scores.csv")


def _await(started, ready):
    until = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < until, [one.log.read_text() for one in started]
        for one in started:
            assert one.process.poll() is None, one.log.read_text()
        time.sleep(0.05)


def _assert_close(a: Path, b: Path, name: str) -> None:
    """The same names in the same places, and numbers to 1e-5."""
    one, other = (pd.read_csv(folder / name, keep_default_na=False) for folder in (a, b))
    assert list(one.columns) == list(other.columns)
    for column in one.columns:
        if one[column].dtype.kind == "f":
            np.testing.assert_allclose(one[column], other[column], atol=1e-5, rtol=1e-5)
        else:
            assert list(one[column]) == list(other[column]), column
