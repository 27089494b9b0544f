"""docs/your_own_network.md, every block of it, as a reader would run it."""

import os
import re
from pathlib import Path

import pandas as pd

from tests import forks
from tests.flags import COMPILED_FAST

# explanations and correlations of few images
QUICK = (
    "--config.data.limit=600",
    "--config.evaluation.ceiling=False",
    "--config.evaluation.draws=0",
    "--config.evaluation.permutations=0",
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "your_own_network.md"


def test_the_page_runs(tmp_path):
    """With nothing of the checkout but the package, as where jaxle is installed."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "jaxle").symlink_to(PAGE.parents[1] / "jaxle")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 8
    names = ("my_nets", "save", "load", "load_class", "my_config", "class_config")
    names += ("nnx_nets", "load_nnx")
    for name, block in zip(names, blocks, strict=True):
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    imports = "import save, load, load_nnx, load_class\n"
    (tmp_path / "all.py").write_text(imports, encoding="utf-8")
    environment = {
        **os.environ,
        "XLA_FLAGS": " ".join(COMPILED_FAST),
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(tmp_path / "installed"),
    }

    def run(*command):
        done = forks.python([*command], tmp_path, environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    printed = run("all.py")
    assert (
        "'stem:in'" in printed
        and "(8, 32) (8, 13)" in printed
        and "'blocks/0/conv': (16, 16, 16)" in printed
        and "(8, 16)" in printed
        and printed.rstrip().endswith("body")
    )
    run(
        "-m",
        "jaxle.launch",
        "--config=my_config.py",
        *QUICK,
        "--config.workdir=run",
    )
    folders = {path.parent.parent.name for path in (tmp_path / "run").glob("*/*/explanations.csv")}
    assert folders == {"last", "head:in"}
    run(
        "-m",
        "jaxle.launch",
        "--config=class_config.py",
        *QUICK,
        "--config.workdir=class_run",
    )
    # The same layer, once beside another one and once alone: other programs, other rounding.
    tables = [
        pd.read_csv(tmp_path / name)
        for name in ("run/last/label/explanations.csv", "class_run/body/label/explanations.csv")
    ]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6, atol=1e-6)
