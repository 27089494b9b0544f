"""Words that a tokenizer reads alike are one concept with both names, wherever they are shown."""

import numpy as np

from jaxle import load_run
from jaxle.explanations import Explanations
from jaxle.pipeline import defaults
from tests import runs

WORDS = ("red circle", "red circle!", "blue square", "Blue. Square", "blue square?", "zebra")
ONE, TWO = "red circle / red circle!", "blue square / Blue. Square / blue square?"
ASKED = []


class Known:
    """A simulator that knows the first of names that are read alike."""

    def __init__(self, source, names):
        self.concepts = names
        self._n = len(source)
        ASKED.append(names)

    def rows(self, index, columns=None):
        draw = np.random.default_rng(0).random((self._n, len(self.concepts)), np.float32)
        return draw[index] if columns is None else draw[index][:, columns]


def test_a_merged_name_is_used_everywhere(tmp_path, capfd):
    fields = {
        "data.limit": 120,
        "concepts.sets": (f"{__name__}:WORDS",),
        "fit.min_top5": 0.0,
        "simulators.siglip": defaults.tower("scenes_siglip_m"),
        "simulators.mine": f"{__name__}:Known",
        "methods.siglip": defaults.siglip("scenes_siglip_s"),
        "methods.nonsense": defaults.nonsense("scenes_siglip_s"),
    }
    summary = runs.quick(tmp_path / "run", fields)
    (told,) = [line for line in capfd.readouterr().err.splitlines() if "reads some names" in line]
    assert told.strip().endswith(f"which are one concept each: {ONE}, {TWO}")
    by = {(record["method"], record["simulator"]) for record in summary["results"]}
    assert {("siglip", "siglip"), ("siglip", "mine"), ("nonsense", "siglip")} <= by
    table = Explanations.from_csv(tmp_path / "run" / "layer1" / "siglip" / "explanations.csv")
    used = {name for row in table for name in row.concepts}
    assert used <= {ONE, TWO, "zebra"} and used & {ONE, TWO}
    assert ("red circle", "blue square", "zebra") in ASKED
    run = load_run(tmp_path / "run")
    matrix = run.concept_matrix("siglip")
    assert tuple(matrix.concepts) == (ONE, TWO, "zebra")
