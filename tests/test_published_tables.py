"""tools/published_tables.py: the paper's ResNet-50 tables out of its own files."""

import sys

import pytest

from tests import runs
from tools import published_tables


def test_every_number_is_the_printed_one(test_data):
    command = [published_tables.__file__, str(test_data / "published")]
    done = runs.python(command, runs.ROOT, {"JAX_PLATFORMS": "cpu", "PATH": sys.exec_prefix})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert done.stdout.count("(as printed)") == 17 and "(printed" not in done.stdout
    assert "le_siglip                      0.3772 (as printed)" in done.stdout
    assert "LE(SigLIP) − LE(Label): 0.0848 ± 0.0015; above 0 for 94.2%" in lines
    assert "le_label                       0.0711" in lines


def test_a_missing_file_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        published_tables.main([str(tmp_path)])
    assert "lacks net_dissect_resnet50_imagenet_layer4.csv, milan_" in capsys.readouterr().err
