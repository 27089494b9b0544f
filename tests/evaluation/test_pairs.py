"""Every score at its boundary: kinds of array, offsets and scales, and what is refused."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import jaxle
from jaxle import Explanation, Explanations
from jaxle.evaluation.contributions import contributions_of
from jaxle.evaluation.cosine import cosine
from jaxle.evaluation.detection import detection, top_threshold
from jaxle.evaluation.intervals import bootstrap, paired
from jaxle.evaluation.r2 import r2
from jaxle.evaluation.self_test import self_test
from jaxle.evaluation.swap import swap

N, K = 200, 4
RNG = np.random.default_rng(0)
REAL = np.round(8 * RNG.normal(size=(N, K))) / 8
SIMULATED = np.round(8 * (REAL + 0.3 * RNG.normal(size=(N, K)))) / 8
CONCEPTS = ["a", "b", "c"]
PROBS = np.round(16 * RNG.random((N, 3))) / 16
TABLE = Explanations(
    (
        Explanation(0, ("a", "b"), (2.0, -1.0), 0.5),
        Explanation(1, (), (), 0.25),
        Explanation(2, ("c",), (3.0,), 0.0),
        Explanation(3, ("b",), (1.0,), 1.0),
    )
)

SCORES = {
    "correlation": lambda s, a: jaxle.correlation(s, a),
    "bootstrap": lambda s, a: bootstrap(s, a, draws=20)[:3],
    "paired": lambda s, a: paired(s, s[::-1], a, draws=20)[:3],
    "compare": lambda s, a: jaxle.compare(s, s[::-1], a, draws=20).difference,
    "swap": lambda s, a: swap(s, a)[:4],
    "r2": lambda s, a: r2(s, a, s, a),
    "detection": lambda s, a: detection(s, a, s, a)[:3],
}
NOT_CENTRED = {"cosine": cosine}
KINDS = {
    "big-endian": lambda x: x.astype(">f8"),
    "longdouble": lambda x: x.astype(np.longdouble),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "lists": lambda x: x.tolist(),
    "frame": pd.DataFrame,
    "sparse": scipy.sparse.csr_array,
    "jax": lambda x: jnp.asarray(x, jnp.float32),
}


def flat(score):
    return np.concatenate([np.ravel(part) for part in score])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_what_the_native_one_does(kind):
    make = KINDS[kind]
    for name, score in (SCORES | NOT_CENTRED).items():
        if name in ("paired", "compare") and kind in ("lists", "frame", "sparse"):
            continue  # reversed here by slices
        want = flat(score(SIMULATED, REAL))
        np.testing.assert_allclose(flat(score(make(SIMULATED), make(REAL))), want, atol=1e-5)
    simulated = jaxle.simulate(TABLE, PROBS, CONCEPTS)
    probs = make(PROBS)
    np.testing.assert_allclose(jaxle.simulate(TABLE, probs, CONCEPTS), simulated, rtol=1e-6)
    share = contributions_of(TABLE, REAL, PROBS, CONCEPTS)
    for a, b in zip(contributions_of(TABLE, make(REAL), probs, CONCEPTS), share, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("scale_s, scale_a", [(1e-30, 1e30), (1e30, 1e30), (1e-6, 1e-30), (1, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_offsets_and_scales_of_float64_do_not_matter(scale_s, scale_a, offset):
    """Cast to float32 first, correlation(a + 10⁸, b + 10⁸) was 0 for .95."""
    simulated, activations = (SIMULATED + offset) * scale_s, (REAL - offset) * scale_a
    for name, score in SCORES.items():
        want = flat(score(SIMULATED, REAL))
        got = flat(score(simulated, activations))
        np.testing.assert_allclose(got, want, atol=2e-5, err_msg=name)
    if not offset:
        np.testing.assert_allclose(cosine(simulated, activations), cosine(SIMULATED, REAL))


def test_the_case_that_was_reported():
    a = RNG.normal(size=(500, 1))
    b = a + 0.3 * RNG.normal(size=(500, 1))
    rho = np.corrcoef(a[:, 0], b[:, 0])[0, 1]
    assert rho == pytest.approx(0.95, abs=0.02)
    assert jaxle.correlation(a + 1e8, b + 1e8)[0] == pytest.approx(rho, abs=1e-6)
    hidden = np.ma.array(a, mask=a > 1)
    with pytest.raises(ValueError, match="simulated must have no masked values, got the first at"):
        jaxle.correlation(hidden, b)
    assert jaxle.correlation(np.ma.array(a), b)[0] == pytest.approx(rho, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_of_float32_do_not_matter(scale):
    for name, score in (SCORES | NOT_CENTRED).items():
        got = flat(score((SIMULATED * scale).astype("f4"), (REAL / scale).astype("f4")))
        want = flat(score(SIMULATED, REAL))
        np.testing.assert_allclose(got, want, atol=2e-5, err_msg=name)


def test_wide_integers_do_not_wrap():
    simulated, activations = ((x * 8).astype(np.int64) * 2**40 for x in (SIMULATED, REAL))
    for name, score in (SCORES | NOT_CENTRED).items():
        want = flat(score(SIMULATED, REAL))
        got = flat(score(simulated, activations))
        np.testing.assert_allclose(got, want, atol=2e-5, err_msg=name)


def test_constant_float64_columns_score_zero_at_any_magnitude():
    for value in (0.1, 1e-30, -1e30, 1e8 + 0.1):
        constant = np.full((N, K), value)
        for pair in ((constant, REAL), (SIMULATED, constant)):
            assert not jaxle.correlation(*pair).any()
            assert not flat(bootstrap(*pair, draws=5)[:1]).any()
        assert not r2(SIMULATED, constant, SIMULATED, constant).any()


def test_thresholds_are_in_the_users_units():
    at = top_threshold(REAL + 1e8, 0.1)
    np.testing.assert_allclose(at - 1e8, top_threshold(REAL, 0.1))
    found = detection(SIMULATED + 1e8, REAL - 1e8, SIMULATED + 1e8, REAL - 1e8)
    want = detection(SIMULATED, REAL, SIMULATED, REAL)
    np.testing.assert_allclose(found.simulated_threshold - 1e8, want.simulated_threshold)


def test_an_explanation_of_extreme_numbers_is_simulated_in_float64():
    def table(scale, bias):
        return Explanations((Explanation(0, ("a", "b"), (2 * scale, -scale), bias),))

    plain = jaxle.simulate(table(1.0, 0.5), PROBS, CONCEPTS)
    assert plain.dtype == np.float32
    for scale, bias in ((1.0, 1e8), (1e-60, 1e-60), (1e60, -1e65), (1e-42, 0.0)):
        got = jaxle.simulate(table(scale, bias), PROBS, CONCEPTS)
        want = PROBS[:, :2] @ [2 * scale, -scale] + bias
        assert got.dtype == np.float64
        np.testing.assert_allclose(got[:, 0], want, rtol=1e-12, atol=1e-12 * scale)
    with pytest.raises(ValueError, match="simulated activations of neuron 0 exceed float64"):
        jaxle.simulate(table(8e307, 1e308), np.ones((2, 3)) * [1, 0, 0], CONCEPTS)


def test_raw_features_of_float64_are_simulated_in_float64():
    features = (PROBS + 1e8) * [1.0, 1e-20, 1e20]
    weights = (2.0, 1e20)
    table = Explanations((Explanation(0, ("a", "b"), weights, -3e8),))
    got = jaxle.simulate(table, features, CONCEPTS, raw_features=True)
    np.testing.assert_allclose(got[:, 0], features[:, :2] @ weights - 3e8, atol=1e-5)
    assert np.std(got) > 0.1
    found = contributions_of(table, got, features, CONCEPTS, raw_features=True)
    want = contributions_of(
        Explanations((Explanation(0, ("a", "b"), (2.0, 1.0), 0.0),)),
        PROBS[:, :2] @ [[2.0], [1.0]],
        PROBS,
        CONCEPTS,
    )
    np.testing.assert_allclose(found.share, want.share, atol=1e-5)


def test_some_images_by_number_or_by_mask():
    some = np.array([3, 1, 7])
    everyone = jaxle.simulate(TABLE, PROBS, CONCEPTS)
    np.testing.assert_array_equal(jaxle.simulate(TABLE, PROBS, CONCEPTS, some), everyone[some])
    mask = np.isin(np.arange(N), some)
    got = jaxle.simulate(TABLE, PROBS, CONCEPTS, mask)
    np.testing.assert_array_equal(got, everyone[np.sort(some)])


def test_labels_of_any_kind_are_tested():
    labels = RNG.random((60, 3)) < 0.3
    real = labels + 0.5 * RNG.normal(size=labels.shape)
    want = self_test(real, labels.astype(np.float32))
    for kind in (labels, labels.tolist(), scipy.sparse.csr_array(labels), pd.DataFrame(labels)):
        assert self_test(real, kind) == want
    moved = self_test(real + 1e8, labels)  # the cosine is not that of centred columns
    assert moved["correlation"].full == pytest.approx(want["correlation"].full, abs=1e-6)
    assert moved["auprc"] == want["auprc"]


def test_options_take_numbers_of_numpy():
    kept = {"draws": np.int64(20), "seed": np.uint8(3), "level": np.float32(0.9)}
    a = bootstrap(SIMULATED, REAL, **kept)
    b = bootstrap(SIMULATED, REAL, draws=20, seed=3, level=float(np.float32(0.9)))
    np.testing.assert_array_equal(a.low, b.low)
    options = {"draws": np.int16(5), "q": np.float32(0.1), "permutations": np.int64(0)}
    split = jaxle.Split(*np.split(np.arange(N), [120, 150]))
    got = jaxle.evaluate(TABLE, REAL, PROBS, CONCEPTS, split=split, ceiling=np.bool_(False),
                         seed=np.int32(1), **options)  # fmt: skip
    assert "correlation_low" in got.columns and "ceiling" not in got.columns
