import numpy as np
import pytest
from scipy.stats import kendalltau

from jaxle.evaluation.agreement import agreement


def test_equals_scipy_neuron_by_neuron_and_method_by_method():
    rng = np.random.default_rng(0)
    a = np.round(rng.normal(size=(4, 30)), 1)  # rounded: ties
    b = np.round(a + rng.normal(size=a.shape), 1)
    live = np.arange(30) % 5 > 0
    names = ["label", "siglip", "clip", "net"]
    got = agreement(
        dict(zip(names, a, strict=True)), dict(zip(reversed(names), b[::-1], strict=True)), live
    )
    assert got.methods == pytest.approx(
        kendalltau(a[:, live].mean(1), b[:, live].mean(1)).statistic
    )
    for i, name in enumerate(names):
        assert got.neurons[name] == pytest.approx(kendalltau(a[i, live], b[i, live]).statistic)
    expected = np.where(live, [kendalltau(a[:, k], b[:, k]).statistic for k in range(30)], 0)
    np.testing.assert_allclose(got.within, expected, atol=1e-12)
    assert got.mean_within == pytest.approx(expected[live].mean())


def test_same_opposite_and_nothing_to_order():
    scores = {"a": np.array([0.1, 0.5, 0.3]), "b": np.array([0.2, 0.6, 0.4])}
    same, opposite = (
        agreement(scores, scores),
        agreement(scores, {name: -values for name, values in scores.items()}),
    )
    assert (same.methods, same.mean_within, same.neurons["a"], same.same_best) == (1, 1, 1, True)
    assert (opposite.methods, opposite.mean_within, opposite.neurons["a"], opposite.same_best) == (
        -1,
        -1,
        -1,
        False,
    )
    alone = agreement({"a": scores["a"]}, {"a": scores["a"]})
    assert (alone.methods, alone.mean_within, alone.same_best) == (0, 0, True)
    equal = agreement({"a": np.ones(3), "b": np.ones(3)}, scores)
    assert (equal.methods, equal.neurons, equal.within.tolist()) == (0, {"a": 0, "b": 0}, [0, 0, 0])
    one = agreement(
        {"a": np.ones(1), "b": np.zeros(1)}, {"a": np.ones(1), "b": np.zeros(1)}
    )  # one neuron
    assert (one.methods, one.neurons["a"], one.within.tolist()) == (1, 0, [1])
    dead = agreement(scores, scores, np.zeros(3, bool))
    assert (dead.methods, dead.mean_within, dead.neurons["b"]) == (0, 0, 0)


@pytest.mark.parametrize(
    "second, live, words",
    [
        ({"b": np.ones(3)}, None, "the same methods, got .'a'. and .'b'."),
        ({"a": np.ones(2)}, None, "the same neurons, got .2, 3."),
        ({"a": np.array([1, np.nan, 1])}, None, "scores must be finite, got nan"),
        ({"a": np.ones(3)}, np.ones(2, bool), "live must be bool of shape"),
    ],
)
def test_bad_input_is_refused(second, live, words):
    with pytest.raises(ValueError, match=words):
        agreement({"a": np.ones(3)}, second, live)
