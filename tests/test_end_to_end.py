"""Whole runs: the files they leave, resuming, SIGKILL in every stage, the same bytes twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
CLOCK = {"timing.json", "metrics.jsonl"}

# Everything that a run can do, on few images: methods by labels and by an encoder, both searches, two simulators, all controls.
SMALL = """
from configs import common

def get_config():
    config = common.get_config()
    config.data.limit = 300
    config.data.batch_size = 64
    config.target.taps = ("layer3",)
    config.concepts.sets = ("annotations", "foreign")
    config.methods.ours = common.label("preconditioned", "label")
    config.methods.siglip = common.siglip("scenes_siglip_s")
    config.methods.nonsense = common.nonsense("scenes_siglip_s")
    config.simulators.siglip = common.tower("scenes_siglip_m")
    config.evaluation.permutations = 2
    config.evaluation.draws = 50
    config.evaluation.ablation = "best"
    config.evaluation.impact = True
    return config
"""

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


class Place(NamedTuple):
    """Where runs happen: the user's environment, and a folder of configs."""

    environment: dict[str, str]
    configs: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """One device, a compilation cache of the test session's own, and `small.py` beside the project's common.py."""
    flags = {
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }
    configs = tmp_path_factory.mktemp("experiments") / "configs"
    configs.mkdir()
    (configs / "common.py").write_bytes((ROOT / "configs" / "common.py").read_bytes())
    (configs / "small.py").write_text(SMALL)
    return Place({**os.environ, **flags}, configs)


def launch(place, workdir, *arguments, killer=None):
    program = ["-m", "jaxle.launch"] if killer is None else ["-c", KILLER, *map(str, killer)]
    command = [
        sys.executable,
        *program,
        f"--config={place.configs}/small.py",
        f"--config.workdir={workdir}",
        *arguments,
    ]
    environment = place.environment
    return subprocess.run(
        command, env=environment, cwd=workdir.parent, capture_output=True, text=True, timeout=600
    )


def files(workdir) -> dict[str, bytes]:
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name not in CLOCK
    }


@pytest.fixture(scope="session")
def finished(place, tmp_path_factory):
    """A small run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = launch(place, workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


METHODS = {
    "label": ("labels", "siglip"),
    "ours": ("labels", "siglip"),
    "siglip": ("siglip",),
    "nonsense": ("siglip",),
}
COLUMNS = (
    "length val_correlation correlation correlation_low correlation_high specificity retrieval_rank p_value q_value "
    "cosine auprc f1 iou r2 base_rate ablation_optim ablation_norm ceiling"
).split()


def test_files_of_a_run(finished):
    workdir, done = finished
    for method, simulators in METHODS.items():
        table = jaxle.Explanations.from_csv(workdir / "layer3" / method / "explanations.csv")
        assert set(table.flags) <= {"", "dead", "constant", "unexplained"}
        assert {"sim correlation", "sim ablation(optim)", "sim ablation(norm)"} <= set(table.scores)
        parts = pd.read_csv(workdir / "layer3" / method / "concepts.csv")
        assert len(parts) == table.lengths.sum()
        sums = parts.groupby("unit")[f"share {simulators[0]}"].sum()
        assert np.allclose(sums[sums != 0], 1, atol=1e-4)
    scores = pd.read_csv(workdir / "scores.csv", keep_default_na=False)
    assert scores.groupby(["method", "simulator"]).size().to_dict() == {
        (m, s): 64 for m, those in METHODS.items() for s in those
    }
    assert np.isfinite(scores[COLUMNS].to_numpy(float)).all()
    assert (
        (scores["correlation_low"] <= scores["correlation"])
        & (scores["correlation"] <= scores["correlation_high"])
    ).all()
    summary = json.loads((workdir / "summary.json").read_text())
    for record in summary["results"]:
        rows = scores[
            (scores["method"] == record["method"]) & (scores["simulator"] == record["simulator"])
        ]
        live = rows[rows["flag"] != "dead"]
        assert record["n_dead"] == len(rows) - len(live)
        assert record["mean_correlation"] == pytest.approx(live["correlation"].mean())
        assert record["sem_correlation"] == pytest.approx(live["correlation"].sem())
        assert (
            record["mean_correlation_low"]
            < record["mean_correlation"]
            < record["mean_correlation_high"]
        )
        assert record["mean_length"] == pytest.approx(live["length"].mean())
        assert record["n_explained"] == (live["q_value"] <= 0.05).sum()
        assert record["mean_ablation_optim"] == pytest.approx(
            live["ablation_optim"].mean(), rel=1e-5, abs=1e-6
        )
        assert record["ablation_path"] == "linear"
    by = {(record["method"], record["simulator"]): record for record in summary["results"]}
    assert by["ours", "labels"]["mean_length"] <= by["label", "labels"]["mean_length"]
    assert by["siglip", "siglip"]["screened_out_foreign"] >= 0.9
    assert (
        by["nonsense", "siglip"]["mean_correlation"]
        < by["siglip", "siglip"]["mean_correlation"] / 2
    )
    assert summary["top_impact"]["all"]["0.5"] > 0.5
    assert {(c["method"], c["against"], c["simulator"]) for c in summary["comparisons"]} >= {
        ("ours", "label", "labels")
    }
    assert [a["methods"] for a in summary["agreement"]] == [["label", "ours"]]
    assert all(
        encoder["nll"] > 0 and encoder["scale"] > 0 for encoder in summary["encoders"].values()
    )
    assert "ground-truth labels themselves" in summary["notes"][0]
    assert "NaN" not in (workdir / "summary.json").read_text()
    assert "best" in done.stdout and "worst" in done.stdout and "ours against label" in done.stdout


def test_explanations_predict_what_the_table_says(finished):
    """From the cache's raw arrays alone: simulate the table again and correlate with NumPy."""
    workdir, _ = finished
    probe = next(path for path in (workdir / "cache").glob("probe-*") if _trained(path))
    names = json.loads((probe / "manifest.json").read_text())["facts"]["annotated"]
    annotations, activations = (
        np.load(probe / "annotations.npy"),
        np.load(probe / "activations.layer3.npy"),
    )
    table = jaxle.Explanations.from_csv(workdir / "layer3" / "label" / "explanations.csv")
    test = np.load(workdir / "split" / "test.npy")
    for k, row in enumerate(table):
        simulated = sum(
            (
                w * annotations[test, names.index(c)]
                for w, c in zip(row.weights, row.concepts, strict=True)
            ),
            np.zeros(len(test)),
        )
        if simulated.std() == 0 or activations[test, k].std() == 0:
            assert table.scores["sim correlation"][k] == 0
        else:
            rho = np.corrcoef(simulated, activations[test, k].astype(np.float64))[0, 1]
            assert table.scores["sim correlation"][k] == pytest.approx(rho, abs=1e-4)


def test_an_encoder_that_simulates_itself_is_flagged(place, finished, tmp_path):
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", finished[0], copy], check=True)
    done = launch(place, copy, "--config.simulators.siglip.model=scenes_siglip_s")
    assert done.returncode == 0, done.stderr
    assert "these scores are too high" in done.stdout
    records = json.loads((copy / "summary.json").read_text())["results"]
    assert [r["method"] for r in records if r.get("simulated_by_explainer")] == [
        "nonsense",
        "siglip",
    ]


def _trained(probe) -> bool:
    return (
        json.loads((probe / "manifest.json").read_text())["facts"].get("top1_accuracy") or 0
    ) > 0.5


def test_the_same_command_again_redoes_nothing(place, finished):
    workdir, _ = finished
    before, lines = files(workdir), len((workdir / "metrics.jsonl").read_text().splitlines())
    again = launch(place, workdir)
    assert again.returncode == 0, again.stderr
    notes = [
        json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()[lines:]
    ]
    assert len(notes) > 5 and all(note["reused"] for note in notes)
    assert files(workdir) == before


def test_two_runs_give_the_same_bytes(place, finished, tmp_path):
    workdir, _ = finished
    other = launch(place, tmp_path / "other")
    assert other.returncode == 0, other.stderr
    assert files(tmp_path / "other") == files(workdir)


def test_a_changed_penalty_redoes_the_fit_and_not_the_probe(place, finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", workdir, copy], check=True)
    (copy / "metrics.jsonl").unlink()
    assert launch(place, copy, "--config.fit.lam=0.02").returncode == 0
    notes = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert {
        note["reused"]
        for note in notes
        if note["stage"] in ("probe", "probe-calibration", "fit-moments", "score-ceiling")
    } == {True}
    assert {note["reused"] for note in notes if note["stage"] == "fit"} == {False}
    redone = {
        note["what"].partition(",")[2]
        for note in notes
        if note["stage"] == "search" and not note["reused"]
    }
    assert {" label", " siglip"} <= redone


def test_killed_in_every_stage_it_ends_with_the_same_files(place, finished, tmp_path):
    workdir, _ = finished
    for stage, nth in (
        ("probe", 8),
        ("fit-moments", 3),
        ("fit", 2),
        ("search", 4),
        ("simulate", 1),
        ("score", 2),
    ):
        killed = launch(place, tmp_path / "run", killer=(stage, nth))
        assert killed.returncode == -signal.SIGKILL, (stage, killed.stderr)
    done = launch(place, tmp_path / "run", killer=("", 0))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "run") == files(workdir)


def test_stages_one_at_a_time_equal_all_at_once(place, finished, tmp_path):
    workdir, _ = finished
    early = launch(place, tmp_path / "run", "--stages=search")
    assert early.returncode == 2 and "stage 'probe' is not complete" in early.stderr
    for stages in ("probe,fit", "search,simulate", STAGES[-1]):
        done = launch(place, tmp_path / "run", f"--stages={stages}")
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "run") == files(workdir)


def test_a_flipped_byte_in_the_cache_is_found_and_mended(place, finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "run"
    subprocess.run(["cp", "-r", workdir, copy], check=True)
    damaged = next((copy / "cache").glob("fit-*/order.npy"))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    done = launch(place, copy)
    assert done.returncode == 0 and "is damaged" in done.stderr
    assert files(copy) == files(workdir)
