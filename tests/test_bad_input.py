"""What is refused, with its sentence: one table of calls that a user may well make.

Each ends in a ValueError of one line, before any work, that says what was got and what is expected.
Files, folders, configs and networks are refused in tests of their own rooms.
"""

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import jaxle
from jaxle import Explanation, Explanations, Split
from jaxle.evaluation.contributions import contributions_of
from jaxle.evaluation.controls import better_than_controls
from jaxle.evaluation.detection import detection, top_threshold
from jaxle.evaluation.discoveries import benjamini_hochberg
from jaxle.evaluation.intervals import bootstrap, paired
from jaxle.evaluation.permutation import permutation_test
from jaxle.evaluation.self_test import self_test
from jaxle.evaluation.swap import swap
from jaxle.intervention.ablation import linear_ablation_scores
from jaxle.intervention.temperature import fit_temperature

N, M, K = 40, 3, 2
RNG = np.random.default_rng(0)
P = RNG.random((N, M)).astype(np.float32)
A = RNG.random((N, K)).astype(np.float32)
NAMES = ["a", "b", "c"]
SPLIT = Split(np.arange(20), np.arange(20, 30), np.arange(30, 40))
TABLE = Explanations(tuple(Explanation(k, ("a",), (1.0,), 0.0) for k in range(K)), split=SPLIT)
HOLE = np.where(np.arange(N * K).reshape(N, K) == 7, np.nan, A)
MASKED = np.ma.array(A, mask=np.arange(N * K).reshape(N, K) == 5)


def explain(activations=A, probs=P, names=NAMES, **options):
    return lambda: jaxle.explain(activations, probs, names, **options)


def net(features=P, targets=A, **options):
    options = {"lam": 0.1, "l1_ratio": 0.9} | options
    return lambda: jaxle.elastic_net(features, targets, **options)


def simulate(table=TABLE, probs=P, names=NAMES, *index, **options):
    return lambda: jaxle.simulate(table, probs, names, *index, **options)


def rho(simulated=A, activations=A):
    return lambda: jaxle.correlation(simulated, activations)


def evaluate(table=TABLE, activations=A, probs=P, names=NAMES, **options):
    return lambda: jaxle.evaluate(table, activations, probs, names, **options)


def compare(a=TABLE, b=TABLE, activations=A, probs=P, names=NAMES, **options):
    return lambda: jaxle.compare(a, b, activations, probs, names, **options)


def split(*parts):
    return explain(split=parts[0] if len(parts) == 1 else parts)


def ablate(**change):
    given = {
        "activations": A,
        "weights": np.ones((K, 4)),
        "bias": np.zeros(4),
        "labels": np.arange(N) % 4,
        "simulated_val": A[20:30],
        "simulated_test": A[30:],
        "val_index": SPLIT.val,
        "test_index": SPLIT.test,
    } | change
    return lambda: linear_ablation_scores(**given)


def frame(values, **columns):
    return pd.DataFrame(values, **columns)


NOT_REAL = "activations must hold real numbers, got dtype"
SHAPE = "must be a non-empty array of shape"
NO_ARRAY = "activations must be an array of shape (images, neurons), got"
REFUSED = [
    # arrays: kinds
    (explain(None), f"{NO_ARRAY} NoneType"),
    (explain("activations.npy"), f"{NO_ARRAY} str: load it first"),
    (explain(3.5), f"{NO_ARRAY} float"),
    (explain({"a": A}), f"{NO_ARRAY} dict"),
    (explain(x for x in A), f"{NO_ARRAY} generator"),
    (explain([[1.0, 2.0], [3.0]]), f"{NO_ARRAY} list that makes none: its rows differ in length"),
    (explain([[1.0], [[2.0]]]), f"{NO_ARRAY} list that makes none"),
    (explain(A.astype(complex)), f"{NOT_REAL} complex128"),
    (explain(A.astype(np.complex64)), f"{NOT_REAL} complex64"),
    (explain(A.astype(str)), f"{NOT_REAL} <U"),
    (explain(A.astype(bytes)), f"{NOT_REAL} |S"),
    (explain(A.astype(object)), f"{NOT_REAL} object"),
    (explain([[1, None]] * N), "dtype object, such as 'None' of type NoneType"),
    (explain([[10**30, 1]] * N), "dtype object, such as '1000000"),
    (explain((1e9 * A).astype("M8[s]")), f"{NOT_REAL} datetime64[s]"),
    (explain((1e9 * A).astype("m8[s]")), f"{NOT_REAL} timedelta64[s]"),
    (explain(np.zeros((N, K), [("x", "f4")])), f"{NOT_REAL} [('x', '<f4')]"),
    (explain(np.zeros((N, K), "V4")), f"{NOT_REAL} |V4"),
    (explain(jax.random.split(jax.random.key(0), (N, K))), f"{NOT_REAL} key<fry>"),
    (lambda: jax.jit(lambda x: jaxle.explain(x, P, NAMES))(A), "got a JAX tracer"),
    (explain(frame({"x": ["a"] * N, "y": 1.0})), f"{NOT_REAL} str in column 'x'"),
    (explain(frame(A).astype("category")), f"{NOT_REAL} category in column 0"),
    (explain(frame({"x": [1.0] * 39 + [None], "y": 2})), "finite, got nan at image 39, neuron 0"),
    (explain(frame(A)[0]), f"activations {SHAPE} (images, neurons), got shape (40,)"),
    (explain(scipy.sparse.csr_array(1j * A)), f"{NOT_REAL} complex"),
    (explain(MASKED), "no masked values, got the first at image 2, neuron 1"),
    (explain(A, np.ma.masked_less(P, 0.1)), "concept_probs must have no masked values"),
    (explain(np.full((N, K), 2**53 + 1)), "that float64 holds exactly, got 9007199254740993"),
    (explain(np.full((N, K), 2**64 - 1, np.uint64)), "got 18446744073709551615 of dtype uint64"),
    (
        explain(np.full((N, K), np.longdouble(1) / 3)),
        "at image 0, neuron 0: round it first, by .astype",
    ),
    # arrays: shapes
    (explain(A[:, 0]), f"activations {SHAPE} (images, neurons), got shape (40,)"),
    (explain(A[None]), f"activations {SHAPE} (images, neurons), got shape (1, 40, 2)"),
    (explain(A[:, :0]), f"activations {SHAPE} (images, neurons), got shape (40, 0)"),
    (explain(A[:0]), f"activations {SHAPE} (images, neurons), got shape (0, 2)"),
    (explain(np.float32(1)), f"activations {SHAPE} (images, neurons), got shape ()"),
    (explain([]), f"activations {SHAPE} (images, neurons), got shape (0,)"),
    (explain(A, P[:, 0]), f"concept_probs {SHAPE} (images, concepts), got shape (40,)"),
    (explain(A[:-1]), "must describe the same images, got 39 and 40 rows"),
    (explain(A[:2], P[:2]), "cannot split 2 images into train, val and test"),
    (explain(frame(A), frame(P[::-1], index=range(39, -1, -1))), "in the same order, got row 0"),
    # arrays: values
    (explain(HOLE), "activations must be finite, got nan at image 3, neuron 1"),
    (explain(np.where(A > 0.9, np.inf, A)), "activations must be finite, got inf at image"),
    (explain(A, np.where(P > 0.9, -np.inf, P)), "concept_probs must be finite, got -inf at image"),
    (explain(A, 100 * P), "concept_probs must be probabilities from 0 to 1, got"),
    (explain(A, -P), "from 0 to 1, got -"),
    (explain(A, (255 * (P > 0.5)).astype(np.uint8)), "from 0 to 1, got 255 at image"),
    (explain(A, 0.1 * P), "none of the 3 concepts passes screening"),
    (explain(A, np.ones((N, M))), "images: none whose five top probabilities"),
    # names
    (explain(names=None), "concepts must name the columns of concept_probs, got None"),
    (explain(names=NAMES[:2]), "concepts must name the 3 columns of concept_probs, got 2 names"),
    (explain(names=["a", "b", "a"]), "concepts must be different names, got 'a' twice"),
    (explain(names=["a", "", "c"]), "concepts must be non-empty names, got an empty one at 1"),
    (explain(names=["a", "b\0", "c"]), "holds a line break, NUL or half a surrogate pair"),
    (explain(names=["a", "\ud800", "c"]), "holds a line break, NUL or half a surrogate pair"),
    (explain(names=["a", "b\n", "b"]), "concepts must be different names, got 'b' twice"),
    (explain(names="abc"), "concepts must be a list of names, got str"),
    (explain(names=7), "concepts must be a list of names, got int"),
    (explain(names=[1, 2, 3]), "concepts must be named by text, got 1 at 0"),
    (explain(names=["a", float("nan"), "c"]), "concepts must be named by text, got nan at 1"),
    (explain(probs=frame(P, columns=list("cab"))), "in one order, got 'a' and 'c' at 0"),
    # splits
    (split(SPLIT[:2]), "split has 2 parts; expected three: train, val, test"),
    (split({"train": [0], "val": [1]}), "split has the parts train, val; expected three"),
    (split({}), "split has the parts none; expected three"),
    (split({"train": [0], "val": [1], "Test": [2]}), "the parts train, val, Test; expected three"),
    (split("abc"), "split is str; expected jaxle.Split"),
    (split(0.7), "split is float; expected jaxle.Split"),
    (split([0.5], [1], [2]), "split.train is float64 of shape (1,); expected a non-empty list"),
    (split([0], [], [2]), "split.val is float64 of shape (0,)"),
    (split([0], [1], [N]), "split.test holds index 40; expected 0 to 39"),
    (split([-1], [1], [2]), "split.train holds index -1"),
    (split([0, 0], [1], [2]), "split.train holds index 0 more than once"),
    (split([0], [1], [1]), "image 1 is in split.val and in split.test"),
    (split(*[np.ones(N, bool)] * 3), "image 0 is in split.train and in split.val"),
    (split(np.ones(7, bool), [1], [2]), "split.train is bool of shape (7,); expected"),
    (split(np.zeros(N, bool), [1], [2]), "a mask of 40 bools, some True"),
    (split(["train"], [1], [2]), "split.train is <U5"),
    (split([[0, 1], [2]], [3], [4]), "split.train makes no array of image indices"),
    (split(np.ma.array([0, 1], mask=[0, 1]), [3], [4]), "split.train has masked values"),
    # options of explain
    (explain(seed=1.5), "seed is 1.5; expected an integer from 0 to 2**64"),
    (explain(seed=-1), "seed is -1; expected an integer from 0"),
    (explain(seed=2**64), "seed is 18446744073709551616; expected"),
    (explain(seed=True), "seed is True; expected an integer"),
    (explain(seed=None), "seed is None; expected an integer"),
    (explain(search="best"), "unknown explainer 'best': valid: greedy, top_k"),
    (explain(search="greed"), "did you mean 'greedy'?"),
    (explain(lam=0), "lam must be a number above 0, got 0"),
    (explain(lam="0.1"), "lam must be a number above 0, got '0.1'"),
    (explain(lam=float("nan")), "lam must be a number above 0, got nan"),
    (explain(lam=10**400), "lam must be a number above 0, got 1000"),
    (explain(l1_ratio=0), "l1_ratio must be a number in (0, 1], got 0"),
    (explain(l1_ratio=1.1), "l1_ratio must be a number in (0, 1], got 1.1"),
    (explain(max_concepts=0), "max_concepts must be a whole number of at least 1, got 0"),
    (explain(max_concepts=True), "max_concepts must be a whole number of at least 1, got True"),
    (explain(max_concepts=2.0), "max_concepts must be a whole number of at least 1, got 2.0"),
    (explain(max_concepts=[3]), "max_concepts must be a whole number of at least 1, got [3]"),
    (explain(n_candidates=0), "n_candidates must be a whole number of at least 1, got 0"),
    (explain(min_gain=True), "min_gain must be a number in [0, 1], got True"),
    (explain(min_gain=-0.1), "min_gain must be a number in [0, 1], got -0.1"),
    (explain(min_gain=np.nan), "min_gain must be a number in [0, 1], got nan"),
    (explain(min_top5=2), "min_top5 must be a number in [0, 1], got 2"),
    (explain(min_top5="0.5"), "min_top5 must be a number in [0, 1], got '0.5'"),
    (explain(dead_threshold="a"), "dead_threshold must be a number, got 'a'"),
    (explain(dead_threshold=np.nan), "dead_threshold must be a number, got nan"),
    (explain(dead_threshold=None), "dead_threshold must be a number, got None"),
    (explain(raw_features="yes"), "raw_features must be True or False, got 'yes'"),
    (explain(raw_features=True, min_top5=0.4), "min_top5=0.4 is about probabilities"),
    (explain(mean_length=3), "mean_length=3 is no option of search='greedy'"),
    (explain(teacher=False), "teacher=False is no option of search='greedy'"),
    (explain(exchanges=1, search="top_k"), "exchanges=1 is no option of search='top_k'"),
    (explain(lam=1.0, search="preconditioned"), "lam=1.0 is no option of search='preconditioned'"),
    (explain(search="preconditioned", teacher=1), "teacher must be True or False, got 1"),
    (
        explain(search="preconditioned", mean_length=-0.5),
        "mean_length must be a number of at least",
    ),
    (
        explain(search="preconditioned", exchanges=-1),
        "exchanges must be a whole number of at least",
    ),
    (explain(max_concept=3), "unknown option max_concept: did you mean 'max_concepts'?"),
    # the elastic net
    (net(lam=0), "lam must be greater than 0"),
    (net(lam=-1.0), "lam must be greater than 0"),
    (net(lam=np.nan), "lam must be greater than 0"),
    (net(lam=np.inf), "and finite, got inf"),
    (net(lam=True), "lam must be a number, got True"),
    (net(lam="small"), "lam must be one number or a decreasing sequence, got 'small'"),
    (net(lam=None), "lam must be a number, got None"),
    (net(lam=[]), "lam must be one number or a decreasing sequence, got []"),
    (net(lam=[0.1, 0.2]), "lam must be one number or a decreasing sequence, got [0.1, 0.2]"),
    (net(lam=[[0.2, 0.1]]), "lam must be one number or a decreasing sequence"),
    (net(l1_ratio=0), "l1_ratio must be in (0, 1] (without L1 the fit is ridge), got 0"),
    (net(l1_ratio="1"), "l1_ratio must be in (0, 1], got '1'"),
    (net(tol=0), "tol must be in (0, 1), got 0"),
    (net(tol=np.nan), "tol must be in (0, 1), got nan"),
    (net(P[:9]), "features and targets must describe the same rows, got 9 and 40 rows"),
    (net(P[:, 0]), f"features {SHAPE} (rows, features), got shape (40,)"),
    (net(P, HOLE), "targets must be finite, got nan at row 3, target 1"),
    (net(P.astype(object)), "features must hold real numbers, got dtype object"),
    (net(P * 1e-300, 1e300 * A.astype(float), lam=1e-9), "must be numbers that float64 holds"),
    # simulation
    (simulate([1, 2]), "explanations must be jaxle.Explanations, got list"),
    (simulate(TABLE[0]), "explanations must be jaxle.Explanations, got Explanation"),
    (simulate(probs=P[:, :2]), "must name each of the 2 columns of concept_probs once, got 3"),
    (simulate(names=["a", "a", "c"]), "got 3 names, 2 of them different"),
    (simulate(names=["x", "b", "c"]), "the simulator lacks 1 concepts that the explanations use"),
    (simulate(names="abc"), "concepts must be a list of names, got str"),
    (simulate(names=[None, "b", "c"]), "concepts must be named by text, got None"),
    (explain(search=np.inf), "search must name an explainer (greedy, top_k, preconditioned"),
    (simulate(names=None), "concepts must name the columns of concept_probs, got None"),
    (simulate(TABLE, 2 * P), "concept_probs must be probabilities from 0 to 1, got"),
    (simulate(TABLE, P, NAMES, [0.5]), "index must be image numbers, or a mask of 40 bools, got"),
    (simulate(TABLE, P, NAMES, [N]), "index must be image numbers from 0 to 39, got 40"),
    (simulate(TABLE, P, NAMES, [-1]), "index must be image numbers from 0 to 39, got -1"),
    (simulate(raw_features=1), "raw_features must be True or False, got 1"),
    # scores
    (rho(A[:, :1]), "must describe the same neurons, got 1 and 2 columns"),
    (rho(A[:9]), "simulated and activations must describe the same images, got 9 and 40 rows"),
    (rho(HOLE), "simulated must be finite, got nan at image 3, neuron 1"),
    (rho(A, MASKED), "activations must have no masked values"),
    (rho(A, A.astype(str)), NOT_REAL),
    (rho(frame(A), frame(A[::-1], index=range(39, -1, -1))), "in the same order, got row 0"),
    (lambda: bootstrap(A, A, draws=1), "draws must be a whole number of at least 2, got 1"),
    (lambda: bootstrap(A, A, draws=2.5), "draws must be a whole number of at least 2, got 2.5"),
    (lambda: bootstrap(A, A, seed=-3), "seed is -3; expected an integer"),
    (lambda: bootstrap(A, A, level=95), "level must be a number in (0, 1), got 95"),
    (lambda: bootstrap(A, A, live=[1, 0]), "live must be bool of shape (2,), got int64"),
    (lambda: paired(A, A[:9], A), "simulated_b and activations must describe the same images"),
    (lambda: swap(A, A, np.ones(3, bool)), "live must be bool of shape (2,)"),
    (lambda: detection(A, A, A[:, :1], A[:, :1]), "the same neurons, got 2 and 1 columns"),
    (lambda: top_threshold(A, 0), "alpha must be a number in (0, 1), got 0"),
    (lambda: top_threshold(A, "5%"), "alpha must be a number in (0, 1), got '5%'"),
    (lambda: permutation_test(A, A, draws=0.5), "draws must be a whole number of at least 0"),
    (lambda: better_than_controls(A[0], []), "at least one untrained network"),
    (lambda: benjamini_hochberg(A[0] + 1), "p must hold one p-value from 0 to 1 a neuron"),
    (lambda: self_test(A, A), "labels must be 0 or 1, got"),
    (lambda: contributions_of(TABLE, A, P, ["x", "y", "z"]), "lack"),
    # evaluate and compare
    (evaluate([1]), "explanations must be jaxle.Explanations, got list"),
    (evaluate(TABLE[:1]), "activations must have 1 columns, one an explanation, got 2"),
    (evaluate(q=0), "q must be a number in (0, 1), got 0"),
    (evaluate(q=True), "q must be a number in (0, 1), got True"),
    (evaluate(draws=-1), "draws must be a whole number of at least 0, got -1"),
    (evaluate(permutations=1.5), "permutations must be a whole number of at least 0, got 1.5"),
    (evaluate(controls=[A[0] + 9]), "controls[0] must hold one correlation from −1 to 1 a neuron"),
    (evaluate(seed="0"), "seed is '0'; expected an integer"),
    (evaluate(ceiling="no"), "ceiling must be True or False, got 'no'"),
    (evaluate(min_top5=-1), "min_top5 must be a number in [0, 1], got -1"),
    (evaluate(metrics=["f2"]), "unknown metric 'f2'"),
    (evaluate(probs=P[:9]), "must describe the same images, got 40 and 9 rows"),
    (evaluate(probs=P + 1), "concept_probs must be probabilities from 0 to 1"),
    (evaluate(explainer_probs=-P), "explainer_probs must be probabilities from 0 to 1"),
    (evaluate(explainer_probs=P[:, :2]), "each of the 2 columns of concept_probs once"),
    (evaluate(split={"train": [0]}), "split has the parts train; expected three"),
    (evaluate(Explanations(TABLE.rows)), "these explanations hold no split"),
    (compare(TABLE, A), "two Explanations or two arrays of simulated activations, got"),
    (compare(probs=None), "needs a simulator's concept_probs"),
    (compare(TABLE, TABLE[::-1]), "a and b must explain the same neurons, got units"),
    (compare(A, A[:9]), "b and activations must describe the same images, got 9 and 40 rows"),
    (compare(A, MASKED), "b must have no masked values"),
    (compare(draws=0), "draws must be a whole number of at least 2, got 0"),
    # interventions
    (ablate(temperature=0), "temperature must be a number above 0, got 0"),
    (ablate(temperature=-1), "temperature must be a number above 0, got -1"),
    (ablate(temperature=np.nan), "temperature must be a number above 0, got nan"),
    (ablate(temperature="hot"), "temperature must be a number above 0, got 'hot'"),
    (ablate(memory=0), "memory must be a whole number of at least 1, got 0"),
    (ablate(optim="adam"), "unknown optim 'adam'; valid: best, reference"),
    (ablate(labels=None), "ablation needs labels"),
    (ablate(labels=np.zeros(N)), "labels must be 40 whole numbers, one an image; got float64"),
    (ablate(labels=np.full(N, 4)), "class numbers from 0 to 3; got 4 to 4"),
    (ablate(bias=["a"] * 4), "bias must hold real numbers, got dtype <U1"),
    (ablate(bias=np.zeros(3)), "bias must be 4 finite numbers, one a class"),
    (ablate(weights=np.ones((3, 4))), "weights must have 2 rows, one a neuron of activations"),
    (ablate(val_index=np.arange(10) / 2), "val_index must be image numbers, got float64"),
    (ablate(test_index=np.arange(31, 41)), "test_index must be rows of activations"),
    (ablate(activations=A + np.float64(1e9)), "lie too far from 0 for float32 to resolve"),
    (
        ablate(simulated_test=A[30:] + np.float64(1e9)),
        "simulated_test of neuron 0 lie too far from 0 for float32 to resolve: subtract each",
    ),
    (lambda: fit_temperature(A, np.zeros(N)), "labels must be 40 whole numbers"),
    (lambda: fit_temperature(A, np.zeros(N, int), tol=0), "tol must be a number in (0, 1)"),
    # explanations
    (lambda: Explanation(-1, (), (), 0.0), "unit must be a whole number from 0, got -1"),
    (lambda: Explanation(0, ("a",), (), 0.0), "must have one weight per concept, got 1 concepts"),
    (lambda: Explanation(0, ("a",), (np.nan,), 0.0), "must hold finite numbers"),
    (lambda: Explanation(0, ("a\rb",), (1.0,), 0.0), "holds a line break"),
    (lambda: Explanation(0, (), (), 0.0, kind="tree"), "has kind 'tree'; expected one of"),
    (lambda: TABLE.select(9), "the table has no unit 9; it has 2 units (0 to 1)"),
    (lambda: TABLE["a"], "explanations are indexed by an integer, a slice"),
    (lambda: TABLE.with_scores({"unit": [1, 2]}), "has the name of another column"),
    (lambda: TABLE.with_scores({"s": [1, np.inf]}), "score 's' must be 2 finite numbers"),
]
HEADER = "unit,val correlation,weight0,concept0,bias\n"
TABLES = [
    ("", "is no table of explanations"),
    ("a,b\n1,2\n", "is no table of explanations: expected columns unit and either"),
    (HEADER + "0,0.5,1\n", "line 2: expected 5 cells, got 3"),
    (HEADER + "x,0.5,1,dog,0\n", "line 2, column 'unit': expected a number, got 'x'"),
    (HEADER + "1.5,0.5,1,dog,0\n", "column 'unit': expected a whole number, got 1.5"),
    (HEADER + "-1,0.5,1,dog,0\n", "unit must be a whole number from 0, got -1"),
    (HEADER + "0,0.5,nan,dog,0\n", "column 'weight0': expected a finite number, got nan"),
    (HEADER + "0,0.5,1,dog,inf\n", "column 'bias': expected a finite number, got inf"),
    (HEADER.replace("concept0,", "") + "0,0.5,1,0\n", "lacks the column 'concept0'"),
    (HEADER.replace("bias", "bias,bias") + "0,0.5,1,dog,0,0\n", "more than one column 'bias'"),
    ("layer," + HEADER + "a,0,0.5,1,dog,0\nb,1,0.5,1,dog,0\n", "mixes the layers ['a', 'b']"),
    (HEADER + '0,0.5,1,"dog,0\n', "is no CSV file"),
]


def one_sentence(call, words):
    with pytest.raises(ValueError) as error:
        call()
    said = str(error.value)
    assert words in said and "\n" not in said and 10 < len(said) < 600, said


@pytest.mark.parametrize("call, words", REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_refused_with_one_sentence(call, words):
    one_sentence(call, words)


@pytest.mark.parametrize("text, words", TABLES, ids=[words[:40] for _, words in TABLES])
def test_tables_that_are_none_are_refused_with_one_sentence(text, words, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    one_sentence(lambda: Explanations.from_csv(path), words)
    one_sentence(lambda: Explanations.from_csv(path), "table.csv")


def test_there_are_enough_of_them():
    assert len(REFUSED) + len(TABLES) >= 120
    assert len({words for _, words in REFUSED}) > 150
