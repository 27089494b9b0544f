"""A person's check: the drawing is what it says, estimates are unbiased, intervals cover."""

import itertools

import numpy as np
import pandas as pd
import pytest

from jaxle.evaluation import labelling
from jaxle.evaluation.guide import doubted, expect, influence_variance, recalibrate
from jaxle.evaluation.labelling import draw_sample, estimate, inclusion


def world(n=800, rates=(0.3, 0.15), rho=0.6, sees=2.0, seed=0):
    """Activations (images, 1), a person's answers, a guide of some skill, weights.

    The guide sees each concept through noise, `sees` standard deviations apart, and is calibrated.
    """
    rng = np.random.default_rng(seed)
    rates = np.array(rates)
    truth = (rng.random((n, len(rates))) < rates).astype(float)
    seen = rng.normal(size=truth.shape) + sees * truth
    probs = 1 / (1 + np.exp(-(sees * seen - sees**2 / 2 + np.log(rates / (1 - rates)))))
    weights = np.linspace(1, -0.5, len(rates))[:, None]
    simulated = (truth @ weights)[:, 0]
    a = rho * (simulated - simulated.mean()) / simulated.std()
    a = a + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return a[:, None], truth, probs, weights


def correlation(a, truth, weights):
    return np.corrcoef(a[:, 0], truth @ weights[:, 0])[0, 1]


def repeat(given, n, times):
    """Correlations and coverage of `times` samples."""
    a, truth, probs, weights = given
    rho, hit, found = correlation(a, truth, weights), [], []
    for seed in range(times):
        sample = draw_sample(a, probs, weights, n, seed)
        got = estimate(sample, truth[sample.images], a, probs, weights)
        hit.append(got.low[0] <= rho <= got.high[0])
        found.append(got.correlation[0])
    return np.array(found), np.mean(hit), rho


# --- the guide -----------------------------------------------------------------------------------


def test_moments_and_influence_are_those_of_all_answers_enumerated():
    rng = np.random.default_rng(0)
    probs, weights = rng.uniform(0.05, 0.95, (6, 3)), np.array([1.5, -0.7, 0.4])
    a = rng.normal(size=6)
    got = expect(probs, weights)
    cases = np.array(list(itertools.product((0, 1), repeat=3)))
    chance = np.prod(np.where(cases[None], probs[:, None], 1 - probs[:, None]), axis=2)
    s = cases @ weights
    mean = (chance @ s).mean()
    std = np.sqrt((chance @ (s - mean) ** 2).mean())
    np.testing.assert_allclose([got.mean, got.std], [mean, std])
    z = (s - mean) / std
    np.testing.assert_allclose(got.z, chance @ z)
    np.testing.assert_allclose(got.square, chance @ z**2)
    for shift, scale in ((0.0, 1.0), (0.2, 1.3)):
        unit = (z - shift) / scale
        e = a[:, None] * unit[None] - 0.4 / 2 * unit[None] ** 2
        variance = (chance * e**2).sum(1) - (chance * e).sum(1) ** 2
        np.testing.assert_allclose(influence_variance(got, a, 0.4, shift, scale), variance)


def test_no_guide_is_certain_and_a_rare_concept_is_doubted_less():
    labels = np.zeros((1000, 2))
    labels[:500, 0] = labels[:10, 1] = 1
    got = doubted(labels)
    np.testing.assert_allclose(got.min(0), [0.015, 0.0003])
    np.testing.assert_allclose(got.max(0), [0.985, 0.9997])


def test_recalibration_keeps_a_guide_without_answers_and_follows_many():
    rng = np.random.default_rng(0)
    probs, a = rng.uniform(0.01, 0.3, 4000), rng.normal(size=4000)
    truth = rng.random(4000) < 2.5 * probs  # the guide says too little
    few = recalibrate(probs, a, np.arange(10), truth[:10])
    many = recalibrate(probs, a, np.arange(1000), truth[:1000])
    assert abs(many.mean() - truth.mean()) < 0.02
    assert abs(few.mean() - probs.mean()) < abs(many.mean() - probs.mean())
    follows = recalibrate(probs, a, np.arange(1000), (a > 1)[:1000])  # the neuron knows better
    assert follows[a > 1.5].mean() > 3 * follows[a < 0].mean()


# --- the drawing ---------------------------------------------------------------------------------


def test_chances_are_proportional_below_one_and_sum_to_n():
    size = np.array([100.0, 50, 1, 1, 1, 1, 1, 1])
    chance = inclusion(size, 4)
    np.testing.assert_allclose(chance, [1, 1, *[2 / 6] * 6])
    np.testing.assert_array_equal(inclusion(size, 8), np.ones(8))
    np.testing.assert_allclose(inclusion(np.ones(10), 3), np.full(10, 0.3))


def test_images_are_drawn_as_often_as_stated_and_never_twice():
    a, _, probs, weights = world(n=60)
    often, chance = np.zeros(60), np.zeros(60)
    for seed in range(4000):
        sample = draw_sample(a, probs, weights, 20, seed)
        assert len(sample.images) == 20
        assert len(np.unique(sample.images)) == 20
        often[sample.images] += 1 / 4000
        chance[sample.images] = sample.probability
    assert np.abs(often - chance).max() < 4.5 * np.sqrt(0.25 / 4000)
    assert chance.min() >= labelling.UNIFORM * 20 / 60 * 0.9


def test_rows_stand_in_random_order():
    a, _, probs, weights = world(n=60)
    first = np.zeros(60)
    for seed in range(3000):
        sample = draw_sample(a, probs, weights, 20, seed)
        first[sample.images[:5]] += 1 / 3000
        if seed == 0:
            again = draw_sample(a, probs, weights, 20, 0)
            np.testing.assert_array_equal(again.images, sample.images)
    chance = np.zeros(60)
    for seed in range(200):
        sample = draw_sample(a, probs, weights, 20, seed)
        chance[sample.images] = sample.probability
    assert np.abs(first - chance * 5 / 20).max() < 4.5 * np.sqrt(0.1 / 3000)


def test_rare_concepts_are_found_among_the_images_drawn():
    a, truth, probs, weights = world(n=4000, rates=(0.02, 0.01), sees=3.0, rho=0.4)
    sample = draw_sample(a, probs, weights, 100, 0)
    assert (truth[sample.images].mean(0) > np.array([5, 2]) * truth.mean(0)).all()


def test_neurons_share_the_images():
    a, _, probs, weights = world()
    other = np.random.default_rng(1).normal(size=a.shape)
    both = np.concatenate([a, other], 1), probs, np.concatenate([weights, weights[::-1]], 1)
    sample = draw_sample(*both, 50, 0)
    assert len(sample.images) == 50
    got = estimate(sample, np.ones((50, 2)) * (np.arange(50) % 2)[:, None], *both)
    assert got.correlation.shape == (2,)


# --- the estimate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        world(),
        world(sees=0.0),  # a guide that knows nothing
        world(rho=0.0),
        world(n=4000, rates=(0.02, 0.01), sees=3.0, rho=0.4),
    ],
    ids=["good guide", "blind guide", "no correlation", "rare concepts"],
)
def test_unbiased_and_covering(given):
    found, covered, rho = repeat(given, 80, 300)
    error = found.std()
    assert abs(found.mean() - rho) < 0.3 * error + 3 * error / np.sqrt(300)
    assert covered >= 0.92


def test_a_third_of_the_error_of_uniform_drawing_where_concepts_are_rare():
    given = world(n=4000, rates=(0.02, 0.01), sees=3.0, rho=0.4)
    found, _, rho = repeat(given, 80, 100)
    rng = np.random.default_rng(0)
    uniform = []
    for _ in range(400):
        rows = rng.choice(4000, 80, replace=False)
        s = given[1][rows] @ given[3][:, 0]
        uniform.append(np.corrcoef(given[0][rows, 0], s)[0, 1] if s.std() > 0 else 0.0)
    rmse = [np.sqrt(np.mean((np.array(x) - rho) ** 2)) for x in (found, uniform)]
    assert rmse[0] < rmse[1] / 3


def test_effective_n_is_the_uniform_sample_of_equal_error():
    a, truth, probs, weights = world(n=3000, sees=3.0)
    rho, error, effective = correlation(a, truth, weights), [], []
    for seed in range(150):
        sample = draw_sample(a, probs, weights, 100, seed)
        got = estimate(sample, truth[sample.images], a, probs, weights)
        error.append(got.correlation[0] - rho)
        effective.append(got.effective_n[0])
    n, rng, uniform = int(np.median(effective)), np.random.default_rng(0), []
    assert n > 150
    for _ in range(500):
        rows = rng.choice(3000, n, replace=False)
        uniform.append(correlation(a[rows], truth[rows], weights) - rho)
    assert 0.75 < np.std(error) / np.std(uniform) < 1.25


def test_all_images_answered_give_the_correlation_itself():
    a, truth, probs, weights = world(n=50)
    sample = draw_sample(a, probs, weights, 1000)
    got = estimate(sample, truth[sample.images], a, probs, weights)
    rho = correlation(a, truth, weights)
    np.testing.assert_allclose([got.correlation[0], got.low[0], got.high[0]], rho)
    assert got.flag[0] == ""
    np.testing.assert_allclose(got.effective_n[0], 50)


def test_a_person_who_agrees_with_the_labels_throughout_leaves_a_narrow_but_open_interval():
    a, truth, _, weights = world()
    sample = draw_sample(a, truth, weights, 100)
    got = estimate(sample, truth[sample.images], a, truth, weights)
    rho = correlation(a, truth, weights)
    assert abs(got.correlation[0] - rho) < 0.01
    assert got.low[0] < rho < got.high[0]
    assert 0.002 < got.high[0] - got.low[0] < 0.1


def test_bias_and_scale_do_not_matter():
    a, truth, probs, weights = world()
    sample = draw_sample(a, probs, weights, 60)
    one = estimate(sample, truth[sample.images], a, probs, weights)
    other = estimate(sample, truth[sample.images], 5 * a + 3, probs, 2 * weights)
    np.testing.assert_allclose(one.correlation, other.correlation)
    np.testing.assert_allclose(one.low, other.low)
    minus = estimate(sample, truth[sample.images], -a, probs, weights)
    np.testing.assert_allclose(minus.correlation, -one.correlation, atol=0.02)


@pytest.mark.parametrize("offset, scale", [(1e8, 1.0), (0.0, 1e-30), (-1e8, 1e30)])
def test_offsets_and_scales_of_float64_do_not_matter(offset, scale):
    """10⁸ standard deviations from 0, a neuron was called constant."""
    a, truth, probs, weights = world()
    far = (a + offset) * scale
    sample, one = draw_sample(far, probs, weights * scale, 60), draw_sample(a, probs, weights, 60)
    np.testing.assert_array_equal(sample.images, one.images)
    got = estimate(sample, truth[sample.images], far, probs, weights * scale)
    want = estimate(one, truth[one.images], a, probs, weights)
    for part, other in zip(got[:4], want[:4], strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-4)


@pytest.mark.parametrize("make", [pd.DataFrame, lambda x: x.astype(">f8"), lambda x: x.tolist()])
def test_kinds_of_array(make):
    a, truth, probs, weights = world(n=50)
    given, native = (make(a), make(probs), make(weights)), (a, probs, weights)
    sample, one = draw_sample(*given, 20), draw_sample(*native, 20)
    np.testing.assert_array_equal(sample.images, one.images)
    got = estimate(sample, truth[sample.images], *given)
    assert got.correlation == estimate(one, truth[one.images], *native).correlation


def test_unanswered_rows_are_left_out_and_widen_the_interval():
    given = a, truth, probs, weights = world()
    rho, half, whole, hit = correlation(a, truth, weights), [], [], []
    for seed in range(60):
        sample = draw_sample(a, probs, weights, 100, seed)
        answers = truth[sample.images]
        whole.append(np.ptp([estimate(sample, answers, *given[::2], weights)[i] for i in (1, 2)]))
        answers[40:] = np.nan
        got = estimate(sample, answers, a, probs, weights)
        assert got.answered[0] == 40
        half.append(np.ptp([got.low, got.high]))
        hit.append(got.low[0] <= rho <= got.high[0])
    assert np.median(half) > 1.3 * np.median(whole)
    assert np.mean(hit) > 0.85


def test_each_neuron_needs_the_answers_to_its_own_words_only():
    a, truth, probs, _ = world()
    both, weights = np.concatenate([a, a], 1), np.eye(2)
    sample = draw_sample(both, probs, weights, 60)
    answers = truth[sample.images]
    answers[20:, 1] = np.nan
    got = estimate(sample, answers, both, probs, weights)
    np.testing.assert_array_equal(got.answered, [60, 20])


def test_where_nothing_can_be_said_it_is_said():
    a, truth, probs, weights = world()
    sample = draw_sample(a, probs, weights, 60)
    answers = truth[sample.images]
    few = answers.copy()
    few[9:] = np.nan
    got = estimate(sample, few, a, probs, weights)
    assert (got.flag[0], got.low[0], got.high[0]) == ("too_few_answers", -1, 1)
    got = estimate(sample, np.zeros((60, 2)), a, probs, weights)
    assert (got.flag[0], got.correlation[0], got.low[0], got.high[0]) == ("constant", 0, -1, 1)
    one = np.zeros((60, 2))
    one[:4] = 1
    assert estimate(sample, one, a, probs, weights).flag[0] == "few_positives"
    assert set(got.flag) <= {"", *labelling.FLAGS}


def test_bad_input_gets_a_sentence():
    a, truth, probs, weights = world(n=50)
    sample = draw_sample(a, probs, weights, 20)
    for change, words in (
        ({"n": 9}, "n must be a whole number of at least 10, got 9"),
        ({"n": 12.0}, "n must be a whole number"),
        ({"concept_probs": probs[:40]}, "same images, got 50 and 40 rows"),
        ({"concept_probs": probs * 3}, "concept_probs must lie in 0–1"),
        ({"weights": weights[:1]}, r"weights must be \(concepts, neurons\) = \(2, 1\)"),
        ({"weights": weights * 0}, "neuron 0 or its explanation is constant"),
        ({"activations": a * 0 + 1}, "neuron 0 or its explanation is constant"),
        ({"activations": a * np.nan}, "activations must be finite"),
        ({"activations": np.ma.masked_less(a, 0)}, "activations must have no masked values"),
        ({"weights": weights.astype(complex)}, "weights must hold real numbers"),
    ):
        given = {"activations": a, "concept_probs": probs, "weights": weights, "n": 20}
        with pytest.raises(ValueError, match=words):
            draw_sample(**{**given, **change})
    for answers in (truth[sample.images] + 0.5, truth[sample.images][:5]):
        with pytest.raises(ValueError, match="answers must be 0, 1 or NaN"):
            estimate(sample, answers, a, probs, weights)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        estimate(sample, truth[sample.images], a, probs, weights, level=95)
