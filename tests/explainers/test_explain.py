"""jaxle.explain at its boundary: kinds of array, offsets, scales, raw features, bounded work."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.linear_model import ElasticNet

import jaxle
from jaxle.data.splits import make_split
from jaxle.explainers import linear, preconditioned

SEARCHES = ("greedy", "top_k", "preconditioned")
N, M, K = 300, 12, 5
NAMES = [f"c{j}" for j in range(M)]
RNG = np.random.default_rng(0)
LABELS = (RNG.random((N, M)) < 0.3).astype(np.float32)
TRUTH = np.zeros((M, K))
for _k in range(K):
    TRUTH[RNG.choice(M, 2, replace=False), _k] = [2, 1]
# multiples of 1/8 below 16: every dtype holds them
EIGHTHS = (np.round(8 * (LABELS @ TRUTH + 0.3 * RNG.normal(size=(N, K)) + 2)) / 8).astype("f4")
SOFT = (np.round(LABELS * RNG.random((N, M)) * 32) / 32).astype(np.float32)
SPLIT = make_split(N, 0)


def explain(activations=EIGHTHS, probs=LABELS, names=NAMES, **options):
    options = {"max_concepts": 3, "min_top5": 0.0} | options
    return jaxle.explain(activations, probs, names, **options)


def masked(x):
    return np.ma.array(x, mask=np.zeros(x.shape, bool))


KINDS = {
    "big-endian float32": lambda x: x.astype(">f4"),
    "big-endian float64": lambda x: x.astype(">f8"),
    "big-endian float16": lambda x: x.astype(">f2"),
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "longdouble": lambda x: x.astype(np.longdouble),
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "list": lambda x: x.tolist(),
    "tuple of arrays": tuple,
    "fortran order": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "subclass": lambda x: x.view(np.recarray),
    "nothing masked": masked,
    "frame": pd.DataFrame,
    "frame of extension types": lambda x: pd.DataFrame(x).astype("Float64"),
    "scipy csr": scipy.sparse.csr_matrix,
    "scipy coo array": scipy.sparse.coo_array,
    "scipy csc": lambda x: scipy.sparse.csc_matrix(x.astype(np.float64)),
    "jax": jnp.asarray,
    "jax bfloat16": lambda x: jnp.asarray(x, jnp.bfloat16),
    "jax on eight devices": lambda x: jax.device_put(
        jnp.asarray(np.concatenate([x, x[:4]])), jax.devices()[1]
    )[: len(x)],
}
LABEL_KINDS = {
    "bool": lambda x: x > 0,
    "uint8": lambda x: x.astype(np.uint8),
    "int64": lambda x: x.astype(np.int64),
    "uint64": lambda x: x.astype(np.uint64),
    "big-endian int32": lambda x: x.astype(">i4"),
    "big-endian int64": lambda x: x.astype(">i8"),
    "lists of int": lambda x: x.astype(int).tolist(),
    "lists of bool": lambda x: (x > 0).tolist(),
    "int4": lambda x: x.astype(ml_dtypes.int4),
    "float8": lambda x: x.astype(ml_dtypes.float8_e5m2),
    "nullable integers": lambda x: pd.DataFrame(x.astype(int)).astype("Int64"),
    "scipy int8": lambda x: scipy.sparse.coo_array(x.astype(np.int8)),
}


@pytest.fixture(scope="module")
def native():
    return explain(), explain(probs=SOFT)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_what_the_native_one_does(kind, native):
    make = KINDS[kind]
    assert explain(make(EIGHTHS)).rows == native[0].rows
    assert explain(make(EIGHTHS), make(SOFT)).rows == native[1].rows


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_every_kind_of_labels_gives_what_float32_does(kind, native):
    assert explain(probs=LABEL_KINDS[kind](LABELS)).rows == native[0].rows


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16", "half", "with gradient"])
def test_torch_tensors_give_what_arrays_do(kind, native, torch):
    def make(x):
        x = torch.tensor(x)
        if kind == "with gradient":
            return x.requires_grad_()
        return x.to(getattr(torch, kind))

    assert explain(make(EIGHTHS), make(SOFT)).rows == native[1].rows
    assert explain(probs=torch.tensor(LABELS).to_sparse()).rows == native[0].rows
    split = {name: torch.tensor(part) for name, part in SPLIT._asdict().items()}
    assert explain(probs=torch.tensor(LABELS > 0), split=split).rows == native[0].rows


def test_a_memory_map_is_read_by_rows(tmp_path, native, monkeypatch):
    for name, x in (("a", EIGHTHS), ("p", SOFT)):
        np.save(tmp_path / f"{name}.npy", x)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ap"]
    monkeypatch.setattr("jaxle.arrays.READ_BYTES", 4096)
    assert explain(*maps).rows == native[1].rows


def test_integers_beyond_32_bits_do_not_wrap():
    """JAX takes int64 modulo 2³²."""
    wide = (EIGHTHS * 8).astype(np.int64)
    base = explain(wide.astype(np.float32))
    for scale in (2**40, -(2**33)):
        found = explain(wide * scale)
        for row, want in zip(found, base, strict=True):
            if scale > 0:
                assert row.concepts == want.concepts
                np.testing.assert_allclose(np.divide(row.weights, scale), want.weights, rtol=1e-5)
            assert row.flag != "constant"


def test_the_columns_of_a_frame_name_the_concepts(native):
    frame = pd.DataFrame(LABELS, columns=NAMES)
    assert explain(probs=frame, names=None).rows == native[0].rows
    assert explain(pd.DataFrame(EIGHTHS, columns=list("abcde")), frame, None).rows == native[0].rows
    simulated = jaxle.simulate(native[0], frame)
    np.testing.assert_array_equal(simulated, jaxle.simulate(native[0], LABELS, NAMES))
    with pytest.raises(ValueError, match="must name the columns of concept_probs, got None"):
        explain(probs=pd.DataFrame(LABELS), names=None)
    with pytest.raises(ValueError, match="must be in one order, got 'c1' and 'c0' at 0"):
        explain(probs=frame, names=[NAMES[1], NAMES[0], *NAMES[2:]])


def test_frames_whose_rows_are_in_another_order_are_refused(native):
    index = [f"image {i}" for i in range(N)]
    a, p = pd.DataFrame(EIGHTHS, index), pd.DataFrame(LABELS, index, NAMES)
    assert explain(a, p, None).rows == native[0].rows
    with pytest.raises(ValueError, match="row 'image 299' beside row 'image 0' at 0: align"):
        explain(a[::-1], p, None)
    with pytest.raises(ValueError, match="simulated and activations must describe the same images"):
        jaxle.correlation(a, a[::-1])


@pytest.mark.parametrize(
    "split",
    [
        SPLIT._asdict(),
        {name: part.tolist() for name, part in reversed(SPLIT._asdict().items())},
        [np.isin(np.arange(N), part) for part in SPLIT],
        {name: pd.Series(np.isin(np.arange(N), part)) for name, part in SPLIT._asdict().items()},
        [part.astype(">u4") for part in SPLIT],
        [jnp.asarray(part) for part in SPLIT],
    ],
    ids=["dict", "lists in another order", "masks", "series of bool", "big-endian", "jax"],
)
def test_a_split_may_be_a_dict_and_masks(split, native):
    found = explain(split=split)
    assert found.rows == native[0].rows
    assert all(np.array_equal(a, b) for a, b in zip(found.split, SPLIT, strict=True))


# --- offsets and scales ---

PROBS = (LABELS * (0.5 + 0.5 * RNG.random((N, M)))).astype(np.float64)
REAL = PROBS @ TRUTH + 0.3 * RNG.normal(size=(N, K)) + 1


def reference(activations, probs, lam=0.05 / 0.99, l1_ratio=0.99):
    """The paper's `top_k` of two in float64: (names, weights) of every neuron."""
    x, y = (z[SPLIT.train].astype(np.longdouble) for z in (probs, activations))
    x, y = (z - z.mean(0) for z in (x, y))
    unit_x, unit_y = (np.asarray(z / np.sqrt((z**2).mean(0)), float) for z in (x, y))
    result = []
    for k in range(activations.shape[1]):
        net = ElasticNet(alpha=lam, l1_ratio=l1_ratio, tol=1e-12, max_iter=100_000)
        w = net.fit(unit_x, unit_y[:, k]).coef_
        chosen = np.argsort(-w, kind="stable")[:2]
        scale = np.sqrt((x[:, chosen] ** 2).mean(0))
        size = np.sqrt((y[:, k] ** 2).mean())
        b = np.linalg.lstsq(unit_x[:, chosen], unit_y[:, k], rcond=None)[0] * size / scale
        order = np.argsort(-b)
        result.append(([NAMES[chosen[i]] for i in order], b[order]))
    return result


@pytest.mark.parametrize("scale_x", [1e-30, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("scale_y", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_offsets_and_scales_of_float64_give_the_float64_reference(scale_x, scale_y, offset):
    """Cast to float32 as they are, such columns are constant, or overflow."""
    std_x, std_y = PROBS.std(0), REAL.std(0)
    probs = PROBS * scale_x + offset * scale_x * std_x
    activations = REAL * scale_y - offset * scale_y * std_y
    raw = scale_x > 1 or offset > 0
    found = explain(
        activations,
        probs,
        search="top_k",
        max_concepts=2,
        split=SPLIT,
        dead_threshold=-1e300,
        **({"raw_features": True} if raw else {}),
    )
    for row, (names, weights) in zip(found, reference(activations, probs), strict=True):
        assert list(row.concepts) == names and row.flag == ""
        np.testing.assert_allclose(row.weights, np.asarray(weights, float), rtol=1e-5)
        # what is lost in the bias moves the prediction by less than 1e-6 of its deviation
        shift = np.array([probs[SPLIT.train, NAMES.index(n)].mean() for n in row.concepts])
        exact = activations[SPLIT.train, row.unit].astype(np.longdouble).mean()
        assert abs(exact - shift @ row.weights - row.bias) < 1e-6 * std_y[row.unit] * scale_y


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    "scale_x, scale_y, offset", [(1e-6, 1e30, 0), (1, 1, 1e8), (1e30, 1e-30, 0)]
)
def test_every_search_chooses_the_same_at_any_offset_and_scale(search, scale_x, scale_y, offset):
    base = explain(REAL, PROBS, search=search, max_concepts=2)
    probs, activations = PROBS * scale_x + offset, REAL * scale_y - offset
    options = {"search": search, "raw_features": True, "dead_threshold": -1e300, "max_concepts": 2}
    found = explain(activations, probs, **options)
    assert [row.concepts for row in found] == [row.concepts for row in base]
    for row, want in zip(found, base, strict=True):
        weights = np.array(want.weights) * scale_y / scale_x
        np.testing.assert_allclose(row.weights, weights, rtol=1e-5)
        assert row.val_correlation == pytest.approx(want.val_correlation, abs=1e-6)
    simulated = jaxle.simulate(found, probs, NAMES, raw_features=True)
    rho = jaxle.correlation(simulated, activations)
    expected = jaxle.correlation(jaxle.simulate(base, PROBS, NAMES), REAL)
    np.testing.assert_allclose(rho, expected, atol=1e-6)
    metrics = ["correlation", "bootstrap", "swap", "detection", "r2"]
    scored = {"draws": 20, "ceiling": True, "min_top5": 0.0, "metrics": metrics}
    got = jaxle.evaluate(found, activations, probs, NAMES, raw_features=True, **scored)
    want = jaxle.evaluate(base, REAL, PROBS, NAMES, **scored)
    for name, values in want.columns.items():
        np.testing.assert_allclose(got.columns[name], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_extreme_scales_of_float32_change_units_only(scale):
    base = explain(EIGHTHS, SOFT)
    found = explain((EIGHTHS * scale).astype(np.float32), SOFT, dead_threshold=-1.0)
    assert [row.concepts for row in found] == [row.concepts for row in base]
    for row, want in zip(found, base, strict=True):
        np.testing.assert_allclose(np.divide(row.weights, scale), want.weights, rtol=1e-5)
        assert row.bias / scale == pytest.approx(want.bias, rel=1e-4)


def test_constant_columns_are_constant_at_any_scale():
    for value in (0.1, 1e-30, 1e30, -7.3e8):
        activations = np.column_stack([REAL, np.full(N, value)])
        row = explain(activations, PROBS, search="top_k")[K]
        assert row.flag in ("constant", "dead") and row.bias == pytest.approx(value)
        probs = np.column_stack([PROBS, np.full(N, 0.1)])
        assert "still" not in explain(REAL, probs, [*NAMES, "still"]).concepts


def test_test_images_decide_nothing_about_units():
    activations, probs = REAL + 1e8, PROBS.copy()
    before = explain(activations, probs, split=SPLIT)
    activations[SPLIT.test], probs[SPLIT.test] = 1e30, 0.5
    assert explain(activations, probs, split=SPLIT).rows == before.rows


def test_a_result_beyond_float64_is_refused():
    with pytest.raises(ValueError, match="must hold finite numbers"):
        explain(REAL * 1e300, PROBS * 1e-30)
    with pytest.raises(ValueError, match="must hold finite numbers"):
        explain(np.where(REAL > 2, 1.7e308, -1.7e308), PROBS)


# --- probabilities and raw features ---


@pytest.mark.parametrize(
    "probs, words",
    [
        (PROBS * 100, "from 0 to 1, got [0-9.]+ at image 0, concept"),
        (PROBS - 0.5, "from 0 to 1, got -0.5 at image 0, concept 0"),
        ((LABELS * 255).astype(np.uint8), "from 0 to 1, got 255 at image"),
        (np.where(PROBS > 0.9, 1.00001, PROBS), "from 0 to 1, got 1.00001 at image"),
    ],
)
def test_values_outside_0_to_1_are_refused_with_the_first_position(probs, words, native):
    with pytest.raises(ValueError, match=f"concept_probs must be probabilities {words}"):
        explain(REAL, probs)
    with pytest.raises(ValueError, match=words):
        jaxle.simulate(native[0], probs, NAMES)
    with pytest.raises(ValueError, match=words):
        jaxle.evaluate(native[0], REAL, probs, NAMES)
    with pytest.raises(ValueError, match=words.replace("concept_probs", "explainer_probs")):
        jaxle.evaluate(native[0], REAL, PROBS, NAMES, explainer_probs=probs)
    with pytest.raises(ValueError, match=words):
        jaxle.compare(native[0], native[0], REAL, probs, NAMES)
    found = explain(REAL, probs, raw_features=True)
    assert jaxle.simulate(found, probs, NAMES, raw_features=True).shape == (N, K)


def test_round_off_beyond_0_and_1_is_none():
    probs = np.where(PROBS > 0.9, np.float32(1 + 5e-7), PROBS - 5e-7)
    assert explain(REAL, probs).concepts


def test_raw_features_are_not_screened():
    probs = LABELS * 3 - 1
    found = jaxle.explain(EIGHTHS, probs, NAMES, raw_features=True)
    assert found.facts["n_concepts"] == M
    want = jaxle.explain(EIGHTHS, LABELS, NAMES)
    assert [row.concepts for row in found] == [row.concepts for row in want]
    with pytest.raises(ValueError, match="min_top5=0.3 is about probabilities"):
        jaxle.explain(EIGHTHS, probs, NAMES, raw_features=True, min_top5=0.3)


def test_small_probabilities_stay_where_screening_is_off():
    """1e-5 is the least deviation of a probability by the paper's rule, which is then off."""
    found = explain(EIGHTHS, SOFT * np.float32(1e-6))
    assert found.facts["n_concepts"] == M
    assert [row.concepts for row in found] == [row.concepts for row in explain(probs=SOFT)]


# --- bounded work ---


@pytest.mark.parametrize("search", SEARCHES)
def test_more_concepts_than_there_are_is_the_same_as_all(search):
    options = {"search": search} | ({} if search == "top_k" else {"min_gain": 0.0})
    for activations in (EIGHTHS, EIGHTHS[:, :2]):
        asked = explain(activations, max_concepts=1000, **options)
        assert asked.rows == explain(activations, max_concepts=M, **options).rows


def test_no_more_concepts_are_searched_for_than_min_gain_allows(monkeypatch):
    """Each one raises a correlation, which ends at 1."""
    asked, greedy, select = [], linear.search.greedy, preconditioned.search

    def watched_greedy(*arguments, max_concepts, **options):
        asked.append(max_concepts)
        return greedy(*arguments, max_concepts=max_concepts, **options)

    def watched_select(measured, weights, options, **more):
        asked.append(options.max_concepts)
        return select(measured, weights, options, **more)

    monkeypatch.setattr(linear.search, "greedy", watched_greedy)
    monkeypatch.setattr(preconditioned, "search", watched_select)
    for search in ("greedy", "preconditioned"):
        explain(search=search, max_concepts=10**12, min_gain=0.25)
    assert asked == [5, 9]


def test_large_searches_go_a_few_neurons_at_a_time(monkeypatch):
    """A block's state is bounded, and the block's size changes nothing."""
    base = [explain(search=search, max_concepts=M, min_top5=0.0) for search in SEARCHES]
    monkeypatch.setattr("jaxle.solve.tiles.STATE_BYTES", 40_000)
    for search, want in zip(SEARCHES, base, strict=True):
        found = explain(search=search, max_concepts=M, min_top5=0.0)
        assert [row.concepts for row in found] == [row.concepts for row in want]
        for row, other in zip(found, want, strict=True):
            np.testing.assert_allclose(row.weights, other.weights, rtol=1e-4, atol=1e-6)
