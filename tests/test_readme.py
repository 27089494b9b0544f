"""What the README shows is true: its Python runs as it stands, its two commands are marked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_python_runs_as_it_stands(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "×" in done.stdout and (tmp_path / "explanations.csv").exists()


def test_its_two_commands_are_marked():
    for name in ("quickstart", "tests"):
        assert re.search(rf"<!-- run: {name} -->\n```bash\npip install ", TEXT)
