"""An explainer, a metric, a source and a simulator from outside the package: one object each, no
edit of it."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

import jaxle
from jaxle.pipeline import defaults
from tests import forks, runs

SQUARES = '''
import numpy as np


# --- a source ------------------------------------------------------------------------------------
class Squares:
    """Images of one coloured square each, on grey."""

    class_names = ("red", "green", "blue", "yellow", "cyan", "purple")
    COLOURS = np.array([[230, 30, 30], [30, 200, 40], [30, 60, 230],
                        [230, 220, 40], [40, 220, 220], [180, 40, 200]], np.uint8)

    def __init__(self, n=90):
        rng = np.random.default_rng(0)
        self.labels = np.arange(n, dtype=np.int32) % 6
        self.places = rng.integers(0, 40, (n, 2))
        self.sizes = rng.integers(8, 24, n)
        large = (self.sizes > 15).astype(np.uint8)
        self.annotations = ((*self.class_names, "large"),
                            np.column_stack([np.eye(6, dtype=np.uint8)[self.labels], large]))
        self.file_names = [f"square {i}.png" for i in range(n)]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = np.full((64, 64, 3), 128, np.uint8)
        (top, left), size = self.places[i], self.sizes[i]
        image[top : top + size, left : left + size] = self.COLOURS[self.labels[i]]
        return image, int(self.labels[i])

    def fingerprint_fields(self):
        return {"source": "squares", "n": len(self)}


# --- a simulator ---------------------------------------------------------------------------------
class Colours:
    """How much of a colour, or of any, is in an image; knows no other word."""

    def __init__(self, source):
        self.concepts = (*Squares.class_names, "large")
        images = np.stack([source[i][0] for i in range(len(source))]).astype(np.int64)
        near = np.abs(images[:, :, :, None, :] - Squares.COLOURS).sum(4) < 40
        shares = near.mean((1, 2))
        self.values = np.column_stack([shares, shares.sum(1)]).astype(np.float32)

    def rows(self, index, columns=None):
        return self.values[index][:, slice(None) if columns is None else columns]


def colours(source, names):
    own = Colours(source)
    return own if set(names) <= set(own.concepts) else None


LACKING = Colours(Squares(3))
'''
MINE = '''
from dataclasses import dataclass

import numpy as np

from jaxle import Explanation, Explanations
from jaxle.columns import Column
from jaxle.evaluation import Metric
from jaxle.explainers import Explainer
from jaxle.options import option


# --- an explainer like CLIP-Dissect: one word a neuron, by its most activating images ----------
@dataclass(frozen=True)
class Options:
    images: int = option(100, "most activating images of train", low=1)
    sharpness: float = option(10.0, "of the softmax over concepts", above=0)
    weighted: bool = option(False, "an explanation of weight 1 in place of a description")


def dissect(problem, options):
    train, kept = problem.split.train, problem.measured.kept
    if hasattr(problem.matrix, "cosines"):
        scaled = options.sharpness * np.asarray(problem.matrix.cosines(train, kept), np.float64)
        shares = np.exp(scaled - scaled.max(1, keepdims=True))
    else:
        shares = np.asarray(problem.matrix.rows(train, kept), np.float64) + 0.01
    shares = shares / shares.sum(1, keepdims=True)
    values, rows = np.asarray(problem.activations[train]), []
    inside = np.linspace(0.998, 0.97, min(options.images, len(train)))[:, None]
    for k in range(values.shape[1]):
        top = np.argsort(-values[:, k], kind="stable")[: len(inside)]
        score = np.log(1 + inside * (shares[top] - 1)).sum(0) - len(top) * np.log(shares.mean(0))
        word = problem.concepts[int(np.argmax(score))]
        flag = "dead" if problem.dead[k] else ""
        kind = "linear" if options.weighted else "description"
        rows.append(Explanation(k, (word,), (1.0,), 0.0, None, flag, kind))
    return Explanations(tuple(rows), facts={"n_words": len(problem.concepts)})


DISSECT = Explainer(Options, dissect, "one word a neuron, by its most activating images")


# --- a metric ------------------------------------------------------------------------------------
def agree(evidence):
    """The share of pairs of images that simulation and activation order alike."""
    x, y = (np.sign(z[:, None] - z[None]).astype(np.float64)
            for z in (np.asarray(evidence.simulated), np.asarray(evidence.activations)))
    n = len(x) * (len(x) - 1)
    share = ((x * y > 0).sum((0, 1)) / n).astype(np.float32)
    return {"pairs": share}, {"n_pairs": n}


PAIRS = Metric((Column("pairs", 0, 1, "higher", "pairs of images in one order"),), agree)


# --- what is refused -----------------------------------------------------------------------------
def few(problem, options):
    return Explanations(dissect(problem, options).rows[:-1])


def other(problem, options):
    rows = [Explanation(k, ("zebra",), (1.0,), 0.0)
            for k in range(problem.activations.shape[1])]
    return Explanations(tuple(rows))


def infinite(problem, options):
    return Explanations((Explanation(0, problem.concepts[:1], (float("inf"),), 0.0),))


def texts(problem, options):
    return [row.concepts for row in dissect(problem, options)]


def unspeakable(problem, options):
    return Explanations(dissect(problem, options).rows, facts={"array": np.zeros(3)})


FEW, OTHER, INFINITE, TEXTS, UNSPEAKABLE = (
    Explainer(Options, f) for f in (few, other, infinite, texts, unspeakable)
)
SHORT = Metric((Column("pairs", 0, 1, "", ""),), lambda evidence: ({"pairs": np.zeros(2)}, {}))
'''
OWN = """
from jaxle.pipeline import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "squares:Squares"
    config.target.taps = ("layer1",)
    config.concepts.sets = ("annotations", "colours")
    config.methods.dissect = defaults.siglip("scenes_siglip_s", explainer="mine:DISSECT")
    config.methods.labelled = defaults.label("mine:DISSECT", images=10, weighted=True)
    config.simulators.siglip = defaults.tower("scenes_siglip_m")
    config.simulators.colours = "squares:colours"
    config.evaluation.metrics = ("correlation", "mine:PAIRS")
    config.evaluation.draws = 0
    config.evaluation.permutations = 20
    config.evaluation.contributions = False
    config.evaluation.ceiling = False
    config.fit.min_top5 = 0.0
    return config
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder of the user's: mine.py, a config, and a run of it by the launcher."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "configs").mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "squares.py").write_text(SQUARES)
    (folder / "configs" / "own.py").write_text(OWN)
    done = launch(folder, tmp_path_factory)
    assert done.returncode == 0, done.stderr
    return folder, done


def launch(folder, tmp_path_factory, *more):
    arguments = ["-m", "jaxle.launch", "--config=configs/own.py", "--config.workdir=run"]
    return forks.python([*arguments, *more], folder, runs.environment(tmp_path_factory))


def test_their_results_are_in_the_tables(outside):
    workdir = outside[0] / "run"
    scores = pd.read_csv(workdir / "scores.csv")
    assert scores.groupby(["method", "simulator"]).size().to_dict() == {
        (m, s): 16
        for m, s in (
            ("dissect", "siglip"),
            ("label", "labels"),
            ("label", "siglip"),
            ("label", "colours"),
            ("labelled", "labels"),
            ("labelled", "siglip"),
            ("labelled", "colours"),
        )
    }
    assert scores["pairs"].between(0, 1).all() and scores["pairs"].nunique() > 5
    ordered = scores.groupby("method")["pairs"].mean()
    assert ordered["label"] > 0.3 and "cosine" not in scores  # a metric that was not asked for
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["source"] == "squares:Squares" and summary["n_images"] == 90
    for record in summary["results"]:
        rows = scores[
            (scores["method"] == record["method"]) & (scores["simulator"] == record["simulator"])
        ]
        live = rows[rows["flag"] != "dead"] if rows["flag"].notna().any() else rows
        assert record["mean_pairs"] == pytest.approx(live["pairs"].mean(), abs=1e-6)
        assert record["n_pairs"] == 18 * 17
    names = (workdir / "split" / "names.txt").read_text().splitlines()
    assert names[:2] == ["square 0.png", "square 1.png"]


def test_a_bare_description_stays_one_through_cache_and_table(outside):
    """It was `1×a dog + 0` with a correlation of NaN."""
    workdir = outside[0] / "run"
    table = jaxle.Explanations.from_csv(workdir / "layer1" / "dissect" / "explanations.csv")
    assert len(table) == 16 and set(table.lengths) == {1}
    words = {"red", "green", "blue", "yellow", "cyan", "purple", "large"}
    for row in table:
        assert (row.kind, row.weights, row.bias, row.val_correlation) == (
            "description",
            (1.0,),
            0.0,
            None,
        )
        assert str(row) == row.concepts[0]
    labelled = jaxle.Explanations.from_csv(workdir / "layer1" / "labelled" / "explanations.csv")
    assert {row.kind for row in labelled} == {"linear"} and set(labelled.concepts) <= words
    scores = pd.read_csv(workdir / "scores.csv")
    own = scores[scores["method"] != "label"]
    assert own["val_correlation"].isna().all()
    assert scores[scores["method"] == "label"]["val_correlation"].notna().all()
    assert "NaN" not in (workdir / "summary.json").read_text()


def test_your_own_changed_code_is_run_again_and_nothing_else(outside, tmp_path_factory):
    folder = outside[0]
    (folder / "run" / "metrics.jsonl").unlink()
    (folder / "mine.py").write_text(MINE.replace("0.998, 0.97", "0.99, 0.9"))
    done = launch(folder, tmp_path_factory, f"--stages={','.join(runs.SCORED)}")
    assert done.returncode == 0, done.stderr
    explained = [note for note in runs.notes(folder / "run") if note["step"] == "explain"]
    assert {note["what"]: note["reused"] for note in explained} == {
        "layer1, dissect": False,
        "layer1, label": True,
        "layer1, labelled": False,
    }
    probed = [note for note in runs.notes(folder / "run") if note["stage"] in ("probe", "fit")]
    assert probed and all(note["reused"] for note in probed)


@pytest.fixture
def write(tmp_path, monkeypatch, request):
    """Writes a module of this test's own, importable in this process; returns its name."""
    written = []

    def write(text):
        written.append(f"own_{abs(hash(request.node.name))}_{len(written)}")
        (tmp_path / f"{written[-1]}.py").write_text(text)
        return written[-1]

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def mine(write):
    return write(MINE)


@pytest.fixture
def squares(write):
    return write(SQUARES)


@pytest.mark.parametrize(
    "name, words",
    [
        ("FEW", "gave 15 explanations of the units [0, 1, 2]…: expected one a neuron, 0 to 15 in"),
        ("OTHER", "explains with 'zebra', which is no concept that it was given: expected names"),
        ("INFINITE", "the explanation of neuron 0 must hold finite numbers, got weights (inf,)"),
        ("TEXTS", "gave list: expected jaxle.Explanations"),
        ("UNSPEAKABLE", "gave facts that are no JSON values: Object of type ndarray"),
        ("dissect", "is function; expected a jaxle.explainers.Explainer"),
        ("NOWHERE", "has no 'NOWHERE', which explainer"),
    ],
)
def test_an_explainer_that_does_not_keep_to_the_protocol_is_named(tmp_path, mine, name, words):
    with pytest.raises(ValueError) as error:
        fields = {"methods": {"own": {"explainer": f"{mine}:{name}"}}}
        runs.quick(tmp_path / "run", fields)
    assert words in str(error.value) and f"{mine}:{name}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"methods": {"own": {"explainer": "{mine}:DISSECT", "images": 0}}},
         "config field methods.own.images must be a whole number of at least 1, got 0"),
        ({"methods": {"own": {"explainer": "{mine}:DISSECT", "imges": 5}}},
         "unknown config field methods.own.imges: did you mean 'images'?"),
        ({"methods": {"own": {"explainer": "{mine}:DISSECT"},
                      "short": {"explainer": "{mine}:DISSECT", "no_longer_than": "own"}}},
         "needs an explainer whose mean length can be set"),
        ({"methods": {"own": {"explainer": "not_there:DISSECT"}}}, "cannot import 'not_there'"),
        ({"evaluation.metrics": ("{mine}:agree",)},
         "is function; expected a jaxle.evaluation.Metric"),
        ({"evaluation.metrics": ("{mine}:SHORT", "correlation")},
         "gave the column 'pairs' in shape (2,): expected one value a neuron, (16,)"),
        ({"data.source": "{squares}:LACKING"}, "is Colours, which lacks __len__, __getitem__, cla"),
        ({"data.source": "{squares}:NOWHERE"}, "has no 'NOWHERE', which data source"),
        ({"simulators.own": "{squares}:NOWHERE"}, "has no 'NOWHERE', which simulator"),
    ],
)  # fmt: skip
def test_what_else_does_not_keep_to_its_protocol_is_named(tmp_path, mine, squares, fields, words):
    text = json.dumps(runs.changed({**runs.QUICK, **fields}))
    whole = json.loads(text.replace("{mine}", mine).replace("{squares}", squares))
    fields = {section: whole[section] for section in ("methods", "data", "simulators")}
    fields["evaluation.metrics"] = tuple(whole["evaluation"]["metrics"])
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", fields)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_simulator_that_lacks_a_word_is_refused(tmp_path, write, squares):
    always = SQUARES.replace("own if set(names) <= set(own.concepts) else None", "own")
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", {"simulators.own": f"{write(always)}:colours"})
    assert "concepts, such as 'apple': expected all names that it was given, or None" in str(
        error.value
    )
    summary = runs.quick(tmp_path / "run", {"simulators.own": f"{squares}:colours"})
    assert [record["simulator"] for record in summary["results"]] == ["labels"]  # None: left aside


def test_your_own_explainer_explains_arrays_too(mine):
    rng = np.random.default_rng(0)
    probs = (rng.random((300, 5)) < 0.4).astype(np.float32)
    found = jaxle.explain(
        probs[:, :2] + 0.1, probs, list("abcde"), search=f"{mine}:DISSECT", images=40
    )
    assert [row.concepts for row in found] == [("a",), ("b",)]
    assert defaults.label(f"{mine}:DISSECT", images=3).images == 3
