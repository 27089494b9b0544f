"""Whole runs: the files they leave, resuming, SIGKILL in every stage, the same bytes twice."""

import json
import signal
import subprocess

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.pipeline.stages import STAGES
from tests import runs
from tests.runs import files, notes

# The program with its saves every 128 images, which ends by SIGKILL half way through the n-th file
# that a step writes to its cache.
KILLER = """
import os, signal, sys
from jaxle import artifacts
from jaxle.pipeline import parts
from etils import epath

parts.SMALLEST = 128
step, nth = sys.argv.pop(1), int(sys.argv.pop(1))
whole, seen = artifacts.write_file, 0

def write_file(path, write):
    global seen
    if step and f"cache/{step}-" in os.fspath(path):
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
METHODS = {
    "label": ("labels", "siglip"),
    "ours": ("labels", "siglip"),
    "siglip": ("siglip",),
    "nonsense": ("siglip",),
}
COLUMNS = (
    "length val_correlation correlation correlation_low correlation_high specificity "
    "retrieval_rank control_p_value control_q_value p_value q_value "
    "cosine auprc f1 iou r2 base_rate "
    "ablation_excess ablation_constant ablation_optim ablation_norm ablation_scale ablation_shift "
    "ceiling"
).split()
# what some tests are not about
LESS = (
    "--config.evaluation.ablation=",
    "--config.evaluation.impact=False",
    "--config.evaluation.ceiling=False",
    f"--stages={','.join(runs.SCORED)}",
)


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run in a folder of the test's own."""
    subprocess.run(["cp", "-r", finished.workdir, tmp_path / "run"], check=True)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    return tmp_path / "run"


def test_files_of_a_run(finished):
    workdir = finished.workdir
    for method, simulators in METHODS.items():
        table = jaxle.Explanations.from_csv(workdir / "layer3" / method / "explanations.csv")
        assert set(table.flags) <= {"", "dead", "constant", "unexplained"}
        assert {"sim correlation", "sim ablation(optim)", "sim ablation(norm)"} <= set(table.scores)
        parts = pd.read_csv(workdir / "layer3" / method / "concepts.csv", keep_default_na=False)
        assert parts["equivalent"].map(lambda text: len(text.split(" | ")) <= 3).all()
        assert len(parts) == table.lengths.sum()
        sums = parts.groupby("unit")[f"share {simulators[0]}"].sum()
        assert np.allclose(sums[sums != 0], 1, atol=1e-4)
    scores = pd.read_csv(workdir / "scores.csv", keep_default_na=False)
    assert scores.groupby(["method", "simulator"]).size().to_dict() == {
        (m, s): 64 for m, those in METHODS.items() for s in those
    }
    assert np.isfinite(scores[COLUMNS].to_numpy(float)).all()
    assert (scores["correlation_low"] <= scores["correlation"]).all()
    assert (scores["correlation"] <= scores["correlation_high"]).all()
    summary = json.loads((workdir / "summary.json").read_text())
    for record in summary["results"]:
        rows = scores[
            (scores["method"] == record["method"]) & (scores["simulator"] == record["simulator"])
        ]
        live = rows[rows["flag"] != "dead"]
        assert record["n_dead"] == len(rows) - len(live)
        assert record["mean_correlation"] == pytest.approx(live["correlation"].mean())
        assert record["sem_correlation"] == pytest.approx(live["correlation"].sem())
        low, high = record["mean_correlation_low"], record["mean_correlation_high"]
        assert low < record["mean_correlation"] < high
        assert record["mean_length"] == pytest.approx(live["length"].mean())
        assert record["n_explained"] == (live["q_value"] <= 0.05).sum()
        assert record.get("n_better", 0) == (live["control_q_value"] <= 0.05).sum()
        own = np.mean(record["control_correlations"])
        assert record["excess"] == pytest.approx(record["mean_correlation"] - own)
        assert own == pytest.approx(record["untrained_mean_correlation"])
        assert 0 <= record["permuted_val_correlation"] < 1  # of refits: 0 where none explains
        assert abs(record["permuted_correlation"]) < 0.2
        assert record["mean_ablation_optim"] == pytest.approx(
            live["ablation_optim"].mean(), rel=1e-5, abs=1e-6
        )
        assert record["ablation_path"] == "linear"
    by = {(record["method"], record["simulator"]): record for record in summary["results"]}
    assert by["ours", "labels"]["mean_length"] <= by["label", "labels"]["mean_length"]
    assert by["siglip", "siglip"][f"screened_out_{runs.FOREIGN}"] >= 0.9
    nonsense, siglip = (by[name, "siglip"]["mean_correlation"] for name in ("nonsense", "siglip"))
    assert nonsense < siglip / 2
    assert summary["top_impact"]["all"]["0.5"] > 0.5
    assert {(c["method"], c["against"], c["simulator"]) for c in summary["comparisons"]} >= {
        ("ours", "label", "labels")
    }
    assert [a["methods"] for a in summary["agreement"]] == [["label", "ours"]]
    encoders = summary["encoders"].values()
    assert all(encoder["nll"] > 0 and encoder["scale"] > 0 for encoder in encoders)
    assert any("ground-truth labels themselves" in note for note in summary["notes"])
    assert any(note.startswith("Only 2 untrained networks") for note in summary["notes"])
    assert "NaN" not in (workdir / "summary.json").read_text()
    assert all(word in finished.stdout for word in ("test ρ", "Top Impact", "Report: "))
    assert len(finished.stdout.splitlines()) <= 16


def test_explanations_predict_what_the_table_says(finished):
    """From the cache's raw arrays alone: simulate the table again and correlate with NumPy."""
    workdir = finished.workdir
    index = json.loads((workdir / "run.json").read_text())["arrays"]
    labels = workdir / "cache" / index["labels"]
    names = json.loads((labels / "manifest.json").read_text())["facts"]["annotated"]
    annotations = np.load(labels / "annotations.npy")
    activations = np.load(workdir / "cache" / index["networks"]["trained"] / "layer3.npy")
    table = jaxle.Explanations.from_csv(workdir / "layer3" / "label" / "explanations.csv")
    test = np.load(workdir / "split" / "test.npy")
    for k, row in enumerate(table):
        simulated = np.zeros(len(test))
        for weight, concept in zip(row.weights, row.concepts, strict=True):
            simulated += weight * annotations[test, names.index(concept)]
        if simulated.std() == 0 or activations[test, k].std() == 0:
            assert table.scores["sim correlation"][k] == 0
        else:
            rho = np.corrcoef(simulated, activations[test, k].astype(np.float64))[0, 1]
            assert table.scores["sim correlation"][k] == pytest.approx(rho, abs=1e-4)


def test_an_encoder_that_simulates_itself_is_flagged(place, copy):
    done = place.launch(copy, "--config.simulators.siglip.model=scenes_siglip_s", *LESS)
    assert done.returncode == 0, done.stderr
    assert "these scores are too high" in done.stdout
    records = json.loads((copy / "summary.json").read_text())["results"]
    assert [r["method"] for r in records if r.get("simulated_by_explainer")] == [
        "nonsense",
        "siglip",
    ]


def test_the_same_command_again_redoes_nothing(place, copy):
    before = files(copy)
    again = place.launch(copy, "--verbose")
    assert again.returncode == 0, again.stderr
    assert all(word in again.stdout for word in ("best", "worst", "ours against label"))
    assert "  score, layer3, ours by siglip: found in the cache" in again.stderr
    assert len(notes(copy)) > 5 and all(note["reused"] for note in notes(copy))
    assert files(copy) == before


def test_a_changed_penalty_redoes_the_explanations_and_not_the_fit(place, copy):
    done = place.launch(copy, "--config.fit.lam=0.1", *LESS)
    assert done.returncode == 0, done.stderr
    # texts: a simulator embeds words that passed screening, which the penalty does not touch
    kept = ("labels", "probe", "texts", "calibration", "fit", "on_test")
    assert {note["step"] for note in notes(copy)} > {*kept, "explain", "simulate", "score"}
    assert all(note["reused"] for note in notes(copy) if note["step"] in kept)
    redone = [n["what"] for n in notes(copy) if n["step"] == "explain" and not n["reused"]]
    assert {"layer3, label", "layer3, siglip", "layer3, nonsense"} <= set(redone)


def test_killed_in_every_stage_it_ends_with_the_same_files(place, finished, tmp_path):
    """Stage after stage is asked for by itself, and each is killed once before it may end."""
    early = place.launch(tmp_path / "run", "--stages=explain")
    assert early.returncode == 2 and "stage 'probe' is not complete" in early.stderr
    for stages, step, nth in (
        ("probe,fit", "probe", 8),
        ("probe,fit", "fit", 3),
        ("fit,explain", "explain", 4),
        ("explain,simulate", "simulate", 1),
        ("simulate,score", "score", 2),
        ("score,report", "maps", 1),
    ):
        program = ("-c", KILLER, step, str(nth))
        killed = place.launch(tmp_path / "run", f"--stages={stages}", program=program)
        assert killed.returncode == -signal.SIGKILL, (step, killed.stderr)
    done = place.launch(tmp_path / "run", f"--stages={STAGES[-1]}", program=("-c", KILLER, "", "0"))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "run") == files(finished.workdir)


def test_a_flipped_byte_in_the_cache_is_found_and_mended(place, finished, copy):
    damaged = next((copy / "cache").glob("explain-*/weights.npy"))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    done = place.launch(copy)
    assert done.returncode == 0 and "is damaged" in done.stderr
    assert files(copy) == files(finished.workdir)
