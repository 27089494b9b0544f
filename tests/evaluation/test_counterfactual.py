"""The counterfactual test: planted detectors and distractors, chance, and input that is refused."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxle.evaluation.contrast import contrast
from jaxle.evaluation.counterfactual import COLUMNS, Counterfactual, counterfactual
from jaxle.explanations import Explanation, Explanations

NAMES = ("dog", "leash", "grass", "cat")


def table(*rows, flags=()) -> Explanations:
    """One explanation a neuron, each a dict concept → weight."""
    flags = (*flags, *[""] * (len(rows) - len(flags)))
    return Explanations(
        tuple(
            Explanation(k, tuple(row), tuple(map(float, row.values())), 0.5, None, flag)
            for k, (row, flag) in enumerate(zip(rows, flags, strict=True))
        )
    )


def world(n=400, seed=0):
    """Labels of both sides: each pair toggles one concept; dog and leash come together before."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, (n, 4))
    a[:, 1] = np.where(rng.random(n) < 0.9, a[:, 0], a[:, 1])
    b = a.copy()
    which = np.arange(n) % 4
    b[np.arange(n), which] ^= 1
    return a.astype(np.uint8), b.astype(np.uint8), which


def neuron(a, b, weights, noise, seed=1):
    """Activations of both sides: a weighted sum of labels, and noise of its own in each picture."""
    rng = np.random.default_rng(seed)
    return tuple((x @ weights + noise * rng.normal(size=len(x)))[:, None] for x in (a, b))


def test_a_detector_follows_its_concept_and_not_what_comes_along():
    a, b, _ = world()
    for noise, least in ((0.0, 1.0), (0.05, 0.99), (0.2, 0.95)):
        q_a, q_b = neuron(a, b, np.array([1.0, 0, 0, 0]), noise)
        both = np.concatenate([a[:, 0], b[:, 0]]), np.concatenate([a[:, 1], b[:, 1]])
        assert np.corrcoef(*both)[0, 1] > 0.4  # over pictures the leash looks like an explanation
        right = counterfactual(table({"dog": 1}), q_a, q_b, a, b, NAMES)
        wrong = counterfactual(table({"leash": 1}), q_a, q_b, a, b, NAMES)
        assert right.agreement.value[0] >= least and right.following.value[0] > 0.9
        assert abs(wrong.following.value[0]) < 0.2 and abs(wrong.correlation.value[0]) < 0.1
        low, high = wrong.following.low[0], wrong.following.high[0]
        assert low < 0 < high and right.following.low[0] > 0.8
        if noise:
            assert wrong.agreement.low[0] < 0.5 < wrong.agreement.high[0]
        else:  # the neuron does not move at all, so that no claim is made
            assert not wrong.judged[0] and wrong.agreement.value[0] == 0.5
        assert right.n_following == 1 and wrong.n_following == 0


def test_a_wrong_sign_is_below_chance():
    a, b, _ = world()
    found = counterfactual(table({"dog": -1}), *neuron(a, b, np.eye(4)[0], 0.1), a, b, NAMES)
    assert found.agreement.high[0] < 0.1 and found.following.high[0] < -0.8


def test_each_concept_of_an_explanation_is_tested_by_itself():
    a, b, which = world()
    q_a, q_b = neuron(a, b, np.array([1.0, 0, -0.5, 0]), 0.1)
    explanations = table({"dog": 1, "grass": -0.5, "cat": 0.4})
    found = counterfactual(explanations, q_a, q_b, a, b, NAMES)
    frame = found.concept_frame().set_index("concept")
    sd = np.concatenate([q_a, q_b]).std()
    for name, effect in (("dog", 1.0), ("grass", -0.5), ("cat", 0.0)):
        assert frame.n_pairs[name] == (which == NAMES.index(name)).sum()
        assert frame.effect[name] == pytest.approx(effect / sd, abs=0.1)
    assert frame.agreement["dog"] > 0.95 and frame.agreement["grass"] > 0.95
    assert frame.agreement_low["cat"] < 0.5 < frame.agreement_high["cat"]
    assert (frame.agreement_low <= frame.agreement).all()
    assert frame.weight.tolist() == [1.0, -0.5, 0.4] and frame.unit.tolist() == [0, 0, 0]


def test_predictions_are_differences_of_simulations():
    rng = np.random.default_rng(0)
    p_a, p_b = rng.random((2, 30, 4))
    q_a, q_b = rng.normal(size=(2, 30, 2))
    explanations = table({"dog": 1.5, "cat": -0.5}, {"leash": 2.0})
    found = counterfactual(explanations, q_a, q_b, p_a, p_b, NAMES)
    weights, bias = explanations.weight_matrix(NAMES)
    simulated = np.concatenate([p_a, p_b]) @ weights.astype(float) + bias
    expected = (simulated[30:] - simulated[:30]) / simulated.std(0)
    np.testing.assert_allclose(found.changes.predicted, expected, rtol=1e-9)


def test_it_is_the_same_for_every_kind_of_array_and_for_more_concepts():
    a, b, _ = world(60)
    q_a, q_b = neuron(a, b, np.eye(4)[0], 0.1)
    explanations = table({"dog": 1})
    first = counterfactual(explanations, q_a, q_b, a, b, NAMES).to_frame()
    more = [np.concatenate([x, 1 - x], 1) for x in (a, b)]
    names = (*NAMES, *(f"no {name}" for name in NAMES))
    for make in (jnp.asarray, pd.DataFrame, lambda x: x.astype(">f4"), lambda x: x.tolist()):
        other = counterfactual(
            explanations, make(q_a), make(q_b), make(more[0]), make(more[1]), names
        )
        for name, column in other.to_frame().items():
            if column.dtype.kind == "f":
                np.testing.assert_allclose(column, first[name], atol=1e-5)
            else:
                assert column.tolist() == first[name].tolist()


@pytest.mark.parametrize("offset, scale", [(1e8, 1.0), (0.0, 1e-30), (-1e8, 1e30)])
def test_offsets_and_scales_of_float64_do_not_matter(offset, scale):
    """10⁸ standard deviations from 0, no neuron ever changed."""
    a, b, _ = world(60)
    q_a, q_b = neuron(a, b, np.eye(4)[0], 0.1)
    far = [(q + offset) * scale for q in (q_a, q_b)]
    got = counterfactual(table({"dog": scale}), *far, a, b, NAMES)
    want = counterfactual(table({"dog": 1}), q_a, q_b, a, b, NAMES)
    np.testing.assert_array_equal(got.changes.outcome, want.changes.outcome)
    np.testing.assert_allclose(got.changes.real, want.changes.real, atol=1e-6)
    np.testing.assert_allclose(got.changes.predicted, want.changes.predicted, rtol=1e-6)


def test_kinds_are_told_apart():
    a, b, which = world()
    q_a, q_b = neuron(a, b, np.array([1.0, 0, 0.5, 0]), 0.02)
    kinds = [f"{NAMES[j]} edit" for j in which]
    found = counterfactual(table({"dog": 1}), q_a, q_b, a, b, NAMES, kinds=kinds)
    frame = found.kind_frame().set_index("kind")
    assert frame.n_pairs.tolist() == [100] * 4
    assert frame.response["dog edit"] == pytest.approx(2 * frame.response["grass edit"], rel=0.1)
    assert frame.response["leash edit"] < 0.1 and frame.predicted["leash edit"] == 0
    assert frame.following["dog edit"] > 0.98 and frame.agreement["grass edit"] == 0.5


def test_chance_is_not_called_clear():
    a, b, _ = world(200, seed=5)
    rng = np.random.default_rng(6)
    n = 4000
    q_a, q_b = np.exp(rng.normal(size=(2, 200, n)))
    rows = [{NAMES[k % 4]: rng.choice([-1, 1])} for k in range(n)]
    found = counterfactual(table(*rows), q_a, q_b, a, b, NAMES)
    low, high = found.agreement.low, found.agreement.high
    assert ((low <= 0.5) & (high >= 0.5)).mean() >= 0.95
    assert ((found.following.low <= 0) & (found.following.high >= 0)).mean() >= 0.93
    assert found.n_following / found.judged.sum() <= 0.025
    assert ((found.correlation.low <= 0) & (found.correlation.high >= 0)).mean() >= 0.94
    assert found.means["following"].low < 0 < found.means["following"].high
    assert found.means["agreement"].low < 0.5 < found.means["agreement"].high
    assert found.means["correlation"].low < 0 < found.means["correlation"].high


def networks(seed, scale):
    """Seven networks of eight neurons on the same pairs, which follow more or less by chance.

    The first follows `scale` times as much as the others do on average.
    """
    a, b, _ = world(80, seed)
    rng = np.random.default_rng(seed + 1000)
    rows = [{NAMES[k % 4]: 1} for k in range(8)]
    found = []
    for number in range(7):
        strength = 0.3 * scale if number == 0 else rng.normal(0.3, 0.1)
        signal = np.eye(4)[:, np.arange(8) % 4] * strength
        q_a, q_b = (x @ signal + rng.normal(size=(80, 8)) for x in (a, b))
        found.append(counterfactual(table(*rows), q_a, q_b, a, b, NAMES, draws=100))
    return found


def test_networks_of_one_kind_differ_by_chance_alone_and_a_better_one_shows():
    inside, clear = [], []
    for seed in range(60):
        first, *others = networks(seed, 1)
        found = contrast(first, others[:5])
        inside += [low <= 0 <= high for _, low, high in found.difference.values()]
        better, *_ = networks(seed, 6)
        more = contrast(better, others[:5])
        clear.append(more.difference["following"].low > 0)
    assert np.mean(inside) >= 0.93 and np.mean(clear) > 0.95


def test_contrast_states_what_it_compares():
    first, *others = networks(0, 6)
    found = contrast(first, others)
    assert found.n_untrained == 6 and found.n_pairs == 80
    frame = found.to_frame().set_index("measure")
    values = [other.means["following"].value for other in others]
    assert frame.untrained["following"] == pytest.approx(np.mean(values))
    assert frame.best["following"] == max(values) and frame.worst["following"] == min(values)
    assert frame.difference["following"] == pytest.approx(
        first.means["following"].value - np.mean(values)
    )
    assert found.p_value["following"] == 1 / 7
    json.dumps(found.facts, allow_nan=False)
    one = contrast(first, others[:1])
    assert one.n_untrained == 1 and one.p_value["following"] == 1 / 2
    # the more initialisations, the surer; with one, only pairs count
    same = contrast(first, [others[0]] * 5)
    ends = [each.difference["following"].high for each in (same, one)]
    assert ends[0] == pytest.approx(ends[1], abs=0.02)
    with pytest.raises(ValueError, match="at least one untrained network"):
        contrast(first, [])
    for change in ({"kinds": ("x",) * 80}, {"options": {**first.options, "min_pairs": 11}}):
        with pytest.raises(ValueError, match="expected the same"):
            contrast(first, [dataclasses.replace(others[0], **change)])


def test_small_predictions_need_not_count():
    rng = np.random.default_rng(7)
    a, b, which = world()
    p_a, p_b = (np.clip(x + 0.05 * rng.normal(size=x.shape), 0, 1) for x in (a, b))
    sides = neuron(a, b, np.eye(4)[0], 0.3)
    every = counterfactual(table({"dog": 1}), *sides, p_a, p_b, NAMES, negligible=0.05)
    large = counterfactual(
        table({"dog": 1}), *sides, p_a, p_b, NAMES, negligible=0.05, least_predicted=0.5
    )
    dogs = (which == 0).sum()
    assert every.changes.n_predicted[0] > dogs + 30 and large.changes.n_predicted[0] == dogs
    assert large.following.value[0] > every.following.value[0] + 0.1
    assert large.options["least_predicted"] == 0.5 and every.options["least_predicted"] == 0.05


def degenerate() -> Counterfactual:
    """A dead neuron, an unexplained one, a constant one, one with three pairs, one of words that
    no pair toggles, and a good one."""
    a, b, which = world(80)
    rows = [{"dog": 1}, {}, {"dog": 1}, {"dog": 1}, {"cat": 1}, {"dog": 1}]
    a[:, 3] = b[:, 3] = 1
    q_a, q_b = (np.repeat(x[:, :1].astype(float), 6, 1) for x in (a, b))
    q_a[:, 0] = q_b[:, 0] = 0
    q_a[:, 2] = q_b[:, 2] = 7.3
    dog = np.flatnonzero(which == 0)
    q_b[dog[3:], 3] = q_a[dog[3:], 3]
    return counterfactual(table(*rows, flags=("dead",)), q_a, q_b, a, b, NAMES, draws=20)


def test_what_cannot_be_judged_is_flagged_and_nothing_is_nan():
    found = degenerate()
    assert found.judged.tolist() == [False] * 5 + [True]
    assert found.live.tolist() == [False] + [True] * 5
    frame = found.to_frame()
    numbers = frame.select_dtypes("number").to_numpy(float)
    assert np.isfinite(numbers).all()
    assert np.isfinite(found.concept_frame().select_dtypes("number").to_numpy(float)).all()
    assert np.isfinite(found.kind_frame().select_dtypes("number").to_numpy(float)).all()
    assert frame.counterfactual_pairs.tolist() == [0, 0, 0, 3, 0, 20]
    for k in (0, 1, 2, 4):
        assert frame.counterfactual_agreement[k] == 0.5
        assert frame.counterfactual_correlation_low[k] == -1
    assert frame.counterfactual_agreement_low[3] < 0.5  # three of three prove nothing
    assert found.means["following"].value == 1 and found.means["agreement"].value == 1
    # correlation counts live neurons, the unexplained one as 0
    expected = found.correlation.value[1:].mean()
    assert found.means["correlation"].value == pytest.approx(expected)
    nobody = counterfactual(table({}), *np.zeros((2, 3, 1)), *np.zeros((2, 3, 4)), NAMES)
    assert nobody.means["agreement"] == (0.5, 0, 1) and not nobody.concept_frame().size
    assert "0 judged" in repr(nobody)


def test_columns_are_those_that_are_declared():
    found = degenerate()
    names = [column.name for column in COLUMNS]
    assert list(found.columns) == names
    for column in COLUMNS:
        values = np.asarray(found.columns[column.name], float)
        assert ((values >= column.low) & (values <= column.high)).all(), column.name
        assert column.counted in ("", *names)


GOOD = {
    "explanations": table({"dog": 1}, {"cat": 1}),
    "activations_a": np.zeros((5, 2)),
    "activations_b": np.ones((5, 2)),
    "probs_a": np.zeros((5, 4)),
    "probs_b": np.ones((5, 4)),
    "concepts": NAMES,
}
NAN = np.ones((5, 2))
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"activations_b": np.ones((4, 2))},
            "must be the two sides of the same pairs",
        ),
        ({"probs_b": np.ones((5, 3))}, r"got shapes \(5, 4\) and \(5, 3\)"),
        ({"activations_b": NAN}, "activations_b must be finite, got nan at pair 3, neuron 1"),
        ({"activations_a": np.zeros(5)}, r"activations_a must be a non-empty array of shape"),
        ({"probs_a": np.zeros((6, 4)), "probs_b": np.zeros((6, 4))}, "describe the same pairs"),
        ({"concepts": NAMES[:3]}, "concepts must name each of the 4 columns"),
        ({"explanations": table({"dog": 1})}, "activations must have 1 columns"),
        ({"explanations": table({"dog": 1}, {"wolf": 1})}, "lacks 1 that the explanations use"),
        ({"kinds": ["x"] * 4}, "kinds must be 5 texts, one a pair, got 4"),
        ({"live": np.ones(2)}, "live must be bool"),
        ({"negligible": -0.1}, "negligible must be a number of at least 0, got -0.1"),
        ({"least_predicted": "1"}, "least_predicted must be a number of at least 0, got '1'"),
        ({"negligible": np.nan}, "negligible must be a number of at least 0, got nan"),
        ({"min_pairs": 0}, "min_pairs must be a whole number of at least 1, got 0"),
        ({"draws": 1.5}, "draws must be a whole number of at least 2, got 1.5"),
    ],
)
def test_bad_input_is_named(change, message):
    counterfactual(**GOOD)
    with pytest.raises(ValueError, match=message):
        counterfactual(**{**GOOD, **change})


def formula(text):
    return Explanation(0, (text,), (1.0,), 0.0, None, "", "formula")


def test_a_formula_changes_as_its_probability_does():
    """Beside a table that holds its column under another name."""
    rng = np.random.default_rng(0)
    probs = rng.integers(0, 2, (2, 40, 4)).astype(float)
    product = probs[..., 0] * (1 - probs[..., 3])
    activations = product[..., None] + 0.01 * rng.normal(size=(2, 40, 1))
    got = counterfactual(
        Explanations((formula("dog AND NOT cat"),)), *activations, *probs, NAMES, min_pairs=5
    )
    other = counterfactual(
        table({"both": 1}), *activations, *product[..., None], ["both"], min_pairs=5
    )
    assert got.judged.all() and got.agreement.value > 0.95
    for name, values in other.columns.items():
        np.testing.assert_array_equal(got.columns[name], values)
    assert got.concept_frame()["concept"].tolist() == ["dog AND NOT cat"]
    assert got.concept_frame()["n_pairs"].tolist() == other.concept_frame()["n_pairs"].tolist()


@pytest.mark.parametrize("text, message", [("dog AND bird", "'bird'"), ("dog AND", "ends where")])
def test_a_formula_that_cannot_be_made_is_refused(text, message):
    with pytest.raises(ValueError, match=f"neuron 0 is explained by the formula .*{message}"):
        counterfactual(
            Explanations((formula(text),)), *np.ones((2, 5, 1)), *np.ones((2, 5, 4)), NAMES
        )
