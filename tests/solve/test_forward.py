"""Forward selection and its folds against method.md §9 step by step: NumPy, float64, lstsq."""

import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import folds, forward
from jaxle.solve.moments import correlations, second_moments


def explained(x, y, columns):
    """Share of y's variance that least squares on some columns explains."""
    design = np.column_stack([x[:, columns], np.ones(len(x))])
    fitted = design @ np.linalg.lstsq(design, y, rcond=1e-6)[0]
    return fitted.var() / y.var()


def fit(x, y, columns):
    """The least-squares prediction with intercept."""
    design = np.column_stack([x[:, columns], np.ones(len(x))])
    return design @ np.linalg.lstsq(design, y, rcond=None)[0]


def step_by_step(x, y, most):
    """One neuron's path: (concepts, whether two candidates or an end were within 2e-5).

    Of exact ties the first that correlates positively with what is left, else the first.
    """
    chosen, reached, close = [], 0.0, False
    while len(chosen) < min(most, x.shape[1]):
        open_ = [
            j
            for j in range(x.shape[1])
            if j not in chosen and dependence(x, chosen, j) > forward.PIVOT
        ]
        gains = np.array([explained(x, y, [*chosen, j]) - reached for j in open_])
        if not len(gains) or gains.max() < 1e-6 + forward.LEAST:
            close |= len(gains) > 0 and gains.max() > 1e-7
            break
        best = gains >= gains.max() - 1e-9
        close |= (gains > gains.max() - 2e-5)[~best].any()
        left = y - fit(x, y, chosen)
        positive = best & np.array([(left - left.mean()) @ x[:, j] > 1e-9 for j in open_])
        chosen.append(open_[int(np.argmax(positive if positive.any() else best))])
        reached += gains.max()
    return chosen, close


def dependence(x, chosen, j):
    return (
        (1 - explained(x, x[:, j], chosen))
        if chosen and x[:, j].std() > 0
        else float(x[:, j].std() > 0)
    )


def aim_at(features, weights):
    """What a prediction's moments are."""
    dense = second_moments(features, features @ weights)
    return forward.Aim(dense.cross, dense.var_y)


@pytest.mark.parametrize("kind", ["similar", "one_hot"])
@pytest.mark.parametrize("denoised", [False, True])
def test_equals_the_method_step_by_step(problems, kind, denoised):
    features, targets = getattr(problems, kind)(n=400)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(30, 7)).astype(np.float32) if denoised else None
    moments = second_moments(features, targets)
    aim = None if weights is None else aim_at(features, weights)
    got = forward.path(moments, aim, most=6)
    x, y = (
        features.astype(np.float64),
        (targets if weights is None else features @ weights).astype(np.float64),
    )
    exempt = 0
    for k in range(7):
        want, close = step_by_step(x, y[:, k], 6)
        exempt += close
        assert close or [j for j in got[k] if j >= 0] == want
    assert exempt <= 2


def test_a_negative_concept_is_found_and_a_path_ends_where_all_is_explained(problems):
    features, _ = problems.similar()
    targets = (features[:, [4]] - 3 * features[:, [9]] + 2).astype(np.float32)
    path = forward.path(second_moments(features, targets), most=5)
    assert path.tolist() in ([[9, 4, -1, -1, -1]], [[4, 9, -1, -1, -1]])


def test_of_two_equal_columns_the_first_is_chosen_and_the_other_never(problems):
    features, targets = problems.similar()
    twice = np.concatenate([features, features], axis=1)
    once, path = (forward.path(second_moments(part, targets), most=8) for part in (features, twice))
    np.testing.assert_array_equal(path, once)


def test_of_a_column_and_its_complement_the_one_of_positive_weight_is_chosen(problems):
    features, targets = problems.similar()
    n = features.shape[1]
    both = np.concatenate([features, 1 - features], axis=1)
    once, path = (forward.path(second_moments(part, targets), most=8) for part in (features, both))
    np.testing.assert_array_equal(np.where(path >= n, path - n, path), once)
    assert (path >= n).any()
    first = path[:, 0]
    centred = targets - targets.mean(0)
    assert all(centred[:, k] @ both[:, j] > 0 for k, j in enumerate(first))


def test_no_superclass_beside_all_its_classes(problems):
    features, targets = problems.one_hot()
    for row in forward.path(second_moments(features, targets), most=30):
        chosen = features[:, row[row >= 0]].astype(np.float64)
        assert np.linalg.matrix_rank(chosen - chosen.mean(0)) == chosen.shape[1]


def rest_of(parts, i):
    return [part for j, part in enumerate(parts) if j != i]


def test_constant_neurons_and_columns_stay_out(problems):
    features, targets = problems.similar()
    features[:, 2], targets[:, 3] = 0.7, 5.0
    path = forward.path(second_moments(features, targets), most=40)
    assert path.shape == (7, 40) and (path[3] == -1).all() and not (path == 2).any()
    parts = folds.fold_moments(features, targets, np.arange(700), np.arange(700, 900)).folds
    assert (forward.judge(rest_of(parts, 0), parts[0], path)[3] == 0).all()


def test_a_fold_judges_as_least_squares_on_the_images_does(problems):
    features, targets = problems.similar()
    train, val = np.arange(700), np.arange(700, 900)
    path = forward.path(second_moments(features, targets), most=5)
    parts = folds.fold_moments(features, targets, train, val, seed=2).folds
    rho = forward.judge(rest_of(parts, 1), parts[1], path)
    fold = np.concatenate([folds.assign(train, 5, 2)[1], folds.assign(val, 5, 2)[::-1][1]])
    rest = np.setdiff1d(np.arange(900), fold)
    for k in range(7):
        for length in range(1, 6):
            design = np.column_stack([features[:, path[k, :length]], np.ones(900)])
            design = design.astype(np.float64)
            beta = np.linalg.lstsq(design[rest], targets[rest, k].astype(np.float64), rcond=None)[0]
            expected = np.corrcoef(design[fold] @ beta, targets[fold, k])[0, 1]
            assert rho[k, length - 1] == pytest.approx(expected, abs=1e-5)


def test_past_its_end_a_path_counts_as_the_whole_of_it(problems):
    moments = second_moments(*problems.similar())
    path = np.pad(forward.path(moments, most=2), ((0, 0), (0, 2)), constant_values=-1)
    rho = forward.judge([moments], moments, path)
    np.testing.assert_allclose(rho[:, 2:], rho[:, [1, 1]], atol=1e-12)


def test_folds_that_miss_a_concept_count_it_as_saying_nothing():
    """A concept in three images of one fold: it is constant in the other folds and outside it."""
    rng = np.random.default_rng(0)
    features = rng.random((100, 2)).astype(np.float32)
    parts = [np.arange(i, 100, 5) for i in range(5)]
    features[:, 0] = 0
    features[parts[2][:3], 0] = 1
    targets = (features[:, [0]] * 4 + features[:, [1]] + 0.1 * rng.normal(size=(100, 1))).astype(
        np.float32
    )
    each = [second_moments(features, targets, part) for part in parts]

    def judged(*path):
        path = np.array([path], np.int32)
        return [forward.judge(rest_of(each, i), each[i], path)[0] for i in range(5)]

    both, alone = judged(0, 1), judged(1, -1)
    # in no fold can it be both fitted and tested
    assert all(rho[0] == 0 for rho in both)
    # in its fold it is left out of the fit
    assert both[2][1] == pytest.approx(alone[2][0], abs=1e-6)
    assert np.mean([rho[1] for rho in both]) > 0.5


def limits(min_gain, least=0.0):
    return forward.Limits(min_gain, least)


def test_lengths_weigh_correlation_against_concepts():
    rho = np.array(
        [
            [0.5, 0.53, 0.56, 0.561],
            [-0.1, 0.2, 0.2, -np.inf],
            [-0.2, -0.1, -np.inf, -np.inf],
            [-np.inf] * 4,
        ]
    )
    judged = forward.Judged(rho, rho)
    assert forward.lengths(judged, limits(0.02)).tolist() == [3, 2, 0, 0]
    assert forward.lengths(judged, limits(0.0)).tolist() == [4, 2, 0, 0]
    assert forward.lengths(judged, limits(2.0)).tolist() == [1, 0, 0, 0]
    assert forward.lengths(judged, limits(0.02, 0.3)).tolist() == [3, 0, 0, 0]
    # what the path says of itself does not save it from what the others say
    nested = np.where(np.isfinite(rho), 0.1, rho)
    assert forward.lengths(forward.Judged(rho, nested), limits(0.02, 0.3)).tolist() == [0] * 4


def test_mean_length_sets_the_least_limits_that_keep_it():
    rho = np.cumsum(np.random.default_rng(0).exponential(0.02, (200, 10)), axis=1)
    live = np.arange(200) > 20
    rho[30:40, 0] = -0.1  # at length 1 they are unexplained
    judged = forward.Judged(rho, rho)
    for wanted in (1.0, 2.5, 4.1):
        found = forward.limits_for(judged, wanted, live, 0.0)
        shorter = limits(found.min_gain - 1e-4)
        assert (
            forward.lengths(judged, found)[live].mean()
            <= wanted
            < forward.lengths(judged, shorter)[live].mean() + 1e-12
        )
    assert forward.limits_for(judged, 10.0, live, 0.1) == limits(0.0, 0.1)
    assert forward.limits_for(judged, 1.0, np.zeros(200, bool), 0.0) == limits(0.0)
    # below one concept a neuron, those explained best keep theirs
    few = forward.lengths(judged, forward.limits_for(judged, 0.25, live, 0.0))
    assert 0.24 < few[live].mean() <= 0.25 and few.max() == 1
    assert rho[live & (few > 0), 0].min() >= rho[live & (few == 0), 0].max()
    none = forward.limits_for(judged, 0.0, live, 0.0)
    assert not forward.lengths(judged, none)[live].any()


def test_steps_that_the_best_of_noise_would_reach_do_not_count():
    """Two planted concepts among 300: the path goes on, what is beyond noise ends with them."""
    rng = np.random.default_rng(0)
    features = (rng.random((400, 300)) < 0.3).astype(np.float32)
    planted = features[:, 5] + 0.8 * features[:, 9]
    targets = np.stack([planted, 0 * planted], axis=1) + 0.4 * rng.normal(size=(400, 2))
    moments = second_moments(features, targets.astype(np.float32))
    path = forward.path(moments, most=6)
    real = forward.beyond_noise(moments, path, np.zeros(2))
    assert set(path[0, :2]) == {5, 9} and (path >= 0).all()
    assert real[0].tolist() == [True] * 2 + [False] * 4 and not real[1].any()


def test_one_device_equals_eight_and_a_padded_block_a_whole_one(problems):
    features, targets = problems.similar(n_neurons=11)
    moments = second_moments(features, targets)
    weights = np.random.default_rng(0).normal(size=(30, 11)).astype(np.float32)
    aim, mesh = aim_at(features, weights), make_mesh()
    one = forward.path(moments, aim, most=5)
    np.testing.assert_array_equal(one, forward.path(moments, aim, most=5, mesh=mesh))
    known = correlations(moments)
    np.testing.assert_array_equal(one, forward.path(moments, aim, most=5, gram=known))
    np.testing.assert_array_equal(one, forward.path(moments, aim, most=5, block=4))
