"""Whole runs: the files they leave, resuming, SIGKILL in every stage, the same bytes twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
CLOCK = {"timing.json", "metrics.jsonl"}
SMALL = ["--config.data.limit=500", "--config.target.taps=layer2,layer3", "--config.data.batch_size=64"]

# The program with its saves every 128 images, which dies by SIGKILL half way through the n-th file that a stage writes to its cache.
KILLER = """
import os, signal, sys
from jaxle import artifacts, probing
from etils import epath

probing.PART = 128
stage, nth = sys.argv.pop(1), int(sys.argv.pop(1))
whole, seen = artifacts.write_file, 0

def write_file(path, write):
    global seen
    if stage and f"cache/{stage}-" in os.fspath(path):
        seen += 1
        if seen == nth:
            epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
            (epath.Path(path).parent / f".{epath.Path(path).name}.tmp").write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)
    whole(path, write)

artifacts.write_file = write_file
from jaxle import launch
launch.run()
"""


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The user's environment, one device, with a compilation cache of the test session's own."""
    flags = {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    return {**os.environ, **flags}


def launch(environment, workdir, *arguments, config="quickstart", killer=None):
    program = ["-m", "jaxle.launch"] if killer is None else ["-c", KILLER, *map(str, killer)]
    command = [sys.executable, *program, f"--config={ROOT}/configs/{config}.py", f"--config.workdir={workdir}", *arguments]
    return subprocess.run(command, env=environment, cwd=workdir.parent, capture_output=True, text=True, timeout=600)


def files(workdir) -> dict[str, bytes]:
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name not in CLOCK
    }


@pytest.fixture(scope="session")
def finished(environment, tmp_path_factory):
    """A small run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = launch(environment, workdir, *SMALL)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_files_of_a_run(finished):
    workdir, done = finished
    for tap in ("layer2", "layer3"):
        table = jaxle.Explanations.from_csv(workdir / tap / "label" / "explanations.csv")
        assert set(table.flags) <= {"", "dead", "constant", "unexplained"} and "sim correlation" in table.scores
    scores = pd.read_csv(workdir / "scores.csv", keep_default_na=False)
    assert scores.groupby("tap").size().to_dict() == {"layer2": 32, "layer3": 64}
    assert np.isfinite(scores[["length", "val_correlation", "correlation", "ceiling"]].to_numpy(float)).all()
    summary = json.loads((workdir / "summary.json").read_text())
    record = summary["results"][-1]
    assert (record["tap"], record["method"], record["simulator"]) == ("layer3", "label", "labels")
    last = scores[scores["tap"] == "layer3"]
    live = last[last["flag"] != "dead"]
    assert record["n_dead"] == len(last) - len(live)
    assert record["mean_correlation"] == pytest.approx(live["correlation"].mean())
    assert record["sem_correlation"] == pytest.approx(live["correlation"].sem())
    assert record["mean_length"] == pytest.approx(live["length"].mean())
    assert record["mean_correlation"] <= record["mean_ceiling"] + 0.05
    assert "ground-truth labels themselves" in summary["notes"][0]
    assert "NaN" not in (workdir / "summary.json").read_text()
    assert "best" in done.stdout and "worst" in done.stdout


def test_explanations_predict_what_the_table_says(finished):
    """From the cache's raw arrays alone: simulate the table again and correlate with NumPy."""
    workdir, _ = finished
    probe = next(path for path in (workdir / "cache").glob("probe-*") if "layer3" in str(list(path.iterdir())) and _trained(path))
    names = json.loads((probe / "manifest.json").read_text())["facts"]["annotated"]
    annotations, activations = np.load(probe / "annotations.npy"), np.load(probe / "activations.layer3.npy")
    table = jaxle.Explanations.from_csv(workdir / "layer3" / "label" / "explanations.csv")
    test = np.load(workdir / "split" / "test.npy")
    for k, row in enumerate(table):
        simulated = sum(
            (w * annotations[test, names.index(c)] for w, c in zip(row.weights, row.concepts, strict=True)), np.zeros(len(test))
        )
        if simulated.std() == 0 or activations[test, k].std() == 0:
            assert table.scores["sim correlation"][k] == 0
        else:
            rho = np.corrcoef(simulated, activations[test, k].astype(np.float64))[0, 1]
            assert table.scores["sim correlation"][k] == pytest.approx(rho, abs=1e-4)


def _trained(probe) -> bool:
    return (json.loads((probe / "manifest.json").read_text())["facts"]["top1_accuracy"] or 0) > 0.5


def test_the_same_command_again_redoes_nothing(environment, finished):
    workdir, _ = finished
    before, lines = files(workdir), len((workdir / "metrics.jsonl").read_text().splitlines())
    again = launch(environment, workdir, *SMALL)
    assert again.returncode == 0, again.stderr
    notes = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()[lines:]]
    assert len(notes) > 5 and all(note["reused"] for note in notes)
    assert files(workdir) == before


def test_two_runs_give_the_same_bytes(environment, finished, tmp_path):
    workdir, _ = finished
    other = launch(environment, tmp_path / "other", *SMALL)
    assert other.returncode == 0, other.stderr
    assert files(tmp_path / "other") == files(workdir)


def test_a_changed_penalty_redoes_the_fit_and_not_the_probe(environment, finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", workdir, copy], check=True)
    (copy / "metrics.jsonl").unlink()
    assert launch(environment, copy, *SMALL, "--config.fit.lam=0.02").returncode == 0
    notes = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert {note["reused"] for note in notes if note["stage"] in ("probe", "fit-moments", "score-ceiling")} == {True}
    assert {note["reused"] for note in notes if note["stage"] in ("fit", "search", "simulate", "score")} == {False}


def test_killed_in_every_stage_it_ends_with_the_same_files(environment, finished, tmp_path):
    workdir, _ = finished
    for stage, nth in (("probe", 8), ("probe", 5), ("fit-moments", 3), ("fit", 2), ("search", 4), ("simulate", 1), ("score", 2)):
        killed = launch(environment, tmp_path / "run", *SMALL, killer=(stage, nth))
        assert killed.returncode == -signal.SIGKILL, (stage, killed.stderr)
    done = launch(environment, tmp_path / "run", *SMALL, killer=("", 0))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "run") == files(workdir)


def test_stages_one_at_a_time_equal_all_at_once(environment, finished, tmp_path):
    workdir, _ = finished
    early = launch(environment, tmp_path / "run", *SMALL, "--stages=search")
    assert early.returncode == 2 and "stage 'probe' is not complete" in early.stderr
    for stages in ("probe,fit", "search,simulate", STAGES[-1]):
        done = launch(environment, tmp_path / "run", *SMALL, f"--stages={stages}")
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "run") == files(workdir)


def test_a_flipped_byte_in_the_cache_is_found_and_mended(environment, finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", workdir, copy], check=True)
    damaged = next((copy / "cache").glob("fit-*/order.npy"))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    done = launch(environment, copy, *SMALL)
    assert done.returncode == 0 and "is damaged" in done.stderr
    assert files(copy) == files(workdir)
