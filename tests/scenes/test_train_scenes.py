"""The shipped target network is what the docs say, and the script that made it learns."""

import csv
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxle.models.cifar_resnet import CifarResNet, scenes_resnet
from jaxle.scenes import CLASS_NAMES
from tools import train_scenes

CHECKPOINT = resources.files("jaxle.scenes") / "checkpoints" / "target.npz"
ACCURACY = 0.968  # on the held-out world of the log
LOG = Path(__file__).parents[2] / "tools" / "scenes_target_log.csv"


@pytest.fixture(scope="module")
def variables():
    with resources.as_file(CHECKPOINT) as path, np.load(path, allow_pickle=False) as file:
        return traverse_util.unflatten_dict(
            {name: jnp.asarray(file[name]) for name in file.files}, sep="/"
        )


def test_checkpoint_is_small_and_accurate(variables):
    assert len(CHECKPOINT.read_bytes()) <= 1_000_000
    assert (
        train_scenes.accuracy(variables, 7, 1000) >= ACCURACY - 0.02
    )  # a world that neither training nor its log has seen


def test_log_states_the_checkpoint():
    rows = list(csv.DictReader(LOG.read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == train_scenes.COLUMNS
    assert (
        float(rows[-1]["test_accuracy"]) >= ACCURACY
        and f"{float(rows[-1]['test_accuracy']) * 100:.1f} %" in train_scenes.__doc__
    )
    assert float(rows[-1]["train_loss"]) < 0.3 * float(rows[0]["train_loss"])


def test_network_costs_at_most_60_megaflop_an_image(variables):
    module = CifarResNet(scenes_resnet(len(CLASS_NAMES)))
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    cost = jax.jit(module.apply).lower(variables, image).compile().cost_analysis()
    assert 30e6 < cost["flops"] <= 60e6


def test_training_learns_and_the_program_writes_what_it_learns(tmp_path):
    few = {
        "steps": 24,
        "batch": 8,
        "rate": 3e-3,
        "decay": 0.02,
        "seed": 3,
        "every": 12,
        "test_images": 8,
    }
    variables, log = train_scenes.train(**few)
    assert [row[0] for row in log] == [12, 24] and log[1][3] < log[0][3]
    # again, by the program: the same to the last bit
    files = [f"--checkpoint={tmp_path}/new/target.npz", f"--log={tmp_path}/log.csv"]
    train_scenes.main([*files, *(f"--{name}={value}" for name, value in few.items())])
    with np.load(tmp_path / "new" / "target.npz", allow_pickle=False) as file:
        written = {name: file[name] for name in file.files}
    jax.tree.map(
        np.testing.assert_array_equal,
        traverse_util.flatten_dict(jax.device_get(variables), sep="/"),
        written,
    )
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["train_loss"]) for row in rows] == pytest.approx(
        [row[3] for row in log], rel=1e-5
    )


@pytest.mark.parametrize("flag", ["--steps=0", "--checkpoint=target.bin", "--step_size=3"])
def test_bad_flags_are_named(flag, capsys):
    with pytest.raises(SystemExit):
        train_scenes.main(["--checkpoint=target.npz", "--log=log.csv", flag])
    assert flag.split("=")[0] in capsys.readouterr().err
