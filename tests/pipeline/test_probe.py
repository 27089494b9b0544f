"""What the probe reads: each network once, whatever is asked of its output."""

import json

import numpy as np
import pytest

from jaxle.data.scenes import ScenesSource
from jaxle.pipeline import defaults
from jaxle.scenes import CLASS_NAMES
from tests import runs

ACCURACY = {"data.limit": 300}


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A workdir in which the network was probed under its own class names."""
    workdir = tmp_path_factory.mktemp("used") / "run"
    assert runs.quick(workdir, ACCURACY)["top1_accuracy"] == pytest.approx(0.9867, abs=1e-4)
    return workdir


def reused(workdir):
    return {note["what"]: note["reused"] for note in runs.notes(workdir) if note["step"] == "probe"}


def test_class_names_are_read_anew_in_a_used_workdir(used):
    """Two names swapped: what the network predicts is the same, and what it is called is not."""
    first, second, *rest = CLASS_NAMES
    (used / "metrics.jsonl").unlink()
    swapped = {**ACCURACY, "target.class_names": (second, first, *rest)}
    assert runs.quick(used, swapped)["top1_accuracy"] == pytest.approx(0.8333, abs=1e-4)
    assert reused(used) == {"scenes_resnet on 300 images": True}
    own = {**ACCURACY, "target.class_names": ("x", first, second, *rest[1:])}
    assert runs.quick(used, own)["top1_accuracy"] is None  # a class of the data has no name
    assert runs.quick(used, ACCURACY)["top1_accuracy"] == pytest.approx(0.9867, abs=1e-4)


def test_one_pass_reads_what_the_cache_lacks(used, monkeypatch):
    """A second network decodes the images once more, for itself alone."""
    decoded, real = [], ScenesSource.__getitem__
    monkeypatch.setattr(
        ScenesSource, "__getitem__", lambda self, i: decoded.append(i) or real(self, i)
    )
    (used / "metrics.jsonl").unlink()
    simulated = {**ACCURACY, "simulators.siglip": defaults.tower("scenes_siglip_m")}
    runs.quick(used, simulated, ("probe",))
    assert sorted(decoded) == list(range(300))
    assert reused(used) == {
        "scenes_resnet on 300 images": True,
        "scenes_siglip_m on 300 images": False,
    }
    assert not list((used / "cache").glob("probe-parts-*"))


def test_a_tap_more_is_probed_and_what_was_probed_stays(used):
    two = {**ACCURACY, "target.taps": ("layer1", "layer2")}
    before = {path.name for path in (used / "cache").iterdir()}
    runs.quick(used, two, ("probe",))
    new = [path for path in (used / "cache").iterdir() if path.name not in before]
    probe = next(path for path in new if path.name.startswith("probe-"))
    assert sorted(path.stem for path in probe.glob("*.npy")) == [
        "layer1",
        "layer2",
        "pictures",
        "predicted",
    ]


def test_a_siglip_target_has_its_controls(tmp_path):
    """An encoder is explained as any network is, and so are its untrained and shuffled twins."""
    fields = {
        "target.model": "scenes_siglip_s",
        "target.taps": ("img/Transformer/encoderblock_0/MlpBlock_0/Dense_1:in",),
        "evaluation.shuffled": True,
        "evaluation.controls": 2,
    }
    summary = runs.quick(tmp_path / "run", fields)
    assert summary["model"] == "scenes_siglip_s" and summary["top1_accuracy"] is None
    (record,) = summary["results"]
    means = [record[f"{name}mean_correlation"] for name in ("", "shuffled_", "untrained_")]
    assert np.isfinite(means).all() and len(set(means)) == 3
    arrays = json.loads((tmp_path / "run" / "run.json").read_text())["arrays"]
    assert set(arrays["networks"]) == {"trained", "untrained-1", "untrained-2", "shuffled"}
    tap = "img.Transformer.encoderblock_0.MlpBlock_0.Dense_1:in.npy"
    values = [
        np.load(tmp_path / "run" / "cache" / name / tap) for name in arrays["networks"].values()
    ]
    assert len({own.tobytes() for own in values}) == 4
    assert record["n_controls"] == 2 and len(record["control_correlations"]) == 2
    assert np.mean(record["control_correlations"]) == pytest.approx(means[2])
