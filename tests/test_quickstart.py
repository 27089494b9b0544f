"""What the two shipped experiments must show: the quickstart, and the trained ResNet-20 on real CIFAR-10 images.

The 80 % rule: where at least 80 of a neuron's 100 most activating test images show one class, the explanation begins with that class or
with a superclass of it. It is asked of the target's classes. Many attributes and superclasses are borne by half of all images: 80 large
things among 100 say little, and a neuron that fires for chessboards, windows and parcels, most of them square, and for no other square,
is not "square".
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxle
from jaxle.concepts.labels import LabelConcepts

ROOT = Path(__file__).resolve().parent.parent
TOP, SHARE = 100, 0.8


def launch(config, workdir, *arguments):
    environment = {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(workdir.parent / "xla"),
    }
    command = [
        sys.executable,
        "-m",
        "jaxle.launch",
        f"--config={ROOT}/configs/{config}.py",
        f"--config.workdir={workdir}",
        *arguments,
    ]
    done = subprocess.run(
        command, env=environment, cwd=workdir.parent, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads((workdir / "summary.json").read_text())


def exceptions_to_the_rule(workdir, tap, superclasses=None):
    """(neurons that the rule speaks of, those that break it), from the run's raw arrays."""
    manifests = {
        path.parent: json.loads(path.read_text())["facts"]
        for path in (workdir / "cache").glob("probe-*/manifest.json")
    }
    probe, facts = max(manifests.items(), key=lambda item: item[1].get("top1_accuracy", -1))
    labels = np.load(probe / "labels.npy")
    annotations = (
        (facts["annotated"], np.load(probe / "annotations.npy")) if "annotated" in facts else None
    )
    probs = LabelConcepts.make(labels, facts["class_names"], superclasses, annotations)
    present = probs.rows(np.arange(len(labels))) > 0
    classes = [probs.concepts.index(name) for name in facts["class_names"]]
    test = np.load(workdir / "split" / "test.npy")
    activations = np.load(probe / f"activations.{tap}.npy")[test]
    spoken_of, broken = 0, []
    for k, row in enumerate(
        jaxle.Explanations.from_csv(workdir / tap / "label" / "explanations.csv")
    ):
        top = test[np.argsort(-activations[:, k], kind="stable")[:TOP]]
        pure = [j for j in classes if present[top, j].mean() >= SHARE]
        first = present[:, probs.concepts.index(row.concepts[0])]
        spoken_of += bool(pure)
        if pure and not any((present[:, j] <= first).all() for j in pure):
            broken.append((k, str(row), [probs.concepts[j] for j in pure]))
    return spoken_of, broken


def test_quickstart(tmp_path):
    summary = launch("quickstart", tmp_path / "run")
    records = {(r["tap"], r["method"], r["simulator"]): r for r in summary["results"]}
    record = records["layer3", "label", "labels"]
    assert record["n_neurons"] - record["n_dead"] >= 32
    assert summary["top1_accuracy"] >= 0.9
    assert record["mean_correlation"] >= 0.6
    assert record["mean_correlation"] <= record["mean_ceiling"]
    assert record["untrained_mean_correlation"] < record["mean_correlation"] / 2
    assert record["mean_length"] <= 6 and record["n_explained"] == record["n_neurons"]
    siglip = records["layer3", "siglip", "siglip"]
    assert siglip["screened_out_foreign"] >= 0.95
    assert (
        siglip["mean_correlation"] >= 0.6
        and siglip["untrained_mean_correlation"] < siglip["mean_correlation"] / 2
    )
    for comparison in summary[
        "comparisons"
    ]:  # jaxle's search against the paper's, at no greater mean length
        if (comparison["method"], comparison["against"]) == ("preconditioned", "label"):
            tap, simulator = comparison["tap"], comparison["simulator"]
            assert (
                records[tap, "preconditioned", simulator]["mean_length"]
                <= records[tap, "label", simulator]["mean_length"]
            )
            assert comparison["mean_low"] > 0
    spoken_of, broken = exceptions_to_the_rule(tmp_path / "run", "layer3")
    assert spoken_of >= 1 and not broken


def test_resnet20_on_real_cifar10(test_data, torch, tmp_path):
    from configs import resnet20_cifar10

    summary = launch(
        "resnet20_cifar10",
        tmp_path / "run",
        f"--config.data.source=folder:{test_data}/cifar10/test",
        f"--config.target.weights={test_data}/cifar10/resnet20-12fca82f.th",
    )
    assert summary["n_images"] == 10_000 and summary["top1_accuracy"] == pytest.approx(
        0.80, abs=0.015
    )
    records = {(r["tap"], r["method"]): r for r in summary["results"]}
    assert [records[tap, "label"]["n_neurons"] for tap in ("layer1", "layer2", "layer3")] == [
        16,
        32,
        64,
    ]
    assert records["layer3", "label"]["mean_correlation"] >= 0.6
    for tap in ("layer1", "layer2", "layer3"):
        paper, own = records[tap, "label"], records[tap, "preconditioned"]
        assert (
            own["mean_length"] <= paper["mean_length"]
            and own["mean_correlation"] >= paper["mean_correlation"] - 0.005
        )
    superclasses = resnet20_cifar10.get_config().concepts.superclasses.to_dict()
    used = set()
    for tap in ("layer1", "layer2", "layer3"):
        spoken_of, broken = exceptions_to_the_rule(tmp_path / "run", tap, superclasses)
        assert not broken and (spoken_of >= 5 or tap != "layer3")
        used |= set(
            jaxle.Explanations.from_csv(
                tmp_path / "run" / tap / "label" / "explanations.csv"
            ).concepts
        )
    assert {"animal", "vehicle"} <= used
