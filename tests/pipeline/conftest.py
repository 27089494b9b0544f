"""Records as steps give them, and one finished run that all tests of the session read."""

import fcntl
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxle import Explanation, Explanations
from jaxle.explainers.protocol import ArrayRows
from jaxle.pipeline.explain import Explained, Searched
from jaxle.pipeline.fit import Fitted
from jaxle.pipeline.layers import Layer
from jaxle.pipeline.matrices import ConceptMatrix
from jaxle.pipeline.score import Scored
from jaxle.pipeline.simulate import Simulated, Simulator
from jaxle.pipeline.tables import Row
from jaxle.solve.measure import Measured
from jaxle.solve.moments import Moments
from tests import forks, runs

# everything that a run can do, on few images: methods by labels and by an encoder, two searches,
# two simulators, all controls
SMALL = f"""
from jaxle.pipeline import defaults


def get_config():
    config = defaults.get_config()
    config.data.limit = 300
    config.data.batch_size = 64
    config.target.taps = ("layer3",)
    config.concepts.sets = ("annotations", {runs.FOREIGN!r})
    config.methods.ours = defaults.label("preconditioned", "label")
    config.methods.siglip = defaults.siglip("scenes_siglip_s")
    config.methods.nonsense = defaults.nonsense("scenes_siglip_s")
    config.simulators.siglip = defaults.tower("scenes_siglip_m")
    config.evaluation.controls = 2
    config.evaluation.refits = 1
    config.evaluation.draws = 50
    config.evaluation.ablation = "best"
    config.evaluation.impact = True
    return config
"""
ROWS = (
    Explanation(0, ("a", "b"), (1.0, 0.5), 0.0, 0.6),
    Explanation(1, (), (), 0.2, 0.0, "unexplained"),
    Explanation(2, ("a",), (1.0,), 0.0, 0.9, "dead"),
    Explanation(3, ("b",), (1.0,), 0.0, 0.3),
)
RHO = np.array([0.5, 0.0, 0.8, 0.1], np.float32)


class Finished(NamedTuple):
    """A run that ended: its workdir, and what it printed."""

    workdir: Path
    stdout: str


class Place(NamedTuple):
    """Where runs happen: a user's environment, and a folder of configs with small.py."""

    environment: dict[str, str]
    configs: Path

    def launch(
        self, workdir: Path, *arguments: str, program=("-m", "jaxle.launch"), start=forks.python
    ):
        """Runs the program on small.py in a process of its own, forked unless it is said."""
        config = [f"--config={self.configs}/small.py", f"--config.workdir={workdir}"]
        command = [*program, *config, *arguments]
        return start(command, workdir.parent, self.environment)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """One device, and the compilation cache of the session."""
    configs = tmp_path_factory.mktemp("experiments") / "configs"
    configs.mkdir()
    (configs / "small.py").write_text(SMALL)
    return Place(runs.environment(tmp_path_factory), configs)


@pytest.fixture(scope="session")
def finished(place, tmp_path_factory):
    """A small run that nothing disturbed, made once for all workers; not to be written to."""
    folder = runs.session_folder(tmp_path_factory) / "finished"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = folder / "stdout.txt"
        if not printed.exists():
            done = place.launch(folder / "run", start=runs.python)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
        return Finished(folder / "run", printed.read_text())


@pytest.fixture
def make_row():
    """Explanations and correlations as a row for the tables."""

    def make(rows=ROWS, rho=RHO, about=("layer4", "label", "labels"), more=None, origin=()):
        tap, method, simulator = about
        n, names = len(rows), ("a", "b", "c")
        layer = Layer("layer", "trained", tap, 0, np.zeros((5, n), np.float32))
        matrix = ArrayRows(np.zeros((5, 3), np.float32), names)
        concepts = ConceptMatrix("concepts", "label", matrix, origin)
        shapes = ((2,), (n,), (2, 2), (2, n), (n,))
        moments = Moments(5, *(np.zeros(shape, np.float32) for shape in shapes))
        measured = Measured(np.arange(2), moments, moments)
        fitted = Fitted("fit", concepts, names[:2], measured, {"layer": slice(0, n)})
        table = Explanations(rows, facts={"teacher": {"strength": 2.0}})
        searched = Searched("greedy", None, 0.01)
        explained = Explained("explained", method, layer, fitted, table, searched)
        simulated = np.zeros((5, n), np.float32)
        by = Simulator("simulator", simulator, concepts)
        simulated = Simulated("simulated", explained, by, simulated, simulated)
        columns = {"correlation": rho, **(more or {})}
        return Row(Scored("scored", simulated, columns, {}), columns, {}, {})

    return make
