"""The command line as a user meets it: one sentence and status 2 for each mistake, before anything
expensive."""

import codecs
import dataclasses
import io
import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxle import compilation, launch
from jaxle.mesh import make_mesh
from jaxle.pipeline import defaults
from jaxle.pipeline.reading import read_config
from jaxle.pipeline.run import run
from jaxle.pipeline.stages import STAGES
from tests import forks, runs

QUICKSTART = f"--config={runs.ROOT}/configs/quickstart.py"
SIGLIP = defaults.siglip("scenes_siglip_s")
ENCODED = {"simulators.s": defaults.tower("scenes_siglip_m"), "methods.s": SIGLIP}


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
    shutil.copytree(root / "bare", root / "annotated")
    np.save(root / "annotated" / "concept_labels.npy", np.ones((40, 1), np.uint8))
    (root / "annotated" / "concepts.txt").write_text("bright")
    return root


@pytest.fixture
def environment(tmp_path_factory):
    return runs.environment(tmp_path_factory)


def test_mistakes_end_with_one_sentence_and_status_2(pictures, tmp_path, environment):
    """The first and the last as a user starts the program, the others forked."""
    cases = [
        ([], "no config given: expected --config FILE"),
        (["--config=nowhere.py"], "config file nowhere.py does not exist"),
        ([QUICKSTART, "--config.fit.lamda=1"], 'did you mean "lam" instead of "lamda"?'),
        ([QUICKSTART, "--config.fitt.lam=1"], 'did you mean "fit" instead of "fitt"?'),
        ([QUICKSTART, "--config.fit.lam=much"], "could not convert string to float: 'much'"),
        ([QUICKSTART, "more"], "unexpected arguments ['more']"),
        ([QUICKSTART, "--config.fit.lam=-1"], "config field fit.lam must be a number above 0"),
        (
            [
                QUICKSTART,
                f"--config.data.source=folder:{pictures}/text",
                "--config.concepts.sets=('classes',)",
                "--config.evaluation.counterfactual=0",
            ],
            "3.jpg",
        ),
    ]

    for arguments, words in cases:
        start = runs.python if arguments in (cases[0][0], cases[-1][0]) else forks.python
        done = start(["-m", "jaxle.launch", *arguments], tmp_path, environment)
        said = done.stderr
        sentence = [line for line in said.splitlines() if line.startswith("jaxle: ")]
        assert done.returncode == 2 and len(sentence) == 1, (arguments, said)
        assert words in sentence[0] and "Traceback" not in said, (arguments, said)


@pytest.mark.parametrize(
    "fields, stages, words",
    [
        ({}, ["prob"], "unknown stage 'prob': did you mean 'probe'? (valid: probe, fit, explain,"),
        ({}, [], "unknown stage '': valid: probe, fit, explain, simulate, score"),
        ({"target.model": "resnet21"}, STAGES, "unknown model 'resnet21' (nearest: resnet"),
        ({"target.taps": ("layer9",)}, STAGES, "unknown tap 'layer9'"),
        (
            {"target.preprocess": {"sise": 64}},
            STAGES,
            "preprocess has the fields sise; expected resize, size and others of",
        ),
        ({"target.pool": "mean"}, STAGES, "must be one of avg, max, first, patches, none"),
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
            {"methods.s": SIGLIP},
            STAGES,
            "no simulator can simulate the explanations of method 's'",
        ),
        (
            {"methods.s": defaults.siglip("scenes_resnet")},
            STAGES,
            "model 'scenes_resnet' has no text tower",
        ),
        (
            {**ENCODED, "concepts.sets": ("colors",)},
            STAGES,
            "unknown concept set 'colors' (did you mean colours?)",
        ),
        (
            {**ENCODED, "concepts.sets": ("file:{pictures}/words.txt",)},
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
                **ENCODED,
                "evaluation.ablation": "best",
                "data.source": "arrays:{pictures}/annotated",
                "methods": {"s": SIGLIP.to_dict()},
                "concepts.sets": ("colours",),
            },
            STAGES,
            "these data have none",
        ),
        (
            {"data.source": "arrays:{pictures}/bare"},
            STAGES,
            "method 'label' explains with labels, and these data have neither class labels nor",
        ),
        ({"concepts.hierarchy": "wordnet"}, STAGES, "expected WordNet ids such as n02099601"),
        ({"mesh.data": 64}, STAGES, "needs 64 devices, got 8"),
    ],
)
def test_one_sentence_before_anything_expensive(pictures, tmp_path, fields, stages, words):
    def placed(value):
        if isinstance(value, tuple):
            return tuple(map(placed, value))
        return value.format(pictures=pictures) if isinstance(value, str) else value

    fields = {name: placed(value) for name, value in fields.items()}
    with pytest.raises(ValueError) as error:
        config = read_config(runs.changed(fields))
        config = dataclasses.replace(config, workdir=str(tmp_path))
        run(config, list(stages), make_mesh(config.mesh.data or None))
    assert words in str(error.value) and "\n" not in str(error.value)


DEFAULTS = "from jaxle.pipeline import defaults\n"


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(
    "name, text, words",
    [
        ("c.py:big", "def get_config(): return defaults.get_config()", "has no variants: leave "),
        ("c.py", "def get_config(size): return defaults.get_config()", "needs a variant: expected"),
        ("c.py", "get_configs = 1", "has no function get_config: expected one that returns"),
        ("c.py", "import nothing", "does not run: ModuleNotFoundError: No module named 'nothing'"),
        ("c.py", "def get_config(): return deflts", "NameError: name 'deflts' is not defined"),
        ("c.py", "def get_config(:", "does not run: SyntaxError: invalid syntax"),
    ],
)
def test_a_config_file_that_does_not_work_is_named(
    tmp_path, capsys, monkeypatch, name, text, words
):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # of the case before
    (tmp_path / "c.py").write_text(DEFAULTS + text)
    with pytest.raises(SystemExit) as end:
        launch._parse(["jaxle", f"--config={tmp_path}/{name}"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1
    assert said.startswith(f"jaxle: config file {tmp_path}/c.py ") and words in said


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_config_in_the_home_folder(tmp_path, capsys, monkeypatch):
    """No shell makes a folder of the sign after an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.py").write_text(DEFAULTS + "def get_config(): return defaults.get_config()")
    with pytest.raises(SystemExit):
        launch._parse(["jaxle", "--config=~/c.py:big"])
    assert f"jaxle: config file {tmp_path}/c.py has no variants" in capsys.readouterr().err


def test_what_is_refused_leaves_a_used_workdir_as_it_is(tmp_path):
    """A word that no encoder knows is found once labels are read, and still before any table."""
    runs.quick(tmp_path / "run")
    before = runs.files(tmp_path / "run")
    with pytest.raises(ValueError, match="unknown concept set 'colors'"):
        runs.quick(tmp_path / "run", {**ENCODED, "concepts.sets": ("colors",)})
    assert runs.files(tmp_path / "run") == before


def test_ctrl_c_says_how_to_go_on(tmp_path, environment):
    program = (
        "import jaxle.pipeline.run as pipeline\n"
        "def interrupted(*_): raise KeyboardInterrupt\n"
        "pipeline.run = interrupted\n"
        "from jaxle import launch; launch.run()"
    )
    result = forks.python(["-c", program, QUICKSTART], tmp_path, environment)
    assert result.returncode == 130 and "the same command resumes" in result.stderr
    assert not list(tmp_path.glob("runs/*/.lock"))  # nothing keeps the same command from it


def test_what_the_machine_refuses_is_one_sentence_and_status_1(tmp_path, environment):
    program = (
        "import jaxle.pipeline.run as pipeline\n"
        "def refused(*_): raise OSError(28, 'No space left on device', '/x/y')\n"
        "pipeline.run = refused\n"
        "from jaxle import launch; launch.run()"
    )
    result = forks.python(["-c", program, QUICKSTART], tmp_path, environment)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "jaxle: cannot use /x/y: No space left on device; what was computed is" in result.stderr


@pytest.mark.parametrize(
    "error, words",
    [
        (PermissionError(13, "Permission denied", "/x"), "cannot use /x: Permission denied; what"),
        (FileExistsError(17, "File exists", "/x"), "cannot use /x: it is no folder, but a file or"),
        (OSError("odd"), "cannot use: odd; what was computed is kept, and the same command resum"),
        (ConnectionError("cannot fetch w.npz: no network"), "cannot fetch w.npz: no network"),
    ],
)
def test_a_refusal_of_the_machine_names_its_reason(error, words):
    assert launch._os_sentence(error).startswith(words)


def test_the_flags_make_the_settings(tmp_path, environment):
    """Config file and variant, tuples with and without brackets, stages, default folder."""
    program = (
        "import json, jaxle.pipeline.run as pipeline\n"
        "from jaxle.pipeline.reading import write_config\n"
        "def shown(config, stages, mesh, verbose):\n"
        "    print(json.dumps([write_config(config), stages, dict(mesh.shape)]))\n"
        "pipeline.run = shown\n"
        "from jaxle import launch; launch.run()"
    )
    config = f"--config={runs.ROOT}/configs/resnet50.py:layers-top_5"
    command = [
        "-c",
        program,
        config,
        "--config.target.taps=layer1,fc:in",
        "--config.concepts.sets=('classes','colours')",
        "--config.data.split_fractions=0.5,0.2,0.3",
        "--config.seed=7",
        "--config.methods.label.max_concepts=3",
        "--stages=probe,fit",
    ]
    result = forks.python(command, tmp_path, environment)
    assert result.returncode == 0, result.stderr
    given, stages, mesh = json.loads(result.stdout)
    assert given["workdir"] == os.path.join("runs", "resnet50-layers-top_5")
    assert given["target"]["taps"] == ["layer1", "fc:in"] and given["seed"] == 7
    assert given["concepts"]["sets"] == ["classes", "colours"]
    assert given["data"]["split_fractions"] == [0.5, 0.2, 0.3]
    assert {m["explainer"] for m in given["methods"].values()} == {"top_k"}
    assert given["methods"]["label"]["max_concepts"] == 3 and given["search"]["max_concepts"] == 5
    assert stages == ["probe", "fit"] and mesh == {"data": 1, "model": 1}


@pytest.mark.parametrize("own", [None, "/elsewhere"])
def test_compiled_programs_are_kept_unless_jax_says_where(monkeypatch, tmp_path, own):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    try:
        jax.config.update("jax_compilation_cache_dir", own)
        compilation.use_compilation_cache.__wrapped__()  # as in a process of its own
        expected = own or str(tmp_path / "jaxle" / "xla")
        assert jax.config.values["jax_compilation_cache_dir"] == expected
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_a_terminal_without_greek_is_served(tmp_path, environment):
    """The listing of a run, on a terminal that knows ASCII alone."""
    codecs.register_error("jaxle", launch._plainer)
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", errors="jaxle", write_through=True) as stream:
        stream.write("ρ 0.86  3.2×light − 0.5 · ± … σ 雪")
        assert raw.getvalue() == b"rho 0.86  3.2*light - 0.5 | +- ... sigmoid ?"
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "jaxle.launch", "--config=é.py"]
    result = subprocess.run(command, env=ascii_only, cwd=tmp_path, capture_output=True, timeout=300)
    assert result.returncode == 2 and b"config file ?.py does not exist" in result.stderr


def test_two_runs_in_one_workdir_are_refused(tmp_path, environment):
    (tmp_path / "run").mkdir()
    lock = {"host": socket.gethostname(), "pid": os.getpid()}
    (tmp_path / "run" / ".lock").write_text(json.dumps(lock))
    arguments = ["-m", "jaxle.launch", QUICKSTART, f"--config.workdir={tmp_path}/run"]
    result = forks.python(arguments, tmp_path, environment)
    assert result.returncode == 2
    assert f"another run (process {os.getpid()} on " in result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
