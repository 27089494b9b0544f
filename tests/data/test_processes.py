"""Worker processes: the same pictures, started from any script, and ended at once by Ctrl-C."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.runs import ROOT

SOURCE = """
import numpy as np

class Numbers:
    "Pictures of one colour; some end their process."
    class_names, labels, annotations = (), None, None
    def __init__(self, n, fatal=-1, slow=-1): self.n, self.fatal, self.slow = n, fatal, slow
    def __len__(self): return self.n
    def __getitem__(self, i):
        if i == self.fatal:
            import os
            os._exit(9)
        if i == self.slow:
            import time
            time.sleep(600)
        return np.full((64, 64, 3), i % 256, np.uint8), -1
    def fingerprint_fields(self): return {"n": self.n}
"""
READ = """
from jaxle.data.loader import Decoding, batches
from jaxle.images import Preprocess

print("starting", flush=True)
"""
LOOP = """
FITS = {"net": Preprocess("squash", 32)}
for rows, images, *_ in batches(Numbers(COUNT), FITS, 64, how=Decoding(workers=2)):
    assert (images["net"][: len(rows)] == (rows % 256)[:, None, None, None]).all()
    print(rows[-1], flush=True)
"""


@pytest.fixture
def launch():
    """Starts Python in a group of processes of its own, as a terminal does; ends what is left.

    A shell's background job ignores Ctrl-C, and so would all that it starts: not here.
    """
    before, started = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def begin(*arguments, stderr=subprocess.PIPE):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        )
        started.append(process)
        return process

    yield begin
    signal.signal(signal.SIGINT, before)
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def start(tmp_path, launch):
    """Starts a text as a script."""

    def begin(text):
        (tmp_path / "script.py").write_text(text)
        return launch("-u", tmp_path / "script.py")

    return begin


def test_a_script_without_a_main_guard_reads_by_processes(start):
    """Its own class too: no process imports the script again."""
    out, err = start(SOURCE + READ + LOOP.replace("COUNT", "200")).communicate(timeout=120)
    assert (out.split(), err) == (["starting", "63", "127", "191", "199"], "")


def test_a_process_that_ends_by_itself_is_one_sentence(start):
    caught = f"try:\n{LOOP.replace('COUNT', '200, 150')}\n".replace("\n", "\n    ")
    caught += "\nexcept ChildProcessError as error:\n    print(error)\n"
    out, err = start(SOURCE + READ + caught).communicate(timeout=120)
    assert "Traceback" not in err
    assert out.splitlines()[-1].startswith("a process that decodes images ended by itself (Worker")
    assert out.splitlines()[-1].endswith("code 9): expected fewer data.workers, or 0 for threads")


def ended(process):
    """Waits until no process of the group is left."""
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    return True


def test_a_process_that_hangs_is_ended_and_its_images_are_named(start):
    loop = LOOP.replace("COUNT", "200, -1, 150").replace("workers=2", "workers=2, timeout=6")
    caught = f"try:\n{loop}\n".replace("\n", "\n    ")
    caught += "\nexcept TimeoutError as error:\n    print(error, flush=True)"
    process = start(SOURCE + READ + caught)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.split("\n")[:3] == ["starting", "63", "127"]
    assert out.splitlines()[-1].startswith(
        "images 128 to 159 (image 128 to image 159) were not decoded within data.timeout=6 seconds"
    )
    assert ended(process)


@pytest.mark.parametrize("lines", [1, 3])  # while they start; while they run
def test_an_interrupt_ends_all_at_once_and_prints_nothing(start, lines):
    caught = f"try:\n{LOOP.replace('COUNT', '10**7')}\n".replace("\n", "\n    ")
    caught += "\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n    os._exit(130)"
    process = start("import os\n" + SOURCE + READ + caught)
    for _ in range(lines):
        assert process.stdout.readline()
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and out.splitlines()[-1] == "interrupted" and err == ""
    assert ended(process)


def test_processes_end_with_the_one_that_was_killed(start):
    process = start(SOURCE + READ + LOOP.replace("COUNT", "10**7"))
    for _ in range(2):
        assert process.stdout.readline()
    process.kill()
    process.stdout.close()
    process.wait(20)
    assert ended(process)


CONFIG = """
from jaxle.pipeline import defaults

def get_config():
    config = defaults.get_config()
    config.data.source = "arrays:FOLDER"
    config.data.workers = 2
    config.data.batch_size = 8
    return config
"""


@pytest.mark.parametrize(
    "number, status, words",
    [
        (signal.SIGINT, 130, "jaxle: interrupted; the same command resumes."),
        (
            signal.SIGTERM,
            75,
            "jaxle: stopped by SIGTERM after saving part 0 of the probe pass; the ",
        ),
    ],
)
def test_a_run_by_processes_ends_with_one_sentence(tmp_path, launch, number, status, words):
    """Every process of a terminal gets Ctrl-C, and every one of a job SIGTERM."""
    np.save(tmp_path / "images.npy", np.zeros((2000, 64, 64, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(2000) % 2)
    (tmp_path / "config.py").write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    process = launch(
        "-m",
        "jaxle.launch",
        "--verbose",
        f"--config={tmp_path}/config.py",
        f"--config.workdir={tmp_path}/run",
        stderr=subprocess.STDOUT,
    )
    lines = []
    while "labels, " not in (line := process.stdout.readline()):  # the pass comes next
        lines.append(line)
        assert line, lines
    time.sleep(1)
    os.killpg(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in out, out
    assert out.splitlines()[-1].startswith(words)
    assert ended(process)
