import numpy as np
import pytest

from jaxle.scenes.layout import layout, membership
from jaxle.scenes.planted import KINDS, RIVAL, UNRELATED, identifiable, plant
from jaxle.scenes.vocabulary import CONCEPTS, IMPLIES


@pytest.fixture(scope="module")
def scenes():
    """Identifiable columns of the world's labels, and which implies which."""
    labels = membership(layout(np.arange(2000), 0)).any(axis=1).astype(np.float32)
    kept = identifiable(labels, np.argsort(-IMPLIES.sum(axis=0), kind="stable"))
    return labels[:, kept], IMPLIES[np.ix_(kept, kept)]


def left_over(x, y):
    """Share of y's variance that least squares with intercept on x leaves."""
    design = np.column_stack([np.ones(len(x)), x]).astype(np.float64)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return residual.var() / y.var()


def one_hot_with_superclasses():
    classes = np.random.default_rng(0).integers(0, 5, 400)
    one_hot = np.eye(5)[classes]
    animal = one_hot[:, :3].sum(axis=1, keepdims=True)
    return np.concatenate([one_hot, animal, 1 - animal], axis=1)  # columns 5: animal, 6: vehicle


def test_of_classes_and_superclasses_the_affine_rank_is_kept_and_what_comes_first():
    x = one_hot_with_superclasses()
    assert identifiable(x).tolist() == [
        0,
        1,
        2,
        3,
    ]  # the fifth class is 1 − the others; animal and vehicle are sums
    assert identifiable(x, [5, 6, 0, 1, 2, 3, 4]).tolist() == [
        0,
        1,
        3,
        5,
    ]  # vehicle = 1 − animal; the third animal is animal − the two
    assert np.linalg.matrix_rank(x - x.mean(axis=0)) == 4


def test_a_column_that_is_nearly_a_sum_is_no_truth_either():
    rng = np.random.default_rng(1)
    x = (rng.random((2000, 3)) < 0.5).astype(float)
    nearly = np.column_stack([x, x.sum(axis=1) + 0.1 * rng.normal(size=2000)])
    assert identifiable(nearly).tolist() == [0, 1, 2]
    assert identifiable(nearly, least_left=1e-3).tolist() == [0, 1, 2, 3]
    # a last column may leave itself enough and spoil an earlier one: b ≈ a + small rare part, whose
    # own share is large
    rare = (rng.random(2000) < 0.03).astype(float)
    assert identifiable(np.column_stack([x[:, 0], x[:, 0] + rare])).tolist() == [0, 1]
    assert identifiable(np.column_stack([x[:, 0], rare, x[:, 0] + rare])).tolist() == [0, 1]


def test_constant_and_rare_columns_are_left_out():
    x = np.zeros((200, 3))
    x[::2, 0], x[0, 1] = 1, 1
    assert identifiable(x).tolist() == [0]
    with pytest.raises(ValueError, match="standard deviation of at least 0.14"):
        identifiable(x[:, 1:])


def test_each_kept_column_keeps_its_share_and_each_other_one_would_break_the_rule():
    labels = membership(layout(np.arange(2000), 0)).any(axis=1).astype(np.float64)
    kept = identifiable(labels)
    inflation = np.diag(np.linalg.inv(np.corrcoef(labels[:, kept].T)))
    np.testing.assert_allclose(
        1 / inflation[0], left_over(labels[:, kept[1:]], labels[:, kept[0]]), rtol=1e-6
    )
    assert inflation.max() <= 20 + 1e-6
    out = [j for j in np.setdiff1d(np.arange(len(CONCEPTS)), kept) if labels[:, j].std() >= 0.14]
    assert out
    for j in out:  # with it, it or another is left with less
        spectrum, vectors = np.linalg.eigh(np.corrcoef(labels[:, np.append(kept, j)].T))
        assert (vectors**2 / np.maximum(spectrum, 1e-12)).sum(axis=1).max() > 20


@pytest.mark.parametrize("zeros", [0.0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_neurons_are_what_they_are_said_to_be(scenes, kind, zeros):
    x, implies = scenes
    sizes = [2] * 6 if kind == "polysemantic" else [1, 2, 3, 4, 5, 6]
    made = plant(x, sizes, kind=kind, ceiling=0.8, zeros=zeros, implies=implies, seed=3)
    assert (made.weights != 0).sum(axis=0).tolist() == sizes
    np.testing.assert_allclose((x - x.mean(axis=0)) @ made.weights, made.signal, atol=1e-5)
    np.testing.assert_allclose(made.signal.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(made.ceiling, 0.8, atol=1e-3)
    np.testing.assert_array_equal(made.fitted != 0, made.weights != 0)
    reached = [np.corrcoef(x @ made.fitted[:, k], made.activations[:, k])[0, 1] for k in range(6)]
    np.testing.assert_allclose(reached, made.ceiling, atol=1e-4)
    if (
        not zeros
    ):  # the ceiling is then that of the noiseless signal, but for the noise's own correlations
        of_signal = [np.corrcoef(made.signal[:, k], made.activations[:, k])[0, 1] for k in range(6)]
        np.testing.assert_allclose(of_signal, made.ceiling, atol=5e-3)
    np.testing.assert_allclose((made.activations == 0).mean(axis=0), zeros, atol=2e-3)

    near = (implies | implies.T) & ~np.eye(len(implies), dtype=bool)
    correlations = np.abs(np.corrcoef(x.T)) - np.eye(len(implies))
    for k, size in enumerate(sizes):
        truth = np.flatnonzero(made.weights[:, k])
        explained = 1 - left_over(x[:, truth], made.activations[:, k])
        assert np.sqrt(explained) == pytest.approx(made.ceiling[k], abs=1e-4)
        for j in truth:  # each carries a tenth of what all explain
            rest = np.setdiff1d(truth, j)
            without = 1 - left_over(x[:, rest], made.activations[:, k]) if size > 1 else 0.0
            assert explained - without >= 0.1 * explained - 1e-6
        for j in np.setdiff1d(np.arange(len(implies)), truth)[
            ::9
        ]:  # and no other adds more than a twentieth
            assert (
                1 - left_over(x[:, [*truth, j]], made.activations[:, k]) - explained
                <= 0.05 * explained + 1e-6
            )
        if kind == "distractor":
            assert (
                (correlations[np.ix_(truth, np.setdiff1d(np.arange(len(implies)), truth))] >= RIVAL)
                .any(axis=1)
                .all()
            )
        if kind == "hierarchy":
            assert near[truth].any() and not near[np.ix_(truth, truth)].any()
        if kind == "polysemantic":
            assert correlations[truth[0], truth[1]] <= UNRELATED and not near[truth[0], truth[1]]
            effect = made.weights[truth, k] * x[:, truth].std(axis=0)
            np.testing.assert_allclose(effect[0], effect[1], rtol=1e-4)
            assert (effect > 0).all()


def test_the_truth_is_the_only_exact_explanation_over_all_columns(scenes):
    x, implies = scenes
    made = plant(x, [1, 3, 6], implies=implies, negative=0.5, seed=5)
    centred = x.astype(np.float64) - x.mean(axis=0)
    np.testing.assert_allclose(
        np.linalg.lstsq(centred, made.signal, rcond=None)[0], made.weights, atol=1e-3
    )
    assert (made.weights < 0).any()
    assert not (plant(x, [3] * 20, negative=0.0).weights < 0).any()


def test_a_seed_gives_the_same_neurons_and_another_gives_others(scenes):
    one, same, other = (plant(scenes[0], [3] * 4, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.activations, same.activations)
    assert (one.weights != other.weights).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "grandmother"}, "unknown kind 'grandmother'; valid: plain, distractor"),
        ({"sizes": []}, "sizes must be one or more numbers"),
        ({"sizes": [99]}, "from 1 to the 4 concepts"),
        ({"kind": "polysemantic", "sizes": [3]}, "has two concepts, got sizes"),
        ({"ceiling": 1.0}, "ceiling must be in"),
        ({"zeros": 1.0}, "zeros in"),
        ({"least_share": 0.6}, r"least_share in \[0, 1/2\)"),
        ({"most_other": 0.0}, r"no plain neuron of \[2\] concepts of these has a ceiling of 0.8"),
        ({"kind": "hierarchy"}, "found no hierarchy neuron of 2 concepts"),  # none is above another
    ],
)
def test_bad_requests_are_refused_in_a_sentence(options, message):
    x = one_hot_with_superclasses()[:, :4]
    with pytest.raises(ValueError, match=message):
        plant(x, **{"sizes": [2], **options})
    with pytest.raises(ValueError, match="each of the 4 columns once"):
        identifiable(x, [0, 0, 1, 2])
    with pytest.raises(ValueError, match="least_left must be in"):
        identifiable(x, least_left=0)
