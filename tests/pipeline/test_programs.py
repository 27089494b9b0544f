"""A run compiles no more programs than it did: new ones are named."""

import json
from collections import Counter
from pathlib import Path

RECORDED = Path(__file__).with_name("programs.json")


def test_a_run_compiles_no_more_programs_than_recorded(finished):
    path = finished.workdir / "timing.json"
    found = Counter(json.loads(path.read_text())["programs"])
    recorded = Counter(json.loads(RECORDED.read_text()))
    assert found.total() <= recorded.total(), (
        f"{found.total()} programs were compiled, {recorded.total()} are recorded; more often than "
        f"before: {dict(found - recorded)}. `python -m benchmarks.compilations --shapes` says "
        "where each is called and for which shapes: pad to one of few sizes (jaxle/solve/tiles.py),"
        " or compute on the host. A program that has to be there: copy `programs` from "
        f"{path} to {RECORDED.name}."
    )
