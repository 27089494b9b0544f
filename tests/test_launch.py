"""The command line as a user meets it: one sentence and status 2 for each mistake, before anything expensive."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import common
from jaxle.mesh import make_mesh
from jaxle.stages import STAGES
from jaxle.stages import run as stage_run

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = f"--config={ROOT}/configs/quickstart.py"


def run(arguments, cwd):
    environment = {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(cwd / "xla"),
    }
    command = [sys.executable, "-m", "jaxle.launch", *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Image folders with one mistake each."""
    root = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    for folder in ("empty", "one/a", "text/a", "text/b", "cut/a", "cut/b", "fine/cat", "fine/dog"):
        (root / folder).mkdir(parents=True)
        if folder != "empty":
            for i in range(6):
                Image.fromarray(pixels).save(root / folder / f"{i}.jpg")
    (root / "text" / "b" / "3.jpg").write_text("no picture at all")
    whole = (root / "cut" / "a" / "2.jpg").read_bytes()
    (root / "cut" / "a" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "words.txt").write_text("red\n!!!\n")
    (root / "bare").mkdir()
    np.save(root / "bare" / "images.npy", np.zeros((40, 64, 64, 3), np.uint8))
    return root


def test_mistakes_end_with_one_sentence_and_status_2(pictures, tmp_path):
    cases = [
        ([], "no config given: expected --config FILE"),
        (["--config=nowhere.py"], "config file nowhere.py does not exist"),
        ([QUICKSTART, "--config.fit.lamda=1"], 'did you mean "lam" instead of "lamda"?'),
        ([QUICKSTART, "--config.fitt.lam=1"], 'did you mean "fit" instead of "fitt"?'),
        ([QUICKSTART, "--config.fit.lam=much"], "could not convert string to float: 'much'"),
        ([QUICKSTART, "more"], "unexpected arguments ['more']"),
        (
            [
                QUICKSTART,
                f"--config.data.source=folder:{pictures}/text",
                "--config.concepts.sets=('classes',)",
            ],
            "3.jpg",
        ),
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda case: run(case[0], tmp_path), cases))
    for (arguments, words), result in zip(cases, results, strict=True):
        sentence = [line for line in result.stderr.splitlines() if line.startswith("jaxle: ")]
        assert result.returncode == 2 and len(sentence) == 1, (arguments, result.stderr)
        assert words in sentence[0] and "Traceback" not in result.stderr, (arguments, result.stderr)


@pytest.mark.parametrize(
    "fields, stages, words",
    [
        ({}, ["prob"], "unknown stage 'prob'; valid stages: probe, fit, search, simulate, score"),
        ({"target.model": "resnet21"}, STAGES, "unknown model 'resnet21'; valid"),
        ({"target.taps": ("layer9",)}, STAGES, "unknown tap 'layer9'; valid taps: "),
        (
            {"target.preprocess": {"sise": 64}},
            STAGES,
            "preprocess has the fields sise; expected resize, size and others of",
        ),
        ({"target.pool": "mean"}, STAGES, "must be one of avg, max, first, none"),
        ({"target.pool": "none"}, STAGES, "pool 'none' keeps positions apart"),
        ({"data.source": "imagenet"}, STAGES, "data source is 'imagenet'; expected one of"),
        ({"data.source": "folder:{pictures}/empty"}, STAGES, "empty"),
        ({"data.source": "folder:{pictures}/one"}, STAGES, "class"),
        ({"data.source": "folder:{pictures}/nowhere"}, STAGES, "nowhere: no such folder"),
        ({"data.source": "folder:{pictures}/cut"}, STAGES, "2.jpg"),
        (
            {
                "concepts.superclasses": {"pet": ("cat", "dgo")},
                "data.source": "folder:{pictures}/fine",
            },
            STAGES,
            "dgo",
        ),
        (
            {"methods.s": common.siglip("scenes_siglip_s")},
            STAGES,
            "no simulator can foresee the explanations of method 's'",
        ),
        (
            {"methods.s": common.siglip("scenes_resnet")},
            STAGES,
            "model 'scenes_resnet' has no text tower",
        ),
        (
            {
                "simulators.s": common.tower("scenes_siglip_m"),
                "methods.s": common.siglip("scenes_siglip_s"),
                "concepts.sets": ("colors",),
            },
            STAGES,
            "unknown concept set 'colors' (did you mean colours?)",
        ),
        (
            {
                "simulators.s": common.tower("scenes_siglip_m"),
                "methods.s": common.siglip("scenes_siglip_s"),
                "concepts.sets": ("file:{pictures}/words.txt",),
            },
            STAGES,
            "knows nothing of the word '!!!'",
        ),
        (
            {"evaluation.impact": True, "data.source": "folder:{pictures}/fine"},
            STAGES,
            "labels of the network's own classes",
        ),
        (
            {
                "evaluation.ablation": "best",
                "data.source": "arrays:{pictures}/bare",
                "simulators.s": common.tower("scenes_siglip_m"),
                "methods": {"s": common.siglip("scenes_siglip_s")},
                "concepts.sets": ("colours",),
            },
            STAGES,
            "these data have none",
        ),
        ({"concepts.hierarchy": "wordnet"}, STAGES, "expected WordNet ids such as n02099601"),
        ({"mesh.data": 64}, STAGES, "needs 64 devices, got 8"),
    ],
)
def test_one_sentence_before_anything_expensive(pictures, tmp_path, fields, stages, words):
    config = common.get_config()

    def placed(value):
        if isinstance(value, tuple):
            return tuple(map(placed, value))
        return value.format(pictures=pictures) if isinstance(value, str) else value

    for name, value in fields.items():
        section, _, key = name.partition(".")
        if key:
            config[section][key] = placed(value)
        else:
            config[section] = value
    plain = {**config.to_dict(), "workdir": str(tmp_path)}
    with pytest.raises(ValueError) as error:
        stage_run(plain, list(stages), make_mesh(plain["mesh"]["data"] or None))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_ctrl_c_says_how_to_go_on(tmp_path):
    program = (
        "import jaxle.stages as s\n"
        "def interrupted(*_): raise KeyboardInterrupt\n"
        "s.run = interrupted\n"
        "import sys; from jaxle import launch; launch.run()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, QUICKSTART],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 130 and "the same command resumes" in result.stderr
