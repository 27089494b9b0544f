"""Whatever is given, it ends in a finite answer or in a ValueError of one sentence.

Arrays of odd dtypes, shapes, scales and containers, odd names, odd options, odd files. The same
examples in every run.
"""

import tempfile
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxle
from jaxle import Explanation, Explanations

REAL = [
    *("f4", "f8", "f2", ">f4", ">f8", ">f2", "g", "?", "i1", "u1", "i2", ">u2", "i4", ">i4", "i8"),
    *("u8", ">u8", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4),
]
DTYPES = [*(REAL * 3), "c8", "O", "U8", "S8", "M8[s]"]
SCALES = [*([1.0] * 6), 0.0, 1e-3, 100.0, 1e8, 1e-30, 1e30, 1e-300, 1e300, -1.0]
OFFSETS = [*([0.0] * 6), 1.0, -0.5, 1e8, 1e16, -1e30, 1e300]
POKES = [0.0, 1.0, -1.0, np.nan, np.inf, 1e38, 1e-45, 3e38, -1e308, 5e-324, 2.0**53 + 1]
CONTAINERS = {
    "array": np.asarray,
    "list": lambda x: x.tolist(),
    "jax": jnp.asarray,
    "frame": lambda x: pd.DataFrame(x, columns=[f"c{i}" for i in range(x.shape[1])]),
    "sparse": lambda x: scipy.sparse.coo_array(x),
    "masked": lambda x: np.ma.array(x, mask=np.zeros(x.shape, bool)),
    "hidden": lambda x: np.ma.array(x, mask=np.ones(x.shape, bool)),
    "fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1],
    "row": lambda x: x.ravel(),
    "transposed": lambda x: x.T,
    "bytes": lambda x: x.tobytes(),
}
# odd numbers for any option, and more of the good ones
ODD = [None, True, "0.5", np.nan, np.inf, -1, 0, [1], 1 << 70, np.float32(0.5), np.int64(2), 1e-300]
wild = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def matrices(draw, columns: int, probabilities: bool = False):
    """A matrix of about forty rows, most often a plain one, sometimes anything."""
    rows = draw(st.sampled_from([40, 40, 40, 40, 40, 9, 3, 2, 1, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    shape = (rows, draw(st.sampled_from([columns] * 8 + [columns + 1, 0])))
    kinds = [rng.random, lambda s: (rng.random(s) < 0.3) * 1.0]
    kinds += [] if probabilities else [rng.standard_normal, np.zeros]
    x = draw(st.sampled_from(kinds))(shape)
    plain = draw(st.booleans()) and draw(st.booleans())
    calm = probabilities and draw(st.integers(0, 4)) > 0
    with np.errstate(all="ignore"):
        if not (plain or calm):
            x = x * draw(st.sampled_from(SCALES)) + draw(st.sampled_from(OFFSETS))
            if x.size and draw(st.integers(0, 3)) == 0:
                x.flat[draw(st.integers(0, x.size - 1))] = draw(st.sampled_from(POKES))
        if plain:
            return x
        dtype = draw(st.sampled_from(DTYPES))
        try:
            x = x.astype(dtype)
        except (ValueError, OverflowError):  # NaN as an integer, a string as a date
            pass
    container = CONTAINERS[draw(st.sampled_from(["array"] * 20 + list(CONTAINERS)))]
    try:
        with np.errstate(all="ignore"):
            return container(x)
    except (TypeError, ValueError, OverflowError):  # no such container of this dtype
        return x


def names(columns: int):
    """As many names, most often good ones."""
    good = st.just([f"c{i}" for i in range(columns)])
    text = st.text(st.characters(), max_size=4) | st.sampled_from(["", "\ud800", "a\nb", "NA"])
    odd = st.lists(text | st.integers() | st.none(), min_size=columns, max_size=columns)
    odd = odd | st.sampled_from([None, "abc", 3, {"a": 1}])
    return st.integers(0, 5).flatmap(lambda i: odd if i == 5 else good)


@st.composite
def options(draw, **fields):
    """Some of these options at good values, and sometimes one of them at an odd one."""
    some = {name: st.sampled_from(good) for name, good in fields.items()}
    given = draw(st.fixed_dictionaries({}, optional=some))
    if draw(st.integers(0, 3)) == 3:
        given[draw(st.sampled_from(list(fields)))] = draw(st.sampled_from(ODD))
    return given


def finite_or_one_sentence(call, check):
    try:
        answer = call()
    except ValueError as error:
        said = str(error)
        assert 10 < len(said) < 600 and "\n" not in said, said
    else:
        check(answer)


def check_table(found: Explanations):
    for row in found:
        rho = [] if row.val_correlation is None else [row.val_correlation]
        assert np.isfinite([*row.weights, row.bias, *rho]).all()
        assert all(-1.001 <= value <= 1.001 for value in rho)
    with tempfile.TemporaryDirectory() as folder:
        found.to_csv(Path(folder) / "e.csv")
        assert Explanations.from_csv(Path(folder) / "e.csv").rows == found.rows


@wild
@given(
    matrices(2),
    matrices(3, probabilities=True),
    names(3),
    options(
        lam=[0.05],
        l1_ratio=[0.99, 1.0],
        max_concepts=[2, 10, 1000],
        n_candidates=[10],
        min_gain=[0.02, 0.0],
        min_top5=[0.0, 0.5],
        dead_threshold=[0.01, -1.0],
        seed=[0, 1],
        raw_features=[True, False],
        search=["greedy", "top_k"],
        mean_length=[None],
    ),
)
def test_explain(activations, probs, concepts, given):
    def call():
        found = jaxle.explain(activations, probs, concepts, **{"min_top5": 0.0} | given)
        raw = {"raw_features": given.get("raw_features", False)}
        finite_or_one_sentence(
            lambda: jaxle.simulate(found, probs, concepts, **raw),
            lambda simulated: finite_or_one_sentence(
                lambda: jaxle.correlation(simulated, activations), check_correlation
            ),
        )
        return found

    finite_or_one_sentence(call, check_table)


@settings(wild, max_examples=15)
@given(
    matrices(2),
    matrices(3, probabilities=True),
    options(mean_length=[None, 1.5], teacher=[True, False], exchanges=[0, 3], max_concepts=[2, 99]),
)
def test_explain_preconditioned(activations, probs, given):
    given = {"search": "preconditioned", "min_top5": 0.0} | given
    finite_or_one_sentence(
        lambda: jaxle.explain(activations, probs, ["a", "b", "c"], **given), check_table
    )


@wild
@given(
    matrices(3),
    matrices(2),
    options(lam=[0.1, 1e-30, 1e30, [0.2, 0.1]], l1_ratio=[1.0, 0.5], tol=[1e-6]),
)
def test_elastic_net(features, targets, given):
    def check(solutions):
        for solution in solutions if isinstance(solutions, list) else [solutions]:
            for part in solution:
                assert np.isfinite(np.asarray(part, float)).all()
            assert (np.asarray(solution.gap, float) >= 0).all()

    given = {"lam": 0.1, "l1_ratio": 0.9} | given
    finite_or_one_sentence(lambda: jaxle.elastic_net(features, targets, **given), check)


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 1.0, 2.0])
rows = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["c0", "c1", "c2", "c9"]), max_size=2),
        st.lists(numbers, min_size=2, max_size=2),
        numbers,
    ),
    min_size=1,
    max_size=3,
)
indices = (
    st.none() | st.lists(st.integers(-2, 41), max_size=4) | st.sampled_from([[True] * 40, "a"])
)


@wild
@given(rows, matrices(3, probabilities=True), names(3), indices, options(raw_features=[True]))
def test_simulate(rows, probs, concepts, index, given):
    table = Explanations(
        tuple(
            Explanation(k, tuple(words), tuple(weights[: len(words)]), bias)
            for k, (words, weights, bias) in enumerate(rows)
        )
    )
    finite_or_one_sentence(
        lambda: jaxle.simulate(table, probs, concepts, index, **given),
        lambda simulated: np.testing.assert_array_equal(np.isfinite(simulated), True),
    )


def check_correlation(rho):
    assert np.isfinite(rho).all() and (np.abs(rho) <= 1).all()


@wild
@given(matrices(2), matrices(2))
def test_correlation(simulated, activations):
    finite_or_one_sentence(lambda: jaxle.correlation(simulated, activations), check_correlation)


good = ["0", "0.5", "1", "dog", "0", "", "0.25"]  # of the first two headers
cells = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "0.5",
        "nan",
        "inf",
        "1e999",
        "",
        "NA",
        "null",
        "dog",
        "'0'",
        '"a,b"',
        "é",
        "x\r",
    ]
) | st.text(st.characters(codec="utf-8"), max_size=3)
headers = st.sampled_from(
    [
        *["unit,val correlation,weight0,concept0,bias"] * 5,
        *["unit,val correlation,weight0,concept0,bias,flag,sim correlation"] * 5,
        "layer,unit,description",
        "unit,description,kind",
        "unit,bias,weight1,concept1",
        "unit,weight0,bias",
        "unit",
        "",
        "a,b",
        "unit,unit,bias",
    ]
)
endings = st.sampled_from(["\n", "\n", "\r\n", "\r"])
codecs = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"])


@settings(wild, max_examples=150)
@given(headers, st.lists(st.lists(cells, max_size=8), max_size=3), endings, codecs, st.booleans())
def test_from_csv(header, lines, ending, codec, fitted):
    n_cells = header.count(",") + 1
    if fitted:
        lines = [[*good[: n_cells - 1 - i % 2], *line][:n_cells] for i, line in enumerate(lines)]
        lines = [(line + ["0"] * n_cells)[:n_cells] for line in lines]
    text = ending.join([header, *(",".join(line) for line in lines)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(text.encode(codec, errors="replace"))
        finite_or_one_sentence(lambda: Explanations.from_csv(path), check_table)
